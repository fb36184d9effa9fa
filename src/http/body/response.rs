//! The body of a response on its way to the client.
//!
//! Owns what ends it before its end. Must not know routes or metrics: it ends by telling its [`Finish`].

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::{UpstreamBody, passed_on};
use crate::http::compression::Compressed;
use crate::http::grpc_web::Dialect;
use crate::http::recall::Recall;

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
    /// A response to HEAD, or a 204 or 304: the engines drop the body without asking for it.
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
    Upstream(UpstreamBody),
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

/// The reason that an engine is given for cutting a response: it resets the stream or the connection, so
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
    pub(crate) fn upstream(body: UpstreamBody) -> Self {
        Self::new(Source::Upstream(body))
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
    pub(crate) fn set_deadline(&mut self, deadline: Option<Instant>) {
        if let Some(at) = deadline.filter(|_| !self.is_end_stream()) {
            self.deadline = Some(Box::pin(tokio::time::sleep_until(at)));
        }
    }

    /// Cuts the body when nothing of it comes for so long.
    pub(crate) fn set_idle(&mut self, limit: Option<Duration>) {
        if let Some(limit) = limit.filter(|_| !self.is_end_stream()) {
            self.idle = Some(Box::new(Idle {
                limit,
                timer: Box::pin(tokio::time::sleep(limit)),
                waiting: false,
            }));
        }
    }

    /// Ends the body when it is called back, unless its length is known: it ends by itself then.
    /// `trailers` are its last words; a body without any is cut.
    pub(crate) fn set_recall(
        &mut self,
        recall: &Recall,
        began: std::time::Instant,
        trailers: impl FnOnce() -> Option<HeaderMap>,
    ) {
        if self.size_hint().exact().is_none() {
            let (recalled, trailers) = (recall.listen(), trailers());
            self.recall = Some(Box::pin(async move {
                recalled.due(began).await;
                trailers
            }));
        }
    }

    /// Makes gRPC-Web of a body of gRPC.
    pub(crate) fn set_web(&mut self, dialect: Dialect) {
        self.web = Some(dialect);
    }

    /// Tells `finish` how it ended. `bodiless`: the body will not be asked for (HEAD, 204, 304).
    pub(crate) fn set_finish(&mut self, finish: Box<dyn Finish>, bodiless: bool) {
        self.finish = Some(finish);
        self.bodiless = bodiless;
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
            Source::Upstream(body) => Pin::new(body).poll_frame(cx).map_err(drop),
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
                // No engine asks again after trailers, nor after the last byte of a body whose
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
            Source::Upstream(body) => body.is_end_stream(),
            Source::Compressed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Done => SizeHint::with_exact(0),
            Source::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Upstream(_) if self.web.is_some() => SizeHint::default(),
            Source::Upstream(body) => body.size_hint(),
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
