//! Kept connections of one worker, by endpoint, for HTTP/1 and HTTP/2.
//!
//! Owns when a connection may be used again. Must not know requests' meaning.
//! Not shared between workers: a connection lives on the thread whose runtime drives it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::rc::{self, Rc};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use hyper::client::conn::{http1, http2};
use tokio::sync::Notify;

use super::backend::{Backend, PoolSettings, Protocol};
use super::begin::{self, Allowed, Permit};
use super::bound::AnswerBound;
use super::connect::{ConnectError, connect};
use super::endpoint::{Endpoint, EndpointId};
use crate::http::body::RequestBody;
use crate::http::headers::KEEP_ALIVE;
use crate::proxy_protocol::Addresses;
use crate::tls::stream::{Fault, Stream};

/// A request that must not be sent twice does not go on a connection that has been kept for longer, as
/// its endpoint may just be closing it. See [`Pool::patience`].
const FRESH: Duration = Duration::from_secs(1);

/// Every kept connection of a worker; or, where connections tell whose they are, of one client.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    by_endpoint: RefCell<HashMap<EndpointId, Rc<Pool>>>,
    /// Of clients. Those that have left are forgotten by a sweep.
    of_clients: RefCell<Vec<rc::Weak<Self>>>,
}

/// The kept connections to one endpoint.
#[derive(Debug)]
struct Pool {
    endpoint: Weak<Endpoint>,
    settings: PoolSettings,
    http1: RefCell<Vec<IdleHttp1>>,
    /// How long a kept connection has been seen to stay open.
    survived: Cell<Duration>,
    http2: RefCell<Vec<SharedHttp2>>,
    connecting: RefCell<Option<Rc<Notify>>>,
    /// The endpoint has chosen HTTP/1.1 where it could have HTTP/2.
    chose_http1: Cell<bool>,
}

/// What a request needs of its connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// Whose it is, for backends that are told.
    pub(crate) client: &'a Addresses,
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
    Http1(http1::SendRequest<RequestBody>, AnswerBound, Option<Fault>),
    Http2(SharedHttp2),
}

#[derive(Debug)]
struct IdleHttp1 {
    sender: http1::SendRequest<RequestBody>,
    bound: AnswerBound,
    fault: Option<Fault>,
    born: Instant,
    since: Instant,
    /// How long the endpoint keeps it, less a margin for what is on the way.
    kept: Option<Duration>,
}

#[derive(Debug, Clone)]
struct SharedHttp2 {
    sender: http2::SendRequest<RequestBody>,
    fault: Option<Fault>,
    born: Instant,
    /// Streams in flight, and since when there is none.
    streams: Rc<RefCell<(usize, Instant)>>,
    allowed: Rc<Allowed>,
}

/// The right to send one request.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) sender: Sender,
    /// Whether the connection has served requests before.
    pub(crate) reused: bool,
    fault: Option<Fault>,
    born: Instant,
    /// How long it was kept before this request.
    idle: Duration,
    kept: Option<Duration>,
    pool: Rc<Pool>,
}

/// The sending half of a connection.
#[derive(Debug)]
pub(crate) enum Sender {
    Http1(http1::SendRequest<RequestBody>, AnswerBound),
    Http2(Http2Stream),
}

/// The right to one stream of a shared connection.
#[derive(Debug)]
pub(crate) struct Http2Stream {
    pub(crate) sender: http2::SendRequest<RequestBody>,
    allowed: Rc<Allowed>,
    _guard: StreamGuard,
}

/// Stands for one stream of a shared connection.
#[derive(Debug)]
struct StreamGuard(Rc<RefCell<(usize, Instant)>>);

impl Http2Stream {
    /// Whether the endpoint takes extended CONNECT (RFC 8441, 3). Waits for it to say so.
    pub(crate) async fn takes_tunnels(&self) -> bool {
        self.allowed.told.come().await;
        self.allowed.tunnels.get()
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut streams = self.0.borrow_mut();
        *streams = (streams.0.saturating_sub(1), Instant::now());
    }
}

impl Lease {
    /// What broke TLS, where that is why an exchange failed.
    pub(crate) fn fault(&self) -> Option<rustls::Error> {
        self.fault.as_ref()?.get().cloned()
    }

    /// Gives the connection back after a response that ended in order. Without this call the
    /// connection is closed (HTTP/1) or loses just the stream (HTTP/2).
    pub(crate) fn release(self, now: Instant) {
        let Sender::Http1(sender, bound) = self.sender else {
            return;
        };
        let settings = &self.pool.settings;
        let mut idle = self.pool.http1.borrow_mut();
        let aged = !settings.max_age.is_zero()
            && now.saturating_duration_since(self.born) > settings.max_age;
        if !sender.is_closed() && !aged && !self.pool.is_gone() && idle.len() < settings.max_idle {
            idle.push(IdleHttp1 {
                sender,
                bound,
                fault: self.fault,
                born: self.born,
                since: now,
                kept: self.kept,
            });
        }
    }

    /// Learns that the endpoint closed the connection instead of answering on it.
    pub(crate) fn stale(&self) {
        if let Sender::Http1(..) = self.sender {
            self.pool.closed_after(self.idle);
        }
    }

    /// Learns from the head of an answer how long the endpoint keeps the connection (RFC 9112, 9.3;
    /// `Keep-Alive: timeout=5`).
    pub(crate) fn answered(&mut self, headers: &HeaderMap) {
        let Sender::Http1(_, bound) = &self.sender else {
            return;
        };
        bound.lift();
        if let Some(told) = headers.get(KEEP_ALIVE).and_then(keep_alive_timeout) {
            let margin = (told / 2).min(Duration::from_secs(1));
            self.kept = Some(told - margin);
        }
    }
}

fn keep_alive_timeout(value: &HeaderValue) -> Option<Duration> {
    let parameters = value.to_str().ok()?.split(',');
    let seconds = parameters.filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let seconds = value.trim().trim_matches('"').parse::<u32>().ok()?;
        name.trim()
            .eq_ignore_ascii_case("timeout")
            .then_some(seconds)
    });
    seconds
        .min()
        .map(|seconds| Duration::from_secs(seconds.into()))
}

impl Pools {
    /// A connection to `endpoint`: a kept one, or a new one.
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
        let http1 = match backend.settings().protocol {
            Protocol::Http1 => true,
            Protocol::H2c => false,
            Protocol::Auto if wanted.tunnel => match pool.usable_http2() {
                Some(shared) if shared.allowed.tunnels.get() => {
                    return Ok(Pool::stream(pool, shared, true));
                }
                _ => true,
            },
            Protocol::Auto => pool.chose_http1.get(),
        };
        if http1 {
            if !wanted.new
                && let Some(lease) = pool.kept_http1(wanted.repeatable).await
            {
                return Ok(lease);
            }
            let opened = pool.open(backend, endpoint, wanted).await?;
            return Ok(pool.lease_of(opened));
        }
        Pool::shared_http2(pool, backend, endpoint, wanted).await
    }

    fn pool(&self, backend: &Backend, endpoint: &Arc<Endpoint>) -> Rc<Pool> {
        let mut pools = self.by_endpoint.borrow_mut();
        let fresh = || {
            Rc::new(Pool {
                endpoint: Arc::downgrade(endpoint),
                settings: backend.settings().pool,
                http1: RefCell::default(),
                survived: Cell::default(),
                http2: RefCell::default(),
                connecting: RefCell::default(),
                chose_http1: Cell::default(),
            })
        };
        match pools.entry(endpoint.id()) {
            Entry::Occupied(mut entry) => {
                // A reload may change the bounds and keep the endpoint: its connections move over.
                if entry.get().settings != backend.settings().pool {
                    let (old, new) = (Rc::clone(entry.get()), fresh());
                    new.http1.swap(&old.http1);
                    new.survived.swap(&old.survived);
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
        let pools = Rc::new(Self::default());
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
                pool.http1.borrow_mut().clear();
                pool.http2.borrow_mut().clear();
                return false;
            }
            pool.http1.borrow_mut().retain(|idle| {
                let open = !pool.is_over(now, idle);
                if open {
                    let spent = now.saturating_duration_since(idle.since);
                    pool.survived.set(pool.survived.get().max(spent));
                }
                open
            });
            pool.http2.borrow_mut().retain(|shared| {
                let (streams, since) = *shared.streams.borrow();
                !shared.sender.is_closed()
                    && (streams > 0 || !pool.is_late(now, shared.born, since))
            });
            true
        });
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
        let endpoint = self.endpoint.upgrade();
        endpoint.is_none_or(|endpoint| endpoint.is_gone())
    }

    fn is_late(&self, now: Instant, born: Instant, since: Instant) -> bool {
        let over = |limit: Duration, start| {
            !limit.is_zero() && now.saturating_duration_since(start) > limit
        };
        over(self.settings.idle_timeout, since) || over(self.settings.max_age, born)
    }

    fn is_over(&self, now: Instant, idle: &IdleHttp1) -> bool {
        let spent = now.saturating_duration_since(idle.since);
        idle.sender.is_closed()
            || self.is_late(now, idle.born, idle.since)
            || idle.kept.is_some_and(|kept| spent > kept)
    }

    /// The connection that was used last, since it is the least likely to have gone stale.
    async fn kept_http1(self: &Rc<Self>, repeatable: bool) -> Option<Lease> {
        loop {
            let mut idle = self.http1.borrow_mut().pop()?;
            let now = Instant::now();
            if self.is_over(now, &idle) {
                continue;
            }
            if !repeatable && now.saturating_duration_since(idle.since) > self.patience() {
                self.http1.borrow_mut().push(idle);
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
                pool: Rc::clone(self),
            });
        }
    }

    /// How long a connection may have been kept for what must not be sent twice: half of what this
    /// endpoint has been seen to grant, so that a close which crosses the request needs an endpoint that
    /// changes its mind.
    fn patience(&self) -> Duration {
        FRESH.min(self.survived.get() / 2)
    }

    /// Forgets the kept connections that the endpoint has closed.
    fn closed(&self) {
        let now = Instant::now();
        self.http1.borrow_mut().retain(|idle| {
            let closed = idle.sender.is_closed();
            if closed {
                self.closed_after(now.saturating_duration_since(idle.since));
            }
            !closed
        });
    }

    fn closed_after(&self, idle: Duration) {
        self.survived.set(self.survived.get().min(idle));
    }

    /// Connects, and begins the HTTP that the backend is for or that the endpoint has chosen.
    async fn open(
        self: &Rc<Self>,
        backend: &Backend,
        endpoint: &Endpoint,
        wanted: Wanted<'_>,
    ) -> Result<Opened, ConnectError> {
        let permit = Permit::take(backend)?;
        let (address, protocol) = (endpoint.address(), backend.settings().protocol);
        let (tls, limit) = (backend.tls(), backend.settings().connect_timeout);
        let preface = backend.preface(Some(wanted.client));
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
        let failed = |source| ConnectError::Handshake { address, source };
        let fault = stream.fault();
        if http2 {
            let opened = begin::http2(stream, permit).await;
            opened.map(|(sender, allowed)| {
                let now = Instant::now();
                Opened::Http2(SharedHttp2 {
                    sender,
                    fault,
                    born: now,
                    streams: Rc::new(RefCell::new((0, now))),
                    allowed,
                })
            })
        } else {
            let pool = Rc::downgrade(self);
            let ended = move || {
                if let Some(pool) = pool.upgrade() {
                    pool.closed();
                }
            };
            let opened = begin::http1(stream, permit, ended).await;
            opened.map(|(sender, bound)| Opened::Http1(sender, bound, fault))
        }
        .map_err(failed)
    }

    fn lease_of(self: Rc<Self>, opened: Opened) -> Lease {
        match opened {
            Opened::Http1(sender, bound, fault) => Lease {
                sender: Sender::Http1(sender, bound),
                reused: false,
                fault,
                born: Instant::now(),
                idle: Duration::ZERO,
                kept: None,
                pool: self,
            },
            Opened::Http2(shared) => {
                self.http2.borrow_mut().push(shared.clone());
                Self::stream(self, shared, false)
            }
        }
    }

    /// A stream on a shared connection. One connects, the others wait for it.
    async fn shared_http2(
        pool: Rc<Self>,
        backend: &Backend,
        endpoint: &Endpoint,
        wanted: Wanted<'_>,
    ) -> Result<Lease, ConnectError> {
        let mut new = wanted.new;
        loop {
            if !new && let Some(shared) = pool.usable_http2() {
                return Ok(Self::stream(pool, shared, true));
            }
            let waiting = pool.connecting.borrow().clone();
            let Some(waiting) = waiting else { break };
            waiting.notified().await;
            new = false;
            // Whoever connected may have learnt that there is nothing to share.
            if pool.chose_http1.get() {
                let opened = pool.open(backend, endpoint, wanted).await?;
                return Ok(pool.lease_of(opened));
            }
        }
        let notify = Rc::new(Notify::new());
        *pool.connecting.borrow_mut() = Some(Rc::clone(&notify));
        // Also when this future is dropped, so that nobody waits for ever.
        let _wake = WakeOthers {
            pool: Rc::clone(&pool),
            notify,
        };
        let opened = pool.open(backend, endpoint, wanted).await?;
        Ok(Rc::clone(&pool).lease_of(opened))
    }

    fn usable_http2(&self) -> Option<SharedHttp2> {
        let mut shared = self.http2.borrow_mut();
        shared.retain(|connection| !connection.sender.is_closed());
        let now = Instant::now();
        shared
            .iter()
            .find(|connection| {
                let (streams, _) = *connection.streams.borrow();
                streams < connection.allowed.streams.get()
                    && !self.is_late(now, connection.born, now)
            })
            .cloned()
    }

    fn stream(pool: Rc<Self>, shared: SharedHttp2, reused: bool) -> Lease {
        shared.streams.borrow_mut().0 += 1;
        let guard = StreamGuard(shared.streams);
        Lease {
            sender: Sender::Http2(Http2Stream {
                sender: shared.sender,
                allowed: shared.allowed,
                _guard: guard,
            }),
            reused,
            fault: shared.fault,
            born: shared.born,
            idle: Duration::ZERO,
            kept: None,
            pool,
        }
    }
}

struct WakeOthers {
    pool: Rc<Pool>,
    notify: Rc<Notify>,
}

impl Drop for WakeOthers {
    fn drop(&mut self) {
        *self.pool.connecting.borrow_mut() = None;
        self.notify.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_endpoints_say_of_keeping_connections() {
        for (value, seconds) in [
            ("timeout=5", Some(5)),
            ("timeout=5, max=1000", Some(5)),
            ("max=1000 , Timeout = \"5\"", Some(5)),
            ("timeout=9, timeout=5", Some(5)),
            ("timeout=0", Some(0)),
            ("timeout", None),
            ("timeout=-1", None),
            ("timeout=99999999999999999999", None),
            ("max=5", None),
            ("", None),
        ] {
            let told = keep_alive_timeout(&HeaderValue::from_static(value));
            assert_eq!(told, seconds.map(Duration::from_secs), "{value}");
        }
    }
}
