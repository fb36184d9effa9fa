//! A body that comes, an endpoint's or a client's, taken from its stream as it is asked for.
//!
//! Owns that the other side may send as much again. Must not know what the pieces are for.

use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Frame, SizeHint};

/// See the module.
#[derive(Debug)]
pub(crate) struct Body {
    stream: RecvStream,
    /// Bytes that are missing, where the head has told.
    left: Option<u64>,
    /// Nothing can follow. Kept, as to ask the engine is as much as a look-up.
    ended: Cell<bool>,
    /// Only trailers can follow.
    data_over: bool,
}

impl Body {
    pub(super) fn new(stream: RecvStream, length: Option<u64>) -> Self {
        Self {
            stream,
            left: length,
            ended: Cell::new(false),
            data_over: false,
        }
    }

    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, h2::Error>>> {
        let polled = ready!(self.stream.poll_data(cx));
        if let Some(Ok(data)) = &polled {
            // It fails for a stream that has ended, which needs no window.
            drop(self.stream.flow_control().release_capacity(data.len()));
            self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
        }
        Poll::Ready(polled)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let this = self.get_mut();
        if !this.data_over {
            match ready!(this.poll_data(cx)) {
                Some(Ok(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                // Also a reset without an error: whoever is at the end of its message says END_STREAM, and
                // half an upload must not pass for a whole one (RFC 9113, 8.1).
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => this.data_over = true,
            }
        }
        let trailers = ready!(this.stream.poll_trailers(cx)).transpose();
        Poll::Ready(trailers.map(|it| it.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        if !self.ended.get() {
            self.ended.set(self.stream.is_end_stream());
        }
        self.ended.get()
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None if self.is_end_stream() => SizeHint::with_exact(0),
            None => SizeHint::default(),
        }
    }
}
