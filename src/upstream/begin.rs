//! HTTP on a connection that stands: begun, bounded, and driven to its end in a task of its own.
//!
//! Owns what an endpoint may send before and around its answers. Must not know when a connection is used
//! again.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;

use super::bound::{AnswerBound, Bounded};
use super::flood::{Counted, Greeting};
use super::permit::Permit;
use crate::http::body::RequestBody;
use crate::http::client::ANSWER_HEAD;
use crate::http::serve::LocalExecutor;
use crate::tls::stream::Stream;

/// Begins HTTP/1; `ended` is called when the connection has.
pub(super) async fn http1(
    stream: Stream,
    permit: Permit,
    ended: impl FnOnce() + 'static,
) -> hyper::Result<(http1::SendRequest<RequestBody>, AnswerBound)> {
    let bound = AnswerBound::default();
    let io = TokioIo::new(Bounded::new(stream, &bound));
    let (sender, connection) = http1::Builder::new()
        .max_header_size(ANSWER_HEAD)
        .max_buf_size(ANSWER_HEAD)
        .handshake(io)
        .await?;
    drop(tokio::task::spawn_local(async move {
        let _permit = permit;
        // Its errors reach the request that is in flight; with none, nobody needs them.
        drop(connection.with_upgrades().await);
        ended();
    }));
    Ok((sender, bound))
}

/// What an endpoint allows on a connection of HTTP/2.
#[derive(Debug)]
pub(super) struct Allowed {
    /// SETTINGS_MAX_CONCURRENT_STREAMS; one until it has come.
    pub(super) streams: Cell<usize>,
    /// SETTINGS_ENABLE_CONNECT_PROTOCOL (RFC 8441, 3).
    pub(super) tunnels: Cell<bool>,
    /// Before that, defaults are assumed.
    pub(super) told: Greeting,
}

/// Begins HTTP/2.
pub(super) async fn http2(
    stream: Stream,
    permit: Permit,
) -> hyper::Result<(http2::SendRequest<RequestBody>, Rc<Allowed>)> {
    let greeting = Rc::new(Greeting::default());
    let stream = Counted::new(stream, permit.metrics(), Rc::clone(&greeting));
    let (sender, connection) = http2::Builder::new(LocalExecutor)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(64 * 1024)
        // An answer's head may be as large as in HTTP/1.
        .max_header_list_size(64 * 1024)
        .max_frame_size(16 * 1024)
        .header_table_size(4096)
        // Until the endpoint has said how many it allows: more would wait where nobody sees them.
        .initial_max_send_streams(1)
        .handshake(TokioIo::new(stream))
        .await?;
    let allowed = Rc::new(Allowed {
        // Whoever asked for it has one. What HTTP/2 assumes before it is told would send all others here.
        streams: Cell::new(1),
        tunnels: Cell::new(false),
        told: Greeting::default(),
    });
    let shared = Rc::clone(&allowed);
    drop(tokio::task::spawn_local(async move {
        let _permit = permit;
        let mut connection = pin!(connection);
        let mut greeted = pin!(greeting.come());
        poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx).map(drop);
            if shared.told.is_over() {
                shared.streams.set(connection.current_max_send_streams());
            } else if greeted.as_mut().poll(cx).is_ready() {
                shared.streams.set(connection.current_max_send_streams());
                let tunnels = connection.is_extended_connect_protocol_enabled();
                shared.tunnels.set(tunnels);
                shared.told.over();
            }
            ended
        })
        .await;
        shared.told.over();
    }));
    Ok((sender, allowed))
}
