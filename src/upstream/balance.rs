//! Which endpoint of a backend serves a request.
//!
//! One enum, no trait. Must not know pools or connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_utils::CachePadded;
use rand::RngExt;

use super::endpoint::Endpoint;

/// A policy with its state.
#[derive(Debug)]
pub(crate) enum Balancer {
    /// One after the other, over all workers.
    RoundRobin(CachePadded<AtomicUsize>),
    /// The less busy of two drawn at random (Mitzenmacher 2001).
    LeastRequest,
}

impl Balancer {
    pub(crate) fn round_robin() -> Self {
        Self::RoundRobin(CachePadded::default())
    }

    /// Chooses among `endpoints`, avoiding `not` (the one that just failed) where there is another.
    /// `None` when there is none at all.
    pub(crate) fn choose<'a>(
        &self,
        endpoints: &'a [Arc<Endpoint>],
        not: Option<&Endpoint>,
        rng: &mut impl rand::Rng,
    ) -> Option<&'a Arc<Endpoint>> {
        let count = endpoints.len();
        if count <= 1 {
            return endpoints.first();
        }
        let avoided = |at: usize| not.is_some_and(|not| not.id() == endpoints[at].id());
        let chosen = match self {
            Self::RoundRobin(next) => {
                let at = next.fetch_add(1, Ordering::Relaxed) % count;
                if avoided(at) { (at + 1) % count } else { at }
            }
            Self::LeastRequest => {
                let one = rng.random_range(0..count);
                let two = (one + rng.random_range(1..count)) % count;
                match (avoided(one), avoided(two)) {
                    (true, _) => two,
                    (false, true) => one,
                    (false, false) => {
                        if endpoints[two].in_flight() < endpoints[one].in_flight() {
                            two
                        } else {
                            one
                        }
                    }
                }
            }
        };
        endpoints.get(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn endpoints(count: u16) -> Vec<Arc<Endpoint>> {
        (0..count)
            .map(|port| Endpoint::new(([127, 0, 0, 1], port).into()))
            .collect()
    }

    #[test]
    fn round_robin_goes_round() {
        let (all, balancer) = (endpoints(3), Balancer::round_robin());
        let mut rng = SmallRng::seed_from_u64(1);
        let ports: Vec<_> = (0..6)
            .map(|_| {
                balancer
                    .choose(&all, None, &mut rng)
                    .unwrap()
                    .address()
                    .port()
            })
            .collect();
        assert_eq!(ports, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn least_request_prefers_the_idle_one_and_reaches_all() {
        let (all, balancer) = (endpoints(2), Balancer::LeastRequest);
        let mut rng = SmallRng::seed_from_u64(1);
        let _busy = all[0].begin();
        assert!((0..50).all(|_| {
            balancer
                .choose(&all, None, &mut rng)
                .unwrap()
                .address()
                .port()
                == 1
        }));
        let many = endpoints(5);
        let mut seen = [0; 5];
        for _ in 0..1000 {
            seen[usize::from(
                balancer
                    .choose(&many, None, &mut rng)
                    .unwrap()
                    .address()
                    .port(),
            )] += 1;
        }
        assert!(seen.iter().all(|n| (120..280).contains(n)), "{seen:?}");
    }

    #[test]
    fn a_failed_endpoint_is_avoided_where_there_is_another() {
        let all = endpoints(2);
        let mut rng = SmallRng::seed_from_u64(1);
        for balancer in [Balancer::round_robin(), Balancer::LeastRequest] {
            for _ in 0..20 {
                assert_eq!(
                    balancer
                        .choose(&all, Some(&all[0]), &mut rng)
                        .unwrap()
                        .address()
                        .port(),
                    1
                );
            }
            assert!(
                balancer
                    .choose(&all[..1], Some(&all[0]), &mut rng)
                    .is_some()
            );
            assert!(balancer.choose(&[], None, &mut rng).is_none());
        }
    }
}
