//! A written backend -> one that runs, or the one that runs already.
//!
//! Owns how names of endpoints become addresses at load time. Must not know routes or listeners.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use http::Uri;

use super::{CompileError, Compiler, tls};
use crate::config::document as written;
use crate::config::values::EndpointAddress;
use crate::proxy_protocol::Version;
use crate::telemetry::backend::BackendMetrics;
use crate::telemetry::discovery::DiscoveryMetrics;
use crate::upstream::backend::{Backend, PoolSettings, Protocol, Settings};
use crate::upstream::balance::{BalanceSettings, HashKey, Policy, SlowStart};
use crate::upstream::discovery::{Discovery, DnsSettings, Records, Source};
use crate::upstream::endpoints::Listed;
use crate::upstream::health::{HealthSettings, Probe};
use crate::upstream::outlier::{OutlierSettings, SuccessRateSettings};

impl Compiler<'_> {
    pub(super) fn backend(&self, written: &written::Backend) -> Result<Arc<Backend>, CompileError> {
        let mut listed: Vec<(Listed, &EndpointAddress)> = Vec::new();
        for endpoint in &written.endpoints {
            for address in look_up(written.name.as_str(), &endpoint.address)? {
                if !listed.iter().any(|(known, _)| known.address == address) {
                    let (weight, priority) = (endpoint.weight.get(), endpoint.priority);
                    let listing = Listed {
                        address,
                        weight,
                        priority,
                    };
                    listed.push((listing, &endpoint.address));
                }
            }
        }
        let protocol = match written.protocol {
            written::BackendProtocol::Http1 => Protocol::Http1,
            written::BackendProtocol::H2c => Protocol::H2c,
            written::BackendProtocol::Auto if written.tls.is_some() => Protocol::Auto,
            written::BackendProtocol::Auto => Protocol::Http1,
        };
        let tls = tls::origin_settings(written, &listed, protocol);
        let settings = Settings {
            name: written.name.as_str().into(),
            discovery: source(written),
            endpoints: listed.into_iter().map(|(listed, _)| listed).collect(),
            protocol,
            tls: tls.clone(),
            proxy_protocol: written.proxy_protocol.map(|version| match version {
                written::ProxyProtocolVersion::V1 => Version::V1,
                written::ProxyProtocolVersion::V2 => Version::V2,
            }),
            balancing: balancing(&written.load_balancing),
            health: written.health_check.as_ref().map(health),
            outlier: written.outlier_detection.as_ref().map(outlier),
            connect_timeout: written.connect_timeout.get(),
            max_requests: written.limits.requests.unwrap_or(u32::MAX),
            pool: PoolSettings {
                max_connections: written.limits.connections,
                max_pending: written.limits.pending_requests,
                idle_timeout: written.pool.idle_timeout.get(),
                max_age: written.pool.max_age.get(),
                max_idle: written.pool.max_idle as usize,
                preconnect: written.pool.preconnect,
            },
        };
        let earlier = self
            .earlier
            .and_then(|earlier| earlier.backends.get(&settings.name));
        if let Some(same) = earlier.filter(|earlier| *earlier.settings() == settings) {
            return Ok(Arc::clone(same));
        }
        let metrics = match earlier {
            Some(earlier) => Arc::clone(earlier.metrics()),
            None => BackendMetrics::new(self.registry, &settings.name),
        };
        let tls = if self.to_serve {
            let owner = || format!("backend {}", settings.name);
            self.originator(tls).map_err(|source| CompileError::Tls {
                owner: owner(),
                source,
            })?
        } else {
            None
        };
        let earlier = earlier.map(|earlier| &**earlier);
        let discovery = settings.discovery.as_ref().map(|source| {
            let before = earlier.and_then(Backend::discovery);
            let metrics = before.map_or_else(
                || DiscoveryMetrics::new(self.registry, &settings.name),
                |before| Arc::clone(before.metrics()),
            );
            Discovery::new(source.clone(), metrics, before.map(|before| &**before))
        });
        Ok(Backend::new(settings, tls, discovery, metrics, earlier))
    }
}

/// Who says where the endpoints are. The check has seen that ports are there and resolvers are addresses.
fn source(written: &written::Backend) -> Option<Source> {
    if let Some(path) = &written.endpoints_file {
        return Some(Source::File(path.clone()));
    }
    let dns = written.dns.as_ref()?;
    let of = |ipv4, ipv6| Records::Addresses {
        port: dns.port.unwrap_or_default(),
        ipv4,
        ipv6,
    };
    Some(Source::Dns(DnsSettings {
        name: dns.name.to_string().into(),
        records: match dns.records {
            written::DnsRecords::Addresses => of(true, true),
            written::DnsRecords::Ipv4 => of(true, false),
            written::DnsRecords::Ipv6 => of(false, true),
            written::DnsRecords::Srv => Records::Services { port: dns.port },
        },
        remove_on_empty: dns.on_empty == written::OnEmpty::Remove,
        min_ttl: dns.min_ttl.get(),
        max_ttl: dns.max_ttl.get(),
        timeout: dns.timeout.get(),
        resolvers: dns
            .resolvers
            .iter()
            .filter_map(EndpointAddress::socket)
            .collect(),
    }))
}

fn balancing(written: &written::LoadBalancing) -> BalanceSettings {
    let policy = match written.policy {
        written::LoadBalancingPolicy::RoundRobin => Policy::RoundRobin,
        written::LoadBalancingPolicy::LeastRequest => Policy::LeastRequest,
        written::LoadBalancingPolicy::PeakEwma => Policy::PeakEwma,
        written::LoadBalancingPolicy::Random => Policy::Random,
        written::LoadBalancingPolicy::ConsistentHash => {
            Policy::ConsistentHash(written.key.as_ref().map_or(HashKey::OfSplit, hash_key))
        }
    };
    BalanceSettings {
        policy,
        slow_start: written.slow_start.as_ref().map(|slow| SlowStart {
            window: slow.window.get(),
            from_percent: slow.from_percent,
        }),
        panic_percent: written.panic_threshold,
    }
}

/// The check has seen that there is exactly one.
fn hash_key(written: &written::HashKey) -> HashKey {
    if let Some(cookie) = &written.cookie {
        HashKey::Cookie(cookie.as_str().into())
    } else if let Some(header) = &written.header {
        HashKey::Header(header.get().clone())
    } else if let Some(parameter) = &written.query_param {
        HashKey::QueryParam(parameter.as_str().into())
    } else {
        HashKey::ClientAddress
    }
}

fn health(written: &written::HealthCheck) -> HealthSettings {
    let probe = if let Some(http) = &written.http {
        Probe::Http {
            // The check has accepted it.
            target: http.path.parse().unwrap_or_else(|_| Uri::from_static("/")),
            host: http.host.as_ref().map(|host| host.get().clone()),
            codes: http.expected_codes.iter().map(|code| code.get()).collect(),
            body: http.expected_body.clone(),
        }
    } else if let Some(grpc) = &written.grpc {
        Probe::Grpc {
            service: grpc.service.clone(),
        }
    } else {
        Probe::Tcp
    };
    HealthSettings {
        probe,
        interval: written.interval.get(),
        timeout: written.timeout.get(),
        unhealthy_after: written.unhealthy_after,
        healthy_after: written.healthy_after,
    }
}

fn outlier(written: &written::OutlierDetection) -> OutlierSettings {
    OutlierSettings {
        consecutive_failures: written.consecutive_failures,
        eject_for: written.eject_for.get(),
        eject_for_most: written.max_eject_for.get().max(written.eject_for.get()),
        most_percent: written.max_ejected_percent.into(),
        success_rate: written
            .success_rate
            .as_ref()
            .map(|rate| SuccessRateSettings {
                interval: rate.interval.get(),
                requests: rate.min_requests,
                endpoints: rate.min_endpoints as usize,
            }),
    }
}

fn look_up(backend: &str, address: &EndpointAddress) -> Result<Vec<SocketAddr>, CompileError> {
    match address {
        EndpointAddress::Socket(address) => Ok(vec![*address]),
        EndpointAddress::Name { host, port } => {
            let failed = |source| CompileError::Lookup {
                backend: backend.to_owned(),
                name: host.clone(),
                source,
            };
            Ok((host.as_str(), *port)
                .to_socket_addrs()
                .map_err(failed)?
                .collect())
        }
    }
}
