//! One address of a backend, with the numbers that belong to it.
//!
//! Must not know how it is chosen or connected to.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_utils::CachePadded;

use super::outlier::Record;
pub(crate) use crate::telemetry::backend::EndpointState as State;

/// Tells endpoints apart over reloads; pools are kept by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct EndpointId(u64);

/// One address. Shared by all workers; lives on over reloads that keep it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    id: EndpointId,
    address: SocketAddr,
    in_flight: CachePadded<AtomicU32>,
    health: AtomicU8,
    record: Record,
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
            record: Record::default(),
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
        self.health.store(health as u8, Ordering::Relaxed);
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
