//! Which endpoint a key belongs to (Eisenbud et al. 2016, "Maglev", section 3.4).
//!
//! A table over all endpoints, whether they can be used or not: what changes by the minute moves no key
//! of another endpoint, and costs nothing. Every proxy with the same endpoints computes the same. Must
//! not know what a key is made of.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

/// Entries of a table; a prime, and a hundred times as many as there are endpoints, so that shares are
/// within a percent of the weights.
const SIZE: usize = 65_537;

/// Where a key goes next when its endpoint cannot be used, before it is left to chance.
pub(super) const PLACES: u64 = 32;

/// For each place, the number of an endpoint.
#[derive(Debug)]
pub(crate) struct Maglev(Box<[u32]>);

/// The hash of a request's key. Part of what proxies have to agree on: never to be changed.
pub(super) fn hash(key: &[u8]) -> u64 {
    SipHasher24::new_with_keys(0, 0).hash(key)
}

impl Maglev {
    /// Of endpoints by name, with weights; `None` when there is nothing to choose.
    pub(crate) fn new(endpoints: &[(String, u32)]) -> Option<Self> {
        let most = endpoints.iter().map(|(_, weight)| *weight).max()?;
        if most == 0 {
            return None;
        }
        let mut walks: Vec<_> = endpoints.iter().map(|(name, _)| Walk::new(name)).collect();
        // Endpoints take places in turn, one of half the weight every other time.
        let mut due = vec![0_u64; endpoints.len()];
        let mut places = vec![u32::MAX; SIZE];
        let mut left = SIZE;
        while left > 0 {
            for (number, ((walk, due), (_, weight))) in
                (0_u32..).zip(walks.iter_mut().zip(&mut due).zip(endpoints))
            {
                *due += u64::from(*weight);
                if *due < u64::from(most) || left == 0 {
                    continue;
                }
                *due -= u64::from(most);
                if let Some(place) = walk.find(|place| places[*place] == u32::MAX) {
                    places[place] = number;
                    left -= 1;
                }
            }
        }
        Some(Self(places.into()))
    }

    /// The endpoints of a key: the first one is its own, the others are for when that cannot be used.
    pub(crate) fn of(&self, hash: u64) -> impl Iterator<Item = usize> {
        (0..PLACES).map(move |step| self.0[place(mixed(hash, step))] as usize)
    }
}

/// The places that an endpoint would like to have, best first: every place once.
struct Walk {
    next: usize,
    step: usize,
}

impl Walk {
    fn new(name: &str) -> Self {
        let hash = |key| SipHasher24::new_with_keys(key, 0).hash(name.as_bytes());
        Self {
            next: place(hash(1)),
            step: 1 + (hash(2) % (SIZE as u64 - 1)) as usize,
        }
    }
}

impl Iterator for Walk {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let now = self.next;
        self.next = (now + self.step) % SIZE;
        Some(now)
    }
}

fn place(hash: u64) -> usize {
    (hash % SIZE as u64) as usize
}

/// Another hash for each step; the first is the hash itself.
fn mixed(hash: u64, step: u64) -> u64 {
    if step == 0 {
        return hash;
    }
    let mut hasher = SipHasher24::new_with_keys(step, 1);
    hasher.write_u64(hash);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEYS: u64 = 20_000;

    fn endpoints(weights: &[u32]) -> Vec<(String, u32)> {
        let named = weights.iter().enumerate();
        named
            .map(|(n, weight)| (format!("10.0.0.{n}:80"), *weight))
            .collect()
    }

    fn owners(endpoints: &[(String, u32)]) -> Vec<String> {
        let table = Maglev::new(endpoints).unwrap();
        let own = |key: u64| table.of(hash(&key.to_le_bytes())).next().unwrap();
        (0..KEYS).map(|key| endpoints[own(key)].0.clone()).collect()
    }

    /// Other proxies compute the same; a change of these is a defect.
    #[test]
    fn keys_stay_where_they_have_always_been() {
        let all = endpoints(&[1, 1, 1, 2]);
        let table = Maglev::new(&all).unwrap();
        let found = ["", "a", "user-1", "user-2", "user-3", "203.0.113.7"]
            .map(|key| table.of(hash(key.as_bytes())).take(3).collect::<Vec<_>>());
        insta::assert_debug_snapshot!(found);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn shares_follow_weights(weights in prop::collection::vec(0_u32..5, 1..12)) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let all = endpoints(&weights);
            let owners = owners(&all);
            let sum: u32 = weights.iter().sum();
            for (name, weight) in &all {
                let share = f64::from(*weight) / f64::from(sum);
                let found = owners.iter().filter(|one| *one == name).count() as f64 / KEYS as f64;
                // Of the table a percent, of the keys four deviations.
                let bound = 0.01 + 4.0 * (share * (1.0 - share) / KEYS as f64).sqrt();
                prop_assert!((found - share).abs() <= bound, "{name} {found} {share}");
                prop_assert!(*weight > 0 || found == 0.0);
            }
        }

        #[test]
        fn few_keys_move_when_one_endpoint_goes(count in 2_usize..12, gone in 0_usize..12) {
            let all = endpoints(&vec![1; count]);
            let gone = &all[gone % count].0;
            let rest: Vec<_> = all.iter().filter(|(name, _)| name != gone).cloned().collect();
            let (before, after) = (owners(&all), owners(&rest));
            let moved = before.iter().zip(&after).filter(|(b, a)| b != a && *b != gone).count();
            prop_assert!(moved as f64 / KEYS as f64 <= 0.08, "{moved} of {KEYS}");
        }
    }

    #[test]
    fn nothing_to_choose_among_is_no_table() {
        assert!(Maglev::new(&[]).is_none());
        assert!(Maglev::new(&endpoints(&[0, 0])).is_none());
    }
}
