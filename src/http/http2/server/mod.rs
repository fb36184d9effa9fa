//! A client's connection of HTTP/2: each request is served in a task of its own.
//!
//! Owns what the client is told of the connection as a whole: settings, and its end. Must not know what the
//! service does.

mod exchange;
mod promise;

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::Handshake;

use self::exchange::Exchange;
pub(crate) use self::promise::Promised;
use crate::http::body::{DownstreamBody, ResponseBody};
use crate::http::interim::Interims;
use crate::http::message::{RequestMessage, ResponseMessage};
use crate::http::serve::ServeOptions;
use crate::http::socket::Framed;
use crate::http::stall::Stall;

/// Bytes of a request's body that are taken ahead of the backend.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same, of all requests of a connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// See the module. It is over when the client has left, or has been told to and has its answers. Dropped, it
/// takes its streams with it.
pub(in crate::http) struct Connection<S> {
    stage: Stage,
    service: S,
    stall: Rc<Stall>,
    interims: Rc<Interims>,
    /// The client is told to leave as soon as it can be.
    ends: bool,
}

enum Stage {
    Greeting(Handshake<Framed, Bytes>),
    Serving(h2::server::Connection<Framed, Bytes>),
}

impl<S> Connection<S> {
    pub(in crate::http) fn new(
        socket: Framed,
        options: &ServeOptions,
        service: S,
        stall: Rc<Stall>,
        interims: Rc<Interims>,
    ) -> Self {
        let greeting = h2::server::Builder::new()
            .max_concurrent_streams(options.http2.streams)
            .max_header_list_size(u32::try_from(options.header_bytes).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(options.http2.pending_resets)
            .max_local_error_reset_streams(Some(options.http2.local_resets))
            // Uploads that wait for their backends cost at most the connection's window, and one of
            // them not all of it.
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            // The least that the RFC allows, and its default: what a frame or a table may hold.
            .max_frame_size(16 * 1024)
            .header_table_size(4096)
            // WebSocket over HTTP/2 (RFC 8441). Any other CONNECT is refused.
            .enable_connect_protocol()
            // A reader that does not read costs at most this much a stream.
            .max_send_buffer_size(64 * 1024)
            .handshake(socket);
        Self {
            stage: Stage::Greeting(greeting),
            service,
            stall,
            interims,
            ends: false,
        }
    }

    /// Tells the client to send no more requests (GOAWAY). Those that it has sent are served.
    pub(in crate::http) fn end(mut self: Pin<&mut Self>)
    where
        S: Unpin,
    {
        self.ends = true;
        if let Stage::Serving(engine) = &mut self.stage {
            engine.graceful_shutdown();
        }
    }
}

impl<S, F, E> Future for Connection<S>
where
    S: Fn(RequestMessage<DownstreamBody>) -> F + Unpin,
    F: Future<Output = Result<ResponseMessage<ResponseBody>, E>> + Unpin + 'static,
{
    type Output = Result<(), h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            let engine = match &mut this.stage {
                Stage::Serving(engine) => engine,
                Stage::Greeting(greeting) => {
                    let mut engine = ready!(Pin::new(greeting).poll(cx))?;
                    if this.ends {
                        engine.graceful_shutdown();
                    }
                    this.stage = Stage::Serving(engine);
                    continue;
                }
            };
            let Some(accepted) = ready!(engine.poll_accept(cx)) else {
                return Poll::Ready(Ok(()));
            };
            let (request, reply) = accepted?;
            let (service, stall, interims) = (&this.service, &this.stall, &this.interims);
            if let Some(exchange) = Exchange::begin(request, reply, service, stall, interims) {
                drop(tokio::task::spawn_local(exchange));
            }
        }
    }
}
