//! What one worker has counted of one division.
//!
//! Written by that worker alone and taken by whoever judges. Must not know what counts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rollout::evidence::Flush;
use crate::rollout::{Arm, Excluded, PerArm, PerSli, Sli};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// That have ended.
    requests: PerArm<AtomicU64>,
    failures: PerArm<AtomicU64>,
    /// Stable's; the candidate's are noted one by one.
    events: PerSli<AtomicU64>,
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
    pub(super) fn request(&self, arm: Arm) {
        count(of(&self.requests, arm));
    }

    pub(super) fn fail(&self, arm: Arm) {
        count(of(&self.failures, arm));
    }

    pub(super) fn event(&self, sli: Sli) {
        count(self.events.get(sli));
    }

    pub(super) fn exclude(&self, reason: Excluded) {
        match reason {
            Excluded::Forced => count(&self.forced),
            Excluded::RepeatedKey => count(&self.repeated),
            // Whatever else the data path leaves out could not have gone either way.
            _ => count(&self.not_eligible),
        }
    }

    /// Adds to `flush` what has ended since the last time.
    pub(super) fn take(&self, flush: &mut Flush) {
        flush.requests.add(take(&self.requests));
        flush.failures.add(take(&self.failures));
        for sli in Sli::ALL {
            flush.events.get_mut(sli).stable += self.events.get(sli).swap(0, Ordering::Relaxed);
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
    }
}
