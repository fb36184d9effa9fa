//! The way of one request, without sending it.
//!
//! Owns the order of the questions; every one is answered by the function that the request path asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::HeaderValue;
use http::{Method, StatusCode, request};

use super::Asked;
use super::view::{
    Answered, Candidate, Edit, Explanation, Fate, Key, Outcome, Refused, Sent, Share,
};
use crate::config::values::Identity;
use crate::http::authority::{self, Target};
use crate::http::kinds::Kinds;
use crate::http::{cors, headers, trace};
use crate::proxy::answer::{AskedAt, location};
use crate::proxy::error::ProxyError;
use crate::proxy::handler::{believe, find, view};
use crate::route::{self, HeaderEdits, MatchedPath, Mismatch, Verdict};
use crate::snapshot::Snapshot;
use crate::snapshot::filters::{Answer, Filters};
use crate::snapshot::port::{Listener, Port};
use crate::snapshot::rule::{Arm, Asking, Choice, KeySource, NoChoice, Rule, Why};

/// A compiled configuration.
#[derive(Debug)]
pub(super) struct World {
    pub(super) snapshot: Snapshot,
    /// Of each backend, as written: compiled ones have lost their names.
    pub(super) endpoints: BTreeMap<String, Vec<String>>,
    /// How each rollout stood last.
    pub(super) rollouts: BTreeMap<Box<str>, String>,
}

/// A request in canonical form, at its listener.
struct Arrived<'a> {
    listener: &'a Arc<Listener>,
    target: Target,
    parts: request::Parts,
}

/// Explains one request; the backend is chosen `draws` times.
pub(super) fn explain(
    world: &World,
    asked: Asked,
    draws: u32,
    rng: &mut impl rand::Rng,
) -> Explanation {
    let (mut parts, ()) = asked.request.into_parts();
    drop(trace::admit(&mut parts.headers));
    let host = parts.headers.get(http::header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or("");
    let mut explanation = Explanation {
        request: format!("{} {host}{}", parts.method, parts.uri),
        draws,
        ..Explanation::default()
    };
    if let Err(error) = follow(
        world,
        parts,
        (asked.port, asked.peer, asked.identity.as_ref()),
        &mut explanation,
        rng,
    ) {
        explanation.outcome = Some(refused(&error));
    }
    explanation
}

fn follow(
    world: &World,
    parts: request::Parts,
    (port, peer, identity): (u16, std::net::IpAddr, Option<&Identity>),
    explanation: &mut Explanation,
    rng: &mut impl rand::Rng,
) -> Result<(), ProxyError> {
    let mut arrived = arrive(&world.snapshot, parts, port, explanation)?;
    let listener = arrived.listener;
    explanation.request = format!(
        "{} {}{}",
        arrived.parts.method,
        arrived.target.host(),
        arrived.parts.uri
    );
    let mut kinds = Kinds::of(&arrived.parts.headers);
    let client = believe(listener, &mut arrived.parts, &mut kinds, peer)?;
    explanation.client = Some(if client == peer {
        client.to_string()
    } else {
        format!("{client}, by x-forwarded-for; the peer {peer} is trusted")
    });
    let parts = &mut arrived.parts;
    if parts.method == Method::OPTIONS && headers::is_last_hop(&mut parts.headers) {
        explanation.outcome = Some(own_answer());
        return Ok(());
    }
    let view = view(arrived.target.host(), &arrived.parts, identity);
    explanation.candidates = listener
        .table
        .explain(&view)
        .iter()
        .map(candidate)
        .collect();
    let (rule, matched) = find(listener, &view)?;
    explanation.rule = Some(named(rule));
    explanation.policies = rule.policies();
    let of_listener = listener.compression.iter();
    let own = rule.filters.compression.is_some();
    let of_listener = of_listener.filter(|_| !own).map(ToString::to_string);
    explanation.policies.extend(of_listener);
    if rule.filters.cors.is_some() && cors::is_preflight(view.method, view.headers) {
        explanation.outcome = Some(own_answer());
        return Ok(());
    }
    if let Some(answer) = &rule.filters.answer {
        explanation.outcome = Some(answered(answer, &arrived, matched));
        return Ok(());
    }
    let asking = Asking {
        headers: &arrived.parts.headers,
        query: arrived.parts.uri.query(),
        client,
        worker: 0,
    };
    explanation.key = rule
        .sticky
        .as_ref()
        .map(|sticky| key(&sticky.source, &asking));
    let moving = world.snapshot.rollouts.iter();
    let mut moving = moving.filter(|rollout| Arc::ptr_eq(&rollout.rule, rule));
    explanation.rollout = moving
        .next()
        .and_then(|rollout| world.rollouts.get(&rollout.name).cloned());
    let outcomes = Outcomes {
        world,
        arrived: &arrived,
        rule,
        matched,
    };
    outcomes.choose(&asking, explanation, rng)
}

/// Finds the listener by the port of the URL. Where none has it, all are tried: a proxy is often
/// explained under the address that clients use, with a balancer or a port mapping in between.
fn arrive<'a>(
    snapshot: &'a Snapshot,
    parts: request::Parts,
    port: u16,
    explanation: &mut Explanation,
) -> Result<Arrived<'a>, ProxyError> {
    let has_port = |p: &&Arc<Port>| {
        p.door.address.port() == port || p.listeners.iter().any(|l| l.advertised_port == port)
    };
    let (mut ports, others): (Vec<_>, Vec<_>) = snapshot.ports.values().partition(has_port);
    let elsewhere = ports.is_empty();
    if elsewhere {
        ports = others;
    }
    // In the order of the file.
    ports.sort_by_key(|p| p.listeners.first().map(|l| l.id));
    let mut found: Option<Arrived<'_>> = None;
    let mut error = None;
    for port in ports {
        let Some(first) = port.listeners.first() else {
            continue;
        };
        let mut parts = parts.clone();
        let kinds = Kinds::of(&parts.headers);
        let (bytes, count) = (first.target_bytes, first.header_count);
        let target = match authority::canonical(&mut parts, kinds, bytes, count) {
            Ok(target) => target,
            Err(reject) => {
                error.get_or_insert(ProxyError::from(reject));
                continue;
            }
        };
        let Some(listener) = port.listener(target.host()) else {
            continue;
        };
        if let Some(found) = &found {
            let note = format!(
                "{} ({}) takes this host too; this is about {}",
                listener.name, port.door.address, found.listener.name
            );
            explanation.notes.push(note);
            continue;
        }
        explanation.listener = Some(listener.name.to_string());
        explanation.address = Some(port.door.address.to_string());
        found = Some(Arrived {
            listener,
            target,
            parts,
        });
    }
    if elsewhere {
        let note = format!("no listener has port {port}, so all were tried by their hostnames");
        explanation.notes.insert(0, note);
    }
    if found.is_none() && error.is_none() {
        let where_ = if elsewhere { "is" } else { "on this port is" };
        let note = format!("no listener {where_} for this host");
        explanation.notes.push(note);
    }
    found.ok_or_else(|| error.unwrap_or(ProxyError::NoRoute))
}

fn candidate(candidate: &route::Candidate<'_, Arc<Rule>>) -> Candidate {
    Candidate {
        rule: named(candidate.value),
        hostname: candidate.host.map(ToString::to_string),
        matches: candidate.criteria.to_string(),
        fate: match candidate.verdict {
            Verdict::Won => Fate::Won,
            Verdict::Outranked => Fate::Outranked,
            Verdict::Lost(Mismatch::Host) => Fate::OtherHost,
            Verdict::Lost(_) => Fate::Lost,
        },
        verdict: candidate.verdict.to_string(),
    }
}

fn named(rule: &Rule) -> String {
    format!("{}/{}", rule.route(), rule.name())
}

fn key(source: &KeySource, asking: &Asking<'_>) -> Key {
    let value = source.read(asking);
    Key {
        source: source.to_string(),
        issued: value.is_none() && matches!(source, KeySource::Cookie(cookie) if cookie.issue),
        value: value.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    }
}

fn answered(answer: &Answer, arrived: &Arrived<'_>, matched: MatchedPath) -> Outcome {
    let Arrived {
        listener,
        target,
        parts,
    } = arrived;
    let asked_at = AskedAt {
        scheme: if listener.secure { "https" } else { "http" },
        target,
        parts,
    };
    Outcome::Answered(match answer {
        Answer::Redirect(redirect) => Answered {
            status: redirect.status.as_u16(),
            location: Some(location(redirect, listener, &asked_at, matched)),
            bytes: 0,
        },
        Answer::Direct(direct) => Answered {
            status: direct.status.as_u16(),
            location: None,
            bytes: direct.body.len(),
        },
    })
}

/// The empty answer to a question that is the proxy's own.
fn own_answer() -> Outcome {
    Outcome::Answered(Answered {
        status: StatusCode::OK.as_u16(),
        location: None,
        bytes: 0,
    })
}

fn refused(error: &ProxyError) -> Outcome {
    let (status, reason) = error.verdict();
    Outcome::Refused(Refused {
        status: status.as_u16(),
        reason: reason.as_str(),
        message: error.to_string(),
    })
}

/// What becomes of the request at each backend of its rule.
struct Outcomes<'a> {
    world: &'a World,
    arrived: &'a Arrived<'a>,
    rule: &'a Rule,
    matched: MatchedPath,
}

impl Outcomes<'_> {
    /// Chooses `explanation.draws` times.
    fn choose(
        &self,
        asking: &Asking<'_>,
        explanation: &mut Explanation,
        rng: &mut impl rand::Rng,
    ) -> Result<(), ProxyError> {
        explanation.backends = self.shares();
        for _ in 0..explanation.draws {
            match self.rule.choose(asking, rng) {
                Ok(choice) => self.count(&choice, explanation),
                Err(why @ NoChoice::Unavailable(index)) => {
                    let keyed = has_key(explanation);
                    if let Some(share) = explanation.backends.get_mut(index) {
                        share.chosen += 1;
                        share.always = settled(share.share, keyed);
                        share.outcome = Some(refused(&ProxyError::NoChoice(why)));
                    }
                }
                Err(why @ (NoChoice::Empty | NoChoice::AllZero)) => {
                    return Err(ProxyError::NoChoice(why));
                }
            }
        }
        Ok(())
    }

    fn shares(&self) -> Vec<Share> {
        let share = |(index, arm): (usize, &Arm)| {
            let weight = self.rule.split.weight(index);
            Share {
                name: arm.name().to_owned(),
                weight,
                share: self.rule.share(index),
                chosen: 0,
                why: None,
                always: false,
                outcome: None,
            }
        };
        self.rule.split.arms().enumerate().map(share).collect()
    }

    fn count(&self, choice: &Choice<'_>, explanation: &mut Explanation) {
        // A backend may stand in a split twice.
        let mut arms = self.rule.split.arms();
        let index = arms.position(|arm| std::ptr::eq(arm, choice.arm));
        let keyed = has_key(explanation);
        let Some(share) = index.and_then(|index| explanation.backends.get_mut(index)) else {
            return;
        };
        share.chosen += 1;
        share.why = Some(choice.why.as_str());
        share.always =
            settled(share.share, keyed) || matches!(choice.why, Why::Single | Why::Force);
        if share.outcome.is_none() {
            share.outcome = Some(self.at(choice.arm));
        }
    }

    fn at(&self, arm: &Arm) -> Outcome {
        if let Some(answer) = &arm.filters.answer {
            return answered(answer, self.arrived, self.matched);
        }
        let sent = match &arm.backend {
            None => Err(ProxyError::InvalidBackend),
            // A tester may name a backend that has nothing to serve with.
            Some(backend) if !backend.is_usable() => {
                Err(ProxyError::NoChoice(NoChoice::Unavailable(0)))
            }
            Some(_) => self.sent(arm),
        };
        sent.unwrap_or_else(|error| refused(&error))
    }

    fn sent(&self, arm: &Arm) -> Result<Outcome, ProxyError> {
        let Arrived { target, parts, .. } = self.arrived;
        let (mut headers, mut uri) = (parts.headers.clone(), parts.uri.clone());
        let mut authority = target.authority.clone();
        let filters = [&self.rule.filters, &arm.filters];
        for filters in filters {
            filters.apply_request(&mut headers, &mut uri, &mut authority, self.matched)?;
        }
        let all = |of: fn(&Filters) -> &[HeaderEdits]| {
            filters.iter().flat_map(|f| of(f)).flat_map(edits).collect()
        };
        Ok(Outcome::Sent(Sent {
            endpoints: self
                .world
                .endpoints
                .get(arm.name())
                .cloned()
                .unwrap_or_default(),
            rewritten: authority != target.authority || uri != parts.uri,
            host: shown(&authority),
            path: uri.to_string(),
            request_headers: all(|filters| &filters.request),
            response_headers: all(|filters| &filters.response),
            policies: arm.filters.policies(),
        }))
    }
}

fn has_key(explanation: &Explanation) -> bool {
    explanation
        .key
        .as_ref()
        .is_some_and(|key| key.value.is_some())
}

/// Whether nothing is drawn: by a key, or because there is nothing else to draw.
fn settled(share: f64, keyed: bool) -> bool {
    keyed || share >= 1.0
}

fn edits(edits: &HeaderEdits) -> Vec<Edit> {
    let edit = |action| {
        move |(name, value): &(http::HeaderName, HeaderValue)| Edit {
            action,
            name: name.to_string(),
            value: Some(shown(value)),
        }
    };
    let removed = edits.remove.iter().map(|name| Edit {
        action: "remove",
        name: name.to_string(),
        value: None,
    });
    removed
        .chain(edits.set.iter().map(edit("set")))
        .chain(edits.add.iter().map(edit("add")))
        .collect()
}

fn shown(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
