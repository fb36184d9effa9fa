//! Owns the weights of a split and the draw for traffic without a key. Must not know what an arm is, where
//! the random numbers come from, or how many workers draw.
//!
//! After any `n` draws of one state, an arm of weight `w` out of `W` was drawn within two of `n·w/W` times,
//! exclusive (within one, with two positive arms). `tree` makes the draws random and unbiased and
//! says how far they can stray; where that is not below two, `plan` holds them back.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use rand::Rng;

use super::{
    plan::Plan,
    tree::{Tally, Tree},
};

/// Counts must stay closer than this to their share; less a margin for the rounding of [`Tree::stray`].
const LEASH: f64 = 2.0 - 1e-9;

/// The arms of a split and their weights, immutable once built.
#[derive(Debug, Clone)]
pub struct Split<T> {
    arms: Box<[T]>,
    division: Arc<Division>,
}

/// How traffic is divided by weights, whatever has them: splits of equal weights can share it.
#[derive(Debug)]
pub struct Division {
    /// Of every arm, in index order.
    written: Box<[u32]>,
    /// Indices of the arms that can be drawn, and beside them their weights.
    positive: Box<[usize]>,
    weights: Box<[u64]>,
    total: u64,
    /// None below two positive arms.
    tree: Option<Tree>,
    /// Tells a [`DrawState`] that the weights are not those it has counted for. Never zero.
    fingerprint: u64,
}

/// How far one stream of draws has come. The caller owns one for each split and worker.
///
/// It starts anew by itself when the weights change, and may be kept across reloads that do not change them.
#[derive(Debug, Clone, Default)]
pub struct DrawState {
    fingerprint: u64,
    tallies: Vec<Tally>,
    plan: Option<Plan>,
}

impl Division {
    /// Any weights are accepted, all zero included: then every draw is `None`.
    pub fn new(written: &[u32]) -> Self {
        let mut hasher = DefaultHasher::new();
        let (mut positive, mut weights) = (Vec::new(), Vec::new());
        for (index, weight) in written.iter().enumerate() {
            weight.hash(&mut hasher);
            if *weight > 0 {
                positive.push(index);
                weights.push(u64::from(*weight));
            }
        }
        Self {
            written: written.into(),
            total: weights.iter().sum(),
            tree: (weights.len() > 1).then(|| Tree::new(&weights, LEASH)),
            fingerprint: hasher.finish() | 1,
            positive: positive.into(),
            weights: weights.into(),
        }
    }
}

impl<T> Split<T> {
    /// Builds a split from arms and weights, in the order that indices will refer to.
    pub fn new(arms: Vec<(T, u32)>) -> Self {
        let (arms, weights): (Vec<T>, Vec<u32>) = arms.into_iter().unzip();
        Self::divided(arms, Arc::new(Division::new(&weights)))
    }

    /// The same, where there is the division for their weights already. An arm beyond those that it was made
    /// for has the weight zero.
    pub fn divided(arms: Vec<T>, division: Arc<Division>) -> Self {
        Self {
            arms: arms.into(),
            division,
        }
    }

    /// Every arm, those of weight zero included, in index order.
    pub fn arms(&self) -> impl ExactSizeIterator<Item = &T> {
        self.arms.iter()
    }

    /// The arm at `index`.
    pub fn arm(&self, index: usize) -> Option<&T> {
        self.arms.get(index)
    }

    /// The weight at `index`; zero where there is no arm.
    pub fn weight(&self, index: usize) -> u32 {
        self.division.written.get(index).copied().unwrap_or(0)
    }

    /// The sum of all weights.
    pub fn total(&self) -> u64 {
        self.division.total
    }

    /// The next arm of the stream that `state` follows; `None` when no weight is positive.
    ///
    /// With a single positive arm neither `state` nor `rng` is touched.
    pub fn draw(&self, state: &mut DrawState, rng: &mut impl Rng) -> Option<usize> {
        let division = &*self.division;
        let Some(tree) = &division.tree else {
            return division.positive.first().copied();
        };
        if state.fingerprint != division.fingerprint {
            *state = DrawState {
                fingerprint: division.fingerprint,
                tallies: tree.tallies(),
                plan: (tree.stray() > LEASH).then(|| Plan::new(division.weights.len())),
            };
        }
        let mut drawn = tree.propose(&state.tallies, rng);
        if let Some(plan) = &mut state.plan {
            drawn = plan.admit(&division.weights, division.total, drawn);
        }
        tree.record(&mut state.tallies, drawn);
        division.positive.get(drawn).copied()
    }

    /// The arm that `point` falls on when the arms that `allowed` admits share the range of `u64` by weight;
    /// `None` when it admits none of positive weight.
    pub fn at(&self, point: u64, allowed: impl Fn(usize) -> bool) -> Option<usize> {
        let open = || {
            let division = &*self.division;
            (division.positive.iter())
                .zip(&division.weights)
                .filter(|(index, _)| allowed(**index))
        };
        let sum: u64 = open().map(|(_, weight)| weight).sum();
        // Below `sum`, because `point` is below 2^64.
        let target = (u128::from(point) * u128::from(sum)) >> 64;
        let mut passed = 0;
        open()
            .find(|(_, weight)| {
                passed += u128::from(**weight);
                target < passed
            })
            .map(|(index, _)| *index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    fn split(weights: &[u32]) -> Split<()> {
        Split::new(weights.iter().map(|weight| ((), *weight)).collect())
    }

    /// Draws from one state and checks the bound after every draw, in units of 1/W.
    fn keeps_close(weights: &[u32], draws: u64, seed: u64, bound: i128) {
        let split = split(weights);
        let (mut state, mut rng) = (DrawState::default(), StdRng::seed_from_u64(seed));
        let mut counts = vec![0_i128; weights.len()];
        let total = i128::from(split.total());
        for n in 1..=i128::from(draws) {
            counts[split.draw(&mut state, &mut rng).unwrap()] += 1;
            for (count, weight) in counts.iter().zip(weights) {
                let astray = (count * total - n * i128::from(*weight)).abs();
                assert!(astray < bound * total, "{weights:?}, draw {n}: {counts:?}");
                assert!(*weight > 0 || *count == 0, "{weights:?}: zero is zero");
            }
        }
    }

    /// How often each arm is drawn at each position of a period, as a share.
    fn shares_by_position(weights: &[u32], period: usize, rounds: u32) -> Vec<Vec<f64>> {
        let split = split(weights);
        let (mut state, mut rng) = (DrawState::default(), StdRng::seed_from_u64(7));
        let mut shares = vec![vec![0.0; weights.len()]; period];
        for _ in 0..rounds {
            for position in &mut shares {
                position[split.draw(&mut state, &mut rng).unwrap()] += 1.0 / f64::from(rounds);
            }
        }
        shares
    }

    #[test]
    fn bound_at_the_extremes() {
        let mut many = vec![1; 29];
        many.push(1_000_000);
        let powers: Vec<u32> = (0..20).map(|power| 1 << power).collect();
        let table: &[&[u32]] = &[
            &[1],
            &[0, 0, 3],
            &[999_999, 1_000_000, 0, 1],
            &[10, 10, 10, 10, 10, 10, 1],
            &[8, 7, 6, 5, 4, 3, 2, 1],
            &[1; 30],
            &[1_000_000; 64],
            &powers,
            &many,
        ];
        for weights in table {
            keeps_close(weights, 5_000, 1, 2);
        }
    }

    /// The last goes past a whole period of W draws, where all counts are even with their shares again.
    #[test]
    fn two_arms_keep_within_one() {
        for weights in [[95, 5], [50, 50], [999, 1], [1, 2], [7, 1_000]] {
            keeps_close(&weights, 5_000, 2, 1);
        }
        keeps_close(&[1_000_000, 1], 1_100_000, 2, 1);
    }

    #[test]
    fn nothing_to_draw() {
        let (mut state, mut rng) = (DrawState::default(), StdRng::seed_from_u64(1));
        assert_eq!(split(&[]).draw(&mut state, &mut rng), None);
        assert_eq!(split(&[0, 0]).draw(&mut state, &mut rng), None);
        assert_eq!(split(&[0, 0]).at(5, |_| true), None);
        assert_eq!(split(&[1, 0]).at(5, |index| index == 1), None);
    }

    #[test]
    fn a_single_arm_costs_nothing() {
        let (mut state, mut rng) = (DrawState::default(), StdRng::seed_from_u64(1));
        for _ in 0..10 {
            assert_eq!(split(&[0, 4, 0]).draw(&mut state, &mut rng), Some(1));
        }
        assert_eq!(
            rng.random::<u64>(),
            StdRng::seed_from_u64(1).random::<u64>()
        );
        assert!(state.tallies.is_empty());
    }

    /// Pearson's statistic over states that are thrown away after `length` draws; the limit is its mean
    /// plus five standard deviations.
    #[test]
    fn short_streams_follow_the_weights() {
        const STREAMS: u32 = 20_000;
        let mut rng = StdRng::seed_from_u64(11);
        let many: Vec<u32> = (1..=30).collect();
        assert!(has_plan(&split(&many)));
        for weights in [&[95, 5][..], &[70, 20, 10], &[1; 10], &many, &[3, 0, 3, 1]] {
            let split = split(weights);
            let positive = weights.iter().filter(|weight| **weight > 0).count();
            // Where the plan holds draws back, only the first is exact.
            let lengths: &[u32] = if has_plan(&split) { &[1] } else { &[1, 2, 7] };
            for length in lengths {
                let mut counts = vec![0_u32; weights.len()];
                for _ in 0..STREAMS {
                    let mut state = DrawState::default();
                    let last = (0..*length)
                        .filter_map(|_| split.draw(&mut state, &mut rng))
                        .last();
                    counts[last.unwrap()] += 1;
                }
                let expected =
                    |weight: u32| f64::from(STREAMS) * f64::from(weight) / split.total() as f64;
                let statistic: f64 = counts
                    .iter()
                    .zip(weights)
                    .filter(|(_, weight)| **weight > 0)
                    .map(|(count, weight)| {
                        (f64::from(*count) - expected(*weight)).powi(2) / expected(*weight)
                    })
                    .sum();
                let freedom = (positive - 1) as f64;
                assert!(
                    statistic < freedom + 5.0 * (2.0 * freedom).sqrt(),
                    "{weights:?}: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn few_arms_need_no_plan() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..2_000 {
            let arms = rng.random_range(2..=4);
            let weights: Vec<u32> = (0..arms)
                .map(|_| 1_000_000 >> rng.random_range(0..20) | rng.random_range(0..9))
                .collect();
            assert!(!has_plan(&split(&weights)), "{weights:?}");
        }
    }

    fn has_plan(split: &Split<()>) -> bool {
        split
            .division
            .tree
            .as_ref()
            .is_some_and(|tree| tree.stray() > LEASH)
    }

    /// Every 20th request is special: it must not meet the candidate more or less often than the others.
    #[test]
    fn periodic_traffic_does_not_fall_into_step() {
        const ROUNDS: u32 = 20_000;
        for (weights, period) in [
            (&[95, 5][..], 20),
            (&[95, 5], 19),
            (&[99, 1], 100),
            (&[70, 20, 10], 10),
            (&[90, 4, 4, 2], 50),
        ] {
            let total: u32 = weights.iter().sum();
            for (position, shares) in shares_by_position(weights, period, ROUNDS)
                .iter()
                .enumerate()
            {
                for (share, weight) in shares.iter().zip(weights) {
                    let expected = f64::from(*weight) / f64::from(total);
                    let deviation = (expected * (1.0 - expected) / f64::from(ROUNDS)).sqrt();
                    assert!(
                        (share - expected).abs() < 5.0 * deviation,
                        "{weights:?}: {share} instead of {expected} at {position} of {period}"
                    );
                }
            }
        }
    }

    #[test]
    fn new_weights_start_anew_and_the_same_go_on() {
        let (mut state, mut rng) = (DrawState::default(), StdRng::seed_from_u64(5));
        let mut counts = [0; 2];
        for _ in 0..100 {
            // Built again each time, as by reloads that do not touch it.
            counts[split(&[9, 1]).draw(&mut state, &mut rng).unwrap()] += 1;
        }
        assert_eq!(counts, [90, 10]);
        for weights in [&[1, 9][..], &[1, 0], &[1, 1, 1, 1, 1, 1, 7], &[0], &[5, 5]] {
            for _ in 0..50 {
                split(weights).draw(&mut state, &mut rng);
            }
        }
    }

    #[test]
    fn arms_are_as_given() {
        let split = Split::new(vec![("stable", 3), ("preview", 0)]);
        assert_eq!(
            split.arms().copied().collect::<Vec<_>>(),
            ["stable", "preview"]
        );
        assert_eq!((split.arm(1), split.weight(1)), (Some(&"preview"), 0));
        assert_eq!((split.arm(2), split.weight(2), split.total()), (None, 0, 3));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn bound_at_every_prefix(
            weights in prop::collection::vec(
                prop_oneof![Just(0), Just(1), 1..20_u32, Just(1_000_000), 0..=1_000_000_u32], 1..30),
            seed: u64,
        ) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            keeps_close(&weights, 3_000, seed, 2);
        }

        #[test]
        fn bound_over_many_periods(weights in prop::collection::vec(0..12_u32, 2..9), seed: u64) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            keeps_close(&weights, 3_000, seed, 2);
        }
    }
}
