//! The two arms of a rule between which a rollout divides traffic, and what became of their requests.
//!
//! Owns the division that holds now and the counts that the evidence is made from. It is one value behind
//! one pointer: who replaces it has changed the next request of every worker. Lives on over reloads, so that
//! a running rollout keeps its division, its counts and what is under way. Must not know why the division is
//! what it is, nor judge.

mod assigned;
mod counts;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use tokio::sync::Notify;

use self::counts::Counts;
use crate::http::recall::Recall;
use crate::rollout::evidence::{EpochId, Flush, SeenKeys};
use crate::rollout::latency::{Durations, SharedDurations, Thresholds};
use crate::rollout::{Arm, Excluded, Share, Sli};
use crate::split::{DrawState, Split, StickySplit};

pub(crate) use self::assigned::{Assigned, First, Key};

/// Divisions whose requests may still come in. Older ones are forgotten with what they would have counted.
const OPEN: usize = 128;

/// Noted keys and ids between two looks; more of them are of no use.
const NOTED: usize = 256;

/// See the module.
#[derive(Debug)]
pub(crate) struct Trial {
    /// Of its backends: stable's and the candidate's.
    names: [Box<str>; 2],
    workers: usize,
    division: ArcSwap<Division>,
    /// Every division with requests under way, the newest last.
    open: Mutex<VecDeque<Arc<Division>>>,
    /// One a worker: each has its own stream of draws.
    draws: Box<[CachePadded<Mutex<DrawState>>]>,
    /// How long stable's answers took, by worker.
    durations: Box<[SharedDurations]>,
    noted: Mutex<Noted>,
    bad: Notify,
    /// Of the candidate's streams.
    recall: Recall,
}

/// What a division is made of.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) epoch: EpochId,
    /// The candidate's.
    pub(crate) share: Share,
    /// Deals the keys.
    pub(crate) salt: Box<str>,
    /// From when on an answer is slow.
    pub(crate) thresholds: Option<Thresholds>,
    /// Whether anybody looks at what becomes of the requests. Where nobody does, nothing is counted.
    pub(crate) judged: bool,
    /// Which keys have had an event; `None` where every event counts.
    pub(crate) seen: Option<Arc<SeenKeys>>,
}

/// How requests are divided, and the counts of those that were divided so.
#[derive(Debug)]
pub(crate) struct Division {
    pub(crate) terms: Terms,
    split: Split<Arm>,
    sticky: StickySplit,
    counts: Box<[CachePadded<Counts>]>,
}

/// What is told of single events of the candidate.
#[derive(Debug, Default)]
struct Noted {
    keys: Vec<(EpochId, Sli, u64)>,
    samples: VecDeque<Box<str>>,
}

/// What has ended since the last look.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) flushes: Vec<Flush>,
    /// The oldest epoch with a request of stable under way.
    pub(crate) oldest_of_stable: Option<EpochId>,
}

impl Trial {
    /// Everything goes to stable until somebody divides it otherwise.
    pub(crate) fn new(stable: &str, candidate: &str, workers: usize) -> Arc<Self> {
        let names = [stable.into(), candidate.into()];
        let none = Terms {
            epoch: EpochId::default(),
            share: Share::ZERO,
            salt: "".into(),
            thresholds: None,
            judged: false,
            seen: None,
        };
        let workers = workers.max(1);
        Arc::new(Self {
            division: ArcSwap::from_pointee(Division::new(none, &names, workers)),
            names,
            workers,
            open: Mutex::default(),
            draws: (0..workers).map(|_| CachePadded::default()).collect(),
            durations: (0..workers).map(|_| SharedDurations::default()).collect(),
            noted: Mutex::default(),
            bad: Notify::new(),
            recall: Recall::default(),
        })
    }

    /// Whether it is about these two, on so many workers.
    pub(crate) fn is_of(&self, stable: &str, candidate: &str, workers: usize) -> bool {
        [&*self.names[0], &*self.names[1]] == [stable, candidate] && self.workers == workers.max(1)
    }

    /// The division that holds now.
    pub(crate) fn division(&self) -> Arc<Division> {
        self.division.load_full()
    }

    /// The candidate's share now.
    pub(crate) fn share(&self) -> Share {
        self.division.load().terms.share
    }

    /// From now on every request is divided by these terms.
    pub(crate) fn divide(&self, terms: Terms) {
        let next = Arc::new(Division::new(terms, &self.names, self.workers));
        let mut open = lock(&self.open);
        open.push_back(Arc::clone(&next));
        if open.len() > OPEN {
            open.pop_front();
        }
        self.division.store(next);
    }

    /// What calls the candidate's streams back.
    pub(crate) fn recall(&self) -> &Recall {
        &self.recall
    }

    /// Is notified when the candidate has failed.
    pub(crate) async fn failed(&self) {
        self.bad.notified().await;
    }

    /// Takes what has been counted.
    pub(crate) fn collect(&self) -> Collected {
        let mut keys = std::mem::take(&mut lock(&self.noted).keys);
        let mut open = lock(&self.open);
        let newest = open.back().map(|division| division.terms.epoch);
        let (mut flushes, mut oldest_of_stable): (Vec<Flush>, _) = (Vec::new(), None);
        open.retain(|division| {
            // Asked first: who is alone now will be told nothing more.
            let is_over = Arc::strong_count(division) == 1;
            let mut flush = Flush {
                epoch: division.terms.epoch,
                ..Flush::default()
            };
            let mut under_way = 0;
            for counts in &division.counts {
                under_way += counts.take(&mut flush);
            }
            if under_way > 0 {
                let epoch = division.terms.epoch;
                oldest_of_stable =
                    Some(oldest_of_stable.map_or(epoch, |old: EpochId| old.min(epoch)));
            }
            flush.keys = keys
                .extract_if(.., |(epoch, ..)| *epoch == division.terms.epoch)
                .map(|(_, sli, key)| (sli, key))
                .collect();
            if flush
                != (Flush {
                    epoch: flush.epoch,
                    ..Flush::default()
                })
            {
                flushes.push(flush);
            }
            !is_over || Some(division.terms.epoch) == newest
        });
        Collected {
            flushes,
            oldest_of_stable,
        }
    }

    /// Takes how long stable's answers took.
    pub(crate) fn durations(&self) -> Durations {
        let mut all = Durations::default();
        for of_worker in &self.durations {
            all.add(&of_worker.take());
        }
        all
    }

    /// Ids of some of the candidate's newest failed requests.
    pub(crate) fn samples(&self) -> Vec<String> {
        let noted = lock(&self.noted);
        noted.samples.iter().map(ToString::to_string).collect()
    }

    /// Forgets them, for another run.
    pub(crate) fn forget_samples(&self) {
        lock(&self.noted).samples.clear();
    }

    fn draw(&self, division: &Division, worker: usize, rng: &mut impl rand::Rng) -> Arm {
        let drawn = match self.draws.get(worker % self.draws.len().max(1)) {
            Some(state) => division.split.draw(&mut lock(state), rng),
            None => None,
        };
        drawn
            .and_then(|index| division.split.arm(index))
            .copied()
            .unwrap_or(Arm::Stable)
    }

    /// Whose a request is.
    pub(crate) fn choose(
        &self,
        division: &Division,
        key: Option<&[u8]>,
        worker: usize,
        rng: &mut impl rand::Rng,
    ) -> Arm {
        match key {
            Some(key) => match division.sticky.pick(key) {
                Some(1) => Arm::Candidate,
                _ => Arm::Stable,
            },
            None => self.draw(division, worker, rng),
        }
    }

    /// Counts a request that is left out.
    pub(crate) fn exclude(&self, division: &Division, reason: Excluded, worker: usize) {
        if let Some(counts) = division.of(worker) {
            counts.exclude(reason);
        }
    }
}

impl Division {
    fn new(terms: Terms, names: &[Box<str>; 2], workers: usize) -> Self {
        let weights = [terms.share.rest().millionths(), terms.share.millionths()];
        let [stable, candidate] = weights;
        let named = names.iter().map(|name| &**name).zip(weights);
        Self {
            split: Split::new(vec![(Arm::Stable, stable), (Arm::Candidate, candidate)]),
            sticky: StickySplit::new(&terms.salt, named),
            counts: (0..workers).map(|_| CachePadded::default()).collect(),
            terms,
        }
    }

    fn of(&self, worker: usize) -> Option<&Counts> {
        let all = self.counts.len().max(1);
        self.counts.get(worker % all).map(|counts| &**counts)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
