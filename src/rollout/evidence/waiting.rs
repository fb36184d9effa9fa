//! The candidate's events that wait until stable has had the same chance, and what they are worth meanwhile.
//!
//! Owns the order of assignment. Must not know what an event is worth once nothing is open.
//!
//! The arm that fails at once is seen before the one that fails after five seconds, at the same rate. So
//! events count in the order in which their requests were *assigned*. For every moment `s`, the evidence of
//! what was assigned until `s` is at most what it will be when all of that has ended if every request of
//! stable that is still open counts as failed meanwhile: an event of stable only lowers each bet, one of the
//! candidate only raises it. The greatest over `s` is then at most the greatest of a process that Ville's
//! inequality holds for: waiting costs time, never validity, and a few open requests are outweighed at once.

use serde::{Deserialize, Serialize};

use super::super::{Moment, PerArm, Share};
use super::bets::{Bets, Stakes};
use super::ledger::Standing;

/// Requests of stable that were assigned at about the same time and have not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    /// When: the beginning of a slice of time, the same as in [`super::Flush::assigned`].
    pub assigned: Moment,
    /// How many.
    pub requests: u64,
}

/// So many that were assigned at this time and share: open requests, or events of the candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Few {
    pub(super) assigned: Moment,
    pub(super) share: Share,
    pub(super) count: u64,
}

/// Events of the candidate, of one indicator, in the order of assignment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Waiting(Vec<Few>);

/// What evidence comes to with those that wait.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Worth {
    /// Whatever becomes of stable's open requests.
    pub(super) log_sure: f64,
    /// If none of them fails.
    pub(super) log_early: f64,
}

impl Waiting {
    pub(super) fn add(&mut self, events: Few) {
        let key = |one: &Few| (one.assigned, one.share);
        match self.0.binary_search_by_key(&key(&events), key) {
            Ok(found) => self.0[found].count = self.0[found].count.saturating_add(events.count),
            Err(place) => self.0.insert(place, events),
        }
    }

    /// Those that have nothing to wait for any more.
    pub(super) fn ripe(&mut self, oldest_open: Option<Moment>) -> impl Iterator<Item = Few> {
        let is_ripe = |one: &Few| oldest_open.is_none_or(|oldest| one.assigned < oldest);
        let count = self.0.partition_point(is_ripe);
        self.0.drain(..count)
    }

    /// When the first was assigned.
    pub(super) fn first(&self) -> Option<Moment> {
        self.0.first().map(|one| one.assigned)
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|one| one.count).sum()
    }

    /// Beside what stands in the ledger. Below `matters`, nobody acts, and one look is enough.
    pub(super) fn worth(
        &self,
        ledger: &Standing,
        open: &[Few],
        matters: f64,
        mut stakes: impl FnMut(Share) -> Option<Stakes>,
    ) -> Worth {
        let log = ledger.log();
        if self.0.is_empty() {
            return Worth {
                log_sure: log,
                log_early: log,
            };
        }
        let mut count = |bets: &mut Bets, share, events| {
            if let Some(stakes) = stakes(share) {
                stakes.add(bets, events);
            }
        };
        let mut early = [0.0; 8];
        for one in &self.0 {
            count(&mut early, one.share, of_candidate(one.count));
        }
        let log_early = ledger.log_with(&early).max(log);
        let (mut log_sure, mut sure) = (log, [0.0; 8]);
        let mut open = open.iter().peekable();
        for (index, one) in self.0.iter().enumerate() {
            while let Some(older) = open.next_if(|it| it.assigned <= one.assigned) {
                count(&mut sure, older.share, of_stable(older.count));
            }
            count(&mut sure, one.share, of_candidate(one.count));
            let next = self.0.get(index + 1);
            let is_whole = next.is_none_or(|next| next.assigned > one.assigned);
            if is_whole && (next.is_none() || log_early >= matters) {
                log_sure = log_sure.max(ledger.log_with(&sure));
            }
        }
        Worth {
            log_sure,
            log_early,
        }
    }
}

fn of_candidate(candidate: u64) -> PerArm<u64> {
    PerArm {
        stable: 0,
        candidate,
    }
}

fn of_stable(stable: u64) -> PerArm<u64> {
    PerArm {
        stable,
        candidate: 0,
    }
}
