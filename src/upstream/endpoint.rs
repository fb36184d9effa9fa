//! One address of a backend, with the numbers that belong to it.
//!
//! Must not know how it is chosen or connected to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_utils::CachePadded;

use super::balance::latency::Latency;
use super::outlier::Record;
pub(crate) use crate::telemetry::backend::EndpointState as State;

/// Tells endpoints apart over reloads; pools are kept by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EndpointId(u64);

/// Milliseconds since some moment a day before the first endpoint: a time that fits an atomic.
pub(crate) fn clock() -> u64 {
    const DAY: u64 = 86_400_000;
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX);
    since.saturating_add(DAY)
}

/// One address. Shared by all workers; lives on over reloads that keep it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    id: EndpointId,
    address: SocketAddr,
    in_flight: CachePadded<AtomicU32>,
    health: AtomicU8,
    /// Since when it may get requests, by [`clock`].
    ready_since: AtomicU64,
    latency: CachePadded<Latency>,
    record: Record,
    gone: Arc<AtomicBool>,
    /// Nobody has a connection to it yet, and it gets no requests before.
    cold: AtomicBool,
    /// Why its last check failed.
    trouble: Mutex<Option<Box<str>>>,
}

impl Endpoint {
    pub(crate) fn new(address: SocketAddr) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Arc::new(Self {
            id: EndpointId(NEXT.fetch_add(1, Ordering::Relaxed)),
            address,
            in_flight: CachePadded::default(),
            health: AtomicU8::new(State::Ready as u8),
            ready_since: AtomicU64::new(clock()),
            latency: CachePadded::default(),
            record: Record::default(),
            gone: Arc::default(),
            cold: AtomicBool::new(false),
            trouble: Mutex::default(),
        })
    }

    pub(crate) fn id(&self) -> EndpointId {
        self.id
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether requests may go there. What is used is in [`super::endpoints::Endpoints`], which is made
    /// from this.
    pub(crate) fn state(&self) -> State {
        match self.health() {
            State::Ready | State::Unknown if self.record.is_ejected() => State::Ejected,
            State::Ready if self.is_cold() => State::Unknown,
            health => health,
        }
    }

    /// What its checks say.
    pub(crate) fn health(&self) -> State {
        let number = usize::from(self.health.load(Ordering::Relaxed));
        *State::ALL.get(number).unwrap_or(&State::Unknown)
    }

    /// Notes what its checks say. The backend's [`refresh`](super::backend::Backend::refresh) puts it to
    /// work.
    pub(crate) fn enter(&self, health: State) {
        let before = self.health.swap(health as u8, Ordering::Relaxed);
        if health == State::Ready && before != health as u8 {
            self.begins();
        }
    }

    /// It may get requests again: from now on its share grows.
    pub(super) fn begins(&self) {
        self.begin_at(clock());
    }

    pub(super) fn begin_at(&self, moment: u64) {
        self.ready_since.store(moment, Ordering::Relaxed);
    }

    /// By [`clock`].
    pub(super) fn ready_since(&self) -> u64 {
        self.ready_since.load(Ordering::Relaxed)
    }

    /// How long its answers take; only learnt where the policy asks for it.
    pub(crate) fn latency(&self) -> &Latency {
        &self.latency
    }

    pub(crate) fn set_cold(&self, cold: bool) {
        if self.cold.swap(cold, Ordering::Relaxed) && !cold {
            self.begins();
        }
    }

    pub(super) fn is_cold(&self) -> bool {
        self.cold.load(Ordering::Relaxed)
    }

    /// Its backend has it no more: what is in flight may end, and no connection is kept.
    pub(super) fn leave(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Whether it has left, for whoever has connections to it.
    pub(super) fn gone(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.gone)
    }

    /// How requests went there.
    pub(crate) fn record(&self) -> &Record {
        &self.record
    }

    /// Notes why its last check failed, or that it did not.
    pub(crate) fn set_trouble(&self, why: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = why.map(Into::into);
    }

    /// Why its last check failed, for people.
    pub(crate) fn trouble(&self) -> Option<String> {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.as_deref().map(str::to_owned)
    }

    /// Requests that it is serving now, over all workers.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Counts a request; the guard counts it down.
    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// Stands for one request that an endpoint is serving.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
