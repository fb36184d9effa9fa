//! Which endpoint of a backend serves a request.
//!
//! One enum, no trait: each policy is a way to draw from [`Candidates`]. Must not know pools or
//! connections.

pub(crate) mod candidates;
pub(crate) mod latency;
pub(super) mod maglev;
pub(crate) mod tried;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;
use http::HeaderName;
use rand::RngExt;

use self::candidates::Candidates;
use self::tried::Tried;
use super::endpoint::{self, Endpoint};
use super::endpoints::{Endpoints, Member};

/// How a backend balances, without state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BalanceSettings {
    pub(crate) policy: Policy,
    pub(crate) slow_start: Option<SlowStart>,
    /// Fewer usable endpoints of a hundred than this, and all are used; 0: never.
    pub(crate) panic_percent: u8,
}

/// A load-balancing policy, without state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Policy {
    RoundRobin,
    LeastRequest,
    PeakEwma,
    Random,
    ConsistentHash(HashKey),
}

/// What of a request is hashed. Whoever reads requests reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HashKey {
    /// The key of the split that the request came through.
    OfSplit,
    Cookie(Box<str>),
    Header(HeaderName),
    QueryParam(Box<str>),
    ClientAddress,
}

/// How the share of an endpoint grows that has just become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlowStart {
    pub(crate) window: Duration,
    /// Of its share, at the beginning.
    pub(crate) from_percent: u8,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// Another endpoint than these as long as there is another, and then at least another than the latest.
    pub(crate) tried: &'a Tried,
    /// Of its key, where it has one. See [`hash`].
    pub(crate) hash: Option<u64>,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self {
            tried: Tried::NONE,
            hash: None,
        }
    }
}

/// The hash of a request's key.
pub(crate) fn hash(key: &[u8]) -> u64 {
    maglev::hash(key)
}

/// A policy with its state.
#[derive(Debug)]
pub(crate) enum Balancer {
    /// One after the other, over all workers.
    RoundRobin(CachePadded<AtomicUsize>),
    /// The less busy of two drawn at random (Mitzenmacher 2001).
    LeastRequest,
    /// The one of two drawn at random that is expected to answer sooner.
    PeakEwma,
    Random,
    ConsistentHash,
}

impl Balancer {
    pub(crate) fn new(policy: &Policy) -> Self {
        match policy {
            Policy::RoundRobin => Self::RoundRobin(CachePadded::default()),
            Policy::LeastRequest => Self::LeastRequest,
            Policy::PeakEwma => Self::PeakEwma,
            Policy::Random => Self::Random,
            Policy::ConsistentHash(_) => Self::ConsistentHash,
        }
    }

    /// Chooses an endpoint; `None` when none is usable.
    pub(crate) fn choose<'a>(
        &self,
        endpoints: &'a Endpoints,
        ask: Ask<'_>,
        rng: &mut impl rand::Rng,
    ) -> Option<&'a Arc<Endpoint>> {
        let usable = endpoints.usable();
        if usable.len() <= 1 {
            return usable.first().map(|member| &member.endpoint);
        }
        let latest;
        let mut tried = ask.tried;
        if !tried.is_empty() && usable.iter().all(|one| tried.has(&one.endpoint)) {
            latest = tried.only_latest();
            tried = &latest;
        }
        let chosen = match self {
            Self::RoundRobin(next) => usable.admit(tried, rng, |_| {
                usable.nth(next.fetch_add(1, Ordering::Relaxed))
            }),
            Self::Random => usable.admit(tried, rng, |rng| usable.draw(rng)),
            Self::LeastRequest => better(usable, tried, rng, |one| {
                f64::from(one.endpoint.in_flight()) / f64::from(one.weight)
            }),
            Self::PeakEwma => {
                let now = endpoint::clock();
                better(usable, tried, rng, |one| {
                    let pending = f64::from(one.endpoint.in_flight()) / usable.share(one);
                    one.endpoint.latency().cost(now, pending)
                })
            }
            Self::ConsistentHash => {
                let keyed = ask.hash.and_then(|hash| endpoints.of_key(hash, tried));
                return keyed.or_else(|| {
                    let at = usable.admit(tried, rng, |rng| usable.draw(rng));
                    usable.get(at).map(|member| &member.endpoint)
                });
            }
        };
        usable.get(chosen).map(|member| &member.endpoint)
    }
}

/// The one of two drawn that costs less; the first where they cost the same, so that idle endpoints get
/// what their weights say.
fn better<R: rand::Rng>(
    usable: &Candidates,
    tried: &Tried,
    rng: &mut R,
    cost: impl Fn(&Member) -> f64,
) -> usize {
    let one = usable.admit(tried, rng, |rng| usable.draw(rng));
    // With weights, twice the same must be possible: of two endpoints the heavier one would otherwise
    // never get more than the other. Without, it would only make the choice worse.
    let other = if usable.are_equal() {
        let apart = rng.random_range(1..usable.len());
        let two = usable.untried_from(one + apart, tried);
        if two == one || !usable.is_started(two, rng) {
            return one;
        }
        two
    } else {
        usable.admit(tried, rng, |rng| usable.draw(rng))
    };
    match (usable.get(one), usable.get(other)) {
        (Some(first), Some(second)) if cost(second) < cost(first) => other,
        _ => one,
    }
}

#[cfg(test)]
mod tests;
