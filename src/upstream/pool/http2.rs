//! Shared connections of HTTP/2 to one endpoint: as many as its limit of streams asks for.
//!
//! Owns which one a request goes on, and that only one is made at a time. Must not know how.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use tokio::sync::Notify;

use super::lease::{Http2Stream, Lease, Sender, StreamGuard};
use super::{Pool, is_late};
use crate::http::body::RequestBody;
use crate::tls::stream::Fault;
use crate::upstream::backend::PoolSettings;
use crate::upstream::begin::Allowed;

/// Longest wait for an endpoint to say how many streams it allows, which comes first of all (RFC 9113,
/// 3.4). Until then it is one.
const SETTLING: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct SharedAll {
    open: RefCell<Vec<SharedHttp2>>,
    making: RefCell<Option<Rc<Making>>>,
}

/// A connection that is being made.
#[derive(Debug, Default)]
struct Making {
    /// It is shared already; only its limit of streams is not known yet.
    stands: Cell<bool>,
    over: Notify,
}

#[derive(Debug, Clone)]
pub(super) struct SharedHttp2 {
    sender: http2::SendRequest<RequestBody>,
    fault: Option<Fault>,
    born: Instant,
    /// Streams in flight, and since when there is none.
    streams: Rc<RefCell<(usize, Instant)>>,
    allowed: Rc<Allowed>,
}

impl SharedHttp2 {
    pub(super) fn new(
        sender: http2::SendRequest<RequestBody>,
        allowed: Rc<Allowed>,
        fault: Option<Fault>,
    ) -> Self {
        let now = Instant::now();
        Self {
            sender,
            fault,
            born: now,
            streams: Rc::new(RefCell::new((0, now))),
            allowed,
        }
    }

    fn is_idle(&self) -> bool {
        self.streams.borrow().0 == 0
    }

    pub(super) fn lease(self, pool: &Rc<Pool>, reused: bool) -> Lease {
        let guard = StreamGuard::begin(self.streams, pool);
        Lease {
            sender: Sender::Http2(Http2Stream {
                sender: self.sender,
                allowed: self.allowed,
                _guard: guard,
            }),
            reused,
            fault: self.fault,
            born: self.born,
            idle: Duration::ZERO,
            kept: None,
            pool: Rc::clone(pool),
        }
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
                return Some(shared.lease(pool, true));
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
        let takes = shared.allowed.tunnels.get();
        takes.then(|| shared.lease(pool, true))
    }

    fn usable(&self, settings: &PoolSettings) -> Option<SharedHttp2> {
        let mut open = self.open.borrow_mut();
        open.retain(|connection| !connection.sender.is_closed());
        let now = Instant::now();
        let free = |one: &&SharedHttp2| {
            one.streams.borrow().0 < one.allowed.streams.get()
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
    pub(super) fn share(&self, shared: &SharedHttp2, connecting: Option<Connecting>) {
        self.open.borrow_mut().push(shared.clone());
        if let Some(connecting) = &connecting {
            connecting.making.stands.set(true);
        }
        let allowed = Rc::clone(&shared.allowed);
        drop(tokio::task::spawn_local(async move {
            let _connecting = connecting;
            drop(tokio::time::timeout(SETTLING, allowed.told.come()).await);
        }));
    }

    /// Closes what is broken, or has been unused too long.
    pub(super) fn sweep(&self, now: Instant, settings: &PoolSettings) {
        self.open.borrow_mut().retain(|shared| {
            let since = shared.streams.borrow().1;
            !shared.sender.is_closed()
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
