//! Kept connections of HTTP/1 to one endpoint.
//!
//! Owns which of them may be used again, and for what. Must not know how they are made.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Context;
use std::time::{Duration, Instant};

use hyper::client::conn::http1;

use super::lease::{Lease, Sender};
use super::{Pool, Wanted, is_late};
use crate::http::body::RequestBody;
use crate::http::client;
use crate::tls::stream::{Fault, Stream};
use crate::upstream::backend::PoolSettings;
use crate::upstream::bound::AnswerBound;
use crate::upstream::permit::Permit;

/// A request that must not be sent twice does not go on a connection that has been kept for longer, as
/// its endpoint may just be closing it. See [`Kept::patience`].
const FRESH: Duration = Duration::from_secs(1);
/// For so long a close that came unannounced bounds that, whatever has survived since: an endpoint that
/// closes at once may be slow at it now and then.
const WARY: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// The one that was used last is at the back.
    idle: RefCell<VecDeque<IdleHttp1>>,
    /// How long one has been seen to stay open.
    survived: Cell<Duration>,
    /// The shortest time after which the endpoint has closed one of late, and when it last did so.
    closed: Cell<Option<(Duration, Instant)>>,
}

/// A connection, and who drives it.
#[derive(Debug)]
pub(crate) enum Http1 {
    /// The task of the request that has it.
    Own(Rc<client::Connection>, Permit),
    /// hyper, in a task of its own: for a request that asks for a tunnel. It is not kept.
    Hyper(http1::SendRequest<RequestBody>, AnswerBound),
}

#[derive(Debug)]
pub(super) struct IdleHttp1 {
    pub(super) connection: Rc<client::Connection>,
    pub(super) permit: Permit,
    pub(super) fault: Option<Fault>,
    pub(super) born: Instant,
    pub(super) since: Instant,
    /// How long the endpoint keeps it, less a margin for what is on the way.
    pub(super) kept: Option<Duration>,
}

impl IdleHttp1 {
    /// One that was just made.
    pub(super) fn new(stream: Stream, permit: Permit) -> Self {
        let now = Instant::now();
        Self {
            fault: stream.fault(),
            connection: client::Connection::new(stream),
            permit,
            born: now,
            since: now,
            kept: None,
        }
    }

    /// For the next request, or the first one of a connection that was just made.
    pub(super) fn lease(
        self,
        pool: &Rc<Pool>,
        reused: bool,
        (since, idle): (Instant, Duration),
    ) -> Lease {
        Lease {
            sender: Sender::Http1(Http1::Own(self.connection, self.permit)),
            reused,
            since,
            fault: self.fault,
            born: self.born,
            idle,
            kept: self.kept,
            pool: Rc::clone(pool),
        }
    }

    fn is_over(&self, now: Instant, settings: &PoolSettings) -> bool {
        let spent = now.saturating_duration_since(self.since);
        !self.connection.is_ready()
            || is_late(settings, now, self.born, self.since)
            || self.kept.is_some_and(|kept| spent > kept)
    }

    /// Whether the endpoint has closed it. Where it has not, `cx` is told when it does.
    fn is_closed(&self, cx: &mut Context<'_>) -> bool {
        self.connection.poll_over(cx).is_ready()
    }
}

impl Kept {
    /// Unless the endpoint has closed it. `cx` is told when it does. Where there are too many, the one
    /// that was used longest ago goes: it is the least likely to be of use.
    pub(super) fn keep(&self, idle: IdleHttp1, most: usize, cx: &mut Context<'_>) -> bool {
        let open = !idle.is_closed(cx);
        if open {
            let mut all = self.idle.borrow_mut();
            all.push_back(idle);
            while all.len() > most {
                drop(all.pop_front());
            }
        } else {
            self.closed_after(Duration::ZERO);
        }
        open
    }

    pub(super) fn len(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Takes over what another one keeps.
    pub(super) fn swap(&self, other: &Self) {
        self.idle.swap(&other.idle);
        self.survived.swap(&other.survived);
        self.closed.swap(&other.closed);
    }

    /// The connection that was used last, since it is the least likely to have gone stale.
    pub(super) async fn lease(pool: &Rc<Pool>, wanted: Wanted<'_>) -> Option<Lease> {
        let this = &pool.http1;
        loop {
            let idle = this.idle.borrow_mut().pop_back()?;
            let now = Instant::now();
            if idle.is_over(now, &pool.settings) {
                continue;
            }
            let spent = now.saturating_duration_since(idle.since);
            // A close that has arrived may not have been looked at yet. Yielding to the runtime polls
            // the sockets, and whoever waits for one runs before this goes on.
            if !wanted.repeatable {
                tokio::task::yield_now().await;
            }
            // One that was not touched is as it was when it was kept. Of one that was taken before the sockets
            // were polled, whoever was told has looked elsewhere.
            let is_touched = !wanted.repeatable || pool.watch.is_touched();
            if is_touched && idle.is_closed(&mut pool.context()) {
                this.closed_after(spent);
                continue;
            }
            if !wanted.repeatable && !this.trusts(spent, now, &mut pool.context()) {
                put_back(&mut this.idle.borrow_mut(), idle, |it| it.since);
                return None;
            }
            return Some(idle.lease(pool, true, (now, spent)));
        }
    }

    /// Whether what must not be sent twice may go on a connection that has been kept for so long. Where
    /// too little is known, the one that has been kept for longest may tell more.
    fn trusts(&self, spent: Duration, now: Instant, cx: &mut Context<'_>) -> bool {
        if spent > self.patience(now) {
            self.survived(spent);
            if let Some(oldest) = self.idle.borrow().front()
                && !oldest.is_closed(cx)
            {
                self.survived(now.saturating_duration_since(oldest.since));
            }
        }
        spent <= self.patience(now)
    }

    /// How long a connection may have been kept for what must not be sent twice: half of what this
    /// endpoint has been seen to grant, so that a close which crosses the request needs an endpoint that
    /// changes its mind.
    fn patience(&self, now: Instant) -> Duration {
        let closed = self.closed.get().filter(|(_, at)| now < *at + WARY);
        let granted = self.survived.get();
        FRESH.min(closed.map_or(granted, |(idle, _)| granted.min(idle)) / 2)
    }

    /// Learns that one was open after so long.
    fn survived(&self, idle: Duration) {
        self.survived.set(self.survived.get().max(idle));
    }

    /// Forgets those that the endpoint has closed. Of the others, `cx` is told.
    pub(super) fn closed(&self, cx: &mut Context<'_>) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|idle| {
            let closed = idle.is_closed(cx);
            if closed {
                self.closed_after(now.saturating_duration_since(idle.since));
            }
            !closed
        });
    }

    /// Learns that the endpoint has closed one after so long.
    pub(super) fn closed_after(&self, idle: Duration) {
        self.survived.set(self.survived.get().min(idle));
        let now = Instant::now();
        let of_late = self.closed.get().filter(|(_, at)| now < *at + WARY);
        let shortest = of_late.map_or(idle, |(other, _)| other.min(idle));
        self.closed.set(Some((shortest, now)));
    }

    /// Closes what has been kept too long.
    pub(super) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.idle.borrow_mut().retain(|idle| {
            let open = !idle.is_over(now, settings);
            if open {
                self.survived(now.saturating_duration_since(idle.since));
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

/// One that was not used, to where it was: at the back it would hide those that were used later.
fn put_back<T>(all: &mut VecDeque<T>, one: T, since: impl Fn(&T) -> Instant) {
    let place = all.partition_point(|other| since(other) <= since(&one));
    all.insert(place, one);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_back_hides_nothing_younger() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        for one in 0..4 {
            let mut all: VecDeque<_> = [0, 1, 2, 3]
                .into_iter()
                .filter(|it| *it != one)
                .map(at)
                .collect();
            put_back(&mut all, at(one), |it| *it);
            assert_eq!(all, [at(0), at(1), at(2), at(3)], "{one}");
        }
    }
}
