//! The body of a request that may be sent again: what was read of it is kept, up to a bound.
//!
//! Owns which sendings may read, and when a body can no longer be sent again. Must not know why it is.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::body::{BrokenRequestBody, RequestBody, Stream};
use super::copy::Whole;

/// A body that can be sent several times: one sending after the other, or two beside one another.
#[derive(Debug)]
pub(crate) enum Replay {
    /// There is no body, so nothing to keep.
    Empty,
    /// It is in memory.
    Whole(Box<Whole>),
    /// See [`Kept`].
    Kept(Rc<RefCell<Kept>>),
}

/// What was read so far, and where the rest comes from.
#[derive(Debug)]
pub(crate) struct Kept {
    source: Box<Stream>,
    pieces: Vec<Piece>,
    bytes: usize,
    limit: usize,
    /// More came than may be kept.
    overflown: bool,
    ended: bool,
    broken: bool,
    /// The number of the sending that may read. An earlier one may still be held by a connection that
    /// has not noticed its end.
    turn: u32,
    /// Those that wait for the next piece. The source wakes only the one that has asked last.
    waiting: Vec<Waker>,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// One sending of a [`Kept`] body, from its first byte. One beside another has the number of that.
#[derive(Debug)]
pub(crate) struct Sending {
    kept: Rc<RefCell<Kept>>,
    turn: u32,
    next: usize,
}

impl Replay {
    /// Keeps at most `limit` bytes of the body.
    pub(crate) fn new(body: RequestBody, limit: usize) -> Self {
        match body {
            RequestBody::Empty => Self::Empty,
            RequestBody::Kept(sending) => Self::Kept(Rc::clone(&sending.kept)),
            RequestBody::Whole(whole) => Self::Whole(whole),
            RequestBody::Stream(source) => Self::Kept(Rc::new(RefCell::new(Kept {
                source,
                pieces: Vec::new(),
                bytes: 0,
                limit,
                overflown: false,
                ended: false,
                broken: false,
                turn: 0,
                waiting: Vec::new(),
            }))),
        }
    }

    /// Whether all that was read is still there.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Empty | Self::Whole(_) => true,
            Self::Kept(kept) => !kept.borrow().overflown,
        }
    }

    /// The body from its first byte; an earlier sending gets no more of it.
    pub(crate) fn send(&self) -> RequestBody {
        match self {
            Self::Empty => RequestBody::Empty,
            Self::Whole(whole) => RequestBody::Whole(whole.clone()),
            Self::Kept(kept) => {
                let mut inner = kept.borrow_mut();
                inner.turn += 1;
                RequestBody::Kept(Sending {
                    kept: Rc::clone(kept),
                    turn: inner.turn,
                    next: 0,
                })
            }
        }
    }

    /// The body from its first byte, while an earlier sending goes on. `None` where more may come than may
    /// be kept: one of the two would miss what the other has read.
    pub(crate) fn beside(&self) -> Option<RequestBody> {
        let Self::Kept(kept) = self else {
            return Some(self.send());
        };
        let inner = kept.borrow();
        let is_over = inner.ended || inner.source.is_end();
        let rest = if is_over {
            Some(0)
        } else {
            inner.source.size_hint().upper()
        };
        let all = rest.and_then(|rest| rest.checked_add(inner.bytes as u64));
        let fits = all.is_some_and(|all| all <= inner.limit as u64);
        (fits && !inner.overflown && !inner.broken).then(|| {
            RequestBody::Kept(Sending {
                kept: Rc::clone(kept),
                turn: inner.turn,
                next: 0,
            })
        })
    }
}

impl Kept {
    /// Wakes all but the one that knows already.
    fn wake(&mut self, knows: &Waker) {
        let others = self.waiting.drain(..).filter(|it| !it.will_wake(knows));
        others.for_each(Waker::wake);
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => Piece::Data(data.clone()),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return,
        };
        if let Piece::Data(data) = &piece {
            self.bytes = self.bytes.saturating_add(data.len());
        }
        self.overflown |= self.bytes > self.limit;
        if self.overflown {
            self.pieces = Vec::new();
        } else {
            self.pieces.push(piece);
        }
    }
}

impl Sending {
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenRequestBody>>> {
        let mut kept = self.kept.borrow_mut();
        if kept.turn != self.turn || kept.broken {
            return Poll::Ready(Some(Err(BrokenRequestBody)));
        }
        if let Some(piece) = kept.pieces.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(match piece.clone() {
                Piece::Data(data) => Frame::data(data),
                Piece::Trailers(trailers) => Frame::trailers(trailers),
            })));
        }
        if kept.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = kept.source.poll(cx) else {
            if !kept.waiting.iter().any(|it| it.will_wake(cx.waker())) {
                kept.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                kept.keep(frame);
                self.next = kept.pieces.len();
            }
            Some(Err(_)) => kept.broken = true,
            None => kept.ended = true,
        }
        kept.wake(cx.waker());
        Poll::Ready(frame)
    }

    pub(super) fn is_end(&self) -> bool {
        let kept = self.kept.borrow();
        self.next >= kept.pieces.len() && (kept.ended || kept.source.is_end())
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        let again = kept.pieces.iter().skip(self.next).map(|piece| match piece {
            Piece::Data(data) => data.len() as u64,
            Piece::Trailers(_) => 0,
        });
        let again: u64 = again.sum();
        let rest = kept.source.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(again));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(again));
        }
        hint
    }
}

impl Drop for Sending {
    /// It may have been the one that the source would wake.
    fn drop(&mut self) {
        if let Ok(mut kept) = self.kept.try_borrow_mut() {
            kept.wake(Waker::noop());
        }
    }
}
