//! A client's connection of HTTP/1: served, and parked while it waits for its next request.
//!
//! hyper keeps its buffers and state, some 20 KiB, for as long as it has a connection. One that has been
//! idle for a moment is taken from hyper, waits as a bare socket, and is given back with its next byte.
//! Must not know what the service does.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use super::body::ResponseBody;
use super::serve::{Close, Control, Ended, ServeOptions, drive};
use super::socket::Watched;

/// How long a connection is idle before it is parked. Clients with several requests a second are never.
pub(super) const PARK_AFTER: Duration = Duration::from_secs(1);

/// As many fields as hyper takes where it is told nothing.
const HYPERS_FIELDS: usize = 100;

/// Serves the connection until it ends.
pub(super) async fn serve<S>(
    mut socket: Watched,
    options: &ServeOptions,
    control: &Control,
    mut service: S,
) -> Ended
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        // Boxed, so that a parked connection keeps nothing of it.
        let served = Box::pin(until_idle(socket, options, control, service));
        (socket, service) = match served.await {
            Idle::Parked(socket, service) => (socket, service),
            Idle::Ended(ended) => return ended,
        };
        if !is_heard_again(&socket, control).await {
            // What cannot be sent any more is not missed.
            let _closed = control.until_closed(socket.shutdown()).await;
            return Ended::Closed;
        }
    }
}

/// What has become of a connection that is not served now.
enum Idle<S> {
    Parked(Watched, S),
    Ended(Ended),
}

async fn until_idle<S>(
    socket: Watched,
    options: &ServeOptions,
    control: &Control,
    service: S,
) -> Idle<S>
where
    S: Service<Request<Incoming>, Response = Response<ResponseBody>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut http1 = http1::Builder::new();
    // Told a number, even its own, hyper makes room for so many fields on the heap for each request.
    if options.header_count != HYPERS_FIELDS {
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
        Some(Err(error)) if error.is_parse() => Idle::Ended(Ended::Protocol(error)),
        Some(Err(_)) => Idle::Ended(Ended::Io),
        // Nothing has come since the last request, so there is nothing in hyper's buffer; nor is there
        // a connection without parts, as that is one which has been upgraded and so has ended.
        None => match connection.into_parts() {
            Some(parts) if parts.read_buf.is_empty() => {
                Idle::Parked(parts.io.into_inner(), parts.service)
            }
            _ => Idle::Ended(Ended::Io),
        },
    }
}

/// Waits for the next byte, or the client's end; `false` when the connection is asked to end instead.
async fn is_heard_again(socket: &Watched, control: &Control) -> bool {
    poll_fn(|cx| {
        control.register(cx);
        if socket.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        match control.asked_to_close() {
            Close::No => Poll::Pending,
            Close::Graceful | Close::Now => Poll::Ready(false),
        }
    })
    .await
}
