//! Owns the choice for traffic with a key. Must not know where keys come from, nor what an arm is beyond its
//! name and weight.
//!
//! # The definition, which may never change
//!
//! Users stay on their version only as long as every proxy, of any release and on any machine, computes the
//! same. `tests/vectors/sticky.tsv` holds vectors for other implementations; a change that alters one of
//! them is a defect, whatever its reason. All integers are little endian, all arithmetic is exact.
//!
//! 1. An arm's hash key is the 128-bit SipHash-2-4, under the key zero, of: the length of the salt in bytes
//!    (8 bytes), the salt, the number of arms of the same name before this one (4 bytes; zero unless a name
//!    is repeated), the name. The first 8 bytes of the result are `k0`, the last 8 `k1`.
//! 2. `u` is the 64-bit SipHash-2-4 of the request's key under the arm's hash key
//!    (Aumasson and Bernstein 2012).
//! 3. `l = −log₂((u | 1) / 2⁶⁴)` in units of 2⁻³², rounded as `negative_log2` does: the logarithm's first 32
//!    binary places by repeated squaring, each square cut to 63 places.
//! 4. The arm of positive weight `w` with the smallest `l / w` wins. Equal quotients are decided by the
//!    smaller name, then the smaller count of step 1.
//!
//! This is rendezvous hashing (Thaler and Ravishankar 1998) with exponential scores: `−ln U` over `w` is
//! exponential of rate `w`, so an arm is the smallest with probability `w/W`. No score depends on another
//! arm, nor `l` on weights; the promises of the module above follow.

use std::{cmp::Ordering, hash::Hasher, iter};

use siphasher::{
    sip::SipHasher24,
    sip128::{Hasher128, SipHasher24 as SipHasher24x128},
};

/// A keyed split, built once for a salt, names and weights. Picking does not allocate.
#[derive(Debug, Clone)]
pub struct StickySplit {
    arms: Box<[Arm]>,
}

#[derive(Debug, Clone)]
struct Arm {
    name: Box<str>,
    repeat: u32,
    weight: u32,
    hasher: SipHasher24,
}

/// An arm and its `l`, as step 4 compares them.
#[derive(Debug, Clone, Copy)]
struct Contender<'a> {
    index: usize,
    arm: &'a Arm,
    log: u64,
}

impl StickySplit {
    /// Builds a split from names and weights, in the order that indices will refer to; the order changes no
    /// choice. Another salt deals all keys anew: use one that lasts as long as keys are to stay, such as
    /// the name of the rule or of the rollout.
    pub fn new<'a>(salt: &str, arms: impl IntoIterator<Item = (&'a str, u32)>) -> Self {
        let mut built: Vec<Arm> = Vec::new();
        for (name, weight) in arms {
            let repeat = built.iter().filter(|arm| *arm.name == *name).count() as u32;
            built.push(Arm {
                name: name.into(),
                repeat,
                weight,
                hasher: keyed_hasher(salt, repeat, name),
            });
        }
        Self { arms: built.into() }
    }

    /// The index of the arm that `key` belongs to; `None` when no weight is positive.
    pub fn pick(&self, key: &[u8]) -> Option<usize> {
        self.pick_among(key, |_| true)
    }

    /// The same among the arms that `allowed` admits, by index: keys of the arms left out are shared among
    /// the others by weight, and no other key moves. `None` when it admits none of positive weight.
    pub fn pick_among(&self, key: &[u8], mut allowed: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut open = self
            .arms
            .iter()
            .enumerate()
            .filter(|(index, arm)| arm.weight > 0 && allowed(*index))
            .peekable();
        let first = open.next()?;
        if open.peek().is_none() {
            return Some(first.0);
        }
        iter::once(first)
            .chain(open)
            .map(|(index, arm)| Contender {
                index,
                arm,
                log: negative_log2(arm.hasher.hash(key)),
            })
            .min_by(Contender::order)
            .map(|winner| winner.index)
    }
}

impl Contender<'_> {
    /// `l / w` by cross multiplication: 39 bits times 32.
    fn order(&self, other: &Self) -> Ordering {
        let scaled = u128::from(self.log) * u128::from(other.arm.weight);
        let against = u128::from(other.log) * u128::from(self.arm.weight);
        scaled
            .cmp(&against)
            .then_with(|| self.arm.name.cmp(&other.arm.name))
            .then_with(|| self.arm.repeat.cmp(&other.arm.repeat))
    }
}

/// Step 1.
fn keyed_hasher(salt: &str, repeat: u32, name: &str) -> SipHasher24 {
    let mut hasher = SipHasher24x128::new_with_keys(0, 0);
    hasher.write(&(salt.len() as u64).to_le_bytes());
    hasher.write(salt.as_bytes());
    hasher.write(&repeat.to_le_bytes());
    hasher.write(name.as_bytes());
    let key = hasher.finish128();
    SipHasher24::new_with_keys(key.h1, key.h2)
}

/// Step 3: `−log₂((u | 1) / 2⁶⁴)` in units of 2⁻³². Positive, at most 64 · 2³².
///
/// Cutting the squares loses less than 2⁻⁶¹ of the logarithm in all, stopping after 32 places less than
/// 2⁻³², so the result exceeds the true value by less than 2⁻³¹.
fn negative_log2(u: u64) -> u64 {
    let u = u | 1;
    let zeros = u.leading_zeros();
    // In [1, 2), with 63 binary places.
    let mut mantissa = u << zeros;
    let mut fraction = 0_u64;
    for _ in 0..PLACES {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63;
        let carry = (square >> 64) as u64;
        mantissa = (square >> carry) as u64;
        fraction = fraction << 1 | carry;
    }
    (u64::from(zeros + 1) << PLACES) - fraction
}

/// Binary places of a logarithm.
const PLACES: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VECTORS: &str = include_str!("../../tests/vectors/sticky.tsv");

    fn split(arms: &[(usize, u32)]) -> StickySplit {
        let names: Vec<_> = arms.iter().map(|(name, _)| format!("v{name}")).collect();
        StickySplit::new(
            "salt",
            names
                .iter()
                .map(String::as_str)
                .zip(arms.iter().map(|arm| arm.1)),
        )
    }

    /// The number in the name of the arm chosen for each of a few hundred keys.
    fn choices(arms: &[(usize, u32)]) -> Vec<Option<usize>> {
        let split = split(arms);
        (0..300_u32)
            .map(|key| split.pick(&key.to_be_bytes()).map(|index| arms[index].0))
            .collect()
    }

    fn arms() -> impl Strategy<Value = Vec<(usize, u32)>> {
        let weight = prop_oneof![
            Just(0),
            Just(1),
            1..100_u32,
            Just(1_000_000),
            0..=1_000_000_u32
        ];
        prop::collection::vec(weight, 1..12)
            .prop_map(|weights| weights.into_iter().enumerate().collect())
    }

    fn unhex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn published_vectors() {
        let mut seen = 0;
        for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<_> = line.split('\t').collect();
            let [salt, key, arms, hashes, chosen] = fields[..] else {
                panic!("five fields: {line}")
            };
            let key = unhex(key);
            let arms: Vec<(&str, u32)> = arms
                .split(',')
                .map(|arm| arm.split_once('=').unwrap())
                .map(|(name, weight)| (name, weight.parse().unwrap()))
                .collect();
            let split = StickySplit::new(salt, arms.iter().copied());
            let own: Vec<_> = split
                .arms
                .iter()
                .map(|arm| format!("{:016x}", arm.hasher.hash(&key)))
                .collect();
            assert_eq!(own.join(","), hashes, "{line}");
            assert_eq!(
                split.pick(&key).map_or("-", |index| arms[index].0),
                chosen,
                "{line}"
            );
            seen += 1;
        }
        assert!(seen > 40);
    }

    /// Vectors of the reference implementation, so that a change of the crate's cannot pass for ours.
    #[test]
    fn siphash_is_the_published_one() {
        let key: Vec<u8> = (0..16).collect();
        let half = |at: usize| u64::from_le_bytes(key[at..at + 8].try_into().unwrap());
        let short = SipHasher24::new_with_keys(half(0), half(8));
        assert_eq!(short.hash(&key[..15]), 0xa129_ca61_49be_45e5);
        let wide = SipHasher24x128::new_with_keys(half(0), half(8)).finish128();
        assert_eq!(
            [wide.h1.to_le_bytes(), wide.h2.to_le_bytes()].concat(),
            unhex("a3817f04ba25a8e66df67214c7550293")
        );
    }

    #[test]
    fn logarithm() {
        assert_eq!(negative_log2(0), 64 << PLACES);
        assert_eq!(negative_log2(1), 64 << PLACES);
        assert_eq!(negative_log2(u64::MAX), 1);
        for bit in 1..64_u32 {
            assert!(
                ((u64::from(64 - bit) << PLACES) - negative_log2(1 << bit)) < 1 << 32,
                "{bit}"
            );
        }
        let mut u = 1_u64;
        for _ in 0..100_000 {
            u = u
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let exact = 64.0 - ((u | 1) as f64).log2();
            let error = negative_log2(u) as f64 / 2_f64.powi(32) - exact;
            assert!(
                (-1e-13..2_f64.powi(-31)).contains(&error),
                "{u:x}: {error:e}"
            );
        }
    }

    #[test]
    fn shares_follow_weights() {
        const KEYS: u32 = 200_000;
        for weights in [&[95, 5][..], &[50, 50], &[70, 20, 10], &[999, 1]] {
            let arms: Vec<_> = weights.iter().copied().enumerate().collect();
            let split = split(&arms);
            let mut counts = vec![0_u32; arms.len()];
            for key in 0..KEYS {
                counts[split.pick(format!("user-{key}").as_bytes()).unwrap()] += 1;
            }
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let share = f64::from(*weight) / f64::from(total);
                let expected = f64::from(KEYS) * share;
                let deviation = (expected * (1.0 - share)).sqrt();
                assert!(
                    (f64::from(*count) - expected).abs() <= 4.0 * deviation,
                    "{weights:?}: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn salts_deal_anew() {
        let picks = |salt: &str| -> Vec<_> {
            let split = StickySplit::new(salt, [("a", 1), ("b", 1)]);
            (0..2000_u32)
                .map(|key| split.pick(&key.to_be_bytes()))
                .collect()
        };
        let same = picks("one")
            .iter()
            .zip(picks("two"))
            .filter(|(a, b)| **a == *b)
            .count();
        assert!((900..1100).contains(&same), "{same}");
    }

    #[test]
    fn repeated_names_share_as_written() {
        let split = StickySplit::new("salt", [("a", 1), ("a", 1), ("b", 2)]);
        let mut counts = [0_i32; 3];
        for key in 0..4000_u32 {
            counts[split.pick(&key.to_be_bytes()).unwrap()] += 1;
        }
        assert!(
            (counts[0] - 1000).abs() < 120 && (counts[1] - 1000).abs() < 120,
            "{counts:?}"
        );
    }

    #[test]
    fn nothing_to_choose_from() {
        assert_eq!(split(&[]).pick(b"key"), None);
        assert_eq!(split(&[(0, 0), (1, 0)]).pick(b"key"), None);
        assert_eq!(split(&[(0, 1), (1, 1)]).pick_among(b"key", |_| false), None);
        assert_eq!(
            split(&[(0, 1), (1, 0)]).pick_among(b"key", |index| index == 1),
            None
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn zero_is_zero(arms in arms()) {
            for choice in choices(&arms) {
                prop_assert_eq!(choice.is_none(), arms.iter().all(|arm| arm.1 == 0));
                prop_assert!(choice.is_none_or(|name| arms[name].1 > 0));
            }
        }

        #[test]
        fn raising_moves_keys_only_to_the_raised(
            arms in arms(), at: prop::sample::Index, by in 1..1_000_000_u32,
        ) {
            let at = at.index(arms.len());
            let mut raised = arms.clone();
            raised[at].1 += by;
            for (before, after) in choices(&arms).into_iter().zip(choices(&raised)) {
                prop_assert!(before == after || after == Some(at));
            }
        }

        #[test]
        fn a_transfer_moves_keys_only_one_way(
            arms in arms(), from: prop::sample::Index, to: prop::sample::Index, by in 1..1_000_000_u32,
        ) {
            let (from, to) = (from.index(arms.len()), to.index(arms.len()));
            prop_assume!(from != to);
            let by = by.min(arms[from].1);
            let mut moved = arms.clone();
            moved[from].1 -= by;
            moved[to].1 += by;
            // Weight lost to one arm and won by another: keys leave the first or reach the second, and
            // between the two only in this direction.
            for (before, after) in choices(&arms).into_iter().zip(choices(&moved)) {
                prop_assert!(before == after || before == Some(from) || after == Some(to));
                prop_assert!(before == after || (before != Some(to) && after != Some(from)));
            }
        }

        #[test]
        fn removal_moves_only_the_keys_of_the_removed(arms in arms(), at: prop::sample::Index) {
            let at = at.index(arms.len());
            let mut rest = arms.clone();
            rest.remove(at);
            let (all, left) = (choices(&arms), choices(&rest));
            let whole = split(&arms);
            for (key, (before, after)) in (0..300_u32).zip(all.into_iter().zip(left)) {
                prop_assert!(before == after || before == Some(at));
                // Leaving it out is as good as removing it.
                prop_assert_eq!(whole.pick_among(&key.to_be_bytes(), |index| index != at), after);
            }
        }

        #[test]
        fn order_does_not_matter(
            (arms, shuffled) in arms().prop_flat_map(|arms| (Just(arms.clone()), Just(arms).prop_shuffle())),
        ) {
            prop_assert_eq!(choices(&arms), choices(&shuffled));
        }
    }
}
