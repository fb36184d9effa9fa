//! Active health checks: asks endpoints themselves whether they can serve.
//!
//! Owns when and what is asked, and what the answers say. Runs on the control runtime, once for each
//! endpoint of the process, whatever the number of workers. Must not know requests.

use std::collections::HashSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::backend::{Backend, Protocol};
use super::connect::connect;
use super::endpoint::{Endpoint, State};
use super::endpoints::Member;
use crate::telemetry::backend::CheckResult;
use crate::tls::stream::Stream;

/// How endpoints are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HealthSettings {
    pub(crate) probe: Probe,
    /// Between the end of a check and the beginning of the next, give or take a tenth.
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Checks in a row that make a ready endpoint unhealthy, and an unhealthy one ready.
    pub(crate) unhealthy_after: u32,
    pub(crate) healthy_after: u32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
    /// A connection can be made, TLS included.
    Tcp,
    /// `GET`, and the answer's status and body.
    Http {
        target: Uri,
        host: Option<HeaderValue>,
        /// Empty: 200 to 399, as Kubernetes' probes.
        codes: Vec<u16>,
        /// Must be somewhere in the first 64 KiB.
        body: Option<String>,
    },
    /// `grpc.health.v1.Health/Check` says SERVING.
    Grpc { service: String },
}

/// Why an endpoint is not believed to serve.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error(transparent)]
    Connect(#[from] super::connect::ConnectError),
    #[error("no HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer cannot be read to its end: {0}")]
    Read(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer does not contain {0:?}")]
    Body(String),
    #[error("gRPC status {0}")]
    GrpcStatus(String),
    #[error("the service is not SERVING")]
    NotServing,
    #[error("no answer after {0:?}")]
    Timeout(Duration),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
}

/// Bytes of an answer that are looked at.
const LOOKED_AT: usize = 64 * 1024;

/// Checks the backend's endpoints until the backend is gone.
pub(crate) async fn tend(backend: Weak<Backend>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut tended = HashSet::new();
    loop {
        let Some(held) = backend.upgrade() else {
            return;
        };
        if held.settings().health.is_none() || held.is_retired() {
            return;
        }
        let mut changed = held.changed();
        let endpoints = held.endpoints();
        let there: HashSet<_> = endpoints
            .all()
            .iter()
            .map(|one| one.endpoint.id())
            .collect();
        tended.retain(|id| there.contains(id));
        for Member { endpoint, .. } in endpoints.all() {
            if tended.insert(endpoint.id()) {
                let one = (Weak::clone(&backend), Arc::downgrade(endpoint));
                tokio::spawn(check_always(one.0, one.1, rand::Rng::next_u64(&mut rng)));
            }
        }
        drop((held, endpoints));
        if changed.changed().await.is_err() {
            return;
        }
    }
}

/// Checks one endpoint for as long as the backend has it.
async fn check_always(backend: Weak<Backend>, endpoint: Weak<Endpoint>, seed: u64) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut streak = Streak::default();
    loop {
        let (Some(backend), Some(endpoint)) = (backend.upgrade(), endpoint.upgrade()) else {
            return;
        };
        let known = backend.endpoints();
        let (Some(settings), true) = (&backend.settings().health, known.has(&endpoint)) else {
            return;
        };
        let result = check(&backend, settings, endpoint.address()).await;
        // Whoever looks after the endpoint by now may ask something else.
        if backend.is_retired() {
            return;
        }
        note(&backend, settings, &endpoint, &mut streak, result);
        let interval = settings.interval;
        drop((backend, endpoint, known));
        tokio::time::sleep(interval.mul_f64(jitter(&mut rng))).await;
    }
}

/// 0.9 to 1.1, so that the checks of many proxies do not fall in step.
fn jitter(rng: &mut impl rand::Rng) -> f64 {
    0.9 + 0.2 * rand::RngExt::random::<f64>(rng)
}

fn note(
    backend: &Backend,
    settings: &HealthSettings,
    endpoint: &Endpoint,
    streak: &mut Streak,
    result: Result<(), CheckError>,
) {
    backend.metrics().checked(match &result {
        Ok(()) => CheckResult::Ok,
        Err(CheckError::Timeout(_)) => CheckResult::Timeout,
        Err(CheckError::Connect(_)) => CheckResult::ConnectFailed,
        Err(_) => CheckResult::Failed,
    });
    let (name, address) = (backend.name(), endpoint.address());
    let next = streak.note(result.is_ok(), endpoint.health(), settings);
    endpoint.set_trouble(result.as_ref().err().map(ToString::to_string));
    let Some(next) = next else { return };
    match &result {
        Ok(()) => tracing::info!(backend = name, endpoint = %address, "endpoint is ready"),
        Err(error) => {
            tracing::warn!(backend = name, endpoint = %address, %error, "endpoint is unhealthy");
        }
    }
    // What was kept of its connections is from before its trouble, if there is anything left.
    if next == State::Ready && backend.settings().pool.preconnect {
        endpoint.set_cold(true);
    }
    endpoint.enter(next);
    backend.refresh();
}

/// How many checks in a row have said the same.
#[derive(Debug, Default)]
struct Streak {
    good: u32,
    bad: u32,
}

impl Streak {
    /// The state that the endpoint changes to, if it does. The first good check of an endpoint is
    /// enough: it has done nothing wrong yet.
    fn note(&mut self, good: bool, now: State, settings: &HealthSettings) -> Option<State> {
        (self.good, self.bad) = if good {
            (self.good.saturating_add(1), 0)
        } else {
            (0, self.bad.saturating_add(1))
        };
        match now {
            State::Unknown if good => Some(State::Ready),
            State::Unhealthy if self.good >= settings.healthy_after => Some(State::Ready),
            State::Ready | State::Unknown if self.bad >= settings.unhealthy_after => {
                Some(State::Unhealthy)
            }
            State::Unknown | State::Unhealthy | State::Ready | State::Ejected => None,
        }
    }
}

async fn check(
    backend: &Backend,
    settings: &HealthSettings,
    address: std::net::SocketAddr,
) -> Result<(), CheckError> {
    let asked = async {
        let tls = backend.tls().map(|tls| &**tls);
        let grpc = matches!(settings.probe, Probe::Grpc { .. });
        let http1 = !grpc && backend.settings().protocol != Protocol::H2c;
        // A check is nobody's but our own.
        let preface = backend.preface(None);
        let stream = connect(address, &preface, tls, http1, settings.timeout).await?;
        match &settings.probe {
            Probe::Tcp => Ok(()),
            Probe::Http {
                target,
                host,
                codes,
                body,
            } => {
                let host = host
                    .clone()
                    .or_else(|| HeaderValue::try_from(address.to_string()).ok());
                let request = get(target, host, http1)?;
                let response = exchange(stream, request, http1).await?;
                let status = response.status().as_u16();
                let good = if codes.is_empty() {
                    (200..400).contains(&status)
                } else {
                    codes.contains(&status)
                };
                if !good {
                    return Err(CheckError::Status(status));
                }
                match body {
                    Some(wanted) => contains(response, wanted).await,
                    None => Ok(()),
                }
            }
            Probe::Grpc { service } => {
                let request = grpc_request(service, address)?;
                serving(exchange(stream, request, false).await?).await
            }
        }
    };
    match tokio::time::timeout(settings.timeout, asked).await {
        Ok(result) => result,
        Err(_) => Err(CheckError::Timeout(settings.timeout)),
    }
}

/// A request whose version is not decided yet.
fn get(
    target: &Uri,
    host: Option<HeaderValue>,
    http1: bool,
) -> Result<Request<Full<Bytes>>, CheckError> {
    let mut request = Request::builder().method(Method::GET);
    request = match host {
        Some(host) if http1 => request.uri(target).header(HOST, host),
        Some(host) => {
            let target = target.path_and_query().map_or("/", |it| it.as_str());
            let authority = host.to_str().unwrap_or("localhost");
            let uri = Uri::builder().scheme("http").authority(authority);
            request
                .version(Version::HTTP_2)
                .uri(uri.path_and_query(target).build()?)
        }
        None => request.uri(target),
    };
    let request = request.header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")));
    Ok(request.body(Full::default())?)
}

async fn exchange(
    stream: Stream,
    request: Request<Full<Bytes>>,
    http1: bool,
) -> Result<Response<Incoming>, CheckError> {
    let io = TokioIo::new(stream);
    if http1 {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
        // Ends with the response; its errors reach the request.
        tokio::spawn(async move { drop(connection.await) });
        return Ok(sender.send_request(request).await?);
    }
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender.send_request(request).await?)
}

async fn contains(response: Response<Incoming>, wanted: &str) -> Result<(), CheckError> {
    let mut body = Limited::new(response.into_body(), LOOKED_AT);
    let mut text = Vec::new();
    // A body that goes on is looked at as far as it was read.
    while let Some(Ok(frame)) = body.frame().await {
        if let Some(data) = frame.data_ref() {
            text.extend_from_slice(data);
        }
    }
    let found = memchr::memmem::find(&text, wanted.as_bytes()).is_some();
    if found {
        Ok(())
    } else {
        Err(CheckError::Body(wanted.to_owned()))
    }
}

/// `HealthCheckRequest { service }` as a message of gRPC.
fn grpc_request(
    service: &str,
    address: std::net::SocketAddr,
) -> Result<Request<Full<Bytes>>, CheckError> {
    let uri = format!("http://{address}/grpc.health.v1.Health/Check");
    let request = Request::post(uri)
        .version(Version::HTTP_2)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers");
    Ok(request.body(Full::from(grpc_message(service)))?)
}

/// A length-prefixed message with one field: number 1, a text (Protocol Buffers, encoding).
fn grpc_message(service: &str) -> Vec<u8> {
    let mut field = Vec::new();
    if !service.is_empty() {
        field.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            field.push((length as u8 & 0x7f) | 0x80);
            length >>= 7;
        }
        field.push(length as u8);
        field.extend_from_slice(service.as_bytes());
    }
    let mut message = vec![0];
    message.extend_from_slice(&(field.len() as u32).to_be_bytes());
    message.extend(field);
    message
}

async fn serving(response: Response<Incoming>) -> Result<(), CheckError> {
    if response.status() != http::StatusCode::OK {
        return Err(CheckError::Status(response.status().as_u16()));
    }
    let at_once = response.headers().get("grpc-status").cloned();
    let body = Limited::new(response.into_body(), LOOKED_AT).collect();
    let body = body.await.map_err(CheckError::Read)?;
    let trailers = body.trailers();
    let status = at_once.or_else(|| trailers?.get("grpc-status").cloned());
    if let Some(status) = status.filter(|status| status != "0") {
        let status = String::from_utf8_lossy(status.as_bytes()).into_owned();
        return Err(CheckError::GrpcStatus(status));
    }
    // `HealthCheckResponse { status: SERVING }`: field 1, a varint of 1, behind the prefix.
    if body.to_bytes().get(5..) == Some(&[0x08, 0x01]) {
        Ok(())
    } else {
        Err(CheckError::NotServing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_changes_after_so_many_checks_in_a_row() {
        let settings = HealthSettings {
            probe: Probe::Tcp,
            interval: Duration::ZERO,
            timeout: Duration::ZERO,
            unhealthy_after: 3,
            healthy_after: 2,
        };
        for (begin, checks, states) in [
            (State::Unknown, "+", "r"),
            (State::Unknown, "--+", "??r"),
            (State::Unknown, "---+", "??uu"),
            (State::Ready, "--+---", "rrrrru"),
            (State::Ready, "---++", "rruur"),
            (State::Unhealthy, "+-++", "uuur"),
        ] {
            let (mut streak, mut state) = (Streak::default(), begin);
            let mut seen = String::new();
            for check in checks.chars() {
                state = streak.note(check == '+', state, &settings).unwrap_or(state);
                seen.push(match state {
                    State::Ready => 'r',
                    State::Unknown => '?',
                    State::Unhealthy => 'u',
                    State::Ejected => unreachable!("checks do not eject"),
                });
            }
            assert_eq!(seen, states, "{begin:?} {checks}");
        }
    }

    #[test]
    fn the_question_of_grpc_is_length_prefixed() {
        assert_eq!(grpc_message(""), [0, 0, 0, 0, 0]);
        assert_eq!(grpc_message("ab"), [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = grpc_message(&"x".repeat(300));
        assert_eq!(long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
    }
}
