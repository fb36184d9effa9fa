//! Policies over idle, busy, slow and new endpoints.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::upstream::endpoints::Listed;

fn settings(policy: Policy) -> BalanceSettings {
    BalanceSettings {
        policy,
        slow_start: None,
        panic_percent: 0,
    }
}

fn policies() -> [Policy; 5] {
    [
        Policy::RoundRobin,
        Policy::LeastRequest,
        Policy::PeakEwma,
        Policy::Random,
        Policy::ConsistentHash(HashKey::ClientAddress),
    ]
}

/// Endpoints with these weights; the port is their number.
fn endpoints(weights: &[u32], settings: &BalanceSettings) -> Endpoints {
    let member = |(weight, port): (&u32, u16)| {
        let endpoint = Endpoint::new(([127, 0, 0, 1], port).into());
        let (address, weight, priority) = (endpoint.address(), *weight, 0);
        Member::new(
            endpoint,
            &Listed {
                address,
                weight,
                priority,
            },
        )
    };
    Endpoints::new(weights.iter().zip(0..).map(member).collect(), settings)
}

/// How often each port was chosen.
fn counts(
    endpoints: &Endpoints,
    settings: &BalanceSettings,
    requests: u64,
    tried: &Tried,
) -> BTreeMap<u16, u64> {
    let balancer = Balancer::new(&settings.policy);
    let mut rng = SmallRng::seed_from_u64(7);
    let mut counts = BTreeMap::new();
    for number in 0..requests {
        let hash = Some(hash(&number.to_le_bytes()));
        let chosen = balancer.choose(endpoints, Ask { tried, hash }, &mut rng);
        *counts.entry(chosen.unwrap().address().port()).or_default() += 1;
    }
    counts
}

fn within(found: Option<&u64>, share: f64, of: u64, tolerance: f64) -> bool {
    let found = found.copied().unwrap_or(0) as f64 / of as f64;
    (found - share).abs() <= tolerance
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the policy: idle endpoints get what their weights say, and 0 gets nothing.
    #[test]
    fn shares_of_idle_endpoints_follow_weights(weights in prop::collection::vec(0_u32..8, 1..9), policy in 0_usize..5) {
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let settings = settings(policies()[policy].clone());
        let set = endpoints(&weights, &settings);
        let found = counts(&set, &settings, 6000, Tried::NONE);
        let sum: u32 = weights.iter().sum();
        for (port, weight) in (0..).zip(&weights) {
            let share = f64::from(*weight) / f64::from(sum);
            prop_assert!(within(found.get(&port), share, 6000, 0.035), "{policy}: {weights:?} {found:?}");
            prop_assert!(*weight > 0 || !found.contains_key(&port));
        }
    }

    /// Whatever the policy, weights, and endpoints that hardly have a share yet: attempt after attempt goes
    /// to an endpoint that has not been tried, and when all have been, to another one than the latest.
    #[test]
    fn every_attempt_goes_to_another_endpoint(
        weights in prop::collection::vec(prop_oneof![Just(1_u32), Just(1000)], 1..24),
        new in 0_usize..24,
        policy in 0_usize..5,
        seed: u64,
    ) {
        let mut settings = settings(policies()[policy].clone());
        settings.slow_start = Some(SlowStart { window: Duration::from_secs(1000), from_percent: 1 });
        let set = endpoints(&weights, &settings);
        for (number, member) in set.all().iter().enumerate() {
            let age = if number == new { 0 } else { 1_000_000 };
            member.endpoint.begin_at(endpoint::clock() - age);
        }
        let set = set.renewed(&settings);
        let balancer = Balancer::new(&settings.policy);
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut tried = Tried::default();
        let mut ports = Vec::new();
        for _ in 0..weights.len() + 2 {
            let ask = Ask { tried: &tried, hash: Some(seed) };
            let chosen = balancer.choose(&set, ask, &mut rng).unwrap();
            tried.note(chosen);
            ports.push(chosen.address().port());
        }
        let first: std::collections::BTreeSet<_> = ports.iter().take(weights.len()).collect();
        prop_assert_eq!(first.len(), weights.len(), "{:?}", ports);
        let repeats = ports.windows(2).filter(|pair| pair[0] == pair[1]).count();
        prop_assert!(repeats == 0 || weights.len() == 1, "{:?}", ports);
    }
}

#[test]
fn nothing_usable_is_nothing_chosen() {
    let mut rng = SmallRng::seed_from_u64(1);
    for policy in policies() {
        let settings = settings(policy);
        let none = endpoints(&[], &settings);
        let balancer = Balancer::new(&settings.policy);
        assert!(balancer.choose(&none, Ask::default(), &mut rng).is_none());
    }
}

#[test]
fn round_robin_goes_round_and_never_far_from_its_weights() {
    let settings = settings(Policy::RoundRobin);
    let balancer = Balancer::new(&settings.policy);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut ports = |set: &Endpoints, requests: usize| -> Vec<_> {
        let chosen = (0..requests).map(|_| balancer.choose(set, Ask::default(), &mut rng));
        chosen.map(|one| one.unwrap().address().port()).collect()
    };
    assert_eq!(
        ports(&endpoints(&[1, 1, 1], &settings), 6),
        [0, 1, 2, 0, 1, 2]
    );
    let drawn = ports(&endpoints(&[5, 1, 2], &settings), 4000);
    for first in 1..=drawn.len() {
        for (port, weight) in [(0, 5), (1, 1), (2, 2)] {
            let expected = first as f64 * f64::from(weight) / 8.0;
            let found = drawn[..first].iter().filter(|one| **one == port).count();
            assert!(
                (found as f64 - expected).abs() < 4.0,
                "{port} after {first}: {found}"
            );
        }
    }
}

#[test]
fn a_busy_endpoint_gets_less() {
    for policy in [Policy::LeastRequest, Policy::PeakEwma] {
        let settings = settings(policy);
        let set = endpoints(&[1, 1], &settings);
        know(&set, &[10.0, 10.0]);
        let _busy = set.all()[0].endpoint.begin();
        assert_eq!(counts(&set, &settings, 100, Tried::NONE), [(1, 100)].into());
    }
    // Ten times the weight carries ten times the requests.
    let settings = settings(Policy::LeastRequest);
    let set = endpoints(&[10, 1], &settings);
    let _ten: Vec<_> = (0..10).map(|_| set.all()[0].endpoint.begin()).collect();
    let _one = set.all()[1].endpoint.begin();
    let found = counts(&set, &settings, 6000, Tried::NONE);
    assert!(within(found.get(&0), 10.0 / 11.0, 6000, 0.02), "{found:?}");
}

/// Tells how many milliseconds answers take.
fn know(endpoints: &Endpoints, milliseconds: &[f64]) {
    for (member, took) in endpoints.all().iter().zip(milliseconds) {
        member.endpoint.latency().learn(endpoint::clock(), *took);
    }
}

#[test]
fn a_slow_endpoint_gets_less_until_the_others_are_as_busy() {
    let settings = settings(Policy::PeakEwma);
    let set = endpoints(&[1, 1, 1], &settings);
    know(&set, &[10.0, 10.0, 200.0]);
    assert_eq!(counts(&set, &settings, 500, Tried::NONE).get(&2), None);
    let others = &set.all()[..2];
    let _busy: Vec<_> = (0..20)
        .flat_map(|_| others.iter().map(|member| member.endpoint.begin()))
        .collect();
    assert!(counts(&set, &settings, 500, Tried::NONE).contains_key(&2));
}

#[test]
fn a_key_keeps_its_endpoint_while_others_come_and_go() {
    let settings = settings(Policy::ConsistentHash(HashKey::OfSplit));
    let set = endpoints(&[1; 5], &settings);
    let balancer = Balancer::new(&settings.policy);
    let mut rng = SmallRng::seed_from_u64(1);
    let mut owners = |set: &Endpoints| -> Vec<u16> {
        let asks = (0..500_u64).map(|key| Ask {
            hash: Some(hash(&key.to_le_bytes())),
            ..Ask::default()
        });
        asks.map(|ask| {
            balancer
                .choose(set, ask, &mut rng)
                .unwrap()
                .address()
                .port()
        })
        .collect()
    };
    let before = owners(&set);
    assert_eq!(before, owners(&set));
    set.all()[3].endpoint.enter(endpoint::State::Unhealthy);
    let without = set.renewed(&settings);
    let during = owners(&without);
    let moved: Vec<_> = before.iter().zip(&during).filter(|(b, d)| b != d).collect();
    assert!(!moved.is_empty() && moved.iter().all(|(from, _)| **from == 3));
    // What it had is shared by all the others.
    for port in [0, 1, 2, 4] {
        assert!(moved.iter().any(|(_, to)| **to == port), "{moved:?}");
    }
    set.all()[3].endpoint.enter(endpoint::State::Ready);
    assert_eq!(before, owners(&set.renewed(&settings)));
    // Without a key, any.
    let mut ports: Vec<_> = (0..200)
        .map(|_| {
            balancer
                .choose(&set, Ask::default(), &mut rng)
                .unwrap()
                .address()
                .port()
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 5);
}

#[test]
fn the_share_of_a_new_endpoint_grows() {
    let slow = SlowStart {
        window: Duration::from_secs(1000),
        from_percent: 10,
    };
    for policy in [
        Policy::RoundRobin,
        Policy::LeastRequest,
        Policy::Random,
        Policy::PeakEwma,
    ] {
        let settings = BalanceSettings {
            slow_start: Some(slow),
            ..settings(policy)
        };
        let set = endpoints(&[1, 1], &settings);
        for (age, least, most) in [
            (0_u64, 0.0, 0.16),
            (500_000, 0.22, 0.45),
            (1_000_000, 0.45, 0.55),
        ] {
            let now = endpoint::clock();
            set.all()[0].endpoint.begin_at(now - 1_000_000);
            set.all()[1].endpoint.begin_at(now - age);
            let found = counts(&set.renewed(&settings), &settings, 4000, Tried::NONE);
            let share = found.get(&1).copied().unwrap_or(0) as f64 / 4000.0;
            assert!(
                (least..=most).contains(&share),
                "{:?} {age}: {share}",
                settings.policy
            );
        }
        // All are new: nobody is held back.
        let found = counts(&endpoints(&[1, 1], &settings), &settings, 4000, Tried::NONE);
        assert!(within(found.get(&1), 0.5, 4000, 0.05), "{found:?}");
    }
}
