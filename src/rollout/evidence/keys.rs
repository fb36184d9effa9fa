//! Whose events they are: the first of every key counts, and how many keys there were.
//!
//! Owns both in bounded memory. Must not know what a key is: it sees hashes.
//!
//! One client with a broken request makes as many bad events as he likes, all of the arm that he sticks to.
//! Only his first says something about the arms. It is the first of the whole rollout, not of an epoch:
//! a sticky client keeps his arm over epochs.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::super::Sli;

/// Which keys have had an event, by indicator; shared by all workers without a lock.
///
/// A Bloom filter: a key may be taken for one that was seen, which loses an event of either arm alike and
/// so costs power, never validity.
#[derive(Debug)]
pub struct SeenKeys {
    words: Box<[AtomicU64]>,
    /// By page: whether bits were set since somebody took them.
    changed: Box<[AtomicBool]>,
}

/// Bits that a key sets.
const PROBES: u32 = 4;

/// Words that are taken together; 4 KiB.
const PAGE: usize = 512;

/// Words, at most: 8 MiB.
const MOST: usize = 1 << 20;

impl SeenKeys {
    /// Room for about `keys` keys and indicators with one in 40 taken for another: ten bits each, at most
    /// 8 MiB.
    pub fn new(keys: usize) -> Self {
        let words = keys.clamp(1_000, 6_000_000).saturating_mul(10).div_ceil(64);
        let words = words.next_power_of_two().min(MOST);
        Self::of((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    fn of(words: Box<[AtomicU64]>) -> Self {
        let changed = words.chunks(PAGE).map(|_| AtomicBool::new(false));
        Self {
            changed: changed.collect(),
            words,
        }
    }

    /// From what [`Self::bytes`] gave; `None` when it is none of that.
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks();
        let is_size = words.len().is_power_of_two() && words.len() <= MOST && rest.is_empty();
        let word = |word: &[u8; 8]| AtomicU64::new(u64::from_le_bytes(*word));
        is_size.then(|| Self::of(words.iter().map(word).collect()))
    }

    /// Everything, for [`Self::restore`].
    pub fn bytes(&self) -> Vec<u8> {
        for changed in &self.changed {
            changed.store(false, Ordering::Release);
        }
        bytes(&self.words)
    }

    /// What is new since this or [`Self::bytes`] was called: from which byte on, and what is there now. Bits
    /// are only ever set, so that old and new bytes may be mixed: what is old at worst knows fewer keys.
    pub fn changes(&self) -> impl Iterator<Item = (usize, Vec<u8>)> {
        let pages = self.words.chunks(PAGE).zip(&self.changed).enumerate();
        pages.filter_map(|(number, (words, changed))| {
            let is_new = changed.swap(false, Ordering::AcqRel);
            is_new.then(|| (number * PAGE * 8, bytes(words)))
        })
    }

    /// Whether this is the first event of that kind of the key with this hash.
    ///
    /// Two threads that ask at the same moment may both be told so.
    pub fn first(&self, sli: Sli, key: u64) -> bool {
        let mut hash = mixed(key ^ mixed(sli as u64 + 1));
        let step = mixed(hash) | 1;
        let mut first = false;
        for _ in 0..PROBES {
            // A power of two, so that the remainder is a mask; never empty.
            let bit = hash as usize & (self.words.len() * 64 - 1);
            if let Some(word) = self.words.get(bit / 64) {
                let mask = 1 << (bit % 64);
                let is_new = word.fetch_or(mask, Ordering::Relaxed) & mask == 0;
                if is_new && let Some(changed) = self.changed.get(bit / 64 / PAGE) {
                    changed.store(true, Ordering::Release);
                }
                first |= is_new;
            }
            hash = hash.wrapping_add(step);
        }
        first
    }
}

fn bytes(words: &[AtomicU64]) -> Vec<u8> {
    let word = |word: &AtomicU64| word.load(Ordering::Relaxed).to_le_bytes();
    words.iter().flat_map(word).collect()
}

/// The finalizer of splitmix64.
fn mixed(hash: u64) -> u64 {
    let hash = (hash ^ hash >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ hash >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ hash >> 31
}

/// How many different keys there were: exact up to [`KeySketch::MOST`], over any number of replicas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeySketch {
    /// The smallest hashes, sorted, each once.
    smallest: Vec<u64>,
}

impl KeySketch {
    /// What it counts to.
    pub const MOST: usize = 16;

    /// Counts a key by its hash.
    pub fn insert(&mut self, key: u64) {
        let Err(place) = self.smallest.binary_search(&key) else {
            return;
        };
        if place < Self::MOST {
            self.smallest.insert(place, key);
            self.smallest.truncate(Self::MOST);
        }
    }

    /// Counts what another replica has counted.
    pub fn merge(&mut self, other: &Self) {
        for key in &other.smallest {
            self.insert(*key);
        }
    }

    /// How many, or [`Self::MOST`].
    pub fn count(&self) -> usize {
        self.smallest.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_of_each_key_and_indicator() {
        let seen = SeenKeys::new(10_000);
        let wrong = (0..10_000)
            .filter(|key| !seen.first(Sli::Slow, *key))
            .count();
        assert!(wrong < 250, "{wrong} of 10000 taken for another");
        assert!((0..10_000).all(|key| !seen.first(Sli::Slow, key)));
        let other = (0..100).filter(|key| seen.first(Sli::Errors, *key)).count();
        assert!(other > 90, "{other}");
    }

    #[test]
    fn what_is_kept_of_it_knows_the_same_keys() {
        let seen = SeenKeys::new(10_000);
        assert_eq!(seen.changes().count(), 0);
        for key in 0..50 {
            seen.first(Sli::Errors, key);
        }
        let mut kept = seen.bytes();
        assert_eq!(seen.changes().count(), 0, "everything was taken");
        for key in 50..100 {
            seen.first(Sli::Errors, key);
        }
        let changes: Vec<_> = seen.changes().collect();
        assert!(!changes.is_empty());
        for (at, page) in changes {
            kept[at..at + page.len()].copy_from_slice(&page);
        }
        let restored = SeenKeys::restore(&kept).unwrap();
        assert!((0..100).all(|key| !restored.first(Sli::Errors, key)));
        assert!(
            (100..200)
                .filter(|key| restored.first(Sli::Errors, *key))
                .count()
                > 90
        );
        for size in [0, 7, 8 * 3, kept.len() - 8] {
            assert!(SeenKeys::restore(&kept[..size]).is_none(), "{size}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(SeenKeys::new(usize::MAX).words.len() * 8, 8 << 20);
        assert!(SeenKeys::new(0).first(Sli::Errors, 0));
    }

    proptest! {
        #[test]
        fn a_sketch_counts_keys_once(keys in prop::collection::vec(0..30_u64, 0..60), cut in 0..60_usize) {
            let (mut one, mut two, mut whole) = (KeySketch::default(), KeySketch::default(), KeySketch::default());
            for (index, key) in keys.iter().enumerate() {
                if index < cut { one.insert(*key) } else { two.insert(*key) }
                whole.insert(*key);
            }
            one.merge(&two);
            prop_assert_eq!(&one, &whole);
            let different: std::collections::HashSet<_> = keys.iter().collect();
            prop_assert_eq!(whole.count(), different.len().min(KeySketch::MOST));
        }
    }
}
