//! A client's connection of HTTP/1: served by one of two engines, and parked while it is silent.
//!
//! Plain requests are served by [`server`], all others by hyper, which keeps its buffers and state, some
//! 20 KiB, for as long as it has a connection. One that has been idle for a moment is taken from hyper, and
//! waits as a bare socket. Must not know what the service does.

use std::error::Error;
use std::pin::Pin;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use super::body::{DownstreamBody, ResponseBody};
use super::message::{RequestMessage, ResponseMessage};
use super::serve::{Control, Ended, ServeOptions, drive};
use super::server::{self, Client, Served};
use super::socket::Watched;

/// How long a connection is idle before it is parked. Clients with several requests a second are never.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(1);

/// Serves the connection until it ends.
pub(super) async fn serve<S, F, E>(
    client: Client,
    options: &ServeOptions,
    control: &Control,
    service: S,
) -> Ended
where
    S: Fn(RequestMessage<DownstreamBody>) -> F,
    F: Future<Output = Result<ResponseMessage<ResponseBody>, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        match control
            .until_closed(client.serve(options, control, &service))
            .await
        {
            Some(Served::Other) => {}
            Some(Served::Ended(ended)) => return ended,
            None => return Ended::Closed,
        }
        let Some(socket) = client.take() else {
            return Ended::Io;
        };
        // Boxed, so that a parked connection keeps nothing of it.
        match Box::pin(until_idle(socket, options, control, &service)).await {
            Idle::Parked(socket) => client.put(socket),
            Idle::Ended(ended) => return ended,
        }
    }
}

/// What has become of a connection that hyper has had.
enum Idle {
    Parked(Watched),
    Ended(Ended),
}

async fn until_idle<S, F, E>(
    socket: Watched,
    options: &ServeOptions,
    control: &Control,
    service: &S,
) -> Idle
where
    S: Fn(RequestMessage<DownstreamBody>) -> F,
    F: Future<Output = Result<ResponseMessage<ResponseBody>, E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    // Each of its requests has a body, if an empty one.
    let service = service_fn(|request: Request<Incoming>| {
        let answering = service(request.map(DownstreamBody::Hyper).into());
        async { answering.await.map(Response::from) }
    });
    let mut http1 = http1::Builder::new();
    // Told a number, even its own, hyper makes room for so many fields on the heap for each request.
    if options.header_count != server::head::FIELDS {
        http1.max_headers(options.header_count);
    }
    let mut connection = http1
        .half_close(options.half_close)
        .max_header_size(options.header_bytes)
        .max_buf_size(options.header_bytes.max(64 * 1024) + 8192)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let stop = http1::UpgradeableConnection::graceful_shutdown;
    match drive(Pin::new(&mut connection), control, stop).await {
        Some(Ok(())) => Idle::Ended(Ended::Closed),
        Some(Err(error)) if error.is_parse() => Idle::Ended(Ended::Protocol(error.into())),
        Some(Err(_)) => Idle::Ended(Ended::Io),
        // Nothing has come since the last request, so there is nothing in hyper's buffer; nor is there
        // a connection without parts, as that is one which has been upgraded and so has ended.
        None => match connection.into_parts() {
            Some(parts) if parts.read_buf.is_empty() => Idle::Parked(parts.io.into_inner()),
            _ => Idle::Ended(Ended::Io),
        },
    }
}
