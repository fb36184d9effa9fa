//! The labelled-event test: counts of bad events in, a judgement out.
//!
//! Owns the evidence of one rollout. Must not know its steps, nor who counts.
//!
//! Only bad events are looked at, each with its label (whose it was) and the share at which its request
//! was assigned: `bets` says what one is worth, `ledger` adds them up with fresh starts, `keys` keeps one
//! client from counting twice, `epochs` remembers the shares, `waiting` lets the arm that fails late have
//! its chance, `rate` judges the step.

mod bets;
mod epochs;
mod judgement;
mod keys;
mod ledger;
mod parameters;
pub(super) mod rate;
#[cfg(test)]
mod tests;
mod waiting;

use serde::{Deserialize, Serialize};

use self::bets::{LogSum, Side, Stakes};
use self::epochs::Epochs;
use self::ledger::Standing;
use self::waiting::{Few, Waiting};
use super::{Arm, Excluded, Exclusions, Moment, PerArm, PerSli, Share, Sli};

pub use self::epochs::{Epoch, EpochId};
pub use self::judgement::{Excess, Judgement, Reading, Reason, Verdict};
pub use self::keys::{KeySketch, SeenKeys};
pub use self::ledger::{Ledger, Restarts, Row};
pub use self::parameters::{Parameters, Promotion, Rule, Unit};
pub use self::waiting::Open;

/// What ended since the last flush, of requests that were assigned in one epoch. First attempts only.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flush {
    /// The epoch in which they were assigned.
    pub epoch: EpochId,
    /// When those were assigned that are the candidate's events here: the beginning of a slice of time.
    pub assigned: Moment,
    /// Bad events that count: with [`Unit::Key`], the first of each key.
    pub events: PerSli<PerArm<u64>>,
    /// Hashes of the keys of the candidate's events; more than [`KeySketch::MOST`] are of no use.
    pub keys: Vec<(Sli, u64)>,
    /// All requests.
    pub requests: PerArm<u64>,
    /// Those of them that failed hard, repeated keys included.
    pub failures: PerArm<u64>,
    /// What was left out already.
    pub excluded: Exclusions,
}

/// What the judgement needs to know of the moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Conditions {
    /// Stable's requests that have not ended, in the order of assignment. They matter only where events of the
    /// candidate wait for them.
    pub open: Vec<Open>,
    /// Requests a second at an endpoint of the candidate, divided by the same of stable.
    pub load_ratio: Option<f64>,
}

/// Above it, latency is not the code's fault. There is no bound below: a candidate with less load than stable
/// has no such excuse, and a canary of 5 % on one endpoint always has less.
const LOAD_RATIO: f64 = 2.0;

/// Stable's rate is believed from so many requests on.
const ENOUGH: u64 = 1_000;

/// Requests of an epoch from which on their real share is believed ([`Unit::Request`]).
const SHARE_ENOUGH: u64 = 100;

/// What is counted since a step began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Requests of both arms.
    pub requests: PerArm<u64>,
    /// Those that failed hard.
    pub failures: PerArm<u64>,
    /// Failures that count, by share.
    pub events: Ledger,
    /// The rate that the candidate has to stay below; fixed when the step began.
    pub limit: f64,
}

/// The evidence of one rollout on one replica, or of several, merged.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    origin: Moment,
    parameters: Parameters,
    epochs: Epochs,
    /// What waits for nothing,
    ledgers: PerSli<Ledger>,
    /// and the candidate's events that do.
    waiting: PerSli<Waiting>,
    keys: PerSli<KeySketch>,
    step: Step,
    requests: PerArm<u64>,
    failures: PerArm<u64>,
    /// Failures of the candidate that stable's explain, with tolerance.
    permitted: f64,
    excluded: Exclusions,
    greatest: PerSli<f64>,
    /// Stakes at the shares seen so far, and what the ledgers come to as of two slots.
    #[serde(skip)]
    stakes: PerSli<Vec<(Share, Stakes)>>,
    #[serde(skip)]
    known: PerSli<Option<(u32, u32, Standing)>>,
}

/// What replicas send each other: totals, so that a lost or repeated message only means an older total.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    /// Events by indicator, slot and share.
    pub ledgers: PerSli<Ledger>,
    /// The candidate's keys.
    pub keys: PerSli<KeySketch>,
    /// Since the step began.
    pub step: Step,
}

impl Evidence {
    /// No evidence. All replicas must name the same `origin`, from which their slots are counted.
    pub fn new(parameters: Parameters, origin: Moment) -> Self {
        Self {
            origin,
            parameters,
            epochs: Epochs::default(),
            ledgers: PerSli::default(),
            waiting: PerSli::default(),
            keys: PerSli::default(),
            step: Step::default(),
            requests: PerArm::default(),
            failures: PerArm::default(),
            permitted: 0.0,
            excluded: Exclusions::default(),
            greatest: PerSli::default(),
            stakes: PerSli::default(),
            known: PerSli::default(),
        }
    }

    /// No evidence again, for another run: no number of an epoch comes a second time, so that what is still
    /// under way counts nowhere.
    #[must_use]
    pub fn anew(&self, parameters: Parameters, origin: Moment) -> Self {
        Self {
            epochs: self.epochs.anew(),
            ..Self::new(parameters, origin)
        }
    }

    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Begins an epoch: from now on requests are assigned at this share.
    pub fn begin_epoch(&mut self, share: Share, now: Moment) -> EpochId {
        self.epochs.begin(share, now)
    }

    /// The epoch that requests are to be assigned in.
    pub fn epoch(&self) -> Option<&Epoch> {
        self.epochs.current()
    }

    /// The newest epochs, oldest first.
    pub fn epochs(&self) -> impl Iterator<Item = &Epoch> {
        self.epochs.all()
    }

    /// Begins a step: what the promotion rule looks at starts anew, with a limit that is fixed now.
    pub fn begin_step(&mut self) {
        let rule = &self.parameters.promotion;
        let rate = if self.requests.stable < ENOUGH {
            0.0
        } else {
            self.failures.stable as f64 / self.requests.stable as f64
        };
        self.step = Step {
            limit: (rule.factor * rate).max(rule.floor).min(0.5),
            ..Step::default()
        };
    }

    /// An endpoint is new: until the grace has passed, slowness of either arm is left out.
    pub fn endpoint_added(&mut self, now: Moment) {
        self.epochs.chill(now, now.after(self.parameters.grace));
    }

    /// What was left out, by reason.
    pub fn excluded(&self) -> &Exclusions {
        &self.excluded
    }

    /// What is counted since the step began.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// Requests of the whole rollout, and those that failed hard.
    pub fn requests(&self) -> (PerArm<u64>, PerArm<u64>) {
        (self.requests, self.failures)
    }

    /// The events of one indicator.
    pub fn ledger(&self, sli: Sli) -> &Ledger {
        self.ledgers.get(sli)
    }

    /// Whether events of the candidate wait for requests of stable.
    pub fn has_waiting(&self) -> bool {
        let waits = |sli: &Sli| self.waiting.get(*sli).first().is_some();
        Sli::ALL.iter().any(waits)
    }

    /// Adds what ended since the last time.
    pub fn absorb(&mut self, now: Moment, flush: &Flush) {
        self.excluded.merge(&flush.excluded);
        let Some(epoch) = self.epochs.get_mut(flush.epoch) else {
            for sli in Sli::ALL {
                self.excluded
                    .add(Excluded::OldEpoch, flush.events.get(sli).total());
            }
            return;
        };
        let (cold, share) = (epoch.cold, real_share(epoch, self.parameters.unit));
        epoch.requests.add(flush.requests);
        self.requests.add(flush.requests);
        self.failures.add(flush.failures);
        self.step.requests.add(flush.requests);
        self.step.failures.add(flush.failures);
        if share != Share::ALL {
            let odds = share.fraction() / share.rest().fraction();
            self.permitted +=
                flush.failures.stable as f64 * odds * self.parameters.tolerance.errors;
        }
        let slot = self.slot(now);
        for sli in Sli::ALL {
            let events = *flush.events.get(sli);
            if events.total() == 0 {
                continue;
            }
            if cold && sli.is_latency() {
                self.excluded.add(Excluded::ColdStart, events.total());
                continue;
            }
            if share == Share::ZERO || share == Share::ALL {
                self.excluded.add(Excluded::NoControl, events.total());
                continue;
            }
            self.count(sli, share, Arm::Stable, events.stable, slot);
            self.count_in_step(sli, share, Arm::Stable, events.stable);
            let few = Few {
                assigned: flush.assigned,
                share,
                count: events.candidate,
            };
            if few.count > 0 {
                self.waiting.get_mut(sli).add(few);
                self.count_in_step(sli, share, Arm::Candidate, few.count);
            }
        }
        for (sli, key) in &flush.keys {
            if !(cold && sli.is_latency()) {
                self.keys.get_mut(*sli).insert(*key);
            }
        }
    }

    fn count(&mut self, sli: Sli, share: Share, arm: Arm, count: u64, slot: u32) {
        if count == 0 {
            return;
        }
        *self.known.get_mut(sli) = None;
        if let Err(reason) = self.ledgers.get_mut(sli).record(slot, share, arm, count) {
            self.excluded.add(reason, count);
        }
    }

    fn count_in_step(&mut self, sli: Sli, share: Share, arm: Arm, count: u64) {
        if sli == Sli::Errors && count > 0 {
            // What it refuses, the ledger refuses as well, and counts.
            let _counted = self.step.events.record(0, share, arm, count).is_ok();
        }
    }

    /// Stable's open requests that may still fail, each at the greatest share that it may be of; and counts
    /// what has nothing to wait for.
    fn settle(&mut self, now: Moment, conditions: &Conditions) -> Vec<Few> {
        let hold = self.parameters.hold;
        let young = |open: &&Open| open.requests > 0 && now.since(open.assigned) < hold;
        let at = |open: &Open| {
            let shares = self.epochs.near(open.assigned);
            let shares = shares.map(|epoch| real_share(epoch, self.parameters.unit));
            shares
                .filter(|share| *share > Share::ZERO && *share < Share::ALL)
                .max()
        };
        let open: Vec<Few> = conditions
            .open
            .iter()
            .filter(young)
            .filter_map(|open| {
                Some(Few {
                    assigned: open.assigned,
                    share: at(open)?,
                    count: open.requests,
                })
            })
            .collect();
        let oldest = open.first().map(|few| few.assigned);
        for sli in Sli::ALL {
            let ripe: Vec<Few> = self.waiting.get_mut(sli).ripe(oldest).collect();
            for few in ripe {
                // By its assignment, as the copies of the bets are.
                let slot = self.slot(few.assigned);
                self.count(sli, few.share, Arm::Candidate, few.count, slot);
            }
        }
        open
    }

    fn slot(&self, at: Moment) -> u32 {
        self.parameters.restarts.slot(at.since(self.origin))
    }

    /// What other replicas may add up.
    pub fn totals(&self) -> Totals {
        Totals {
            ledgers: self.ledgers.clone(),
            keys: self.keys.clone(),
            step: self.step.clone(),
        }
    }

    /// Adds what another replica has counted. For a copy that is judged and thrown away.
    pub fn merge(&mut self, totals: &Totals) {
        for sli in Sli::ALL {
            if let Err(reason) = self.ledgers.get_mut(sli).merge(totals.ledgers.get(sli)) {
                self.excluded.add(reason, 1);
            }
            self.keys.get_mut(sli).merge(totals.keys.get(sli));
            *self.known.get_mut(sli) = None;
        }
        self.step.requests.add(totals.step.requests);
        self.step.failures.add(totals.step.failures);
        // The ledger of a step has one slot; a refusal is counted above.
        let _merged = self.step.events.merge(&totals.step.events).is_ok();
    }

    /// Judges what is known now. Looking more often changes nothing about how often it is wrong.
    pub fn judge(&mut self, now: Moment, conditions: &Conditions) -> Judgement {
        self.epochs.follow(now);
        let open = self.settle(now, conditions);
        let (mut all, mut early) = (LogSum::new(), LogSum::new());
        let mut left = 1.0;
        let readings = PerSli::from_fn(|sli| {
            let reading = self.read(sli, now, &open);
            let part = *self.parameters.parts.get(sli);
            all.add(part, reading.log_evidence);
            early.add(part, reading.log_early);
            left -= part;
            reading
        });
        // What is not divided is not bet.
        all.add(left, 0.0);
        early.add(left, 0.0);
        let log_evidence = all.log();
        let failing = self.failing(&readings, conditions);
        let is_held = matches!(failing, Some(Reason::Held(_)));
        let frozen = is_held || early.log() >= self.parameters.freeze.ln();
        let log_promotion = self.log_promotion();
        let log_promotion_threshold = -self.parameters.promotion.false_pass.ln();
        let (verdict, reason) = match failing {
            Some(reason @ (Reason::Worse(_) | Reason::AboveLimit)) => (Verdict::Fail, reason),
            _ if self.step.requests.candidate == 0 => (Verdict::NoData, Reason::NoRequests),
            Some(reason) => (Verdict::Undecided, reason),
            None if frozen => (Verdict::Undecided, Reason::Frozen),
            None if log_promotion >= log_promotion_threshold => (Verdict::Pass, Reason::RuleHolds),
            None => (Verdict::Undecided, Reason::MoreEvidence),
        };
        Judgement {
            verdict,
            reason,
            frozen,
            log_evidence,
            log_promotion,
            log_promotion_threshold,
            excess: self.excess(),
            exact: self.parameters.unit == Unit::Key,
            indicators: readings,
        }
    }

    fn read(&mut self, sli: Sli, now: Moment, open: &[Few]) -> Reading {
        let restarts = self.parameters.restarts;
        let (slot, waiting) = (self.slot(now), self.waiting.get(sli));
        let waits = waiting
            .first()
            .map_or(slot, |first| self.slot(first).min(slot));
        let ledger = self.ledgers.get(sli);
        let tolerance = *self.parameters.tolerance.get(sli);
        let cache = self.stakes.get_mut(sli);
        let mut stakes = |share| remembered(cache, share, tolerance);
        let standing = match *self.known.get(sli) {
            Some((at, waited, standing)) if (at, waited) == (slot, waits) => standing,
            _ => {
                let standing = ledger.standing(restarts, slot, waits, &mut stakes);
                *self.known.get_mut(sli) = Some((slot, waits, standing));
                standing
            }
        };
        let temper = self.parameters.temper.max(1.0);
        let log_threshold = self.parameters.log_threshold(sli);
        let matters = self
            .parameters
            .freeze
            .ln()
            .min(log_threshold.unwrap_or(f64::MAX));
        let worth = waiting.worth(&standing, open, matters * temper, stakes);
        let log_evidence = worth.log_sure / temper;
        let greatest = self.greatest.get_mut(sli);
        *greatest = greatest.max(log_evidence);
        let mut events = ledger.events();
        events.candidate += waiting.count();
        Reading {
            events,
            log_evidence,
            log_early: worth.log_early / temper,
            log_threshold,
            p: (-*greatest).exp().min(1.0),
            keys: self.keys.get(sli).count(),
        }
    }

    /// Why the candidate fails, or would fail.
    fn failing(&self, readings: &PerSli<Reading>, conditions: &Conditions) -> Option<Reason> {
        let (mut best, mut margin) = (None, f64::NEG_INFINITY);
        let (mut held, mut doubt) = (None, None);
        for sli in Sli::ALL {
            let reading = readings.get(sli);
            let Some(at) = reading.log_threshold.filter(|at| reading.log_early >= *at) else {
                continue;
            };
            let above = reading.log_evidence - at;
            let is_few = reading.events.candidate < *self.parameters.min_events.get(sli)
                || reading.keys < self.parameters.min_keys.min(KeySketch::MOST);
            let is_confounded = sli.is_latency()
                && conditions
                    .load_ratio
                    .is_some_and(|ratio| ratio > LOAD_RATIO);
            if is_few {
                doubt = doubt.or(Some(Reason::FewKeys(sli)));
            } else if is_confounded {
                doubt = doubt.or(Some(Reason::Confounded(sli)));
            } else if above < 0.0 {
                held = held.or(Some(Reason::Held(sli)));
            } else if above > margin {
                (best, margin) = (Some(Reason::Worse(sli)), above);
            }
        }
        let limit = || self.is_above_limit().then_some(Reason::AboveLimit);
        best.or(held).or(doubt).or_else(limit)
    }

    /// Only where no control is left.
    fn is_above_limit(&self) -> bool {
        let is_alone = self
            .epochs
            .current()
            .is_some_and(|epoch| epoch.share == Share::ALL);
        self.parameters.limit_without_control.is_some_and(|limit| {
            let (requests, failures) = (self.step.requests.candidate, self.step.failures.candidate);
            is_alone
                && failures >= self.parameters.min_events.errors
                && rate::log_above(limit, requests, failures) >= -self.parameters.false_alarm.ln()
        })
    }

    fn log_promotion(&self) -> f64 {
        let (step, rule) = (&self.step, &self.parameters.promotion);
        match rule.rule {
            Rule::Absolute => {
                rate::log_below(step.limit, step.requests.candidate, step.failures.candidate)
            }
            Rule::Relative => {
                let once = Restarts {
                    planned: Some(0),
                    ..self.parameters.restarts
                };
                step.events.log_evidence(once, 0, |share| {
                    Stakes::new(share, rule.tolerance, Side::Better)
                })
            }
        }
    }

    fn excess(&self) -> Excess {
        let tolerance = self.parameters.tolerance.errors;
        let beyond = |row: &Row| {
            let odds = row.share.fraction() / row.share.rest().fraction();
            row.events.candidate as f64 - tolerance * odds * row.events.stable as f64
        };
        Excess {
            requests: self.failures.candidate as f64 - self.permitted,
            keys: self.ledgers.errors.rows().iter().map(beyond).sum::<f64>()
                + self.waiting.errors.count() as f64,
        }
    }
}

/// The share that events are judged by: as assigned, or as requests really came.
fn real_share(epoch: &Epoch, unit: Unit) -> Share {
    let total = epoch.requests.total();
    if unit == Unit::Key || total < SHARE_ENOUGH {
        return epoch.share;
    }
    // In thousandths, so that there are few different ones; never none or all.
    let thousandths = (epoch.requests.candidate as f64 * 1_000.0 / total as f64).round();
    Share::from_fraction(thousandths.clamp(1.0, 999.0) / 1_000.0)
}

/// Stakes are dear; shares are few.
fn remembered(cache: &mut Vec<(Share, Stakes)>, share: Share, tolerance: f64) -> Option<Stakes> {
    if let Some((_, stakes)) = cache.iter().find(|(known, _)| *known == share) {
        return Some(*stakes);
    }
    let stakes = Stakes::new(share, tolerance, Side::Worse)?;
    if cache.len() > 256 {
        cache.clear();
    }
    cache.push((share, stakes));
    Some(stakes)
}
