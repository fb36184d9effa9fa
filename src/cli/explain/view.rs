//! The answer of `weir explain`: its shape for programs, and its text for people.
//!
//! Must not know how anything is decided.

use std::fmt::Write as _;

use serde::Serialize;

/// The answer; the shape of `-o json`. What does not apply is absent.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    /// Method, canonical host, path and query.
    pub(super) request: String,
    /// Who the client is taken for; behind a trusted proxy not the peer.
    pub(super) client: Option<String>,
    /// The listener that the request belongs to.
    pub(super) listener: Option<String>,
    /// Where that one accepts connections.
    pub(super) address: Option<String>,
    /// What is worth knowing about the way there.
    pub(super) notes: Vec<String>,
    /// Every rule attached to the listener, in order of precedence.
    pub(super) candidates: Vec<Candidate>,
    /// `route/rule` of the one that won.
    pub(super) rule: Option<String>,
    /// What else the rule does with such requests: CORS, faults and others.
    pub(super) policies: Vec<String>,
    /// What makes its split sticky.
    pub(super) key: Option<Key>,
    /// The rollout that divides between two of the backends, and how it stood last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rollout: Option<String>,
    /// How often the backend was chosen: `-n`.
    pub(super) draws: u32,
    /// The split, as it is written; empty when nothing had to be chosen.
    pub(super) backends: Vec<Share>,
    /// What becomes of the request, where that does not depend on the backend.
    pub(super) outcome: Option<Outcome>,
}

/// One rule and its fate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Candidate {
    /// `route/rule`
    pub(super) rule: String,
    /// The rule's hostname that covers the request's, or its most specific one; null: any.
    pub(super) hostname: Option<String>,
    /// The match that applies, or the one that came closest.
    pub(super) matches: String,
    pub(super) fate: Fate,
    /// The fate in words.
    pub(super) verdict: String,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Fate {
    /// It answers.
    Won,
    /// It matches, but another one comes first.
    Outranked,
    /// It is for other hosts.
    OtherHost,
    /// It is for this host and does not match.
    Lost,
}

/// The key of a split.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Key {
    /// `cookie user`, `header x`, `queryParam x` or `clientAddress`.
    pub(super) source: String,
    /// Null: the request has none.
    pub(super) value: Option<String>,
    /// Whether the client is given one, which is then a draw at its first request.
    pub(super) issued: bool,
}

/// One backend of the split.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Share {
    pub(super) name: String,
    pub(super) weight: u32,
    /// The weight as a part of the sum, 0 to 1.
    pub(super) share: f64,
    /// How many of the draws chose it.
    pub(super) chosen: u32,
    /// The word of the access log for the last of them: single, weight, key, force, shift.
    pub(super) why: Option<&'static str>,
    /// Whether every request like this one comes here.
    pub(super) always: bool,
    /// What becomes of a request that gets it; absent when none did.
    pub(super) outcome: Option<Outcome>,
}

/// What becomes of the request; one of the three.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Outcome {
    /// It goes to a backend.
    Sent(Sent),
    /// The rule answers it.
    Answered(Answered),
    /// The proxy answers with an error.
    Refused(Refused),
}

/// What a backend gets.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Sent {
    /// As written.
    pub(super) endpoints: Vec<String>,
    /// After rewrites.
    pub(super) host: String,
    /// With the query, after rewrites.
    pub(super) path: String,
    /// Whether host or path are another than the request's.
    pub(super) rewritten: bool,
    /// By filters, in the order in which they act.
    pub(super) request_headers: Vec<Edit>,
    pub(super) response_headers: Vec<Edit>,
    /// What else is done with requests for this backend.
    pub(super) policies: Vec<String>,
}

/// One change to a header.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Edit {
    /// `set`, `add` or `remove`.
    pub(super) action: &'static str,
    pub(super) name: String,
    /// Null for `remove`.
    pub(super) value: Option<String>,
}

/// An answer without a backend.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answered {
    pub(super) status: u16,
    /// Of a redirect.
    pub(super) location: Option<String>,
    /// Of the body.
    pub(super) bytes: usize,
}

/// An error.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Refused {
    pub(super) status: u16,
    /// The word of metrics and access log.
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// Hosts of other rules are told apart no further than this.
const OTHERS: usize = 5;

/// The answer as a person reads it.
pub(super) fn text(explanation: &Explanation) -> String {
    let mut out = Lines::default();
    out.line("request", &explanation.request);
    if let Some(client) = &explanation.client {
        out.line("client", client);
    }
    if let (Some(name), Some(address)) = (&explanation.listener, &explanation.address) {
        out.line("listener", &format!("{name} ({address})"));
    }
    for note in &explanation.notes {
        out.line("note", note);
    }
    candidates(explanation, &mut out);
    for policy in &explanation.policies {
        out.line("policy", policy);
    }
    if let Some(key) = &explanation.key {
        out.line("key", &key_text(key, explanation));
    }
    if let Some(rollout) = &explanation.rollout {
        out.line("rollout", rollout);
    }
    backends(explanation, &mut out);
    if let Some(outcome) = &explanation.outcome {
        outcome_text(outcome, &mut out);
    }
    out.0
}

#[derive(Debug, Default)]
struct Lines(String);

impl Lines {
    fn line(&mut self, name: &str, text: &str) {
        writeln!(self.0, "{name:<10}{text}").unwrap_or_default();
    }

    /// Rows under a name, each column as wide as it has to be.
    fn rows<const N: usize>(&mut self, name: &str, rows: &[[String; N]]) {
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
        let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
        for row in rows {
            let cells = row.iter().zip(&widths);
            let line: Vec<_> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            self.line(name, line.join("  ").trim_end());
        }
    }
}

fn candidates(explanation: &Explanation, out: &mut Lines) {
    let of_host = |c: &&Candidate| c.fate != Fate::OtherHost;
    let rows: Vec<_> = explanation
        .candidates
        .iter()
        .filter(of_host)
        .map(|candidate| {
            let host = candidate.hostname.as_deref().unwrap_or("any host");
            [
                candidate.rule.clone(),
                format!("[{host}, {}]", candidate.matches),
                candidate.verdict.clone(),
            ]
        })
        .collect();
    out.rows("rule", &rows);
    let others = explanation.candidates.len() - rows.len();
    if others > 0 {
        let names = explanation.candidates.iter().filter(|c| !of_host(c));
        let names: Vec<_> = names.take(OTHERS).map(|c| c.rule.as_str()).collect();
        let more = if others > OTHERS { ", ..." } else { "" };
        let rules = if others == 1 { "rule" } else { "rules" };
        out.line(
            "",
            &format!(
                "{others} {rules} for other hosts: {}{more}",
                names.join(", ")
            ),
        );
    }
}

fn key_text(key: &Key, explanation: &Explanation) -> String {
    let source = &key.source;
    if explanation
        .backends
        .iter()
        .any(|share| share.why == Some("force"))
    {
        return format!("{source}, not asked: the request names its backend");
    }
    match &key.value {
        Some(value) => format!("{source} = {value}: always the same backend"),
        None if key.issued => format!(
            "{source} is not in the request: drawn by weight, and a cookie makes the client stay"
        ),
        None => format!("{source} is not in the request: drawn by weight"),
    }
}

fn backends(explanation: &Explanation, out: &mut Lines) {
    let row = |share: &Share| {
        let chosen = match (share.chosen, explanation.draws) {
            (0, _) => "not chosen".to_owned(),
            (times, draws) => {
                let often = match draws {
                    1 => String::new(),
                    draws => format!(" {times} of {draws} times"),
                };
                let why = share
                    .why
                    .map_or_else(String::new, |why| format!(" by {why}"));
                let draw = if share.always { "" } else { ", a draw" };
                format!("chosen{often}{why}{draw}")
            }
        };
        [
            share.name.clone(),
            format!("weight {}", share.weight),
            format!("{:.1} %", share.share * 100.0),
            chosen,
        ]
    };
    let rows: Vec<_> = explanation.backends.iter().map(row).collect();
    out.rows("backend", &rows);
    let chosen: Vec<_> = explanation
        .backends
        .iter()
        .filter_map(|share| Some((share, share.outcome.as_ref()?)))
        .collect();
    for (share, outcome) in &chosen {
        if chosen.len() > 1 {
            out.line("", &format!("what {} gets:", share.name));
        }
        outcome_text(outcome, out);
    }
}

fn outcome_text(outcome: &Outcome, out: &mut Lines) {
    match outcome {
        Outcome::Sent(sent) => {
            let rewritten = if sent.rewritten { " (rewritten)" } else { "" };
            let endpoints = match &*sent.endpoints {
                [] => "its endpoints".to_owned(),
                [one] => one.clone(),
                several => format!("one of {}", several.join(", ")),
            };
            out.line(
                "sent",
                &format!("to {endpoints} as {}{}{rewritten}", sent.host, sent.path),
            );
            edits("request", &sent.request_headers, out);
            edits("response", &sent.response_headers, out);
            for policy in &sent.policies {
                out.line("policy", policy);
            }
        }
        Outcome::Answered(answered) => {
            let how = match &answered.location {
                Some(location) => format!("to {location}"),
                None => format!("with {} bytes, by the rule", answered.bytes),
            };
            out.line("answered", &format!("{} {how}", answered.status));
        }
        Outcome::Refused(refused) => {
            let status = http::StatusCode::from_u16(refused.status)
                .map_or_else(|_| refused.status.to_string(), |status| status.to_string());
            out.line(
                "refused",
                &format!("{status} ({}): {}", refused.reason, refused.message),
            );
        }
    }
}

fn edits(what: &str, edits: &[Edit], out: &mut Lines) {
    for edit in edits {
        let value = edit
            .value
            .as_ref()
            .map_or_else(String::new, |value| format!(": {value}"));
        out.line(
            "",
            &format!("{what} header {} {}{value}", edit.action, edit.name),
        );
    }
}
