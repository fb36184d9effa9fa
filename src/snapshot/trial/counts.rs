//! What one worker has counted of one division.
//!
//! Written by that worker alone and taken by whoever judges. Must not know what counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rollout::evidence::Flush;
use crate::rollout::{Arm, Excluded, PerArm, PerSli, Sli};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Counts {
    begun: PerArm<AtomicU64>,
    ended: PerArm<AtomicU64>,
    /// Of those that have ended, what counts.
    requests: PerArm<AtomicU64>,
    failures: PerArm<AtomicU64>,
    events: PerSli<PerArm<AtomicU64>>,
    forced: AtomicU64,
    not_eligible: AtomicU64,
    repeated: AtomicU64,
}

fn of(counts: &PerArm<AtomicU64>, arm: Arm) -> &AtomicU64 {
    match arm {
        Arm::Stable => &counts.stable,
        Arm::Candidate => &counts.candidate,
    }
}

fn count(one: &AtomicU64) {
    one.fetch_add(1, Ordering::Relaxed);
}

fn take(counts: &PerArm<AtomicU64>) -> PerArm<u64> {
    PerArm {
        stable: counts.stable.swap(0, Ordering::Relaxed),
        candidate: counts.candidate.swap(0, Ordering::Relaxed),
    }
}

impl Counts {
    pub(super) fn begin(&self, arm: Arm) {
        count(of(&self.begun, arm));
    }

    pub(super) fn end(&self, arm: Arm) {
        count(of(&self.ended, arm));
    }

    pub(super) fn request(&self, arm: Arm) {
        count(of(&self.requests, arm));
    }

    pub(super) fn fail(&self, arm: Arm) {
        count(of(&self.failures, arm));
    }

    pub(super) fn event(&self, sli: Sli, arm: Arm) {
        count(of(self.events.get(sli), arm));
    }

    pub(super) fn exclude(&self, reason: Excluded) {
        match reason {
            Excluded::Forced => count(&self.forced),
            Excluded::RepeatedKey => count(&self.repeated),
            // Whatever else the data path leaves out could not have gone either way.
            _ => count(&self.not_eligible),
        }
    }

    /// Adds to `flush` what has ended since the last time; returns how many of stable's requests are under
    /// way.
    pub(super) fn take(&self, flush: &mut Flush) -> u64 {
        // Ends before beginnings, so that none looks ended before it began.
        let ended = self.ended.stable.load(Ordering::Acquire);
        let begun = self.begun.stable.load(Ordering::Acquire);
        flush.requests.add(take(&self.requests));
        flush.failures.add(take(&self.failures));
        for sli in Sli::ALL {
            flush.events.get_mut(sli).add(take(self.events.get(sli)));
        }
        for (reason, counted) in [
            (Excluded::Forced, &self.forced),
            (Excluded::NotEligible, &self.not_eligible),
            (Excluded::RepeatedKey, &self.repeated),
        ] {
            flush
                .excluded
                .add(reason, counted.swap(0, Ordering::Relaxed));
        }
        begun.saturating_sub(ended)
    }
}
