//! Weighted choices, with and without a key.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::split::{DrawState, Split, StickySplit, accepts, shift};

/// More than anybody writes, and few enough that a run is short.
const MOST_ARMS: usize = 40;
const DRAWS: i128 = 200;

/// Eight bytes of seed, then weights of four bytes each. Zero is zero; draws keep to their share after
/// every draw; keys are of one arm whatever the order; no share is shifted onto a lighter arm.
pub fn split(data: &[u8]) {
    let Some((seed, rest)) = data.split_first_chunk::<8>() else {
        return;
    };
    let weights = rest.as_chunks::<4>().0.iter().take(MOST_ARMS);
    let weights: Vec<u32> = weights.map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let built = Split::new(weights.iter().map(|weight| ((), *weight)).collect());
    let mut rng = SmallRng::seed_from_u64(u64::from_le_bytes(*seed));

    let total: i128 = weights.iter().map(|weight| i128::from(*weight)).sum();
    assert_eq!(i128::from(built.total()), total);
    draws(&built, &weights, &mut rng);
    shifts(&built, &weights, &mut rng);
    keys(&weights, &mut rng);
}

fn draws(built: &Split<()>, weights: &[u32], rng: &mut SmallRng) {
    let total = i128::from(built.total());
    let positive = weights.iter().filter(|weight| **weight > 0).count();
    let bound = if positive < 3 { 1 } else { 2 };
    let mut state = DrawState::default();
    let mut counts = vec![0_i128; weights.len()];
    for n in 1..=DRAWS {
        let Some(drawn) = built.draw(&mut state, rng) else {
            assert_eq!(total, 0, "nothing was drawn of {weights:?}");
            return;
        };
        assert!(weights[drawn] > 0, "zero is zero: {weights:?}");
        counts[drawn] += 1;
        for (count, weight) in counts.iter().zip(weights) {
            let astray = (count * total - n * i128::from(*weight)).abs();
            assert!(astray < bound * total, "{weights:?}, draw {n}: {counts:?}");
        }
    }
}

fn shifts(built: &Split<()>, weights: &[u32], rng: &mut SmallRng) {
    for chosen in 0..weights.len() {
        let usable = |index: usize| index != chosen;
        let Some(other) = shift(built, chosen, usable, rng.next_u64()) else {
            let heavier = (0..weights.len()).any(|index| accepts(built, chosen, index));
            assert!(!heavier, "{weights:?}: nobody takes over {chosen}");
            continue;
        };
        let (own, others) = (weights[chosen], weights[other]);
        assert!(others > 0 && others >= own && other != chosen);
    }
}

fn keys(weights: &[u32], rng: &mut SmallRng) {
    let names: Vec<String> = (0..weights.len()).map(|arm| format!("v{arm}")).collect();
    let arms = || {
        names
            .iter()
            .map(String::as_str)
            .zip(weights.iter().copied())
    };
    let split = StickySplit::new("salt", arms());
    let reversed = StickySplit::new("salt", arms().rev());
    for _ in 0..4 {
        let key = rng.next_u64().to_le_bytes();
        let Some(index) = split.pick(&key) else {
            assert!(weights.iter().all(|weight| *weight == 0));
            return;
        };
        assert!(weights[index] > 0, "zero is zero: {weights:?}");
        let mirrored = reversed.pick(&key).map(|other| weights.len() - 1 - other);
        assert_eq!(mirrored, Some(index), "order counts: {weights:?}");
        let moved = split.pick_among(&key, |arm| arm != index);
        assert_ne!(moved, Some(index));
    }
}
