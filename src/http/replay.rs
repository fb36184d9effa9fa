//! The body of a request that may be sent again: what was read of it is kept, up to a bound.
//!
//! Owns which sending may read, and when a body can no longer be sent again. Must not know why it is.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::body::{BrokenRequestBody, RequestBody, Stream};
use super::copy::Whole;

/// A body that can be sent several times, one sending after the other.
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
    /// The number of the sending that may read. An earlier one may still be held by a connection that
    /// has not noticed its end.
    turn: u32,
}

#[derive(Debug, Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// One sending of a [`Kept`] body, from its first byte.
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
            RequestBody::Kept(sending) => Self::Kept(sending.kept),
            RequestBody::Whole(whole) => Self::Whole(whole),
            RequestBody::Stream(source) => Self::Kept(Rc::new(RefCell::new(Kept {
                source,
                pieces: Vec::new(),
                bytes: 0,
                limit,
                overflown: false,
                ended: false,
                turn: 0,
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
}

impl Kept {
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
        if kept.turn != self.turn {
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
        let Some(frame) = ready!(kept.source.poll(cx)) else {
            kept.ended = true;
            return Poll::Ready(None);
        };
        if let Ok(frame) = &frame {
            kept.keep(frame);
            self.next = kept.pieces.len();
        }
        Poll::Ready(Some(frame))
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
