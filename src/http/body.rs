//! Bodies in both directions, with what has to be known about them when they end.
//!
//! Owns counting, the limit and the idle deadline of request bodies. Frames pass as they came; none
//! is collected. Must not know routes or metrics: a response body ends by telling its [`Finish`].

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::compression::Compressed;
use super::copy::{BodyCopy, Recorder, Whole};
use super::grpc_web::{Decoder, Dialect, NotBase64};
use super::headers;
use super::recall::Recall;
use super::replay::Sending;

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
#[derive(Debug)]
pub(crate) enum RequestBody {
    /// None.
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
    incoming: Incoming,
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
    /// Wraps the body that hyper read. `limit` in bytes; `idle` between two frames, zero for no bound.
    pub(crate) fn new(
        incoming: Incoming,
        limit: u64,
        idle: Duration,
    ) -> (Self, Rc<RequestProgress>) {
        let progress = Rc::new(RequestProgress::default());
        if incoming.is_end_stream() {
            progress.ended.set(true);
            return (Self::Empty, progress);
        }
        let body = Stream {
            incoming,
            progress: Rc::clone(&progress),
            limit,
            idle,
            timer: None,
            unread_timer: None,
            unread_bytes: 0,
            recorder: None,
            text: None,
        };
        (Self::Stream(Box::new(body)), progress)
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
    pub(super) fn is_end(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.text {
            None => self.incoming.size_hint(),
            Some(_) => SizeHint::default(),
        }
    }

    pub(super) fn poll(
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

/// The frame as the other side gets it.
fn passed_on(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::strip_trailers(trailers);
    }
    frame
}

/// How a response's body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With its last byte.
    Complete,
    /// The endpoint broke off.
    Upstream,
    /// Its deadline passed.
    Deadline,
    /// The client went away.
    Client,
    /// It was called back.
    Recalled,
}

/// Is told once how a response's body ended, and how many bytes of it were passed on.
pub(crate) trait Finish {
    /// Is shown the trailers on their way.
    fn trailers(&mut self, trailers: &HeaderMap);

    /// See [`Finish`].
    fn finish(self: Box<Self>, end: End, bytes: u64);
}

/// The body of a response on its way to the client.
pub(crate) struct ResponseBody {
    source: Source,
    finish: Option<Box<dyn Finish>>,
    deadline: Option<Pin<Box<Sleep>>>,
    idle: Option<Box<Idle>>,
    /// Ends when the body is called back, with the trailers that say so.
    recall: Option<Recalling>,
    bytes: u64,
    /// It is gRPC, and the client wants gRPC-Web.
    web: Option<Dialect>,
    /// A response to HEAD, or a 204 or 304: hyper drops the body without asking for it.
    bodiless: bool,
}

type Recalling = Pin<Box<dyn Future<Output = Option<HeaderMap>>>>;

/// The bound on the time between two pieces.
struct Idle {
    limit: Duration,
    timer: Pin<Box<Sleep>>,
    /// Nothing has come since the timer was set. Time that the client takes is not counted.
    waiting: bool,
}

enum Source {
    Done,
    Own(Bytes),
    Upstream(Incoming),
    Compressed(Pin<Box<Compressed>>),
}

impl Idle {
    fn wait(&mut self) -> &mut Pin<Box<Sleep>> {
        if !std::mem::replace(&mut self.waiting, true) {
            self.timer.as_mut().reset(Instant::now() + self.limit);
        }
        &mut self.timer
    }
}

/// The reason that hyper is given for cutting a response: it resets the stream or the connection, so
/// that no client takes half an answer for a whole one.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the response was cut: {0:?}")]
pub(crate) struct Cut(End);

impl ResponseBody {
    /// A body of our own.
    pub(crate) fn own(bytes: Bytes) -> Self {
        Self::new(Source::Own(bytes))
    }

    /// No body.
    pub(crate) fn empty() -> Self {
        Self::own(Bytes::new())
    }

    /// An endpoint's body.
    pub(crate) fn upstream(incoming: Incoming) -> Self {
        Self::new(Source::Upstream(incoming))
    }

    /// An endpoint's body, compressed.
    pub(crate) fn compressed(body: Compressed) -> Self {
        Self::new(Source::Compressed(Box::pin(body)))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            finish: None,
            deadline: None,
            idle: None,
            recall: None,
            bytes: 0,
            web: None,
            bodiless: false,
        }
    }

    /// Cuts the body when `deadline` passes.
    pub(crate) fn with_deadline(mut self, deadline: Option<Instant>) -> Self {
        if !self.is_end_stream() {
            self.deadline = deadline.map(|at| Box::pin(tokio::time::sleep_until(at)));
        }
        self
    }

    /// Cuts the body when nothing of it comes for so long.
    pub(crate) fn with_idle(mut self, limit: Option<Duration>) -> Self {
        if !self.is_end_stream() {
            self.idle = limit.map(|limit| {
                Box::new(Idle {
                    limit,
                    timer: Box::pin(tokio::time::sleep(limit)),
                    waiting: false,
                })
            });
        }
        self
    }

    /// Ends the body when it is called back, unless its length is known: it ends by itself then.
    /// `trailers` are its last words; a body without any is cut.
    pub(crate) fn with_recall(
        mut self,
        recall: Option<&Recall>,
        began: std::time::Instant,
        trailers: Option<HeaderMap>,
    ) -> Self {
        if let Some(recall) = recall
            && self.size_hint().exact().is_none()
        {
            let recalled = recall.listen();
            self.recall = Some(Box::pin(async move {
                recalled.due(began).await;
                trailers
            }));
        }
        self
    }

    /// Makes gRPC-Web of a body of gRPC.
    pub(crate) fn with_web(mut self, dialect: Dialect) -> Self {
        self.web = Some(dialect);
        self
    }

    /// Tells `finish` how it ended. `bodiless`: the body will not be asked for (HEAD, 204, 304).
    pub(crate) fn with_finish(mut self, finish: Box<dyn Finish>, bodiless: bool) -> Self {
        self.finish = Some(finish);
        self.bodiless = bodiless;
        self
    }

    fn end(&mut self, end: End) {
        self.deadline = None;
        self.idle = None;
        self.recall = None;
        if let Some(finish) = self.finish.take() {
            finish.finish(end, self.bytes);
        }
    }

    /// Ends with last words, if there are any.
    fn recalled(&mut self, trailers: Option<HeaderMap>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Some(trailers) = trailers else {
            return self.cut(End::Recalled);
        };
        self.source = Source::Done;
        let frame = self.encode(Frame::trailers(trailers));
        self.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        self.end(End::Recalled);
        Poll::Ready(Some(Ok(frame)))
    }

    fn encode(&self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match self.web {
            None => frame,
            Some(dialect) => dialect.encode(frame),
        }
    }

    fn cut(&mut self, end: End) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.source = Source::Done;
        self.end(end);
        Poll::Ready(Some(Err(Cut(end))))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let polled = match &mut this.source {
            Source::Done => return Poll::Ready(None),
            Source::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Done;
                this.bytes = bytes.len() as u64;
                this.end(End::Complete);
                return Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::data(bytes))));
            }
            Source::Upstream(incoming) => Pin::new(incoming).poll_frame(cx).map_err(drop),
            Source::Compressed(body) => body.as_mut().poll_frame(cx).map_err(drop),
        };
        let Poll::Ready(frame) = polled else {
            if let Some(recall) = &mut this.recall
                && let Poll::Ready(trailers) = recall.as_mut().poll(cx)
            {
                return this.recalled(trailers);
            }
            let idle = this.idle.as_mut().map(|idle| idle.wait());
            let mut timers = this.deadline.iter_mut().chain(idle);
            return if timers.any(|timer| timer.as_mut().poll(cx).is_ready()) {
                this.cut(End::Deadline)
            } else {
                Poll::Pending
            };
        };
        match frame {
            None => {
                this.source = Source::Done;
                this.end(End::Complete);
                Poll::Ready(None)
            }
            Some(Err(_)) => this.cut(End::Upstream),
            Some(Ok(frame)) => {
                if let Some(idle) = &mut this.idle {
                    idle.waiting = false;
                }
                if let (Some(trailers), Some(finish)) = (frame.trailers_ref(), &mut this.finish) {
                    finish.trailers(trailers);
                }
                let is_last = frame.is_trailers();
                let frame = this.encode(passed_on(frame));
                this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
                // hyper does not ask again after trailers, nor after the last byte of a body whose
                // length it knows.
                if is_last || this.is_end_stream() {
                    this.end(End::Complete);
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Done => true,
            Source::Own(bytes) => bytes.is_empty(),
            Source::Upstream(incoming) => incoming.is_end_stream(),
            Source::Compressed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(_) if self.web.is_some() => SizeHint::default(),
            Source::Upstream(incoming) => incoming.size_hint(),
            Source::Compressed(body) => body.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let complete = self.bodiless || self.is_end_stream();
        self.end(if complete { End::Complete } else { End::Client });
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody")
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
