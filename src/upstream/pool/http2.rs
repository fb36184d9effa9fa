//! Shared connections of HTTP/2 to one endpoint: as many as its limit of streams asks for.
//!
//! Owns which one a request goes on, and that only one is made at a time. Must not know how.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::lease::{Lease, Sender};
use super::{Pool, is_late};
use crate::http::http2::client::Connection;
use crate::tls::stream::Fault;
use crate::upstream::backend::PoolSettings;
use crate::upstream::flood::Greeting;

/// Longest wait for an endpoint to say how many streams it allows, which comes first of all (RFC 9113,
/// 3.4).
const SETTLING: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SharedAll {
    open: RefCell<Vec<Rc<Shared>>>,
    making: RefCell<Option<Rc<Making>>>,
}

/// A connection that is being made.
#[derive(Debug, Default)]
struct Making {
    /// It is shared already; only its limit of streams is not known yet.
    stands: Cell<bool>,
    over: Notify,
}

/// One connection that requests share.
#[derive(Debug)]
pub(super) struct Shared {
    connection: Connection,
    greeting: Rc<Greeting>,
    fault: Option<Fault>,
    born: Instant,
    /// In flight, and since when there is none.
    streams: Cell<(usize, Instant)>,
}

/// The right to one stream of a shared connection.
#[derive(Debug)]
pub(crate) struct Http2Stream {
    shared: Rc<Shared>,
    pool: Rc<Pool>,
}

impl Shared {
    pub(super) fn new(
        connection: Connection,
        greeting: Rc<Greeting>,
        fault: Option<Fault>,
    ) -> Rc<Self> {
        let now = Instant::now();
        Rc::new(Self {
            connection,
            greeting,
            fault,
            born: now,
            streams: Cell::new((0, now)),
        })
    }

    fn is_idle(&self) -> bool {
        self.streams.get().0 == 0
    }

    pub(super) fn lease(self: Rc<Self>, pool: &Rc<Pool>, reused: bool) -> Lease {
        let (streams, since) = self.streams.get();
        self.streams.set((streams + 1, since));
        Lease {
            reused,
            since: Instant::now(),
            fault: self.fault.clone(),
            born: self.born,
            idle: Duration::ZERO,
            kept: None,
            pool: Rc::clone(pool),
            sender: Sender::Http2(Http2Stream {
                shared: self,
                pool: Rc::clone(pool),
            }),
        }
    }
}

impl Http2Stream {
    pub(crate) fn connection(&self) -> &Connection {
        &self.shared.connection
    }

    /// Whether the endpoint takes extended CONNECT. Waits for it to say so.
    pub(crate) async fn takes_tunnels(&self) -> bool {
        self.shared.greeting.come().await;
        self.shared.connection.takes_tunnels()
    }
}

impl Drop for Http2Stream {
    fn drop(&mut self) {
        let left = self.shared.streams.get().0.saturating_sub(1);
        self.shared.streams.set((left, Instant::now()));
        self.pool.has_freed();
    }
}

impl SharedAll {
    /// Takes over what another one has.
    pub(super) fn swap(&self, other: &Self) {
        self.open.swap(&other.open);
    }

    pub(super) fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// A stream, also of a connection that somebody else is making just now. With `new`, only of such a
    /// one. `None` when there is none and nobody is making one.
    pub(super) async fn lease(pool: &Rc<Pool>, mut new: bool) -> Option<Lease> {
        let this = &pool.http2;
        loop {
            if !new && let Some(shared) = this.usable(&pool.settings) {
                return Some(Shared::lease(shared, pool, true));
            }
            let making = this.making.borrow().clone();
            let making = making.filter(|making| !new || !making.stands.get())?;
            making.over.notified().await;
            new = false;
            // Whoever connected may have learnt that there is nothing to share.
            if pool.chose_http1.get() {
                return None;
            }
        }
    }

    /// A stream for a tunnel, where it is known that the endpoint takes those.
    pub(super) fn lease_tunnel(pool: &Rc<Pool>) -> Option<Lease> {
        let shared = pool.http2.usable(&pool.settings)?;
        let takes = shared.connection.takes_tunnels();
        takes.then(|| Shared::lease(shared, pool, true))
    }

    fn usable(&self, settings: &PoolSettings) -> Option<Rc<Shared>> {
        let mut open = self.open.borrow_mut();
        open.retain(|shared| !shared.connection.is_over());
        let now = Instant::now();
        let free = |one: &&Rc<Shared>| {
            one.streams.get().0 < one.connection.most_streams()
                && !is_late(settings, now, one.born, now)
        };
        open.iter().find(free).cloned()
    }

    /// Notes that one is being made; others wait until the guard is gone.
    pub(super) fn connect(pool: &Rc<Pool>) -> Connecting {
        let making = Rc::<Making>::default();
        *pool.http2.making.borrow_mut() = Some(Rc::clone(&making));
        let pool = Rc::clone(pool);
        Connecting { pool, making }
    }

    /// Shares a new connection. Others wait until it is known how many streams it may have: with what
    /// HTTP/2 assumes before, all would go on this one and wait there.
    pub(super) fn share(&self, shared: &Rc<Shared>, connecting: Option<Connecting>) {
        self.open.borrow_mut().push(Rc::clone(shared));
        if let Some(connecting) = &connecting {
            connecting.making.stands.set(true);
        }
        let greeting = Rc::clone(&shared.greeting);
        drop(tokio::task::spawn_local(async move {
            let _connecting = connecting;
            drop(tokio::time::timeout(SETTLING, greeting.come()).await);
        }));
    }

    /// Closes what is broken, or has been unused too long.
    pub(super) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.open.borrow_mut().retain(|shared| {
            let since = shared.streams.get().1;
            !shared.connection.is_over()
                && (!shared.is_idle() || !is_late(settings, now, shared.born, since))
        });
    }

    /// Closes as many unused ones; how many there were.
    pub(super) fn close(&self, most: usize) -> usize {
        let mut closed = 0;
        self.open.borrow_mut().retain(|shared| {
            let close = closed < most && shared.is_idle();
            closed += usize::from(close);
            !close
        });
        closed
    }

    /// Lets go of all; what is in flight may end.
    pub(super) fn clear(&self) {
        self.open.borrow_mut().clear();
    }
}

/// Stands for a connection that is being made. Also when its maker is dropped, the others go on.
#[derive(Debug)]
pub(super) struct Connecting {
    pool: Rc<Pool>,
    making: Rc<Making>,
}

impl Drop for Connecting {
    fn drop(&mut self) {
        let mut making = self.pool.http2.making.borrow_mut();
        if making
            .as_ref()
            .is_some_and(|it| Rc::ptr_eq(it, &self.making))
        {
            *making = None;
        }
        self.making.over.notify_waiters();
    }
}
