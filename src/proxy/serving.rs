//! The future of a request, in room that the next request uses again.
//!
//! It is 3 KiB, and to make one in a box of its own is to move all of that, for each request: a quarter of all
//! that was moved. So what is in the box handles one request after another, and boxes that are free wait for
//! the next one. Must not know what is done with a request.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::handler::{Answer, Exchange, handle_all};

/// Boxes that wait for a request, of a thread; those of more requests at a time are given back.
const MOST: usize = 64;

thread_local! {
    static FREE: RefCell<Vec<Slot>> = const { RefCell::new(Vec::new()) };
}

/// A request that is handled. Dropped before its answer, it is given up, with the room.
pub(crate) struct Serving {
    /// None once it is over.
    slot: Option<Slot>,
}

struct Slot {
    desk: Rc<Desk>,
    handles: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// Where a request is put for who handles it, and its answer for who waits.
#[derive(Default)]
pub(super) struct Desk {
    request: Cell<Option<Exchange>>,
    answer: Cell<Option<Answer>>,
}

impl Serving {
    /// Begins with the first poll.
    pub(crate) fn begin(request: Exchange) -> Self {
        let free = FREE.with_borrow_mut(Vec::pop);
        let slot = free.unwrap_or_else(Slot::new);
        slot.desk.request.set(Some(request));
        Self { slot: Some(slot) }
    }
}

impl Slot {
    fn new() -> Self {
        let desk = Rc::<Desk>::default();
        Self {
            handles: Box::pin(handle_all(Rc::clone(&desk))),
            desk,
        }
    }
}

impl Desk {
    /// The next request.
    pub(super) async fn next(&self) -> Exchange {
        poll_fn(|_| self.request.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Answers it.
    pub(super) fn answer(&self, answer: Answer) {
        self.answer.set(Some(answer));
    }
}

impl Future for Serving {
    type Output = Answer;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Answer> {
        let Some(slot) = &mut self.slot else {
            return Poll::Pending;
        };
        if let Poll::Ready(never) = slot.handles.as_mut().poll(cx) {
            match never {}
        }
        let Some(answer) = slot.desk.answer.take() else {
            return Poll::Pending;
        };
        if let Some(slot) = self.slot.take() {
            FREE.with_borrow_mut(|free| {
                if free.len() < MOST {
                    free.push(slot);
                }
            });
        }
        Poll::Ready(answer)
    }
}
