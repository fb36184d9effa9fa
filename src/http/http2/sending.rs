//! A body on its way into a stream: a request's to its endpoint, or an answer's to its client.
//!
//! Owns that no more of it is read than the other side takes. Must not know which of them it is.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

/// The room that is asked for before a piece is handed over. Most messages of gRPC are smaller: for those the
/// engine looks for room once.
const CLAIM: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Sending<B> {
    stream: SendStream<Bytes>,
    body: B,
    held: Option<Held>,
    /// Pieces that have been held so far.
    pieces: u32,
    /// Also the last piece is held until there is room for it.
    to_the_last: bool,
}

/// A piece that waits for room in the window.
#[derive(Debug)]
struct Held {
    data: Bytes,
    last: bool,
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    /// To an endpoint. Its last piece is the engine's at once: nothing behind it has to wait.
    pub(super) fn of_request(stream: SendStream<Bytes>, body: B) -> Self {
        Self {
            stream,
            body,
            held: None,
            pieces: 0,
            to_the_last: false,
        }
    }

    /// To a client. It is not over before its last piece is on its way, so that somebody sees who does not
    /// take that.
    pub(super) fn of_answer(stream: SendStream<Bytes>, body: B) -> Self {
        Self {
            to_the_last: true,
            ..Self::of_request(stream, body)
        }
    }

    /// Until the body has been handed over, or nobody wants more of it.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while ready!(self.poll_piece(cx)) {}
        Poll::Ready(())
    }

    /// Which piece waits for room, counted from the first that had to.
    pub(super) fn held(&self) -> Option<u32> {
        self.held.is_some().then_some(self.pieces)
    }

    /// Ready when the other side has reset the stream.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }

    /// Whether there may be more. What the stream does not take, its other direction explains.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.held.is_some() {
            let room = ready!(poll_room(&mut self.stream, cx));
            let more = match (self.held.take(), room) {
                (Some(held), Ok(room)) => self.send_held(held, room),
                _ => false,
            };
            return Poll::Ready(more);
        }
        let more = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => self.send(Bytes::new(), true),
            Some(Err(_)) => {
                self.stream.send_reset(Reason::INTERNAL_ERROR);
                false
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    let last = self.body.is_end_stream();
                    if data.is_empty() || (last && !self.to_the_last) {
                        return Poll::Ready(self.send(data, last));
                    }
                    // Asked for once there is something to send: room that is kept for nothing may be
                    // all that another stream waits for. Of a large piece little is enough, unless it is
                    // given in parts; the engine knows the rest, and asks for it when it has the piece.
                    let claim = if last {
                        data.len()
                    } else {
                        data.len().min(CLAIM)
                    };
                    self.stream.reserve_capacity(claim);
                    self.held = Some(Held { data, last });
                    self.pieces = self.pieces.wrapping_add(1);
                    true
                }
                Err(frame) => self.end_with(frame.into_trailers().unwrap_or_default()),
            },
        };
        Poll::Ready(more)
    }

    /// Hands over what has waited; whether there may be more. Of the last piece only as much as the other side
    /// takes: what the engine has, nobody waits for any more.
    fn send_held(&mut self, Held { mut data, last }: Held, room: usize) -> bool {
        if !last || room >= data.len() {
            return self.send(data, last);
        }
        let more = self.send(data.split_to(room), false);
        if more {
            self.stream.reserve_capacity(data.len());
            self.held = Some(Held { data, last });
        }
        more
    }

    /// Hands a piece over; whether there may be more.
    fn send(&mut self, data: Bytes, last: bool) -> bool {
        self.stream.send_data(data, last).is_ok() && !last
    }

    fn end_with(&mut self, trailers: http::HeaderMap) -> bool {
        if self.stream.send_trailers(trailers).is_err() {
            // Fields that are of no HTTP/2. On a stream that is over already it does nothing.
            self.stream.send_reset(Reason::INTERNAL_ERROR);
        }
        false
    }
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Goes on in a task of its own, until the endpoint wants no more.
    pub(super) fn go_on(mut self) {
        drop(tokio::task::spawn_local(poll_fn(move |cx| {
            if self.poll_reset(cx).is_ready() {
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
