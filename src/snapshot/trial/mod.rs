//! The two arms of a rule between which a rollout divides traffic, and what became of their requests.
//!
//! Owns the division that holds now and the counts that the evidence is made from. It is one value behind
//! one pointer: who replaces it has changed the next request of every worker. Lives on over reloads, so that
//! a running rollout keeps its division, its counts and what is under way. Must not know why the division is
//! what it is, nor judge.

mod assigned;
mod counts;
mod open;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use tokio::sync::Notify;

use self::counts::Counts;
use self::open::{Open, SLICE, SLICES, Slice};
use crate::http::recall::Recall;
use crate::rollout::evidence::{self, EpochId, Flush, SeenKeys};
use crate::rollout::latency::{Durations, SharedDurations, Thresholds};
use crate::rollout::{Arm, Excluded, Moment, Share, Sli};
use crate::split::{DrawState, Split, StickySplit};

pub(crate) use self::assigned::{Assigned, First, Key};

/// Divisions whose requests may still come in. Older ones are forgotten with what they would have counted.
const OPEN: usize = 128;

/// Events of the candidate that are noted between two looks. More are more than enough to roll back, and what
/// is left out only speaks for the candidate.
const NOTED: usize = 1_024;

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
    /// Stable's requests under way, by worker.
    under_way: Box<[CachePadded<Open>]>,
    /// From when on slices are counted, by both clocks.
    origin: Instant,
    first_slice: Mutex<Moment>,
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
    events: Vec<Event>,
    samples: VecDeque<Box<str>>,
}

/// A bad event of the candidate: when its request was assigned, and whose it is.
#[derive(Debug, Clone, Copy)]
struct Event {
    epoch: EpochId,
    slice: Slice,
    sli: Sli,
    key: u64,
}

/// What has ended since the last look.
#[derive(Debug)]
pub(crate) struct Collected {
    pub(crate) flushes: Vec<Flush>,
    /// Stable's requests that have not, in the order of assignment, where an event waits for them.
    pub(crate) open: Vec<evidence::Open>,
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
            under_way: (0..workers).map(|_| CachePadded::default()).collect(),
            origin: Instant::now(),
            first_slice: Mutex::default(),
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

    /// Is notified after a bad event of the candidate.
    pub(crate) async fn failed(&self) {
        self.bad.notified().await;
    }

    /// Takes what has been counted; of stable's requests that are under way, those of the last `hold`: where
    /// earlier events of the candidate wait for them, or there are new ones. Nothing else asks for them, and
    /// they are hundreds of slices of each worker.
    pub(crate) fn collect(&self, now: Moment, hold: Duration, waits: bool) -> Collected {
        // In this order: what a request of the candidate waits for is still open, or counted.
        let mut events = std::mem::take(&mut lock(&self.noted).events);
        let slices = Slices::now(self, now);
        let open = if waits || !events.is_empty() {
            self.under_way(&slices, hold)
        } else {
            Vec::new()
        };
        let mut divisions = lock(&self.open);
        let newest = divisions.back().map(|division| division.terms.epoch);
        let mut flushes: Vec<Flush> = Vec::new();
        divisions.retain(|division| {
            // Asked first: who is alone now will be told nothing more.
            let is_over = Arc::strong_count(division) == 1;
            let epoch = division.terms.epoch;
            let mut flush = Flush {
                epoch,
                ..Flush::default()
            };
            for counts in &division.counts {
                counts.take(&mut flush);
            }
            if flush
                != (Flush {
                    epoch,
                    ..Flush::default()
                })
            {
                flushes.push(flush);
            }
            !is_over || Some(epoch) == newest
        });
        events.sort_unstable_by_key(|event| (event.epoch, event.slice));
        for same in events.chunk_by(|a, b| (a.epoch, a.slice) == (b.epoch, b.slice)) {
            let mut flush = Flush::default();
            for event in same {
                flush.epoch = event.epoch;
                flush.assigned = slices.began(event.slice);
                flush.events.get_mut(event.sli).candidate += 1;
                flush.keys.push((event.sli, event.key));
            }
            flushes.push(flush);
        }
        Collected { flushes, open }
    }

    fn under_way(&self, slices: &Slices, hold: Duration) -> Vec<evidence::Open> {
        let count = (hold.as_millis() / SLICE.as_millis() + 1).min(u128::from(SLICES - 1));
        (slices.newest.saturating_sub(count as u64)..=slices.newest)
            .filter_map(|slice| {
                let requests = self.under_way.iter().map(|open| open.count(slice)).sum();
                (requests > 0).then(|| evidence::Open {
                    assigned: slices.began(slice),
                    requests,
                })
            })
            .collect()
    }

    fn slice(&self, at: Instant) -> Slice {
        let since = at.saturating_duration_since(self.origin);
        (since.as_micros() / SLICE.as_micros()) as Slice
    }

    fn open_of(&self, worker: usize) -> Option<&Open> {
        let all = self.under_way.len().max(1);
        self.under_way.get(worker % all).map(|open| &**open)
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

/// What slices are on the clock of the wall.
struct Slices {
    newest: Slice,
    /// When the first of all began.
    first: Moment,
}

impl Slices {
    fn now(trial: &Trial, now: Moment) -> Self {
        let at = Instant::now();
        let since = at.saturating_duration_since(trial.origin).as_millis();
        let first = now.as_millis().saturating_sub(since as u64);
        let mut known = lock(&trial.first_slice);
        // A slice is the same moment at every look, until the clock of the wall was set.
        if known.as_millis().abs_diff(first) > SLICE.as_millis() as u64 {
            *known = Moment::from_millis(first);
        }
        Self {
            newest: trial.slice(at),
            first: *known,
        }
    }

    fn began(&self, slice: Slice) -> Moment {
        let since = slice.saturating_mul(SLICE.as_millis() as u64);
        Moment::from_millis(self.first.as_millis().saturating_add(since))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
