//! The right to send one request on a connection, and what is learnt while it is used.
//!
//! Must not know how a connection is found.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};

use super::http1::{Http1, IdleHttp1};
use super::http2::Http2Stream;
use super::{Pool, no_http};
use crate::http::headers::KEEP_ALIVE;
use crate::http::kinds::Kinds;
use crate::tls::stream::Fault;
use crate::upstream::begin;
use crate::upstream::connect::ConnectError;

/// The right to send one request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    /// Whether the connection has served requests before.
    pub(crate) reused: bool,
    /// Since when it is held.
    pub(crate) since: Instant,
    pub(super) fault: Option<Fault>,
    pub(super) born: Instant,
    /// How long it was kept before this request.
    pub(super) idle: Duration,
    pub(super) kept: Option<Duration>,
    pub(super) pool: Rc<Pool>,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(crate) enum Sender {
    Http1(Http1),
    Http2(Http2Stream),
}

impl Lease {
    /// What broke TLS, where that is why an exchange failed.
    pub(crate) fn fault(&self) -> Option<rustls::Error> {
        self.fault.as_ref()?.get().cloned()
    }

    /// For a request that asks for a tunnel: hyper drives a connection of HTTP/1 then.
    ///
    /// # Errors
    /// When `address` has ended it just now.
    pub(super) async fn into_tunnel(mut self, address: SocketAddr) -> Result<Self, ConnectError> {
        self.sender = match self.sender {
            Sender::Http1(Http1::Own(connection, permit)) => {
                let ended = || ConnectError::Failed {
                    address,
                    source: io::ErrorKind::NotConnected.into(),
                };
                let stream = connection.into_stream().ok_or_else(ended)?;
                let begun = begin::http1(stream, permit).await;
                let (sender, bound) = begun.map_err(|error| no_http(address, error))?;
                Sender::Http1(Http1::Hyper(sender, bound))
            }
            other => other,
        };
        Ok(self)
    }

    /// Gives the connection back after a response that ended in order. Without this call the
    /// connection is closed (HTTP/1) or loses just the stream (HTTP/2).
    pub(crate) fn release(self, now: Instant) {
        let Sender::Http1(Http1::Own(connection, permit)) = self.sender else {
            return;
        };
        let settings = &self.pool.settings;
        let aged = !settings.max_age.is_zero()
            && now.saturating_duration_since(self.born) > settings.max_age;
        if !connection.is_ready() || aged || !self.pool.may_keep() {
            return;
        }
        let idle = IdleHttp1 {
            connection,
            permit,
            fault: self.fault,
            born: self.born,
            since: now,
            kept: self.kept,
        };
        if self.pool.keep(idle) {
            self.pool.has_freed();
        }
    }

    /// Learns that the endpoint closed the connection instead of answering on it.
    pub(crate) fn stale(&self) {
        if let Sender::Http1(..) = self.sender {
            self.pool.http1.closed_after(self.idle);
        }
    }

    /// Learns from the head of an answer how long the endpoint keeps the connection (RFC 9112, 9.3;
    /// `Keep-Alive: timeout=5`).
    pub(crate) fn answered(&mut self, headers: &HeaderMap, kinds: Kinds) {
        match &self.sender {
            Sender::Http1(Http1::Own(..)) => {}
            Sender::Http1(Http1::Hyper(_, bound)) => return bound.lift(),
            Sender::Http2(_) => return,
        }
        if kinds.has(Kinds::HOP)
            && let Some(told) = headers.get(KEEP_ALIVE).and_then(keep_alive_timeout)
        {
            let margin = (told / 2).min(Duration::from_secs(1));
            self.kept = Some(told - margin);
        }
    }
}

fn keep_alive_timeout(value: &HeaderValue) -> Option<Duration> {
    let parameters = value.to_str().ok()?.split(',');
    let seconds = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u32>().ok()?;
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then_some(seconds)
    });
    seconds
        .min()
        .map(|seconds| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_endpoints_say_of_keeping_connections() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=1000", Some(5)),
            ("max=1000 , Timeout = \"5\"", Some(5)),
            ("timeout=9, timeout=5", Some(5)),
            ("timeout=0", Some(0)),
            ("timeout", None),
            ("timeout=-1", None),
            ("timeout=99999999999999999999", None),
            ("max=5", None),
            ("", None),
        ] {
            let told = keep_alive_timeout(&HeaderValue::from_static(value));
            assert_eq!(told, seconds.map(Duration::from_secs), "{value}");
        }
    }
}
