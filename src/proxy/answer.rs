//! What the client gets: an answer of ours, an endpoint's in its final form, or a tunnel.
//!
//! Owns the head of the answer behind everything that was decided. Must not know how an endpoint was found.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, request};

use super::attempt::Answered;
use super::context::Connections;
use super::error::ProxyError;
use super::outcome::{Agreed, Outcome, TunnelEnd};
use super::retry::Served;
use crate::http::authority::Target;
use crate::http::body::{ResponseBody, UpstreamBody};
use crate::http::message::ResponseMessage;
use crate::http::recall::Recall;
use crate::http::upgrade::{Asked, Half};
use crate::http::{cors, grpc, headers, upgrade, websocket};
use crate::route::{MatchedPath, Redirect, RedirectSource};
use crate::snapshot::filters::Answer;
use crate::snapshot::port::Listener;
use crate::snapshot::rule::{Arm, Choice, KeySource, Rule, Why};

/// Names the backend that has failed where another one answers in its place.
const X_WEIR_SHIELDED: HeaderName = HeaderName::from_static("x-weir-shielded");

/// An answer that needs no backend.
pub(super) fn immediate(
    answer: &Answer,
    listener: &Listener,
    asked_at: &AskedAt<'_>,
    matched: MatchedPath,
) -> Result<ResponseMessage<ResponseBody>, ProxyError> {
    match answer {
        Answer::Redirect(redirect) => {
            let location = location(redirect, listener, asked_at, matched);
            let mut response = ResponseMessage::new(redirect.status, ResponseBody::empty());
            let location = HeaderValue::try_from(location).map_err(|_| ProxyError::Fields)?;
            response.head.headers.insert(LOCATION, location);
            Ok(response)
        }
        Answer::Direct(direct) => {
            let body = ResponseBody::own(direct.body.clone());
            let mut response = ResponseMessage::new(direct.status, body);
            for (name, value) in &direct.headers {
                response
                    .head
                    .headers
                    .try_append(name, value.clone())
                    .map_err(|_| ProxyError::Fields)?;
            }
            Ok(response)
        }
    }
}

/// What the client asked for, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AskedAt<'a> {
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    pub(crate) target: &'a Target,
    pub(crate) parts: &'a request::Parts,
}

/// Where a redirect sends the client.
pub(crate) fn location(
    redirect: &Redirect,
    listener: &Listener,
    asked_at: &AskedAt<'_>,
    matched: MatchedPath,
) -> String {
    redirect.location(&RedirectSource {
        scheme: asked_at.scheme,
        host: asked_at.target.host(),
        listener_port: listener.advertised_port,
        path: asked_at.parts.uri.path(),
        query: asked_at.parts.uri.query(),
        matched,
    })
}

/// Brings the endpoint's answer into the form that the client gets.
pub(super) fn finish_response(
    served: Served<'_>,
    rule: &Rule,
    choice: &Choice<'_>,
    asked: Option<Box<Asked>>,
    outcome: &mut Outcome,
) -> Result<ResponseMessage<UpstreamBody>, ProxyError> {
    let Answered {
        mut response,
        lease,
        kinds,
        first_byte,
        ..
    } = *served.answered;
    outcome.first_byte = Some(first_byte);
    let switched = response.head.status == StatusCode::SWITCHING_PROTOCOLS;
    let agreed = asked.filter(|asked| switched && asked.is_agreed(&response.head.headers));
    if switched && agreed.is_none() {
        return Err(ProxyError::Upgrade);
    }
    headers::strip_response(&mut response.head.headers, kinds);
    if let Some(agreed) = agreed {
        match agreed.key {
            None => upgrade::ask(&mut response.head.headers, &agreed.protocol),
            Some(_) => websocket::to_connected(&mut response.head),
        }
        outcome.upgrade = Some(Agreed {
            client: agreed.client,
            endpoint: Half::of(&mut response),
            recalled: recall(rule, served.arm, outcome).map(Recall::listen),
        });
    }
    if rule.filters.cors.is_some() {
        cors::strip(&mut response.head.headers);
    }
    for filters in [&rule.filters, &served.arm.filters] {
        filters
            .apply_response(&mut response.head.headers)
            .map_err(|_| ProxyError::Fields)?;
    }
    if let (Some(key), Some(sticky)) = (&choice.issued, &rule.sticky)
        && let KeySource::Cookie(cookie) = &sticky.source
        && let Ok(value) =
            HeaderValue::try_from(cookie.set_cookie(key, outcome.connection.session.is_some()))
    {
        response
            .head
            .headers
            .try_append(SET_COOKIE, value)
            .map_err(|_| ProxyError::Fields)?;
    }
    if let (Some(Why::Shield), Some(pair)) = (outcome.why, &rule.on_trial)
        && pair.shield.as_ref().is_some_and(|shield| shield.tells)
        && let Ok(name) = HeaderValue::try_from(choice.arm.name())
    {
        response.head.headers.insert(X_WEIR_SHIELDED, name);
    }
    response.head.version = Version::HTTP_11;
    outcome.lease = Some(lease);
    Ok(response)
}

/// Whether the body is cut at the attempt's deadline. A stream without an end of its own would be cut for
/// nothing but its age.
pub(super) fn is_cut<B>(response: &ResponseMessage<B>, outcome: &Outcome) -> bool {
    let kind = response.head.headers.get(CONTENT_TYPE);
    let events = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    !events && (!outcome.is_grpc || outcome.called_for)
}

/// Sends the agreement and copies bytes from then on; the request is recorded when the tunnel ends.
pub(super) fn tunnel(
    response: ResponseMessage<ResponseBody>,
    agreed: Agreed,
    outcome: Box<Outcome>,
) -> ResponseMessage<ResponseBody> {
    let response = response.map(|_| ResponseBody::empty());
    let worker = Rc::clone(&outcome.connection.worker);
    let control = outcome.connection.control.tunnel();
    let busy = control.begin_request();
    let door = Arc::clone(&outcome.connection.door);
    let entered = Connections::enter(&worker, door, Rc::clone(&control));
    let began = outcome.began;
    let outcome = outcome.into_tunnel();
    drop(tokio::task::spawn_local(async move {
        let _held = (busy, entered);
        let tunnel = upgrade::tunnel(agreed.client, agreed.endpoint, &control);
        let recalled = async {
            match agreed.recalled {
                Some(recalled) => recalled.due(began).await,
                None => std::future::pending().await,
            }
        };
        let end = tokio::select! {
            ended = control.until_closed(tunnel) => match ended {
                Some(()) => TunnelEnd::Peer,
                None => TunnelEnd::Closed,
            },
            () = recalled => TunnelEnd::Recalled,
        };
        outcome.finish(&control, end);
    }));
    response
}

/// What calls its stream back, where a rollout has given the request to its candidate.
pub(super) fn recall<'a>(rule: &'a Rule, arm: &Arm, outcome: &Outcome) -> Option<&'a Recall> {
    let pair = rule.on_trial.as_ref()?;
    let candidate = rule.split.arm(pair.candidate)?;
    // Who asks for a version by name gets it in any case.
    let is_given = std::ptr::eq(candidate, arm) && outcome.why != Some(Why::Force);
    (is_given && pair.recall.is_some()).then(|| pair.trial.recall())
}

/// How a call that is called back ends. HTTP/1 has no place for it behind an answer that has promised none.
pub(super) fn last_words(outcome: &Outcome) -> Option<HeaderMap> {
    let has_place = outcome.is_http2() || outcome.web.is_some();
    (outcome.is_grpc && has_place).then(|| grpc::unavailable("the version was rolled back"))
}
