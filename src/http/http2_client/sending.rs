//! The body of a request on its way into a stream.
//!
//! Owns that no more of it is read than the endpoint takes. Must not know what the answer is.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

/// See the module.
#[derive(Debug)]
pub(super) struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    /// A piece that waits for room in the window.
    held: Option<Bytes>,
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    pub(super) fn new(stream: SendStream<Bytes>, body: B) -> Self {
        Self {
            stream,
            body,
            held: None,
        }
    }

    /// Until the body has been handed over, or nobody wants more of it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_piece(cx)) {}
        Poll::Ready(())
    }

    /// Whether there may be more. What the stream does not take, its answer explains.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.held.is_some() {
            let room = ready!(poll_room(&mut self.stream, cx));
            let data = self.held.take().unwrap_or_default();
            let sent = room.and_then(|_| self.stream.send_data(data, false));
            return Poll::Ready(sent.is_ok());
        }
        let more = match ready!(std::pin::Pin::new(&mut self.body).poll_frame(cx)) {
            None => self.end(Bytes::new()),
            Some(Err(_)) => {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                false
            }
            Some(Ok(frame)) => match frame.into_data() {
                // The last piece needs no room: nothing behind it has to wait.
                Ok(data) if self.body.is_end_stream() => self.end(data),
                Ok(data) if data.is_empty() => self.stream.send_data(data, false).is_ok(),
                Ok(data) => {
                    // Asked for once there is something to send: room that is kept for nothing may be
                    // all that another stream waits for. One byte is enough; the engine knows the rest.
                    self.stream.reserve_capacity(1);
                    self.held = Some(data);
                    true
                }
                Err(frame) => self.end_with(frame.into_trailers().unwrap_or_default()),
            },
        };
        Poll::Ready(more)
    }

    fn end(&mut self, data: Bytes) -> bool {
        drop(self.stream.send_data(data, true));
        false
    }

    fn end_with(&mut self, trailers: http::HeaderMap) -> bool {
        if self.stream.send_trailers(trailers).is_err() {
            // Fields that are of no HTTP/2. On a stream that is over already it does nothing.
            self.stream.send_reset(Reason::INTERNAL_ERROR);
        }
        false
    }

    /// Goes on in a task of its own, until the endpoint wants no more.
    pub(super) fn go_on(mut self) {
        drop(tokio::task::spawn_local(poll_fn(move |cx| {
            if self.stream.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            self.poll(cx)
        })));
    }
}

/// How many bytes the stream takes at once.
pub(super) fn poll_room(
    stream: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
) -> Poll<Result<usize, h2::Error>> {
    loop {
        match stream.capacity() {
            0 => {}
            room => return Poll::Ready(Ok(room)),
        }
        // What it tells is a change, not a state.
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => return Poll::Ready(Err(Reason::STREAM_CLOSED.into())),
        }
    }
}
