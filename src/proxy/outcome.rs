//! Records a request exactly once, when its response's body has ended or broken.
//!
//! Owns what is known about a request so far, and everything that has to be held until its end.
//! Must not know how it is processed.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, request};

use super::context::Connection;
use super::mirror::Departure;
use crate::config::values::Identity;
use crate::http::body::{End, Finish, RequestProgress};
use crate::http::grpc;
use crate::http::grpc_web::Dialect;
use crate::http::headers::X_REQUEST_ID;
use crate::http::recall::Recalled;
use crate::http::serve::{Close, Control, RequestGuard};
use crate::http::trace::Traceparent;
use crate::http::upgrade::Half;
use crate::snapshot::AccessLogHandle;
use crate::snapshot::limits::Held;
use crate::snapshot::port::Listener;
use crate::snapshot::rule::Why;
use crate::snapshot::trial::{Assigned, First};
use crate::telemetry::access_log::Record;
use crate::telemetry::reason::Reason;
use crate::telemetry::route::{Finished, NONE, RouteMetrics};
use crate::upstream::backend::Holding;
use crate::upstream::pool::Lease;

/// Status in logs and metrics when the client left before there was one (nginx' habit).
const CLIENT_CLOSED: u16 = 499;

/// See the module.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) began: Instant,
    pub(crate) connection: Rc<Connection>,
    /// Of the request's body, if it has one.
    pub(crate) progress: Option<Rc<RequestProgress>>,
    /// Status of the response; none while there is none.
    pub(crate) status: Option<StatusCode>,
    pub(crate) reason: Option<Reason>,
    /// What was done to the request on purpose.
    pub(crate) fault: Option<Reason>,
    /// Number and name. Not the listener itself: it has the routing table, and a tunnel or a long answer
    /// would keep it.
    pub(crate) listener: Option<(u16, Arc<str>)>,
    /// Of the arm that serves, else of the rule, else of the listener.
    pub(crate) metrics: Option<RouteMetrics>,
    pub(crate) why: Option<Why>,
    /// Where a rollout judges what becomes of it.
    pub(crate) assigned: Option<Assigned>,
    pub(crate) endpoint: Option<SocketAddr>,
    pub(crate) attempts: u32,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) holding: Option<Holding>,
    pub(crate) lease: Option<Lease>,
    pub(crate) is_grpc: bool,
    /// The client speaks gRPC-Web; from here on it is gRPC.
    pub(crate) web: Option<Dialect>,
    /// The client has said how long it waits for its call.
    pub(crate) called_for: bool,
    /// An agreed upgrade.
    pub(crate) upgrade: Option<Agreed>,
    /// Fields of the answer that the rule has settled before there was one.
    pub(crate) fields: Option<Box<HeaderMap>>,
    /// What copies of it wait for.
    pub(crate) departure: Option<Box<Departure>>,
    /// Its places among the requests in flight: of the process, the listener, the route and the rule.
    held: [Option<Held>; 4],
    tunnelled: Option<u64>,
    http2: bool,
    generation: u64,
    log: Option<Box<Logged>>,
    recorded: bool,
    _in_flight: RequestGuard,
}

/// What a request that becomes a tunnel goes on with.
#[derive(Debug)]
pub(crate) struct Agreed {
    /// The client's half.
    pub(crate) client: Half,
    /// The endpoint's.
    pub(crate) endpoint: Half,
    /// Hears when its version has lost its traffic.
    pub(crate) recalled: Option<Recalled>,
}

/// How a tunnel ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// By one of its sides.
    Peer,
    /// By this one, with the connection.
    Closed,
    /// It was called back.
    Recalled,
}

/// What only the access log needs.
#[derive(Debug)]
struct Logged {
    handle: Arc<AccessLogHandle>,
    /// When the request began.
    time: SystemTime,
    method: Method,
    uri: Uri,
    version: Version,
    host: HeaderValue,
    request_id: HeaderValue,
    trace: Option<Traceparent>,
    client: IpAddr,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
}

impl Outcome {
    /// Begins a request. What a client sent is kept as it was sent.
    pub(crate) fn begin(
        connection: Rc<Connection>,
        parts: &request::Parts,
        trace: Option<Traceparent>,
        handle: Arc<AccessLogHandle>,
        generation: u64,
    ) -> Box<Self> {
        let log = handle.log.is_on().then(|| {
            Box::new(Logged {
                handle,
                time: SystemTime::now(),
                method: parts.method.clone(),
                uri: parts.uri.clone(),
                version: parts.version,
                host: HeaderValue::from_static(""),
                request_id: HeaderValue::from_static(""),
                trace,
                client: connection.peer().ip(),
                user_agent: parts.headers.get(USER_AGENT).cloned(),
                referer: parts.headers.get(REFERER).cloned(),
            })
        });
        Box::new(Self {
            began: Instant::now(),
            _in_flight: connection.control.begin_request(),
            connection,
            progress: None,
            status: None,
            reason: None,
            fault: None,
            listener: None,
            metrics: None,
            why: None,
            assigned: None,
            endpoint: None,
            attempts: 0,
            first_byte: None,
            holding: None,
            lease: None,
            is_grpc: false,
            web: None,
            called_for: false,
            upgrade: None,
            held: [const { None }; 4],
            fields: None,
            departure: None,
            tunnelled: None,
            http2: parts.version == Version::HTTP_2,
            generation,
            log,
            recorded: false,
        })
    }

    /// Is counted for this listener, as long as there is no rule.
    pub(crate) fn reaches(&mut self, listener: &Listener) {
        self.listener = Some((listener.id, Arc::clone(&listener.name)));
        self.metrics = Some(listener.unmatched.clone());
    }

    /// Whether the client speaks HTTP/2.
    pub(crate) fn is_http2(&self) -> bool {
        self.http2
    }

    /// Keeps a place until the request has ended.
    pub(crate) fn hold(&mut self, held: Held) {
        if let Some(free) = self.held.iter_mut().find(|held| held.is_none()) {
            *free = Some(held);
        }
    }

    /// Notes what the canonical form says, for the access log.
    pub(crate) fn identified(&mut self, host: &HeaderValue, headers: &HeaderMap, client: IpAddr) {
        if let Some(log) = &mut self.log {
            log.host = host.clone();
            if let Some(request_id) = headers.get(X_REQUEST_ID) {
                log.request_id = request_id.clone();
            }
            log.client = client;
        }
    }

    /// Takes over the upgraded connection's life from the response, which ends with its head.
    pub(crate) fn into_tunnel(self: Box<Self>) -> TunnelOutcome {
        TunnelOutcome(self)
    }

    /// Why this side has ended a connection, or a tunnel, before it was over. `None` if it has not.
    fn cut(&self, control: &Control) -> Option<Reason> {
        if control.is_stalled() {
            Some(Reason::TimeoutAfterHeaders)
        } else if control.is_past_grace() {
            Some(Reason::ConnectionAge)
        } else if self.connection.worker.closing.get() == Close::Now {
            Some(Reason::Drained)
        } else {
            None
        }
    }

    /// Why a connection ends early: its client closes it, if this side has not.
    fn who_left(&self) -> Reason {
        let cut = self.cut(&self.connection.control);
        cut.unwrap_or(Reason::ClientClosed)
    }

    fn record(&mut self, response_bytes: u64, ended: Instant) {
        if std::mem::replace(&mut self.recorded, true) {
            return;
        }
        let status = self.status.map_or(CLIENT_CLOSED, |status| status.as_u16());
        let finished = Finished {
            listener: self
                .listener
                .as_ref()
                .map_or((u16::MAX, NONE), |(id, name)| (*id, &**name)),
            http2: self.http2,
            status,
            reason: self.reason,
            duration: ended.saturating_duration_since(self.began),
            request_bytes: self.tunnelled.unwrap_or_else(|| {
                self.progress
                    .as_ref()
                    .map_or(0, |progress| progress.bytes())
            }),
            response_bytes,
        };
        if let Some(metrics) = &self.metrics {
            metrics.record(&finished);
        }
        self.log_line(&finished);
    }

    fn log_line(&self, finished: &Finished<'_>) {
        let Some(log) = &self.log else { return };
        let lot = (rand::Rng::next_u32(&mut *self.connection.worker.rng.borrow_mut()) % 100) as u8;
        if !log.handle.log.wants(
            finished.status,
            finished.reason.is_some(),
            finished.duration,
            lot,
        ) {
            return;
        }
        let labels = self.metrics.as_ref().map(|metrics| metrics.labels());
        let named = |name: &'_ str| name != NONE;
        let [host, request_id] =
            [&log.host, &log.request_id].map(|value| String::from_utf8_lossy(value.as_bytes()));
        let client_is_peer = log.client == self.connection.peer().ip();
        log.handle.log.write(&Record {
            time: log.time,
            listener: finished.listener.1,
            route: labels.map(|l| l.0).filter(|name| named(name)),
            rule: labels.map(|l| l.1).filter(|name| named(name)),
            backend: labels.map(|l| l.2).filter(|name| named(name)),
            endpoint: self.endpoint,
            choice: self.why.map_or(NONE, Why::as_str),
            attempts: self.attempts,
            reason: finished.reason.or(self.fault).map(Reason::as_str),
            generation: self.generation,
            request_id: &request_id,
            trace_id: log.trace.as_ref().map(Traceparent::trace_id),
            span_id: log.trace.as_ref().map(Traceparent::span_id),
            client: log.client,
            client_port: client_is_peer.then(|| self.connection.peer().port()),
            identity: self.connection.identity().map(Identity::name),
            method: log.method.as_str(),
            scheme: self.connection.scheme(),
            host: &host,
            path: log.uri.path(),
            query: log.uri.query(),
            protocol: match log.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
            status: finished.status,
            request_bytes: finished.request_bytes,
            response_bytes: finished.response_bytes,
            duration: finished.duration,
            first_byte: self.first_byte,
            user_agent: log.user_agent.as_ref().map(HeaderValue::as_bytes),
            referer: log.referer.as_ref().map(HeaderValue::as_bytes),
        });
    }
}

impl Finish for Outcome {
    fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(assigned) = &mut self.assigned
            && grpc::is_failure(trailers)
        {
            assigned.broke(First::Error);
        }
    }

    fn finish(mut self: Box<Self>, end: End, bytes: u64) {
        let now = Instant::now();
        if let Some(assigned) = &mut self.assigned {
            match end {
                End::Complete => assigned.finished(now),
                End::Upstream | End::Deadline => assigned.broke(First::Lost),
                // It has waited at least that long.
                End::Client => {}
                // How long it would have taken, nobody knows.
                End::Recalled => assigned.repeated(),
            }
        }
        let request_ended = self
            .progress
            .as_ref()
            .is_none_or(|progress| progress.ended());
        match end {
            End::Complete => {
                if let Some(lease) = self.lease.take().filter(|_| request_ended) {
                    lease.release(now);
                }
                if let Some(progress) = self.progress.as_ref().filter(|_| !request_ended) {
                    progress.answered();
                    if !self.http2 {
                        self.connection.control.leaves_unread();
                    }
                }
            }
            End::Upstream => self.reason = Some(Reason::UpstreamReset),
            End::Deadline => self.reason = Some(Reason::TimeoutAfterHeaders),
            End::Client => self.reason = Some(self.who_left()),
            End::Recalled => self.reason = Some(Reason::RolloutGuard),
        }
        self.record(bytes, now);
    }
}

impl Drop for Outcome {
    /// The client left while its request was being worked on: the future was dropped.
    fn drop(&mut self) {
        if !self.recorded {
            self.reason = self.reason.or_else(|| Some(self.who_left()));
            self.record(0, Instant::now());
        }
    }
}

/// The outcome of a request that has become a tunnel; recorded when the tunnel ends.
#[derive(Debug)]
pub(crate) struct TunnelOutcome(Box<Outcome>);

impl TunnelOutcome {
    /// Records the tunnel's end. Bytes from the client count as its request's body.
    pub(crate) fn finish(mut self, control: &Control, end: TunnelEnd) {
        let (from_client, to_client) = control.carried();
        // The connection below may have been cut first, which looks like the client's doing.
        match end {
            TunnelEnd::Recalled => self.0.reason = Some(Reason::RolloutGuard),
            TunnelEnd::Peer if !control.is_past_grace() => {}
            TunnelEnd::Peer | TunnelEnd::Closed => self.0.reason = self.0.cut(control),
        }
        self.0.tunnelled = Some(from_client);
        self.0.record(to_client, Instant::now());
    }
}
