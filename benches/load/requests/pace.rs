//! Requests that are due at exact times, whoever is free to send them.
//!
//! Owns when a request is due, and how late this program itself was to say so. A timer wakes up to a
//! millisecond late, which is longer than many an answer takes; so the last milliseconds are spent looking at
//! the clock and, between two looks, at all sockets. The core is not given away: who has once given it away
//! waits for it as long as others like, so nothing else should need it (see `ends`).

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// Before a request is due, that a timer may wake.
const COARSE: Duration = Duration::from_millis(2);

/// How long after the end what was due before it may still be sent.
const GRACE: Duration = Duration::from_secs(3);

#[derive(Debug)]
pub(super) struct Pace {
    every: Duration,
    /// Requests that were due so far.
    due: Cell<u64>,
    taken: Cell<u64>,
    /// When no more requests were due.
    ended: Cell<Option<Instant>>,
    more: Notify,
    lags: RefCell<Vec<u32>>,
}

impl Pace {
    pub(super) fn new(every: Duration) -> Self {
        Self {
            every,
            due: Cell::new(0),
            taken: Cell::new(0),
            ended: Cell::new(None),
            more: Notify::new(),
            lags: RefCell::default(),
        }
    }

    /// Lets one request after another be due, until `until` says that it is over. Then it goes on looking at the
    /// sockets, so that the last answers do not wait for a core that sleeps.
    pub(super) async fn keep(&self, began: Instant, until: &Cell<Instant>) -> Infallible {
        loop {
            let due = began + self.every.mul_f64(self.due.get() as f64);
            if due >= until.get() {
                break;
            }
            loop {
                let now = Instant::now();
                let left = due.saturating_duration_since(now);
                if left.is_zero() {
                    let lag = now.saturating_duration_since(due).as_micros();
                    self.lags.borrow_mut().push(lag as u32);
                    break;
                }
                if left > COARSE {
                    tokio::time::sleep(left - COARSE).await;
                } else {
                    tokio::task::yield_now().await;
                }
            }
            self.due.set(self.due.get() + 1);
            self.more.notify_one();
        }
        self.ended.set(Some(Instant::now()));
        self.more.notify_waiters();
        loop {
            tokio::task::yield_now().await;
        }
    }

    /// The number of the next request, once it is due. What was due before the end is sent after it, too:
    /// to leave it out would hide that nobody was free to send it. But not for ever.
    pub(super) async fn next(&self) -> Option<u64> {
        loop {
            // Asked for before the look, so that nothing is missed in between.
            let more = self.more.notified();
            let number = self.taken.get();
            if self.ended.get().is_some_and(|at| at.elapsed() > GRACE) {
                return None;
            }
            if number < self.due.get() {
                self.taken.set(number + 1);
                return Some(number);
            }
            if self.ended.get().is_some() {
                return None;
            }
            more.await;
        }
    }

    /// Whether a connection that has ended is to be replaced.
    pub(super) fn has_more(&self) -> bool {
        let over = self.ended.get();
        over.is_none_or(|at| at.elapsed() <= GRACE && self.taken.get() < self.due.get())
    }

    /// Of 100 requests, 99 were let go at most so many microseconds after they were due; and how many that
    /// were due nobody was ever free to send.
    pub(super) fn report(&self) -> (u32, u64) {
        let mut lags = self.lags.borrow().clone();
        lags.sort_unstable();
        let lag = lags.get(lags.len() * 99 / 100).copied().unwrap_or(0);
        (lag, self.due.get() - self.taken.get())
    }
}
