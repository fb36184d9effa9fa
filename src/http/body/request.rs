//! The body of a request on its way to an endpoint.
//!
//! Owns counting, the limit and the idle deadline, and what is still read when its answer is over. Must not
//! know who sends it.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{DownstreamBody, passed_on};
use crate::http::copy::{BodyCopy, Recorder, Whole};
use crate::http::grpc_web::{Decoder, NotBase64};
use crate::http::replay::Sending;

/// What went wrong with a request's body, seen from the side that reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestTrouble {
    /// The client left, or its framing was broken.
    Client,
    /// More bytes than the listener takes.
    TooLarge,
    /// No byte for too long.
    Slow,
}

/// What is known about a request's body while and after it is sent on.
#[derive(Debug, Default)]
pub(crate) struct RequestProgress {
    bytes: Cell<u64>,
    ended: Cell<bool>,
    trouble: Cell<Option<RequestTrouble>>,
    /// Until when an upload whose answer is over is still read.
    answered: Cell<Option<Instant>>,
    waker: RefCell<Option<Waker>>,
}

impl RequestProgress {
    /// Bytes read from the client so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether the last byte has been read.
    pub(crate) fn ended(&self) -> bool {
        self.ended.get()
    }

    /// The response has ended before the request: nobody waits for the rest of it.
    pub(crate) fn answered(&self) {
        self.answered.set(Some(Instant::now() + UNREAD_TIME));
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    fn listen(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }

    /// What went wrong on the client's side.
    pub(crate) fn trouble(&self) -> Option<RequestTrouble> {
        self.trouble.get()
    }
}

/// The body of a request on its way to an endpoint.
#[derive(Debug, Default)]
pub(crate) enum RequestBody {
    /// None.
    #[default]
    Empty,
    /// One that is streamed.
    Stream(Box<Stream>),
    /// One of which what has been read is kept, for being sent again.
    Kept(Sending),
    /// One that is in memory.
    Whole(Box<Whole>),
}

/// See [`RequestBody::Stream`].
#[derive(Debug)]
pub(crate) struct Stream {
    incoming: DownstreamBody,
    progress: Rc<RequestProgress>,
    limit: u64,
    idle: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    unread_timer: Option<Pin<Box<Sleep>>>,
    unread_bytes: usize,
    /// For a copy of it.
    recorder: Option<Recorder>,
    /// It is base64, and passed on without.
    text: Option<Decoder>,
}

/// How much, and for how long, is still read of an upload whose answer is over.
const UNREAD_BYTES: usize = 64 * 1024;
/// See [`UNREAD_BYTES`].
const UNREAD_TIME: Duration = Duration::from_secs(1);

impl RequestBody {
    /// Wraps the body that a client sends, and what can be seen of it, if there is one. `limit` in bytes; `idle`
    /// between two frames, zero for no bound.
    pub(crate) fn new(
        body: DownstreamBody,
        limit: u64,
        idle: Duration,
    ) -> (Self, Option<Rc<RequestProgress>>) {
        if body.is_end_stream() {
            return (Self::Empty, None);
        }
        let progress = Rc::new(RequestProgress::default());
        let body = Stream {
            incoming: body,
            progress: Rc::clone(&progress),
            limit,
            idle,
            timer: None,
            unread_timer: None,
            unread_bytes: 0,
            recorder: None,
            text: None,
        };
        (Self::Stream(Box::new(body)), Some(progress))
    }

    /// Keeps a copy of what will be read, at most `limit` bytes. `None` where there is nothing to read.
    pub(crate) fn record(&mut self, limit: usize) -> Option<Rc<BodyCopy>> {
        let Self::Stream(stream) = self else {
            return None;
        };
        let (copy, recorder) = BodyCopy::new(limit);
        stream.recorder = Some(recorder);
        Some(copy)
    }
}

impl RequestBody {
    /// Takes base64 off the body, which has no known length then.
    pub(crate) fn decoded(mut self) -> Self {
        if let Self::Stream(stream) = &mut self {
            stream.text = Some(Decoder::default());
        }
        self
    }
}

/// The reason that hyper is given for breaking off; it only shows in debug logs.
#[derive(Debug, thiserror::Error)]
#[error("the client's body could not be read to its end")]
pub(crate) struct BrokenRequestBody;

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BrokenRequestBody;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenRequestBody>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Stream(stream) => stream.poll(cx),
            Self::Kept(sending) => sending.poll(cx),
            Self::Whole(whole) => Poll::Ready(whole.next().map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(stream) => stream.is_end(),
            Self::Kept(sending) => sending.is_end(),
            Self::Whole(whole) => whole.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(stream) => stream.size_hint(),
            Self::Kept(sending) => sending.size_hint(),
            Self::Whole(whole) => whole.size_hint(),
        }
    }
}

impl Stream {
    pub(in crate::http) fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(in crate::http) fn size_hint(&self) -> SizeHint {
        match self.text {
            None => self.incoming.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }

    pub(in crate::http) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenRequestBody>>> {
        loop {
            let polled = ready!(self.poll_piece(cx));
            // A few characters may give no byte yet.
            let nothing = |frame: &Frame<Bytes>| frame.data_ref().is_some_and(Bytes::is_empty);
            match &polled {
                Some(Ok(frame)) if self.text.is_some() && nothing(frame) && !self.is_end() => {}
                _ => return Poll::Ready(polled),
            }
        }
    }

    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenRequestBody>>> {
        if let Some(deadline) = self.progress.answered.get() {
            return self.poll_unread(deadline, cx);
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if polled.is_pending() {
            self.progress.listen(cx);
            return self.poll_timer(cx);
        }
        self.timer = None;
        let Some(frame) = ready!(polled) else {
            self.end();
            return if self.text.as_ref().is_none_or(Decoder::is_between) {
                Poll::Ready(None)
            } else {
                self.broken(RequestTrouble::Client)
            };
        };
        let Ok(frame) = frame else {
            return self.broken(RequestTrouble::Client);
        };
        if let Some(data) = frame.data_ref() {
            let bytes = self.progress.bytes.get().saturating_add(data.len() as u64);
            self.progress.bytes.set(bytes);
            if bytes > self.limit {
                return self.broken(RequestTrouble::TooLarge);
            }
        }
        // Nothing follows trailers, and hyper does not ask for it.
        let last = frame.is_trailers() || self.incoming.is_end_stream();
        let Ok(frame) = self.decode(passed_on(frame), last) else {
            return self.broken(RequestTrouble::Client);
        };
        if let Some(recorder) = &self.recorder {
            recorder.note(&frame);
        }
        if last {
            self.end();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Takes base64 off a piece, where there is some. Nothing may be left of it behind the last one.
    fn decode(&mut self, frame: Frame<Bytes>, last: bool) -> Result<Frame<Bytes>, NotBase64> {
        let Some(decoder) = &mut self.text else {
            return Ok(frame);
        };
        let frame = match frame.data_ref() {
            Some(data) => Frame::data(decoder.decode(data)?),
            None => frame,
        };
        if last && !decoder.is_between() {
            return Err(NotBase64);
        }
        Ok(frame)
    }

    fn end(&self) {
        self.progress.ended.set(true);
        if let Some(recorder) = &self.recorder {
            recorder.ended();
        }
    }

    /// What a client still sends after its answer is over is read for a moment, so that the answer is
    /// not destroyed by a reset, and thrown away. Ending with an error then closes both connections.
    fn poll_unread(
        &mut self,
        deadline: Instant,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenRequestBody>>> {
        let timer = self
            .unread_timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while timer.as_mut().poll(cx).is_pending() && self.unread_bytes < UNREAD_BYTES {
            match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
                Some(Ok(frame)) => self.unread_bytes += frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => break,
            }
        }
        self.broken(RequestTrouble::Client)
    }

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenRequestBody>>> {
        if self.idle.is_zero() {
            return Poll::Pending;
        }
        let idle = self.idle;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + idle)));
        ready!(timer.as_mut().poll(cx));
        self.broken(RequestTrouble::Slow)
    }

    fn broken(
        &self,
        trouble: RequestTrouble,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenRequestBody>>> {
        self.progress.trouble.set(Some(trouble));
        Poll::Ready(Some(Err(BrokenRequestBody)))
    }
}
