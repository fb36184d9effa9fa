//! The frames of an endpoint's HTTP/2 connection, counted as those of clients are.
//!
//! Owns what an endpoint may send, and when it has said what it allows. Must not know what the frames
//! carry.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

use crate::http::flood::{Budget, Limits};
use crate::telemetry::backend::BackendMetrics;
use crate::tls::stream::Stream;

/// What an endpoint may send. An honest one stays far below it, as a client does below the defaults of
/// `limits.http2`. Not a setting: an operator chooses endpoints, not clients, and one that goes beyond is
/// broken; `weir_upstream_http2_limit_exceeded_total` says which bound it was.
const LIMITS: Limits = Limits {
    pings: 100,
    settings: 50,
    resets: 100,
    provoked_resets: 100,
    priorities: 100,
    empty_data: 100,
    window_updates: 500,
    // As many as the longest head of an answer needs, and a few.
    continuations: 8,
    other_frames: 100,
    pending_resets: 20,
    local_resets: 1024,
    // Endpoints rarely allow more at a time.
    streams: 250,
};

/// Whether the endpoint has said what it allows, for those who have to know before they ask.
#[derive(Debug, Default)]
pub(super) struct Greeting {
    over: Cell<bool>,
    come: Notify,
}

impl Greeting {
    /// Waits until the first SETTINGS have been read, or the connection has ended.
    pub(super) async fn come(&self) {
        while !self.over.get() {
            self.come.notified().await;
        }
    }

    /// There is nothing to wait for.
    pub(super) fn over(&self) {
        if !self.over.replace(true) {
            self.come.notify_waiters();
        }
    }
}

/// The connection, counting what comes.
#[derive(Debug)]
pub(super) struct Counted {
    stream: Stream,
    budget: Budget,
    metrics: Arc<BackendMetrics>,
    greeting: Rc<Greeting>,
}

impl Counted {
    pub(super) fn new(
        stream: Stream,
        metrics: Arc<BackendMetrics>,
        greeting: Rc<Greeting>,
    ) -> Self {
        Self {
            stream,
            budget: Budget::of_endpoint(LIMITS, Instant::now()),
            metrics,
            greeting,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.greeting.over();
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        this.budget.receive(new, Instant::now());
        // Who waits for it runs after the engine, which has it with the end of this call.
        if this.budget.is_greeted() {
            this.greeting.over();
        }
        let Some(limit) = this.budget.over() else {
            return Poll::Ready(Ok(()));
        };
        // The connection ends with this error, so it is told once.
        this.metrics.http2_limit(limit);
        let kind = limit.as_str();
        let endpoint = this.stream.tcp().peer_addr();
        let endpoint = endpoint.map_or_else(|error| error.to_string(), |it| it.to_string());
        tracing::info!(endpoint, kind, "the connection was closed: too many frames");
        let why = format!("too many frames: {kind}");
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)))
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.budget.send(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let sent = left.min(buf.len());
            self.budget.send(&buf[..sent]);
            left -= sent;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
