//! Kept connections of one worker, by endpoint, for HTTP/1 and HTTP/2.
//!
//! Owns when a connection is used again, made, or waited for. Must not know requests' meaning.
//! Not shared between workers: a connection lives on the thread whose runtime drives it.

mod http1;
mod http2;
mod lease;
mod watch;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{self, Rc};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use tokio::sync::Notify;

pub(crate) use self::http1::Http1;
use self::http1::{IdleHttp1, Kept};
pub(crate) use self::http2::Http2Stream;
use self::http2::{Shared, SharedAll};
pub(crate) use self::lease::{Lease, Sender};
use self::watch::Watch;
use super::backend::{Backend, PoolSettings, Protocol};
use super::begin;
use super::connect::{ConnectError, connect};
use super::endpoint::{Endpoint, EndpointId};
use super::permit::{Pending, Permit};
use crate::proxy_protocol::Addresses;
use crate::telemetry::backend::BackendMetrics;
use crate::tls::stream::Stream;

/// Tells every worker that somebody waits for a connection.
pub(crate) type Pressure = tokio::sync::watch::Sender<()>;

/// Every kept connection of a worker; or, where connections tell whose they are, of one client.
#[derive(Debug)]
pub(crate) struct Pools {
    by_endpoint: RefCell<HashMap<EndpointId, Rc<Pool>>>,
    /// Of clients. Those that have left are forgotten by a sweep.
    of_clients: RefCell<Vec<rc::Weak<Self>>>,
    pressure: Pressure,
    /// Is told that an endpoint has done something to a kept connection.
    touched: Arc<Notify>,
}

/// The kept connections to one endpoint.
#[derive(Debug)]
struct Pool {
    endpoint: Weak<Endpoint>,
    gone: Arc<AtomicBool>,
    settings: PoolSettings,
    metrics: Arc<BackendMetrics>,
    http1: Kept,
    http2: SharedAll,
    watch: Arc<Watch>,
    waker: Waker,
    /// The endpoint has chosen HTTP/1.1 where it could have HTTP/2.
    chose_http1: Cell<bool>,
    /// Requests of this worker that wait for a connection to this endpoint.
    waiting: Cell<usize>,
    freed: Notify,
}

/// What a request needs of its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Whose it is, for backends that are told; `None` for our own.
    pub(crate) client: Option<&'a Addresses>,
    /// The request may be sent again if a kept connection turns out stale.
    pub(crate) repeatable: bool,
    /// Not a kept one.
    pub(crate) new: bool,
    /// It asks for a tunnel. Where the endpoint chooses the version, that is HTTP/1.1, unless it is known
    /// to take tunnels over HTTP/2.
    pub(crate) tunnel: bool,
}

/// A connection that was just made, as the endpoint chose it.
enum Opened {
    Http1(IdleHttp1),
    Http2(Rc<Shared>),
}

impl Pools {
    pub(crate) fn new(pressure: Pressure) -> Self {
        Self::told(pressure, Arc::default())
    }

    fn told(pressure: Pressure, touched: Arc<Notify>) -> Self {
        Self {
            by_endpoint: RefCell::default(),
            of_clients: RefCell::default(),
            pressure,
            touched,
        }
    }

    /// Until an endpoint has done something to a kept connection: time to [`look`](Self::look).
    pub(crate) async fn touched(&self) {
        self.touched.notified().await;
    }

    /// Forgets kept connections that their endpoints have closed.
    pub(crate) fn look(&self) {
        for pools in self
            .of_clients
            .borrow()
            .iter()
            .filter_map(rc::Weak::upgrade)
        {
            pools.look();
        }
        for pool in self.by_endpoint.borrow().values() {
            if pool.watch.was_touched() {
                pool.http1.closed(&mut pool.context());
            }
        }
    }

    /// A connection to `endpoint`: a kept one, or a new one. Where the backend has as many as it may,
    /// one that becomes free.
    ///
    /// # Errors
    /// When a new one is needed and cannot be had.
    pub(crate) async fn lease(
        &self,
        backend: &Backend,
        endpoint: &Arc<Endpoint>,
        wanted: Wanted<'_>,
    ) -> Result<Lease, ConnectError> {
        let pool = self.pool(backend, endpoint);
        let mut waiting = None;
        loop {
            let chooses = backend.settings().protocol == Protocol::Auto;
            if let Some(lease) = (chooses && wanted.tunnel)
                .then(|| SharedAll::lease_tunnel(&pool))
                .flatten()
            {
                return Ok(lease);
            }
            let http1 = pool.speaks_http1(backend, wanted);
            let kept = match (http1, wanted.new) {
                (true, true) => None,
                (true, false) => Kept::lease(&pool, wanted).await,
                (false, new) => SharedAll::lease(&pool, new).await,
            };
            if let Some(lease) = kept {
                return fit(lease, wanted, endpoint).await;
            }
            if let Some(permit) = Permit::take(backend, waiting.is_some()) {
                let connecting = (!http1).then(|| SharedAll::connect(&pool));
                // Out of line, so that requests on a kept connection do not carry its state.
                let opening = Box::pin(pool.open(backend, endpoint, wanted, permit));
                return match opening.await? {
                    Opened::Http1(idle) => {
                        let lease = idle.lease(&pool, false, (Instant::now(), Duration::ZERO));
                        fit(lease, wanted, endpoint).await
                    }
                    Opened::Http2(shared) => {
                        pool.http2.share(&shared, connecting);
                        Ok(Shared::lease(shared, &pool, false))
                    }
                };
            }
            // Out of line, as above.
            Box::pin(self.wait(backend, &pool, wanted, &mut waiting)).await?;
        }
    }

    /// Waits until a connection or a place for one may be free.
    async fn wait(
        &self,
        backend: &Backend,
        pool: &Rc<Pool>,
        wanted: Wanted<'_>,
        waiting: &mut Option<Waiting>,
    ) -> Result<(), ConnectError> {
        let waiting = match waiting {
            Some(waiting) => waiting,
            None => {
                let begun = Waiting::begin(backend, pool)?;
                // Kept ones of other workers are in the way.
                self.pressure.send_replace(());
                waiting.insert(begun)
            }
        };
        // So are those here, and the ones that this request could have had, if it may not use them.
        self.relieve_here(backend);
        if !wanted.repeatable || wanted.new {
            pool.http1.close(1);
        }
        let freed = async {
            tokio::select! {
                () = backend.freed().notified() => {}
                () = pool.freed.notified() => {}
            }
        };
        let limit = backend.settings().connect_timeout;
        if limit.is_zero() {
            freed.await;
            return Ok(());
        }
        let until = waiting.since + limit;
        let ended = tokio::time::timeout_at(until.into(), freed).await;
        ended.map_err(|_| ConnectError::Waited {
            limit: backend.settings().pool.max_connections,
            waited: limit,
        })
    }

    /// Makes a connection before it is needed, where there is none.
    ///
    /// # Errors
    /// When it cannot be had.
    pub(crate) async fn prepare(
        &self,
        backend: &Backend,
        endpoint: &Arc<Endpoint>,
    ) -> Result<(), ConnectError> {
        let pool = self.pool(backend, endpoint);
        if pool.http1.len() + pool.http2.len() > 0 {
            return Ok(());
        }
        let limit = backend.settings().pool.max_connections;
        let permit = Permit::take(backend, false).ok_or(ConnectError::Limit { limit })?;
        let wanted = Wanted {
            client: None,
            repeatable: false,
            new: true,
            tunnel: false,
        };
        match pool.open(backend, endpoint, wanted, permit).await? {
            Opened::Http1(idle) => drop(pool.keep(idle)),
            Opened::Http2(shared) => pool.http2.share(&shared, None),
        }
        pool.has_freed();
        Ok(())
    }

    fn pool(&self, backend: &Backend, endpoint: &Arc<Endpoint>) -> Rc<Pool> {
        let mut pools = self.by_endpoint.borrow_mut();
        let fresh = || {
            let watch = Watch::new(&self.touched);
            Rc::new(Pool {
                waker: Arc::clone(&watch).into(),
                watch,
                endpoint: Arc::downgrade(endpoint),
                gone: endpoint.gone(),
                settings: backend.settings().pool,
                metrics: Arc::clone(backend.metrics()),
                http1: Kept::default(),
                http2: SharedAll::default(),
                chose_http1: Cell::default(),
                waiting: Cell::default(),
                freed: Notify::new(),
            })
        };
        match pools.entry(endpoint.id()) {
            Entry::Occupied(mut entry) => {
                // A reload may change the bounds and keep the endpoint: its connections move over.
                if entry.get().settings != backend.settings().pool {
                    let (old, new) = (Rc::clone(entry.get()), fresh());
                    new.http1.swap(&old.http1);
                    new.http1.closed(&mut new.context());
                    new.http2.swap(&old.http2);
                    new.chose_http1.swap(&old.chose_http1);
                    entry.insert(new);
                }
                Rc::clone(entry.get())
            }
            Entry::Vacant(entry) => Rc::clone(entry.insert(fresh())),
        }
    }

    /// For one client's connections, which no other client gets. They close when this is dropped, and
    /// until then are swept with the worker's.
    pub(crate) fn of_client(&self) -> Rc<Self> {
        let pools = Self::told(self.pressure.clone(), Arc::clone(&self.touched));
        let pools = Rc::new(pools);
        self.of_clients.borrow_mut().push(Rc::downgrade(&pools));
        pools
    }

    /// Closes what has been kept too long, and everything of endpoints that are gone.
    pub(crate) fn sweep(&self, now: Instant) {
        self.of_clients.borrow_mut().retain(|pools| {
            let pools = pools.upgrade();
            pools.inspect(|pools| pools.sweep(now)).is_some()
        });
        self.by_endpoint.borrow_mut().retain(|_, pool| {
            if pool.is_gone() {
                // What is in flight there still holds the pool.
                pool.http1.close(usize::MAX);
                pool.http2.clear();
                return false;
            }
            pool.http1.sweep(now, &pool.settings);
            pool.http2.sweep(now, &pool.settings);
            true
        });
    }

    /// Closes kept connections of backends at which somebody waits for one: as many as wait.
    pub(crate) fn relieve(&self) {
        for pools in self
            .of_clients
            .borrow()
            .iter()
            .filter_map(rc::Weak::upgrade)
        {
            pools.relieve();
        }
        for pool in self.by_endpoint.borrow().values() {
            pool.relieve();
        }
    }

    fn relieve_here(&self, backend: &Backend) {
        let pools = self.by_endpoint.borrow();
        for member in backend.endpoints().all() {
            if let Some(pool) = pools.get(&member.endpoint.id()) {
                pool.relieve();
            }
        }
    }

    /// Closes every kept connection.
    pub(crate) fn clear(&self) {
        for pools in self.of_clients.take().iter().filter_map(rc::Weak::upgrade) {
            pools.clear();
        }
        self.by_endpoint.borrow_mut().clear();
    }
}

impl Pool {
    /// The endpoint is none of the backend's any more.
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.endpoint.strong_count() == 0
    }

    /// Whether a connection may be kept that is no longer in use. Where somebody else waits for its
    /// place, it may not.
    fn may_keep(&self) -> bool {
        let wanted_here = self.waiting.get() > 0;
        let wanted = wanted_here || self.metrics.pending.load(Ordering::Relaxed) == 0;
        wanted && !self.is_gone() && self.settings.max_idle > 0
    }

    /// Keeps a connection, unless the endpoint has closed it.
    fn keep(&self, idle: IdleHttp1) -> bool {
        let most = self.settings.max_idle;
        self.http1.keep(idle, most, &mut self.context())
    }

    /// For looking at kept connections.
    fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Closes as many unused connections as requests wait for one to this backend; but not where some
    /// wait for just these.
    fn relieve(&self) {
        let pending = self.metrics.pending.load(Ordering::Relaxed) as usize;
        if pending > 0 && self.waiting.get() == 0 {
            let closed = self.http1.close(pending);
            self.http2.close(pending - closed);
        }
    }

    /// A connection or stream may be used by whoever waits here.
    fn has_freed(&self) {
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }

    fn speaks_http1(&self, backend: &Backend, wanted: Wanted<'_>) -> bool {
        match backend.settings().protocol {
            Protocol::Http1 => true,
            Protocol::H2c => false,
            Protocol::Auto => wanted.tunnel || self.chose_http1.get(),
        }
    }

    /// Connects, and begins the HTTP that the backend is for or that the endpoint has chosen.
    async fn open(
        self: &Rc<Self>,
        backend: &Backend,
        endpoint: &Endpoint,
        wanted: Wanted<'_>,
        permit: Permit,
    ) -> Result<Opened, ConnectError> {
        let (address, protocol) = (endpoint.address(), backend.settings().protocol);
        let (tls, limit) = (backend.tls(), backend.settings().connect_timeout);
        let preface = backend.preface(wanted.client);
        let tunnel = wanted.tunnel && protocol != Protocol::H2c;
        let stream = connect(address, &preface, tls.map(|tls| &**tls), tunnel, limit).await?;
        let agreed = matches!(stream, Stream::Plain(_)) || stream.alpn() == Some(b"h2");
        let http2 = match protocol {
            Protocol::Http1 => false,
            // Not by prior knowledge where there is ALPN to agree (RFC 9113, 3.2).
            Protocol::H2c if !agreed => return Err(ConnectError::NoHttp2 { address }.told()),
            Protocol::H2c => true,
            Protocol::Auto => agreed,
        };
        self.chose_http1
            .set(protocol == Protocol::Auto && !tunnel && !http2);
        if http2 {
            let fault = stream.fault();
            let opened = begin::http2(stream, permit).await;
            let (connection, greeting) = opened.map_err(|error| no_http(address, error))?;
            return Ok(Opened::Http2(Shared::new(connection, greeting, fault)));
        }
        Ok(Opened::Http1(IdleHttp1::new(stream, permit)))
    }
}

/// A connection as the request needs it.
async fn fit(lease: Lease, wanted: Wanted<'_>, endpoint: &Endpoint) -> Result<Lease, ConnectError> {
    if wanted.tunnel {
        // Out of line, so that the others do not carry its state.
        return Box::pin(lease.into_tunnel(endpoint.address())).await;
    }
    Ok(lease)
}

/// Stands for one request that waits, at the backend and at the endpoint.
#[derive(Debug)]
struct Waiting {
    pool: Rc<Pool>,
    since: Instant,
    _pending: Pending,
}

impl Waiting {
    fn begin(backend: &Backend, pool: &Rc<Pool>) -> Result<Self, ConnectError> {
        let pending = Pending::begin(backend)?;
        pool.waiting.set(pool.waiting.get() + 1);
        Ok(Self {
            pool: Rc::clone(pool),
            since: Instant::now(),
            _pending: pending,
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let left = self.pool.waiting.get().saturating_sub(1);
        self.pool.waiting.set(left);
        // What was freed for this one is for the next one.
        if left > 0 {
            self.pool.freed.notify_one();
        }
    }
}

fn no_http(
    address: SocketAddr,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ConnectError {
    let source = source.into();
    ConnectError::Handshake { address, source }
}

fn is_late(settings: &PoolSettings, now: Instant, born: Instant, since: Instant) -> bool {
    let over =
        |limit: Duration, start| !limit.is_zero() && now.saturating_duration_since(start) > limit;
    over(settings.idle_timeout, since) || over(settings.max_age, born)
}
