//! When a second attempt is made while the first one is still waited for.
//!
//! Owns the time that is too long, and how it is learnt. Must not know attempts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use crate::telemetry::hedge::HedgeMetrics;

/// Of one rule and backendRef.
#[derive(Debug)]
pub(crate) struct Hedge {
    pub(crate) after: After,
    /// What is kept of a request's body for the second attempt, at most.
    pub(crate) body_bytes: usize,
    pub(crate) metrics: Arc<HedgeMetrics>,
}

/// How long the first attempt may take.
#[derive(Debug)]
pub(crate) enum After {
    Fixed(Duration),
    Learnt(Arc<Percentile>),
}

/// Fewer say nothing about the tail.
const LEAST: u32 = 100;
/// How far one time moves the estimate.
const STEP: f64 = 0.05;

/// An estimate of a percentile of times, in one number: each time that is longer moves it up, each one
/// that is shorter down, by parts that balance where so many are shorter. It follows what changes, and
/// forgets. An update that another worker overwrites is as good as not made.
#[derive(Debug)]
pub(crate) struct Percentile {
    percent: u8,
    nanoseconds: CachePadded<AtomicU64>,
    seen: AtomicU32,
}

impl Percentile {
    pub(crate) fn new(percent: u8) -> Arc<Self> {
        Arc::new(Self {
            percent,
            nanoseconds: CachePadded::default(),
            seen: AtomicU32::new(0),
        })
    }

    pub(crate) fn percent(&self) -> u8 {
        self.percent
    }

    /// Learns from a time, or from how long something has taken that is not over.
    pub(crate) fn note(&self, elapsed: Duration) {
        let time = elapsed.as_nanos() as f64;
        let before = self.nanoseconds.load(Ordering::Relaxed) as f64;
        let share = f64::from(self.percent) / 100.0;
        let after = if before < 1.0 {
            time
        } else if time > before {
            before * (1.0 + STEP * share)
        } else {
            before * (1.0 - STEP * (1.0 - share))
        };
        // Far below the 580 years that fit.
        let after = after.max(1000.0) as u64;
        self.nanoseconds.store(after, Ordering::Relaxed);
        let seen = self.seen.load(Ordering::Relaxed);
        if seen < LEAST {
            self.seen.store(seen + 1, Ordering::Relaxed);
        }
    }

    /// `None` as long as too little is known.
    pub(crate) fn get(&self) -> Option<Duration> {
        let known = self.seen.load(Ordering::Relaxed) >= LEAST;
        known.then(|| Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed)))
    }
}

impl After {
    /// `None` as long as too little is known.
    pub(crate) fn get(&self) -> Option<Duration> {
        match self {
            Self::Fixed(after) => Some(*after),
            Self::Learnt(percentile) => percentile.get(),
        }
    }

    /// Learns from a first attempt: a time, or how long it has taken so far.
    pub(crate) fn note(&self, elapsed: Duration) {
        if let Self::Learnt(percentile) = self {
            percentile.note(elapsed);
        }
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(after) => write!(f, "{after:?}"),
            Self::Learnt(percentile) => {
                write!(f, "what {} in a hundred take", percentile.percent)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Exponential times of mean 10 ms and then of 1 ms: about as many are longer as there should be.
    #[test]
    fn a_percentile_is_found_and_followed() {
        for percent in [50, 90, 95, 99] {
            let mut rng = SmallRng::seed_from_u64(3);
            let percentile = Percentile::new(percent);
            assert_eq!(percentile.get(), None);
            for mean in [0.010, 0.001] {
                let mut time = || Duration::from_secs_f64(-mean * (1.0 - rng.random::<f64>()).ln());
                (0..10_000).for_each(|_| percentile.note(time()));
                let longer = (0..10_000).filter(|_| {
                    let time = time();
                    let longer = Some(time) > percentile.get();
                    percentile.note(time);
                    longer
                });
                let (longer, expected) = (longer.count(), (100 - usize::from(percent)) * 100);
                assert!(
                    longer.abs_diff(expected) < expected / 5 + 20,
                    "{percent}: {longer}"
                );
            }
        }
    }
}
