//! The future that handles a request, in room that the next request uses again.
//!
//! It is 3 KiB, and to make one in a box of its own is to move all of that for each request. So what is in the
//! box handles one request after another, each put on its desk, and boxes that are free wait for the next one.
//! Must not know what a request is.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::thread::LocalKey;

use crate::http::shelf::Shelf;

/// Boxes of a thread that wait for a request.
pub(super) type Free<Q, A> = RefCell<Shelf<Room<Q, A>>>;

/// A box, and the desk of what is in it.
pub(crate) struct Room<Q, A> {
    desk: Rc<Desk<Q, A>>,
    handles: Pin<Box<dyn Future<Output = Infallible>>>,
}

/// Where a request is put for who handles it, and its answer for who waits.
pub(super) struct Desk<Q, A> {
    request: Cell<Option<Q>>,
    answer: Cell<Option<A>>,
}

/// A request that is handled, from the first poll on. Dropped before its answer, it is given up, with its room.
pub(crate) struct Handling<Q: 'static, A: 'static> {
    /// None once it is over.
    room: Option<Room<Q, A>>,
    free: &'static LocalKey<Free<Q, A>>,
}

impl<Q, A> Desk<Q, A> {
    /// The next request.
    pub(super) async fn next(&self) -> Q {
        poll_fn(|_| self.request.take().map_or(Poll::Pending, Poll::Ready)).await
    }

    /// Answers it.
    pub(super) fn put(&self, answer: A) {
        self.answer.set(Some(answer));
    }
}

impl<Q, A> Handling<Q, A> {
    /// `handle` makes what handles all requests of a desk, where no room is free.
    pub(super) fn begin<F>(
        request: Q,
        free: &'static LocalKey<Free<Q, A>>,
        handle: impl FnOnce(Rc<Desk<Q, A>>) -> F,
    ) -> Self
    where
        F: Future<Output = Infallible> + 'static,
    {
        let room = free.with_borrow_mut(Shelf::take).unwrap_or_else(|| {
            let desk = Rc::new(Desk {
                request: Cell::new(None),
                answer: Cell::new(None),
            });
            let handles = Box::pin(handle(Rc::clone(&desk)));
            Room { desk, handles }
        });
        room.desk.request.set(Some(request));
        let room = Some(room);
        Self { room, free }
    }
}

impl<Q, A> Future for Handling<Q, A> {
    type Output = A;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<A> {
        let Some(room) = &mut self.room else {
            return Poll::Pending;
        };
        if let Poll::Ready(never) = room.handles.as_mut().poll(cx) {
            match never {}
        }
        let Some(answer) = room.desk.answer.take() else {
            return Poll::Pending;
        };
        if let Some(room) = self.room.take() {
            self.free.with_borrow_mut(|free| free.put(room));
        }
        Poll::Ready(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Asked = Rc<Cell<u32>>;

    thread_local! {
        static FREE: Free<(Asked, bool), u32> = const { RefCell::new(Shelf::new()) };
        static MADE: Cell<u32> = const { Cell::new(0) };
    }

    /// Counts up, when it waits and again when it has waited.
    async fn count_up(desk: Rc<Desk<(Asked, bool), u32>>) -> Infallible {
        MADE.set(MADE.get() + 1);
        loop {
            let (asked, waits) = desk.next().await;
            asked.set(asked.get() + 1);
            if waits {
                tokio::task::yield_now().await;
                asked.set(asked.get() + 1);
            }
            desk.put(asked.get());
        }
    }

    fn ask(asked: &Asked, waits: bool) -> Handling<(Asked, bool), u32> {
        Handling::begin((Rc::clone(asked), waits), &FREE, count_up)
    }

    fn free() -> usize {
        FREE.with_borrow(Shelf::len)
    }

    #[tokio::test]
    async fn one_request_after_another_has_the_room() {
        let asked = Asked::default();
        for (waits, answer) in [(false, 1), (true, 3), (false, 4)] {
            assert_eq!(ask(&asked, waits).await, answer);
            // Nothing of the request stays behind.
            assert_eq!((Rc::strong_count(&asked), free()), (1, 1));
        }
        assert_eq!(MADE.get(), 1);
    }

    #[tokio::test]
    async fn one_that_is_given_up_takes_its_room_along() {
        let asked = Asked::default();
        drop(ask(&asked, true));
        assert_eq!((asked.get(), Rc::strong_count(&asked), free()), (0, 1, 0));
        let mut handling = ask(&asked, true);
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut handling).poll(cx))).await;
        assert!(polled.is_pending());
        drop(handling);
        assert_eq!((asked.get(), Rc::strong_count(&asked), free()), (1, 1, 0));
        assert_eq!(ask(&asked, true).await, 3);
    }
}
