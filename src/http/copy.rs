//! A copy of a request's body, kept while the body itself is read for somebody else.
//!
//! Owns how much is kept, and when the copy is whole. Must not know whom it is for. The body is never
//! held up for it: what it says is noted as it passes.

use std::cell::RefCell;
use std::rc::Rc;
use std::vec;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;

/// Why there is no copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoCopy {
    /// More came than is kept.
    TooLarge,
    /// The body did not come to its end.
    Broken,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct BodyCopy {
    state: RefCell<State>,
    ended: Notify,
}

#[derive(Debug)]
struct State {
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    bytes: usize,
    limit: usize,
    end: Option<Result<(), NoCopy>>,
}

/// Notes what passes. Dropped before the end, it leaves no copy.
#[derive(Debug)]
pub(crate) struct Recorder(Rc<BodyCopy>);

/// A body in memory.
#[derive(Debug, Clone, Default)]
pub(crate) struct Whole {
    pieces: vec::IntoIter<Bytes>,
    left: u64,
    trailers: Option<HeaderMap>,
}

impl BodyCopy {
    /// Keeps at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> (Rc<Self>, Recorder) {
        let copy = Rc::new(Self {
            state: RefCell::new(State {
                pieces: Vec::new(),
                trailers: None,
                bytes: 0,
                limit,
                end: None,
            }),
            ended: Notify::new(),
        });
        (Rc::clone(&copy), Recorder(copy))
    }

    /// Waits for the end of the body; the copy, with the number of its bytes.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) async fn whole(&self) -> Result<Whole, NoCopy> {
        loop {
            let ended = self.ended.notified();
            {
                let state = self.state.borrow();
                if let Some(end) = state.end {
                    return end.map(|()| Whole {
                        pieces: state.pieces.clone().into_iter(),
                        left: state.bytes as u64,
                        trailers: state.trailers.clone(),
                    });
                }
            }
            ended.await;
        }
    }

    fn end(&self, end: Result<(), NoCopy>) {
        let mut state = self.state.borrow_mut();
        if state.end.is_some() {
            return;
        }
        state.end = Some(end);
        if end.is_err() {
            state.pieces = Vec::new();
        }
        self.ended.notify_waiters();
    }
}

impl Recorder {
    /// Notes a frame that passes.
    pub(super) fn note(&self, frame: &Frame<Bytes>) {
        let mut state = self.0.state.borrow_mut();
        if state.end.is_some() {
            return;
        }
        if let Some(data) = frame.data_ref() {
            state.bytes = state.bytes.saturating_add(data.len());
            if state.bytes <= state.limit {
                state.pieces.push(data.clone());
                return;
            }
        } else {
            state.trailers = frame.trailers_ref().cloned();
            return;
        }
        drop(state);
        self.0.end(Err(NoCopy::TooLarge));
    }

    /// The last frame has passed.
    pub(super) fn ended(&self) {
        self.0.end(Ok(()));
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.0.end(Err(NoCopy::Broken));
    }
}

impl Whole {
    /// Bytes that are left of it.
    pub(crate) fn bytes(&self) -> u64 {
        self.left
    }

    pub(super) fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(piece) = self.pieces.next() {
            self.left -= piece.len() as u64;
            return Some(Frame::data(piece));
        }
        self.trailers.take().map(Frame::trailers)
    }

    pub(super) fn is_end(&self) -> bool {
        self.pieces.len() == 0 && self.trailers.is_none()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        let mut hint = SizeHint::new();
        hint.set_lower(self.left);
        // A length is promised only where nothing follows the last byte: HTTP/1 has no trailers else.
        if self.trailers.is_none() {
            hint.set_upper(self.left);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> Option<T> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        match std::pin::pin!(future).poll(&mut context) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[test]
    fn a_copy_is_whole_too_large_or_broken() {
        let data = |text: &'static str| Frame::data(Bytes::from_static(text.as_bytes()));
        let (copy, recorder) = BodyCopy::new(5);
        recorder.note(&data("ab"));
        assert!(now(copy.whole()).is_none());
        recorder.note(&data("cde"));
        recorder.note(&Frame::trailers(HeaderMap::new()));
        recorder.ended();
        drop(recorder);
        let mut whole = now(copy.whole()).unwrap().unwrap();
        assert_eq!((whole.bytes(), whole.size_hint().exact()), (5, None));
        assert_eq!(whole.next().unwrap().into_data().unwrap(), "ab");
        assert_eq!((whole.bytes(), whole.is_end()), (3, false));
        assert!(whole.next().unwrap().is_data() && whole.next().unwrap().is_trailers());
        assert!(whole.next().is_none() && whole.is_end());

        let (copy, recorder) = BodyCopy::new(5);
        recorder.note(&data("abcdef"));
        recorder.ended();
        assert_eq!(now(copy.whole()).unwrap().unwrap_err(), NoCopy::TooLarge);
        assert_eq!(copy.state.borrow().pieces.len(), 0, "nothing is kept");

        let (copy, recorder) = BodyCopy::new(5);
        recorder.note(&data("abc"));
        drop(recorder);
        assert_eq!(now(copy.whole()).unwrap().unwrap_err(), NoCopy::Broken);
    }
}
