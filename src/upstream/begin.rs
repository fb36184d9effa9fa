//! HTTP on a connection that stands: begun, bounded, and driven to its end in a task of its own.
//!
//! Owns what an endpoint may send before and around its answers. Must not know when a connection is used
//! again.

use std::rc::Rc;

use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::bound::{AnswerBound, Bounded};
use super::flood::{Counted, Greeting};
use super::permit::Permit;
use crate::http::body::RequestBody;
use crate::http::client::ANSWER_HEAD;
use crate::http::http2;
use crate::tls::stream::Stream;

/// Begins HTTP/1, for a tunnel.
pub(super) async fn http1(
    stream: Stream,
    permit: Permit,
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
    }));
    Ok((sender, bound))
}

/// Begins HTTP/2. The greeting tells when the endpoint has said what it allows; until then it is one stream
/// and no tunnel.
pub(super) async fn http2(
    stream: Stream,
    permit: Permit,
) -> Result<(http2::client::Connection, Rc<Greeting>), h2::Error> {
    let greeting = Rc::new(Greeting::default());
    let stream = Counted::new(stream, permit.metrics(), Rc::clone(&greeting));
    let (engine, connection) = h2::client::Builder::new()
        .initial_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buffer_size(64 * 1024)
        // An answer's head may be as large as in HTTP/1.
        .max_header_list_size(64 * 1024)
        .max_frame_size(16 * 1024)
        .header_table_size(4096)
        // Until the endpoint has said how many it allows: more would wait where nobody sees them.
        .initial_max_send_streams(1)
        .enable_push(false)
        .handshake(stream)
        .await?;
    drop(tokio::task::spawn_local(async move {
        let _permit = permit;
        // Its errors reach the requests that are in flight; with none, nobody needs them.
        drop(connection.await);
    }));
    Ok((http2::client::Connection::new(engine), greeting))
}
