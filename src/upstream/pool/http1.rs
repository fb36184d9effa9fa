//! Kept connections of HTTP/1 to one endpoint.
//!
//! Owns which of them may be used again, and for what. Must not know how they are made.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;

use super::lease::{Lease, Sender};
use super::{Pool, is_late};
use crate::http::body::RequestBody;
use crate::tls::stream::Fault;
use crate::upstream::backend::PoolSettings;
use crate::upstream::bound::AnswerBound;

/// A request that must not be sent twice does not go on a connection that has been kept for longer, as
/// its endpoint may just be closing it. See [`Kept::patience`].
const FRESH: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    idle: RefCell<Vec<IdleHttp1>>,
    /// How long one has been seen to stay open.
    survived: Cell<Duration>,
}

#[derive(Debug)]
pub(super) struct IdleHttp1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) bound: AnswerBound,
    pub(super) fault: Option<Fault>,
    pub(super) born: Instant,
    pub(super) since: Instant,
    /// How long the endpoint keeps it, less a margin for what is on the way.
    pub(super) kept: Option<Duration>,
}

impl IdleHttp1 {
    /// The first request of a connection that was just made.
    pub(super) fn begin(self, pool: &Rc<Pool>) -> Lease {
        Lease {
            sender: Sender::Http1(self.sender, self.bound),
            reused: false,
            fault: self.fault,
            born: self.born,
            idle: Duration::ZERO,
            kept: None,
            pool: Rc::clone(pool),
        }
    }

    fn is_over(&self, now: Instant, settings: &PoolSettings) -> bool {
        let spent = now.saturating_duration_since(self.since);
        self.sender.is_closed()
            || is_late(settings, now, self.born, self.since)
            || self.kept.is_some_and(|kept| spent > kept)
    }
}

impl Kept {
    pub(super) fn keep(&self, idle: IdleHttp1) {
        self.idle.borrow_mut().push(idle);
    }

    pub(super) fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Takes over what another one keeps.
    pub(super) fn swap(&self, other: &Self) {
        self.idle.swap(&other.idle);
        self.survived.swap(&other.survived);
    }

    /// The connection that was used last, since it is the least likely to have gone stale.
    pub(super) async fn lease(pool: &Rc<Pool>, repeatable: bool) -> Option<Lease> {
        let this = &pool.http1;
        loop {
            let mut idle = this.idle.borrow_mut().pop()?;
            let now = Instant::now();
            if idle.is_over(now, &pool.settings) {
                continue;
            }
            if !repeatable && now.saturating_duration_since(idle.since) > this.patience() {
                this.idle.borrow_mut().push(idle);
                return None;
            }
            // hyper is ready once its task has seen the end of the last exchange.
            if idle.sender.ready().await.is_err() {
                continue;
            }
            // A close that has arrived may not have been looked at yet. Yielding to the runtime polls
            // the sockets, and whoever waits for one runs before this goes on.
            if !repeatable {
                tokio::task::yield_now().await;
                if idle.sender.is_closed() {
                    continue;
                }
            }
            return Some(Lease {
                sender: Sender::Http1(idle.sender, idle.bound),
                reused: true,
                fault: idle.fault,
                born: idle.born,
                idle: now.saturating_duration_since(idle.since),
                kept: idle.kept,
                pool: Rc::clone(pool),
            });
        }
    }

    /// How long a connection may have been kept for what must not be sent twice: half of what this
    /// endpoint has been seen to grant, so that a close which crosses the request needs an endpoint that
    /// changes its mind.
    fn patience(&self) -> Duration {
        FRESH.min(self.survived.get() / 2)
    }

    /// Forgets those that the endpoint has closed.
    pub(super) fn closed(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|idle| {
            let closed = idle.sender.is_closed();
            if closed {
                self.closed_after(now.saturating_duration_since(idle.since));
            }
            !closed
        });
    }

    pub(super) fn closed_after(&self, idle: Duration) {
        self.survived.set(self.survived.get().min(idle));
    }

    /// Closes what has been kept too long.
    pub(super) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.idle.borrow_mut().retain(|idle| {
            let open = !idle.is_over(now, settings);
            if open {
                let spent = now.saturating_duration_since(idle.since);
                self.survived.set(self.survived.get().max(spent));
            }
            open
        });
    }

    /// Closes as many, the ones that were used longest ago first; how many there were.
    pub(super) fn close(&self, most: usize) -> usize {
        let mut idle = self.idle.borrow_mut();
        let count = most.min(idle.len());
        drop(idle.drain(..count));
        count
    }
}
