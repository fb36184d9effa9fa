//! The labelled events of one indicator, by time slot and by the share at which they were assigned.
//!
//! Owns these counts, their sum over replicas, and the evidence that follows from them. Counts are whole
//! numbers, so that merging is plain addition, a saved state is exact, and a record can be judged again.
//!
//! A candidate that turns bad late has a long good history. So a fresh copy of the bets begins with every
//! slot: half of the stake lies on the copy from the start, the rest on the others. The evidence of the
//! copy that began with slot `k` comes from the slots from `k` on: a sum from the end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{Arm, Excluded, PerArm, Share};
use super::bets::{Bets, LogSum, Stakes};

/// Late copies that are kept beside the first; older ones give up their stake, which only loses power.
const KEPT: u32 = 60;

/// Different shares a slot keeps apart. A plan has fewer steps; operators may set weights by the hundred.
const SHARES: usize = 128;

/// When fresh copies of the bets begin, and what lies on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restarts {
    /// Milliseconds from one to the next.
    pub every_millis: u32,
    /// How many are planned; `None` when the rollout has no declared end. None at all: `Some(0)`.
    pub planned: Option<u32>,
}

impl Restarts {
    /// The spacing that suits requests of seconds.
    const EVERY: u32 = 30_000;

    /// One every 30 s, up to the declared end.
    pub fn until(longest: Option<Duration>) -> Self {
        let every = u128::from(Self::EVERY);
        Self {
            every_millis: Self::EVERY,
            planned: longest
                .map(|longest| u32::try_from(longest.as_millis() / every).unwrap_or(u32::MAX)),
        }
    }

    /// The slot at that time after the start.
    pub(super) fn slot(self, since_start: Duration) -> u32 {
        let slot = since_start.as_millis() / u128::from(self.every_millis.max(1));
        u32::try_from(slot).unwrap_or(u32::MAX)
    }

    /// What lies on the copy from the start.
    fn first(self) -> f64 {
        if self.planned == Some(0) { 1.0 } else { 0.5 }
    }

    /// What lies on the copies that begin with the slots `from..=to`, `from >= 1`.
    fn late(self, from: u32, to: u32) -> f64 {
        match self.planned {
            Some(planned) => {
                let count = (to.min(planned) + 1).saturating_sub(from);
                f64::from(count) / (2.0 * f64::from(planned.max(1)))
            }
            // 1/(k(k + 1)) for k = slot + 1; telescopes.
            None if from <= to => 1.0 / (f64::from(from) + 1.0) - 1.0 / (f64::from(to) + 2.0),
            None => 0.0,
        }
    }
}

/// Events of one slot that were assigned at one share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// Number of the slot in which they were seen; those before the kept window stand in slot 0.
    pub slot: u32,
    /// The candidate's share when they were assigned.
    pub share: Share,
    /// How many, by arm.
    pub events: PerArm<u64>,
}

/// All events of one indicator.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger {
    /// In the order of slot and share.
    rows: Vec<Row>,
}

impl Ledger {
    /// The rows, in the order of slot and share.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// All events, by arm.
    pub fn events(&self) -> PerArm<u64> {
        let mut sum = PerArm::default();
        for row in &self.rows {
            sum.add(row.events);
        }
        sum
    }

    /// Counts events; they may be refused.
    pub(super) fn record(
        &mut self,
        slot: u32,
        share: Share,
        arm: Arm,
        count: u64,
    ) -> Result<(), Excluded> {
        if share == Share::ZERO || share == Share::ALL {
            return Err(Excluded::NoControl);
        }
        let mut events = PerArm::default();
        *events.get_mut(arm) = count;
        self.add(Row {
            slot,
            share,
            events,
        })
    }

    /// Adds what another replica has counted, share by share and slot by slot.
    pub fn merge(&mut self, other: &Self) -> Result<(), Excluded> {
        let newest = |ledger: &Self| ledger.rows.last().map_or(0, |row| row.slot);
        let newest = newest(self).max(newest(other));
        self.fold(newest)?;
        for row in &other.rows {
            self.add(Row {
                slot: folded(row.slot, newest),
                ..*row
            })?;
        }
        Ok(())
    }

    /// What these events come to, as of the slot `now`; for more that were assigned from the slot `waits` on.
    pub(super) fn standing(
        &self,
        restarts: Restarts,
        now: u32,
        waits: u32,
        mut stakes: impl FnMut(Share) -> Option<Stakes>,
    ) -> Standing {
        let newest = self.rows.last().map_or(now, |row| row.slot.max(now));
        let oldest = newest.saturating_sub(KEPT - 1).max(1);
        let mut logs: Bets = [0.0; 8];
        let (mut old, mut young) = ([LogSum::new(); 8], LogSum::new());
        let mut lay = |from: u32, to: u32, logs: &Bets| {
            let mass = restarts.late(from, to.min(waits)) / logs.len() as f64;
            for (sum, log) in old.iter_mut().zip(logs) {
                sum.add(mass, *log);
            }
            young.add_mean(restarts.late(from.max(waits.saturating_add(1)), to), logs);
        };
        // Copies that begin above this slot are laid.
        let mut above = newest;
        for slot in self.rows.chunk_by(|a, b| a.slot == b.slot).rev() {
            let at = slot.first().map_or(0, |row| row.slot);
            lay(at.saturating_add(1).max(oldest), above, &logs);
            above = at;
            for row in slot {
                if let Some(stakes) = stakes(row.share) {
                    stakes.add(&mut logs, row.events);
                }
            }
        }
        lay(oldest, above, &logs);
        let mass = restarts.first() / logs.len() as f64;
        for (sum, log) in old.iter_mut().zip(&logs) {
            sum.add(mass, *log);
        }
        let mut unborn = LogSum::new();
        unborn.add(restarts.late(newest.saturating_add(1), u32::MAX - 1), 0.0);
        Standing {
            old: old.map(LogSum::log),
            young: young.log(),
            unborn: unborn.log(),
        }
    }

    /// The logarithm of the evidence, as of the slot `now`.
    pub(super) fn log_evidence(
        &self,
        restarts: Restarts,
        now: u32,
        stakes: impl FnMut(Share) -> Option<Stakes>,
    ) -> f64 {
        self.standing(restarts, now, now, stakes).log()
    }

    fn add(&mut self, row: Row) -> Result<(), Excluded> {
        let newest = self.rows.last().map_or(0, |last| last.slot);
        if row.slot > newest {
            self.fold(row.slot)?;
        }
        let key = |row: &Row| (row.slot, row.share);
        match self.rows.binary_search_by_key(&key(&row), key) {
            Ok(found) => self.rows[found].events.add(row.events),
            Err(place) => {
                let same = |other: &&Row| other.slot == row.slot;
                if self.rows.iter().filter(same).count() >= SHARES {
                    return Err(Excluded::ManyShares);
                }
                self.rows.insert(place, row);
            }
        }
        Ok(())
    }

    /// Puts what lies before the window into slot 0, where only the first copy sees it.
    fn fold(&mut self, newest: u32) -> Result<(), Excluded> {
        let is_old = |row: &Row| row.slot > 0 && folded(row.slot, newest) == 0;
        if !self.rows.iter().any(is_old) {
            return Ok(());
        }
        let (old, kept) = self.rows.drain(..).partition(|row| is_old(row));
        let old: Vec<Row> = old;
        self.rows = kept;
        let mut result = Ok(());
        for row in old {
            result = result.and(self.add(Row { slot: 0, ..row }));
        }
        result
    }
}

/// The evidence of a ledger, kept apart by what it may still be bet on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// The logarithm of each bet, over the copies that had begun by the slot that waits.
    old: Bets,
    /// Of the evidence of those that began after it: what waits is not theirs.
    young: f64,
    /// Of what lies on copies to come.
    unborn: f64,
}

impl Standing {
    /// The logarithm of the evidence.
    pub(super) fn log(&self) -> f64 {
        let mut sum = self.with(&[0.0; 8]);
        sum.add(1.0, self.young);
        sum.log()
    }

    /// The same when each bet goes on by so much. Without the young copies: less, so that it holds.
    pub(super) fn log_with(&self, more: &Bets) -> f64 {
        self.with(more).log()
    }

    fn with(&self, more: &Bets) -> LogSum {
        let mut sum = LogSum::new();
        for (log, more) in self.old.iter().zip(more) {
            sum.add(1.0, log + more);
        }
        sum.add(1.0, self.unborn);
        sum
    }
}

fn folded(slot: u32, newest: u32) -> u32 {
    if slot > newest.saturating_sub(KEPT) {
        slot
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::super::bets::Side;
    use super::*;
    use proptest::prelude::*;

    const HOUR: Restarts = Restarts {
        every_millis: 30_000,
        planned: Some(120),
    };

    fn percent(percent: u32) -> Share {
        Share::from_millionths(percent * 10_000)
    }

    fn stakes(share: Share) -> Option<Stakes> {
        Stakes::new(share, 1.25, Side::Worse)
    }

    /// Every copy by itself, by the definition.
    fn slowly(ledger: &Ledger, restarts: Restarts, now: u32) -> f64 {
        let newest = ledger.rows.last().map_or(now, |row| row.slot.max(now));
        let oldest = newest.saturating_sub(KEPT - 1).max(1);
        let mut sum = LogSum::new();
        for start in (0..=newest).filter(|start| *start == 0 || *start >= oldest) {
            let mut logs = [0.0; 8];
            for row in ledger.rows.iter().filter(|row| row.slot >= start) {
                stakes(row.share).unwrap().add(&mut logs, row.events);
            }
            let mass = if start == 0 {
                restarts.first()
            } else {
                restarts.late(start, start)
            };
            sum.add_mean(mass, &logs);
        }
        sum.add(restarts.late(newest.saturating_add(1), u32::MAX - 1), 0.0);
        sum.log()
    }

    #[test]
    fn stakes_sum_to_one() {
        let without_end = Restarts {
            planned: None,
            ..HOUR
        };
        for restarts in [
            HOUR,
            without_end,
            Restarts {
                planned: Some(0),
                ..HOUR
            },
        ] {
            let sum = restarts.first() + restarts.late(1, u32::MAX - 1);
            assert!((sum - 1.0).abs() < 1e-9, "{restarts:?}: {sum}");
            assert!(Ledger::default().log_evidence(restarts, 0, stakes).abs() < 1e-9);
        }
        assert!((without_end.late(120, 120) - 1.0 / (121.0 * 122.0)).abs() < 1e-12);
        assert_eq!(HOUR.slot(Duration::from_secs(59)), 1);
    }

    #[test]
    fn without_control_nothing_counts() {
        let mut ledger = Ledger::default();
        for share in [Share::ZERO, Share::ALL] {
            let refused = ledger.record(0, share, Arm::Candidate, 1);
            assert_eq!(refused, Err(Excluded::NoControl));
        }
        assert_eq!(ledger, Ledger::default());
    }

    #[test]
    fn rows_stay_few() {
        let mut ledger = Ledger::default();
        let mut refused = 0;
        for slot in 0..10_000 {
            let share = Share::from_millionths(1 + slot % 500);
            refused += u32::from(ledger.record(slot, share, Arm::Stable, 1).is_err());
        }
        assert!(
            ledger.rows.len() <= SHARES + KEPT as usize,
            "{}",
            ledger.rows.len()
        );
        assert!(refused > 0);
        let bytes = ledger.rows.len() * size_of::<Row>();
        assert!(bytes < 8_192, "{bytes} bytes an indicator");
    }

    fn events() -> impl Strategy<Value = Vec<(u32, u32, bool, u64)>> {
        prop::collection::vec((0..200_u32, 1..6_u32, any::<bool>(), 1..5_u64), 0..60)
    }

    fn filled(events: &[(u32, u32, bool, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        let mut sorted = events.to_vec();
        sorted.sort_by_key(|event| event.0);
        for (slot, share, bad, count) in sorted {
            let arm = if bad { Arm::Candidate } else { Arm::Stable };
            ledger
                .record(slot, percent(share * 10), arm, count)
                .unwrap();
        }
        ledger
    }

    proptest! {
        #[test]
        fn as_by_definition(events in events(), now in 0..250_u32, planned in prop::option::of(1..300_u32)) {
            let (ledger, restarts) = (filled(&events), Restarts { planned, ..HOUR });
            let (fast, slow) = (ledger.log_evidence(restarts, now, stakes), slowly(&ledger, restarts, now));
            prop_assert!((fast - slow).abs() < 1e-6, "{fast} {slow}");
        }

        /// What two replicas have counted, merged, is what one would have counted.
        #[test]
        fn merging_is_union(events in events(), split in any::<u64>()) {
            let whose = |index: usize| split >> (index % 64) & 1 == 1;
            let part = |mine: bool| -> Vec<_> {
                let own = |(index, _): &(usize, _)| whose(*index) == mine;
                events.iter().copied().enumerate().filter(own).map(|(_, event)| event).collect()
            };
            let (mut one, mut two) = (filled(&part(true)), filled(&part(false)));
            let copy = one.clone();
            one.merge(&two).unwrap();
            two.merge(&copy).unwrap();
            let whole = filled(&events);
            prop_assert_eq!(&one, &whole);
            prop_assert_eq!(&two, &whole);
        }

        #[test]
        fn a_saved_ledger_is_the_same(events in events()) {
            let ledger = filled(&events);
            let text = serde_json::to_string(&ledger).unwrap();
            prop_assert_eq!(serde_json::from_str::<Ledger>(&text).unwrap(), ledger);
        }

        #[test]
        fn the_order_inside_a_flush_does_not_matter(mut events in events(), turn in any::<usize>()) {
            for event in &mut events {
                event.0 /= 100;
            }
            let whole = filled(&events);
            if !events.is_empty() {
                let middle = turn % events.len();
                events.rotate_left(middle);
            }
            prop_assert_eq!(filled(&events), whole);
        }
    }
}
