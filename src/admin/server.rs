//! The admin listeners: a small router behind tower's load shedding, limit and timeout.
//!
//! Owns paths and methods. Must not know what the pages show.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde::Serialize;
use tokio::net::TcpListener;
use tower::{BoxError, ServiceBuilder, service_fn};

use super::access::Guard;
use super::socket::{Peer, Socket};
use super::status::{Asked, ReloadOutcome};
use super::{AdminError, State, dump, health, rollouts};
use crate::drain::Phase;
use crate::listener::socket;

/// Requests in flight; beyond it 503 at once. Scrapes are few, so more than this is an accident.
const IN_FLIGHT: usize = 64;
/// A reload of a very large configuration is the longest that is waited for.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's body.
pub(super) const BODY: usize = 4096;

const PAGE: &str = include_str!("page.html");

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everything,
    /// `/live`, `/ready`, `/metrics`.
    Probes,
}

/// Listens and serves in tasks of the calling runtime. Returns where the main one is.
///
/// # Errors
/// When an address or the token file cannot be used.
pub(crate) async fn serve(
    state: &Arc<State>,
    address: Option<SocketAddr>,
) -> Result<SocketAddr, AdminError> {
    let settings = state.current.load().admin.clone();
    let token_file = settings.token_file.as_deref();
    let main = listen(
        state,
        address.unwrap_or(settings.address),
        token_file,
        Scope::Everything,
    )?;
    if let Some(address) = settings.metrics_address {
        listen(state, address, token_file, Scope::Probes)?;
    }
    if let Some(path) = settings.socket {
        let socket = Socket::unix(&path).map_err(|source| AdminError::Socket {
            path: path.clone(),
            source,
        })?;
        let guard = Guard::new(main, token_file)?;
        tracing::info!(socket = %path.display(), "admin listening");
        let accepting = accept(socket, Arc::clone(state), guard, Scope::Everything);
        drop(tokio::task::spawn_local(accepting));
    }
    Ok(main)
}

fn listen(
    state: &Arc<State>,
    address: SocketAddr,
    token_file: Option<&std::path::Path>,
    scope: Scope,
) -> Result<SocketAddr, AdminError> {
    let failed = |source| AdminError::Bind { address, source };
    let (bound, mut sockets) = socket::bind(address, 1).map_err(failed)?;
    let socket = sockets
        .pop()
        .ok_or_else(|| failed(std::io::Error::other("no socket")))?;
    let listener = TcpListener::from_std(socket).map_err(failed)?;
    let guard = Guard::new(bound, token_file)?;
    let what = if scope == Scope::Everything {
        "admin"
    } else {
        "probes and metrics"
    };
    tracing::info!(address = %bound, "{what} listening");
    drop(tokio::task::spawn_local(accept(
        Socket::Tcp(listener),
        Arc::clone(state),
        guard,
        scope,
    )));
    Ok(bound)
}

async fn accept(socket: Socket, state: Arc<State>, guard: Guard, scope: Scope) {
    let limit = tower::limit::GlobalConcurrencyLimitLayer::new(IN_FLIGHT);
    loop {
        let (stream, peer) = match socket.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "admin: cannot accept; waiting a little");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (state, guard) = (Arc::clone(&state), guard.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (state, guard) = (Arc::clone(&state), guard.clone());
            async move { Ok::<_, Infallible>(answer(&state, &guard, scope, peer, request).await) }
        });
        let service = ServiceBuilder::new()
            .map_result(|result: Result<Response<Full<Bytes>>, BoxError>| {
                Ok::<_, BoxError>(result.unwrap_or_else(|error| overloaded(&error)))
            })
            .load_shed()
            .layer(limit.clone())
            .timeout(TIMEOUT)
            .service(answer);
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(Duration::from_secs(10))
            .serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        drop(tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(?peer, %error, "admin: a connection ended early");
            }
        }));
    }
}

fn overloaded(error: &BoxError) -> Response<Full<Bytes>> {
    text(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("the admin API is busy: {error}\n"),
    )
}

async fn answer(
    state: &State,
    guard: &Guard,
    scope: Scope,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let probe = matches!(request.uri().path(), "/live" | "/ready" | "/metrics");
    // A kubelet or Prometheus asks by whatever name it knows, and learns nothing secret.
    if !probe
        && let Peer::Address(peer) = peer
        && let Err((status, why)) = guard.check(request.method(), request.headers(), peer)
    {
        return text(status, format!("{why}\n"));
    }
    if scope == Scope::Probes && !probe {
        return text(
            StatusCode::NOT_FOUND,
            "this address serves /live, /ready and /metrics only\n".to_owned(),
        );
    }
    let method = request.method().clone();
    let mut response = match method {
        Method::GET | Method::HEAD => get(state, request.uri().path(), request.uri().query()),
        Method::POST => post(state, request).await,
        _ => not_allowed("GET, HEAD, POST"),
    };
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn get(state: &State, path: &str, query: Option<&str>) -> Response<Full<Bytes>> {
    match path {
        "/live" => {
            let (status, body) = health::live();
            text(status, body)
        }
        "/ready" => {
            let verbose = query.is_some_and(|q| {
                q.split('&')
                    .any(|p| p == "verbose" || p.starts_with("verbose="))
            });
            let (status, body) = health::ready(state, verbose);
            text(status, body)
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, state.registry.render());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        "/config" => match dump::config(state) {
            Ok(config) => json(&config),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        },
        "/api/v1/status" => json(&dump::status(state)),
        "/api/v1/listeners" => json(&dump::listeners(state)),
        "/api/v1/routes" => json(&dump::routes(state)),
        "/api/v1/backends" => json(&dump::backends(state)),
        "/api/v1/certificates" => json(&dump::certificates(state)),
        "/" => page(),
        "/api/v1/reload" | "/api/v1/drain" | "/api/v1/log-level" => not_allowed("POST"),
        path => rollouts::get(state, path).unwrap_or_else(missing),
    }
}

fn missing() -> Response<Full<Bytes>> {
    text(StatusCode::NOT_FOUND, "there is no such page\n".to_owned())
}

async fn post(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/api/v1/reload" => reload(state).await,
        "/api/v1/drain" => {
            state.trigger.enter(Phase::LameDuck);
            text(StatusCode::ACCEPTED, "draining\n".to_owned())
        }
        "/api/v1/log-level" => log_level(state, request).await,
        "/live" | "/ready" | "/metrics" | "/config" | "/" => not_allowed("GET, HEAD"),
        "/api/v1/flagger/rollback" | "/api/v1/flagger/confirm-promotion" => {
            rollouts::flagger(state, request).await
        }
        path if rollouts::is_command(path) => rollouts::post(state, request).await,
        path if path.starts_with("/api/v1/") => match get(state, path, None).status() {
            StatusCode::OK => not_allowed("GET, HEAD"),
            _ => missing(),
        },
        _ => missing(),
    }
}

async fn reload(state: &State) -> Response<Full<Bytes>> {
    let (asked, reply) = Asked::by_api();
    if state.ask.send(asked).await.is_err() {
        return text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the process is stopping\n".to_owned(),
        );
    }
    match reply.await {
        Ok(Ok(ReloadOutcome::Applied { generation, change })) => json(
            &serde_json::json!({ "result": "applied", "generation": generation, "change": change }),
        ),
        Ok(Ok(ReloadOutcome::Unchanged)) => json(&serde_json::json!({ "result": "unchanged" })),
        Ok(Err(error)) => text(StatusCode::UNPROCESSABLE_ENTITY, format!("{error}\n")),
        Err(_) => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the process is stopping\n".to_owned(),
        ),
    }
}

async fn log_level(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let Some(handle) = &state.log_level else {
        return text(
            StatusCode::CONFLICT,
            "the program log is not under this process' control\n".to_owned(),
        );
    };
    let Ok(body) = Limited::new(request.into_body(), BODY).collect().await else {
        return text(
            StatusCode::BAD_REQUEST,
            "send the level as the body, for example `debug`\n".to_owned(),
        );
    };
    let body = body.to_bytes();
    let Ok(level) = std::str::from_utf8(body.trim_ascii()) else {
        return text(
            StatusCode::BAD_REQUEST,
            "the level is not text\n".to_owned(),
        );
    };
    match handle.set(level) {
        Ok(()) => text(StatusCode::OK, format!("{}\n", handle.current())),
        Err(error) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn page() -> Response<Full<Bytes>> {
    let mut response = text(StatusCode::OK, PAGE.to_owned());
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
    );
    response
}

pub(super) fn not_allowed(allow: &'static str) -> Response<Full<Bytes>> {
    let mut response = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("allowed here: {allow}\n"),
    );
    response
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    response
}

pub(super) fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_string_pretty(value) {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body + "\n");
            response
                .headers_mut()
                .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

pub(super) fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}
