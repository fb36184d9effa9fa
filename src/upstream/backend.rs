//! One version of a service: its endpoints, balancer, limits and numbers.
//!
//! Lives on over reloads that leave it as it is, with everything that it has learnt.
//! Must not know routes or which share of traffic it has.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::balance::Balancer;
use super::endpoint::{Endpoint, InFlight};
use crate::telemetry::backend::BackendMetrics;
use crate::tls::client::{OriginSettings, Originator};

/// The HTTP version spoken to the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    H2c,
    /// What the endpoint chooses by ALPN.
    Auto,
}

/// A load-balancing policy, without state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    RoundRobin,
    LeastRequest,
}

/// What decides how a backend behaves. Two backends with equal settings are the same backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) name: Box<str>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<OriginSettings>,
    pub(crate) policy: Policy,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_requests: u32,
    pub(crate) pool: PoolSettings,
}

/// Bounds on kept connections. Zero `max_age`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolSettings {
    /// Open connections over all workers, kept ones included.
    pub(crate) max_connections: u32,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_age: Duration,
    /// For one endpoint and one worker.
    pub(crate) max_idle: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Backend {
    settings: Settings,
    tls: Option<Arc<Originator>>,
    endpoints: Vec<Arc<Endpoint>>,
    balancer: Balancer,
    metrics: Arc<BackendMetrics>,
}

impl Backend {
    /// A backend whose endpoints at addresses that `earlier` has too are that one's, so that their
    /// pools and numbers live on.
    pub(crate) fn new(
        settings: Settings,
        tls: Option<Arc<Originator>>,
        metrics: Arc<BackendMetrics>,
        earlier: Option<&Self>,
    ) -> Arc<Self> {
        let known = |address: &SocketAddr| {
            // A kept connection must be one that would be made now.
            let earlier = earlier.filter(|e| {
                e.settings.protocol == settings.protocol && e.settings.tls == settings.tls
            })?;
            earlier
                .endpoints
                .iter()
                .find(|e| e.address() == *address)
                .cloned()
        };
        let endpoints: Vec<_> = settings
            .addresses
            .iter()
            .map(|address| known(address).unwrap_or_else(|| Endpoint::new(*address)))
            .collect();
        metrics
            .usable
            .store(endpoints.len() as u64, Ordering::Relaxed);
        let balancer = match settings.policy {
            Policy::RoundRobin => Balancer::round_robin(),
            Policy::LeastRequest => Balancer::LeastRequest,
        };
        Arc::new(Self {
            settings,
            tls,
            endpoints,
            balancer,
            metrics,
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// `None` for plain text.
    pub(crate) fn tls(&self) -> Option<&Arc<Originator>> {
        self.tls.as_ref()
    }

    pub(crate) fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    pub(crate) fn metrics(&self) -> &Arc<BackendMetrics> {
        &self.metrics
    }

    /// Whether a request could be sent to one of its endpoints.
    pub(crate) fn is_usable(&self) -> bool {
        !self.endpoints.is_empty()
    }

    /// Chooses an endpoint other than `not` where there is one.
    pub(crate) fn choose(
        &self,
        not: Option<&Endpoint>,
        rng: &mut impl rand::Rng,
    ) -> Option<&Arc<Endpoint>> {
        self.balancer.choose(&self.endpoints, not, rng)
    }

    /// Counts a request in; `None` when the backend has its limit.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Serving> {
        let serving = self.metrics.serving.fetch_add(1, Ordering::Relaxed);
        let guard = Serving(Arc::clone(&self.metrics));
        (serving < self.settings.max_requests).then_some(guard)
    }
}

/// Stands for one request that a backend is serving.
#[derive(Debug)]
pub(crate) struct Serving(Arc<BackendMetrics>);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a request holds while it is served: its places at the backend and at the endpoint.
#[derive(Debug)]
pub(crate) struct Holding {
    _serving: Serving,
    _in_flight: InFlight,
}

impl Holding {
    pub(crate) fn new(serving: Serving, in_flight: InFlight) -> Self {
        Self {
            _serving: serving,
            _in_flight: in_flight,
        }
    }
}
