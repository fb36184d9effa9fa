//! Endpoints by DNS: addresses, or names with ports, priorities and weights.
//!
//! Owns what is asked and what an answer means; resolving is the library's. Must not know what is done
//! with the endpoints.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts, ServerOrderingStrategy,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};

use super::{Answer, Told};
use crate::upstream::endpoints::Listed;

/// What is asked, whom, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DnsSettings {
    pub(crate) name: Box<str>,
    pub(crate) records: Records,
    /// An answer without records removes the endpoints.
    pub(crate) remove_on_empty: bool,
    pub(crate) min_ttl: Duration,
    pub(crate) max_ttl: Duration,
    pub(crate) timeout: Duration,
    /// Empty: as the system has it.
    pub(crate) resolvers: Vec<SocketAddr>,
}

/// Which records tell the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Records {
    Addresses {
        port: u16,
        ipv4: bool,
        ipv6: bool,
    },
    /// With a port of their own, or this one.
    Services {
        port: Option<u16>,
    },
}

/// Why there are no records.
enum NoRecords {
    /// There are none, and will be none for so long.
    Empty(String, Duration),
    Failed(String),
}

/// Addresses, and until when.
struct Found {
    addresses: Vec<IpAddr>,
    until: Instant,
}

impl DnsSettings {
    /// Asks once. `before`: what was found last time.
    pub(super) async fn ask(&self, before: &[Listed]) -> Told {
        let asked = tokio::time::timeout(self.timeout, self.look_up(before)).await;
        let late = || {
            let why = format!("no answer after {:?}", self.timeout);
            Err(NoRecords::Failed(why))
        };
        let now = Instant::now();
        match asked.unwrap_or_else(|_| late()) {
            Ok((listed, until)) => Told {
                answer: Answer::Endpoints(listed),
                good_for: until.saturating_duration_since(now),
            },
            Err(NoRecords::Empty(said, good_for)) => Told {
                answer: Answer::Empty {
                    remove: self.remove_on_empty,
                    said,
                },
                good_for,
            },
            Err(NoRecords::Failed(why)) => Told {
                answer: Answer::Failed(why),
                good_for: Duration::ZERO,
            },
        }
    }

    async fn look_up(&self, before: &[Listed]) -> Result<(Vec<Listed>, Instant), NoRecords> {
        let resolver = self.resolver().map_err(|error| {
            NoRecords::Failed(format!("the configuration of the resolver: {error}"))
        })?;
        let (mut listed, until) = match self.records {
            Records::Addresses { port, ipv4, ipv6 } => {
                let kept = before
                    .iter()
                    .map(|one| one.address.ip())
                    .collect::<Vec<_>>();
                let found = addresses(&resolver, &self.name, (ipv4, ipv6), &kept).await?;
                let listed = found.addresses.into_iter().map(|address| Listed {
                    address: SocketAddr::new(address, port),
                    weight: 1,
                    priority: 0,
                });
                (listed.collect::<Vec<_>>(), found.until)
            }
            Records::Services { port } => services(&resolver, &self.name, port).await?,
        };
        // Servers change the order from one answer to the next; nothing here depends on it.
        listed.sort_unstable_by_key(|one| (one.address, one.priority));
        listed.dedup_by_key(|one| one.address);
        Ok((listed, until))
    }

    /// Made for each question: what the system's files say may have changed, and questions are seldom.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let provider = TokioRuntimeProvider::default;
        let mut builder = if self.resolvers.is_empty() {
            Resolver::builder(provider())?
        } else {
            let servers = self.resolvers.iter().map(|address| {
                let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
                for connection in &mut connections {
                    connection.port = address.port();
                }
                NameServerConfig::new(address.ip(), true, connections)
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            let mut builder = Resolver::builder_with_config(config, provider());
            let options: &mut ResolverOpts = builder.options_mut();
            options.server_ordering_strategy = ServerOrderingStrategy::UserProvidedOrder;
            builder
        };
        let options = builder.options_mut();
        // The time of an answer is ours to count, and a resolver that is silent must leave the next one
        // some of it.
        options.cache_size = 0;
        options.attempts = 2;
        options.timeout = (self.timeout / 3).max(Duration::from_millis(10));
        builder.build()
    }
}

/// The addresses of a name. Where only one of the two families can be asked for, what was known of the
/// other one is kept: `kept`.
async fn addresses(
    resolver: &TokioResolver,
    name: &str,
    (ipv4, ipv6): (bool, bool),
    kept: &[IpAddr],
) -> Result<Found, NoRecords> {
    let of = async |wanted: bool, kind: RecordType| match wanted {
        true => Some(found(resolver.lookup(name, kind).await, address)),
        false => None,
    };
    let (four, six) = tokio::join!(of(ipv4, RecordType::A), of(ipv6, RecordType::AAAA));
    match (four, six) {
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => Err(none("no family of addresses is asked for".to_owned())),
        (Some(four), Some(six)) => either(four, six, kept),
    }
}

fn either(
    four: Result<Found, NoRecords>,
    six: Result<Found, NoRecords>,
    kept: &[IpAddr],
) -> Result<Found, NoRecords> {
    let and = |mut found: Found, others: &mut dyn Iterator<Item = IpAddr>, until: Instant| {
        found.addresses.extend(others);
        found.until = found.until.min(until);
        Ok(found)
    };
    match (four, six) {
        (Ok(four), Ok(six)) => and(four, &mut six.addresses.into_iter(), six.until),
        (Ok(found), Err(NoRecords::Empty(..))) | (Err(NoRecords::Empty(..)), Ok(found)) => {
            Ok(found)
        }
        (Ok(four), Err(NoRecords::Failed(_))) => {
            let until = four.until;
            and(
                four,
                &mut kept.iter().copied().filter(IpAddr::is_ipv6),
                until,
            )
        }
        (Err(NoRecords::Failed(_)), Ok(six)) => {
            let until = six.until;
            and(
                six,
                &mut kept.iter().copied().filter(IpAddr::is_ipv4),
                until,
            )
        }
        (Err(NoRecords::Failed(why)), Err(_)) | (Err(_), Err(NoRecords::Failed(why))) => {
            Err(NoRecords::Failed(why))
        }
        (Err(NoRecords::Empty(why, four)), Err(NoRecords::Empty(_, six))) => {
            Err(NoRecords::Empty(why, four.min(six)))
        }
    }
}

/// The endpoints of a service (RFC 2782).
async fn services(
    resolver: &TokioResolver,
    name: &str,
    port: Option<u16>,
) -> Result<(Vec<Listed>, Instant), NoRecords> {
    let lookup = resolver.lookup(name, RecordType::SRV).await;
    let lookup = lookup.map_err(no_records)?;
    let (mut listed, mut until) = (Vec::new(), lookup.valid_until());
    for record in lookup.answers() {
        let RData::SRV(service) = &record.data else {
            continue;
        };
        // "." says that there is no such service.
        if service.target.is_root() {
            continue;
        }
        let target = service.target.to_ascii();
        match addresses(resolver, &target, (true, true), &[]).await {
            Ok(found) => {
                until = until.min(found.until);
                listed.extend(found.addresses.into_iter().map(|address| Listed {
                    address: SocketAddr::new(address, port.unwrap_or(service.port)),
                    weight: u32::from(service.weight.max(1)),
                    priority: service.priority,
                }));
            }
            // A target on its way out; a failure says nothing about it.
            Err(NoRecords::Empty(..)) => {}
            Err(NoRecords::Failed(why)) => {
                return Err(NoRecords::Failed(format!("{target}: {why}")));
            }
        }
    }
    if listed.is_empty() {
        let why = format!("no target of {name} has an address");
        return Err(none(why));
    }
    Ok((listed, until))
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

fn found(
    lookup: Result<Lookup, NetError>,
    of: impl Fn(&RData) -> Option<IpAddr>,
) -> Result<Found, NoRecords> {
    let lookup = lookup.map_err(no_records)?;
    let records = lookup.answers().iter();
    let addresses: Vec<_> = records.filter_map(|record| of(&record.data)).collect();
    if addresses.is_empty() {
        let query = lookup.query();
        let why = format!("no {} records for {}", query.query_type, query.name);
        return Err(none(why));
    }
    Ok(Found {
        addresses,
        until: lookup.valid_until(),
    })
}

fn none(why: String) -> NoRecords {
    NoRecords::Empty(why, Duration::ZERO)
}

fn no_records(error: NetError) -> NoRecords {
    let NetError::Dns(DnsError::NoRecordsFound(none)) = error else {
        return NoRecords::Failed(error.to_string());
    };
    let (query, code) = (&none.query, none.response_code);
    let said = format!("no {} records for {}: {code}", query.query_type, query.name);
    // RFC 2308, 5.
    let good_for = Duration::from_secs(none.negative_ttl.unwrap_or(0).into());
    NoRecords::Empty(said, good_for)
}

impl fmt::Display for DnsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, port) = match self.records {
            Records::Addresses { port, .. } => ("dns", Some(port)),
            Records::Services { port } => ("dns srv", port),
        };
        match port {
            Some(port) => write!(f, "{kind} {}:{port}", self.name),
            None => write!(f, "{kind} {}", self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Found, NoRecords> {
        match text {
            "empty" => Err(none(String::new())),
            "failed" => Err(NoRecords::Failed(String::new())),
            addresses => Ok(Found {
                addresses: addresses.split(' ').map(|it| it.parse().unwrap()).collect(),
                until: Instant::now(),
            }),
        }
    }

    /// What is left of a family that could not be asked for is what was known before.
    #[test]
    fn one_family_that_fails_loses_nothing() {
        let kept = ["10.0.0.9".parse().unwrap(), "fd00::9".parse().unwrap()];
        for (four, six, expected) in [
            ("10.0.0.1", "fd00::1", "10.0.0.1 fd00::1"),
            ("10.0.0.1", "empty", "10.0.0.1"),
            ("empty", "fd00::1 fd00::2", "fd00::1 fd00::2"),
            ("10.0.0.1", "failed", "10.0.0.1 fd00::9"),
            ("failed", "fd00::1", "fd00::1 10.0.0.9"),
            ("failed", "empty", "failed"),
            ("empty", "failed", "failed"),
            ("failed", "failed", "failed"),
            ("empty", "empty", "empty"),
        ] {
            let found = match either(of(four), of(six), &kept) {
                Ok(found) => {
                    let texts = found.addresses.iter().map(ToString::to_string);
                    texts.collect::<Vec<_>>().join(" ")
                }
                Err(NoRecords::Empty(..)) => "empty".to_owned(),
                Err(NoRecords::Failed(_)) => "failed".to_owned(),
            };
            assert_eq!(found, expected, "{four}, {six}");
        }
    }
}
