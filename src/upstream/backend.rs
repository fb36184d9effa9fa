//! One version of a service: its endpoints, balancer, limits and numbers.
//!
//! Lives on over reloads that leave it as it is, with everything that it has learnt.
//! Must not know routes or which share of traffic it has.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::balance::latency::Timing;
use super::balance::{Ask, BalanceSettings, Balancer, Policy};
use super::discovery::{Discovery, Source};
use super::endpoint::{Endpoint, InFlight, State};
use super::endpoints::{Endpoints, Listed, Member, Standing};
use super::health::HealthSettings;
use super::outlier::{OutlierSettings, most_ejected};
use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::proxy_protocol::{Addresses, Version, encode};
use crate::telemetry::backend::{BackendMetrics, EjectionReason};
use crate::tls::client::{OriginSettings, Originator};

/// The HTTP version spoken to the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    H2c,
    /// What the endpoint chooses by ALPN.
    Auto,
}

/// What decides how a backend behaves. Two backends with equal settings are the same backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) name: Box<str>,
    /// Empty where somebody else knows.
    pub(crate) endpoints: Vec<Listed>,
    pub(crate) discovery: Option<Source>,
    pub(crate) protocol: Protocol,
    pub(crate) tls: Option<OriginSettings>,
    /// Its connections begin with a header that tells whose they are.
    pub(crate) proxy_protocol: Option<Version>,
    pub(crate) balancing: BalanceSettings,
    pub(crate) health: Option<HealthSettings>,
    pub(crate) outlier: Option<OutlierSettings>,
    pub(crate) connect_timeout: Duration,
    pub(crate) max_requests: u32,
    pub(crate) pool: PoolSettings,
}

/// Bounds on kept connections. Zero `max_age`: no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PoolSettings {
    /// Open connections over all workers, kept ones included.
    pub(crate) max_connections: u32,
    /// Requests that may wait when there are so many.
    pub(crate) max_pending: u32,
    pub(crate) idle_timeout: Duration,
    pub(crate) max_age: Duration,
    /// For one endpoint and one worker.
    pub(crate) max_idle: usize,
    /// Endpoints get their first requests on connections that stand already.
    pub(crate) preconnect: bool,
}

/// Endpoints that get nothing for a while, and until when.
type Ejected = Vec<(Arc<Endpoint>, Instant)>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Backend {
    settings: Settings,
    tls: Option<Arc<Originator>>,
    discovery: Option<Arc<Discovery>>,
    endpoints: ArcSwap<Endpoints>,
    /// One change of the endpoints at a time, so that none puts back what another has replaced.
    change: Mutex<Ejected>,
    ejections: Arc<Notify>,
    changed: watch::Sender<()>,
    /// A place for a connection; shared with the backends of this name before and after.
    freed: Arc<Notify>,
    tended: AtomicBool,
    retired: AtomicBool,
    balancer: Balancer,
    metrics: Arc<BackendMetrics>,
}

impl Backend {
    /// A backend whose endpoints at addresses that `earlier` has too are that one's, so that their
    /// pools and numbers live on.
    pub(crate) fn new(
        settings: Settings,
        tls: Option<Arc<Originator>>,
        discovery: Option<Arc<Discovery>>,
        metrics: Arc<BackendMetrics>,
        earlier: Option<&Self>,
    ) -> Arc<Self> {
        let freed = earlier.map(|earlier| Arc::clone(&earlier.freed));
        let freed = freed.unwrap_or_default();
        // Until somebody says where the endpoints are now, they are where they were.
        let assumed = earlier.filter(|_| discovery.is_some());
        let assumed = assumed.map(|earlier| earlier.endpoints().listed());
        // A kept connection must be one that would be made now.
        let earlier = earlier.filter(|e| {
            e.settings.protocol == settings.protocol
                && e.settings.tls == settings.tls
                && e.settings.proxy_protocol == settings.proxy_protocol
        });
        let known = earlier.map(|earlier| earlier.endpoints());
        let listed = assumed.as_ref().unwrap_or(&settings.endpoints);
        let members = listed.iter().map(|listed| {
            let known = known.as_ref().and_then(|known| known.at(listed.address));
            let endpoint =
                known.map_or_else(|| new_endpoint(listed.address, &settings), Arc::clone);
            Member::new(endpoint, listed)
        });
        let endpoints = Endpoints::new(members.collect(), &settings.balancing);
        let balancer = Balancer::new(&settings.balancing.policy);
        let backend = Arc::new(Self {
            settings,
            tls,
            discovery,
            endpoints: ArcSwap::default(),
            change: Mutex::default(),
            ejections: Arc::default(),
            changed: watch::Sender::new(()),
            freed,
            tended: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            balancer,
            metrics,
        });
        backend.put(endpoints);
        backend
    }

    /// Puts changed states of endpoints to work.
    pub(crate) fn refresh(&self) {
        let _alone = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.publish(self.endpoints().renewed(&self.settings.balancing));
    }

    fn publish(&self, endpoints: Endpoints) {
        let standing = endpoints.standing();
        if self.put(endpoints) != standing {
            self.tell(standing);
        }
        self.changed.send_replace(());
    }

    /// Puts endpoints to work; how it stood before.
    fn put(&self, endpoints: Endpoints) -> Standing {
        for state in State::ALL {
            self.metrics.set_endpoints(state, endpoints.count(state));
        }
        let ready = endpoints.standing() != Standing::Unavailable;
        self.metrics.set_ready(ready);
        self.endpoints.swap(Arc::new(endpoints)).standing()
    }

    fn tell(&self, standing: Standing) {
        let backend = self.name();
        match standing {
            Standing::Unavailable => tracing::warn!(backend, "backend has no usable endpoint"),
            Standing::Panics { priority } => {
                tracing::warn!(
                    backend,
                    priority,
                    "too few endpoints are usable, so all are used"
                );
            }
            Standing::Serves { priority } => tracing::info!(backend, priority, "backend is ready"),
        }
    }

    /// Puts other endpoints in the place of those that there are. The ones that stay keep everything; of
    /// those that go, requests in flight may end.
    pub(super) fn replace(&self, listed: &[Listed]) {
        let mut ejected = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.endpoints();
        if now.listed() == listed {
            return;
        }
        let members = listed.iter().map(|listed| {
            let known = now.at(listed.address).map(Arc::clone);
            let endpoint = known.unwrap_or_else(|| new_endpoint(listed.address, &self.settings));
            Member::new(endpoint, listed)
        });
        let next = Endpoints::new(members.collect(), &self.settings.balancing);
        ejected.retain(|(one, _)| next.has(one));
        let (added, removed) = (next.without(&now), now.without(&next));
        removed.iter().for_each(|endpoint| endpoint.leave());
        let addresses = |all: &[Arc<Endpoint>]| {
            let addresses = all.iter().map(|one| one.address().to_string());
            addresses.collect::<Vec<_>>().join(" ")
        };
        let (added, removed) = (addresses(&added), addresses(&removed));
        tracing::info!(
            backend = self.name(),
            added,
            removed,
            "endpoints have changed"
        );
        self.publish(next);
    }

    /// Gives an endpoint nothing for a while, unless too many get nothing already.
    pub(crate) fn eject(
        &self,
        endpoint: &Arc<Endpoint>,
        settings: &OutlierSettings,
        reason: EjectionReason,
    ) {
        let mut ejected = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let endpoints = self.endpoints();
        let most = most_ejected(endpoints.all().len(), settings.most_percent);
        ejected.retain(|(one, _)| endpoints.has(one));
        if endpoint.record().is_ejected() || !endpoints.has(endpoint) {
            return;
        }
        let (backend, address) = (self.name(), endpoint.address());
        if ejected.len() >= most {
            tracing::debug!(backend, endpoint = %address, "too many endpoints are ejected already");
            return;
        }
        let time = endpoint.record().eject(settings);
        ejected.push((Arc::clone(endpoint), Instant::now() + time));
        self.publish(endpoints.renewed(&self.settings.balancing));
        self.metrics.ejected(reason);
        let why = reason.as_str();
        tracing::warn!(backend, endpoint = %address, ?time, reason = why, "endpoint is ejected");
        self.ejections.notify_one();
    }

    /// Those that get nothing, and until when.
    pub(crate) fn ejected(&self) -> Vec<(Arc<Endpoint>, Instant)> {
        let ejected = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        ejected.clone()
    }

    /// An endpoint's time is over.
    pub(crate) fn take_back(&self, endpoint: &Endpoint) {
        let mut ejected = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        ejected.retain(|(one, _)| one.id() != endpoint.id());
        endpoint.record().take_back();
        endpoint.begins();
        self.publish(self.endpoints().renewed(&self.settings.balancing));
        let address = endpoint.address();
        tracing::info!(backend = self.name(), endpoint = %address, "endpoint gets requests again");
    }

    /// Is notified when an endpoint is ejected.
    pub(crate) fn ejections(&self) -> Arc<Notify> {
        Arc::clone(&self.ejections)
    }

    /// Tells when the endpoints have changed.
    pub(crate) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Is notified when a place for a connection becomes free while somebody waits.
    pub(super) fn freed(&self) -> &Arc<Notify> {
        &self.freed
    }

    /// Endpoints that could have requests, were there a connection to them.
    pub(crate) fn cold(&self) -> Vec<Arc<Endpoint>> {
        let endpoints = self.endpoints();
        let all = endpoints.all().iter().map(|member| &member.endpoint);
        all.filter(|one| one.is_cold() && one.health() == State::Ready)
            .cloned()
            .collect()
    }

    /// Traffic is about to come: where it should find connections, they are made now, as for endpoints that
    /// are new.
    pub(crate) fn warm_up(&self) {
        if !self.settings.pool.preconnect {
            return;
        }
        for Member { endpoint, .. } in self.endpoints().all() {
            endpoint.set_cold(true);
        }
        self.refresh();
    }

    /// Whether traffic would find an endpoint that can be used, and connections where it should.
    pub(crate) fn is_warm(&self) -> bool {
        let endpoints = self.endpoints();
        let mut usable = endpoints.usable().iter().map(|member| &member.endpoint);
        usable.any(|one| !one.is_cold())
    }

    /// Whether nobody looks after this backend yet; whoever is told so must do it. What the backend
    /// before knew of an endpoint and nobody would end now is forgotten.
    pub(crate) fn begin_tending(&self) -> bool {
        if self.tended.swap(true, Ordering::Relaxed) {
            return false;
        }
        for Member { endpoint, .. } in self.endpoints().all() {
            if self.settings.health.is_none() {
                endpoint.enter(State::Ready);
            }
            if !self.settings.pool.preconnect {
                endpoint.set_cold(false);
            }
            endpoint.record().take_back();
        }
        self.refresh();
        true
    }

    /// Another backend has its name and endpoints now, or none has: nobody looks after this one any
    /// more.
    pub(crate) fn retire(&self, successor: Option<&Self>) {
        self.retired.store(true, Ordering::Relaxed);
        let next = successor.map(Self::endpoints).unwrap_or_default();
        for endpoint in self.endpoints().without(&next) {
            endpoint.leave();
        }
        if let Some(discovery) = &self.discovery {
            discovery.look();
        }
        self.changed.send_replace(());
        self.ejections.notify_one();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
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

    /// Whether its connections tell whose they are, so that none may serve two clients.
    pub(crate) fn tells_client(&self) -> bool {
        self.settings.proxy_protocol.is_some()
    }

    /// What a connection for a client begins with, before TLS. Without one it says that it is our own.
    pub(crate) fn preface(&self, client: Option<&Addresses>) -> Vec<u8> {
        let version = self.settings.proxy_protocol;
        version.map_or_else(Vec::new, |version| encode(version, client))
    }

    /// Who says where its endpoints are; `None` where the configuration does.
    pub(crate) fn discovery(&self) -> Option<&Arc<Discovery>> {
        self.discovery.as_ref()
    }

    /// As they are now.
    pub(crate) fn endpoints(&self) -> Arc<Endpoints> {
        self.endpoints.load_full()
    }

    pub(crate) fn metrics(&self) -> &Arc<BackendMetrics> {
        &self.metrics
    }

    /// Whether a request could be sent to one of its endpoints.
    pub(crate) fn is_usable(&self) -> bool {
        !self.endpoints.load().usable().is_empty()
    }

    /// What its usable endpoints can take, by weight and slow start, and whether that still grows.
    pub(crate) fn capacity(&self) -> (f64, bool) {
        let endpoints = self.endpoints.load();
        endpoints
            .usable()
            .capacity(self.settings.balancing.slow_start)
    }

    /// Chooses an endpoint for a request.
    pub(crate) fn choose(&self, ask: Ask<'_>, rng: &mut impl rand::Rng) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        self.balancer.choose(&endpoints, ask, rng).cloned()
    }

    /// Takes the time of an attempt, where the policy wants to know it.
    pub(crate) fn time(&self, endpoint: &Arc<Endpoint>) -> Option<Timing> {
        (self.settings.balancing.policy == Policy::PeakEwma).then(|| Timing::begin(endpoint))
    }

    /// Counts a request in; `None` when the backend has its limit.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Serving> {
        let serving = self.metrics.serving.fetch_add(1, Ordering::Relaxed);
        let guard = Serving(Arc::clone(&self.metrics));
        (serving < self.settings.max_requests).then_some(guard)
    }
}

fn new_endpoint(address: SocketAddr, settings: &Settings) -> Arc<Endpoint> {
    let new = Endpoint::new(address);
    if settings.health.is_some() {
        new.enter(State::Unknown);
    }
    new.set_cold(settings.pool.preconnect);
    new
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
