//! Copies of requests for backends whose answers nobody gets.
//!
//! A copy is a task of its own, which first does anything when the request that it copies has been handed
//! to a connection, or is over without; then it waits for the end of its body. There are as many as the
//! mirror allows; more are dropped. So the request never waits for a copy, nor does a copy come first.
//!
//! Owns what a copy looks like and what becomes of it. It is sent once, touches no record of the
//! endpoint but the number of requests in flight, and no series of the rule.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue};
use http_body_util::BodyExt;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::attempt::{encode, send};
use super::context::Connection;
use super::error::ProxyError;
use super::outcome::Outcome;
use super::retry::Head;
use crate::http::body::RequestBody;
use crate::http::copy::{BodyCopy, NoCopy};
use crate::http::framing;
use crate::http::kinds::Kinds;
use crate::http::message::RequestMessage;
use crate::snapshot::filters::{Filters, RewriteError};
use crate::snapshot::mirror::{Mirror, Place};
use crate::snapshot::rule::{Arm, Rule};
use crate::telemetry::mirror::Mirrored;
use crate::upstream::backend::Backend;
use crate::upstream::balance::Ask;
use crate::upstream::connect::ConnectError;
use crate::upstream::pool::Wanted;

/// What every copy carries.
const X_WEIR_SHADOW: HeaderName = HeaderName::from_static("x-weir-shadow");
/// What the host of a copy ends in, where that is asked for (a habit of Envoy's).
const SUFFIX: &str = "-shadow";

/// Tells copies that their request is on its way. Dropping it tells them too.
#[derive(Debug)]
pub(crate) struct Departure {
    departed: CancellationToken,
    _over: DropGuard,
}

impl Departure {
    /// For whoever sends the request.
    pub(super) fn bell(&self) -> CancellationToken {
        self.departed.clone()
    }
}

/// Makes the copies of a request that is about to be sent.
pub(super) fn copy(
    rule: &Rule,
    arm: &Arm,
    head: &Head,
    body: &mut RequestBody,
    outcome: &mut Outcome,
) {
    if rule.filters.mirrors.is_empty() && arm.filters.mirrors.is_empty() {
        return;
    }
    let connection = &outcome.connection;
    let of_rule = [&*rule.filters];
    let of_arm = [&*rule.filters, &*arm.filters];
    let of_rule = rule.filters.mirrors.iter().map(|it| (it, &of_rule[..]));
    let of_arm = arm.filters.mirrors.iter().map(|it| (it, &of_arm[..]));
    let drawn: Vec<_> = of_rule
        .chain(of_arm)
        .filter(|(mirror, _)| {
            let rng = &mut *connection.worker.rng.borrow_mut();
            mirror.backend.is_some() && mirror.chance.draw(rng)
        })
        .filter_map(|(mirror, filters)| match begin(mirror, filters, head) {
            Ok(copy) => Some(copy),
            Err(outcome) => {
                mirror.metrics.mirrored(outcome, None);
                None
            }
        })
        .collect();
    let most = drawn.iter().map(|copy| copy.mirror.body_bytes).max();
    let Some(most) = most else { return };
    let recorded = body.record(most);
    let departed = CancellationToken::new();
    for copy in drawn {
        let (connection, body) = (Rc::clone(connection), recorded.clone());
        let departed = departed.clone();
        drop(tokio::task::spawn_local(async move {
            departed.cancelled_owned().await;
            let metrics = Arc::clone(&copy.mirror.metrics);
            let (outcome, first_byte) = copy.run(&connection, body.as_deref()).await;
            metrics.mirrored(outcome, first_byte);
        }));
    }
    outcome.departure = Some(Box::new(Departure {
        departed: departed.clone(),
        _over: departed.drop_guard(),
    }));
}

/// A copy that has its place.
struct Copy {
    mirror: Arc<Mirror>,
    head: Head,
    place: Place,
}

fn begin(mirror: &Arc<Mirror>, filters: &[&Filters], head: &Head) -> Result<Copy, Mirrored> {
    if head.upgrade.is_some() {
        return Err(Mirrored::Upgrade);
    }
    let length = head.parts.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|bytes| bytes > mirror.body_bytes as u64) {
        return Err(Mirrored::BodyTooLarge);
    }
    let place = mirror.enter().ok_or(Mirrored::Dropped)?;
    let head = shadow(mirror, filters, head).map_err(|_| Mirrored::Invalid)?;
    Ok(Copy {
        mirror: Arc::clone(mirror),
        head,
        place,
    })
}

/// The head of the copy.
fn shadow(mirror: &Mirror, filters: &[&Filters], head: &Head) -> Result<Head, RewriteError> {
    let mut head = head.clone();
    let parts = &mut head.parts;
    for filters in filters {
        let (headers, uri) = (&mut parts.headers, &mut parts.uri);
        filters.apply_request(headers, uri, &mut head.authority, head.matched)?;
    }
    let yes = HeaderValue::from_static("1");
    parts.headers.try_insert(X_WEIR_SHADOW, yes)?;
    if mirror.shadow_host {
        head.authority = shadow_host(&head.authority);
    }
    Ok(head)
}

/// `a.example:8080` -> `a.example-shadow:8080`. An address has no such name.
fn shadow_host(authority: &HeaderValue) -> HeaderValue {
    let named = authority.to_str().ok().and_then(|text| {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, format!(":{port}")),
            None => (text, String::new()),
        };
        let literal = host.contains([':', '[']) || host.parse::<std::net::IpAddr>().is_ok();
        (!host.is_empty() && !literal).then(|| format!("{host}{SUFFIX}{port}"))
    });
    named
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or_else(|| authority.clone())
}

type Told = (Mirrored, Option<std::time::Duration>);

impl Copy {
    /// Waits for the body, sends the copy and takes its answer.
    async fn run(self, connection: &Connection, body: Option<&BodyCopy>) -> Told {
        let body = match body {
            None => RequestBody::Empty,
            Some(copy) => match copy.whole().await {
                Ok(whole) if whole.bytes() > self.mirror.body_bytes as u64 => {
                    return (Mirrored::BodyTooLarge, None);
                }
                Ok(whole) => RequestBody::Whole(Box::new(whole)),
                Err(NoCopy::TooLarge) => return (Mirrored::BodyTooLarge, None),
                Err(NoCopy::Broken) => return (Mirrored::BodyBroken, None),
            },
        };
        let Self {
            mirror,
            head,
            place,
        } = self;
        let Some(backend) = &mirror.backend else {
            return (Mirrored::NoEndpoint, None);
        };
        let sent = exchange(connection, backend, head, body);
        let told = tokio::time::timeout(mirror.timeout, sent).await;
        drop(place);
        told.unwrap_or((Mirrored::Timeout, None))
    }
}

async fn exchange(
    connection: &Connection,
    backend: &Arc<Backend>,
    head: Head,
    body: RequestBody,
) -> Told {
    let Some(_serving) = backend.begin() else {
        return (Mirrored::LimitExceeded, None);
    };
    let chosen = backend.choose(Ask::default(), &mut *connection.worker.rng.borrow_mut());
    let Some(endpoint) = chosen else {
        return (Mirrored::NoEndpoint, None);
    };
    let _in_flight = endpoint.begin();
    let wanted = Wanted {
        client: Some(&connection.addresses),
        // It is never sent twice, so it wants a connection that is not about to close.
        repeatable: false,
        new: false,
        tunnel: false,
    };
    let pools = connection.pools(backend);
    let mut lease = match pools.lease(backend, &endpoint, wanted).await {
        Ok(lease) => lease,
        Err(ConnectError::Limit { .. }) => return (Mirrored::LimitExceeded, None),
        Err(ConnectError::Timeout { .. }) => return (Mirrored::Timeout, None),
        Err(_) => return (Mirrored::ConnectFailed, None),
    };
    let mut request = RequestMessage::new(head.parts, body);
    if let Err(error) = encode(&lease.sender, backend, &mut request, &head.authority) {
        debug_assert!(matches!(error, ProxyError::Rejected(_)));
        return (Mirrored::Invalid, None);
    }
    let began = Instant::now();
    let Ok(mut response) = send(&mut lease, &mut request, None).await else {
        return (Mirrored::Reset, None);
    };
    let kinds = Kinds::of(&response.head.headers);
    if framing::settle(&mut response.head.headers, kinds).is_err() {
        return (Mirrored::Reset, None);
    }
    lease.answered(&response.head.headers, kinds);
    let (first_byte, status) = (began.elapsed(), response.head.status);
    let mut body = response.body;
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return (Mirrored::Reset, Some(first_byte));
        }
    }
    lease.release(Instant::now());
    let outcome = if status.is_server_error() {
        Mirrored::ServerError
    } else {
        Mirrored::Ok
    };
    (outcome, Some(first_byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_suffix_stands_before_the_port() {
        for (authority, expected) in [
            ("a.example", "a.example-shadow"),
            ("a.example:8080", "a.example-shadow:8080"),
            ("10.0.0.1:80", "10.0.0.1:80"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]"),
            ("", ""),
        ] {
            let authority = HeaderValue::from_static(authority);
            assert_eq!(shadow_host(&authority), expected);
        }
    }
}
