//! What the engine of rollouts promises, by simulation. The tests run every table small; `cargo bench
//! --bench rollout_tables` runs them at full size and prints the numbers.

mod chance;
mod cost;
mod delay;
mod fleet;
mod foresight;
mod guards;
mod null;
mod promotion;

use weir::rollout::evidence::{
    Conditions, EpochId, Evidence, Flush, Judgement, Parameters, Restarts, Verdict,
};
use weir::rollout::{Moment, PerArm, PerSli, Share, Sli};

pub(crate) use chance::Chance;

/// One number and what it may be.
pub(crate) struct Line {
    pub(crate) setup: String,
    pub(crate) found: f64,
    pub(crate) bound: Bound,
}

pub(crate) enum Bound {
    Most(f64),
    Least(f64),
}

impl Line {
    fn most(setup: impl Into<String>, found: f64, most: f64) -> Self {
        Self {
            setup: setup.into(),
            found,
            bound: Bound::Most(most),
        }
    }

    fn least(setup: impl Into<String>, found: f64, least: f64) -> Self {
        Self {
            setup: setup.into(),
            found,
            bound: Bound::Least(least),
        }
    }

    pub(crate) fn holds(&self) -> bool {
        match self.bound {
            Bound::Most(most) => self.found <= most,
            Bound::Least(least) => self.found >= least,
        }
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sign, bound) = match self.bound {
            Bound::Most(most) => ("<=", most),
            Bound::Least(least) => (">=", least),
        };
        let mark = if self.holds() { "" } else { "   BROKEN" };
        write!(
            f,
            "{:<76} {:>10.4} {sign} {bound:.4}{mark}",
            self.setup, self.found
        )
    }
}

/// How much of the full size: 1 is all of it.
#[derive(Clone, Copy)]
pub(crate) struct Scale(pub(crate) f64);

impl Scale {
    fn runs(self, full: u32) -> u32 {
        ((f64::from(full) * self.0) as u32).max(40)
    }
}

pub(crate) type Table = fn(Scale) -> Vec<Line>;

/// All tables, each with the part of its full size that a test has time for.
pub(crate) const TABLES: &[(&str, Table, f64)] = &[
    ("false alarms at 5 %", null::five_percent, 0.004),
    ("false alarms at 0.1 %", null::one_in_a_thousand, 0.005),
    (
        "false alarms at exactly the tolerance",
        null::composite,
        0.004,
    ),
    (
        "false alarms at exactly the tolerance, 0.1 %",
        null::composite_one_in_a_thousand,
        0.005,
    ),
    ("an outage of both arms", null::outage, 0.05),
    ("bursts of ten times the load", null::bursts, 0.05),
    ("a ramp with requests under way", null::ramp, 0.05),
    ("keyed and stratified draws", null::draws, 0.05),
    ("clients that always fail", guards::clusters, 0.05),
    ("a cold candidate", guards::cold_start, 0.05),
    (
        "one arm fails fast, the other slowly",
        guards::fail_fast,
        0.02,
    ),
    ("a fleet of twenty", fleet::fleet, 0.02),
    ("delay of detection", delay::delay, 0.05),
    ("misses", delay::misses, 0.05),
    ("a late change", delay::late, 0.02),
    ("false promotions", promotion::promotions, 0.02),
    ("foresight", foresight::foresight, 0.05),
    ("cost", cost::cost, 0.05),
];

const START: Moment = Moment::from_millis(1_750_000_000_000);

/// One indicator alone, no guard: the bare test.
fn bare(false_alarm: f64, tolerance: f64, restarts: Option<u32>) -> Parameters {
    Parameters {
        false_alarm,
        parts: PerSli {
            errors: 1.0,
            ..PerSli::default()
        },
        tolerance: PerSli::from_fn(|_| tolerance),
        min_events: PerSli::default(),
        min_keys: 0,
        restarts: Restarts {
            planned: restarts,
            ..Restarts::until(None)
        },
        ..Parameters::default()
    }
}

/// Evidence about one indicator, fed event by event.
struct Bench {
    evidence: Evidence,
    epoch: EpochId,
    sli: Sli,
}

impl Bench {
    fn new(parameters: &Parameters, share: Share) -> Self {
        let mut evidence = Evidence::new(parameters.clone(), START);
        let epoch = evidence.begin_epoch(share, START);
        evidence.begin_step();
        Self {
            evidence,
            epoch,
            sli: Sli::Errors,
        }
    }

    /// Counts events whose requests take no time.
    fn absorb(&mut self, seconds: f64, epoch: EpochId, stable: u64, candidate: u64) {
        self.absorb_of(seconds, epoch, seconds, stable, candidate);
    }

    /// Counts events whose requests were assigned at that time, in that epoch.
    fn absorb_of(
        &mut self,
        seconds: f64,
        epoch: EpochId,
        assigned: f64,
        stable: u64,
        candidate: u64,
    ) {
        if stable + candidate == 0 {
            return;
        }
        let mut flush = Flush {
            epoch,
            assigned: at(assigned),
            ..Flush::default()
        };
        *flush.events.get_mut(self.sli) = PerArm { stable, candidate };
        self.evidence.absorb(at(seconds), &flush);
    }

    fn judge(&mut self, seconds: f64) -> Judgement {
        self.evidence.judge(at(seconds), &Conditions::default())
    }

    /// Counts events and says whether the candidate is rolled back. Only its events raise the evidence.
    fn fails(&mut self, seconds: f64, stable: u64, candidate: u64) -> bool {
        self.absorb(seconds, self.epoch, stable, candidate);
        candidate > 0 && self.judge(seconds).verdict == Verdict::Fail
    }
}

fn at(seconds: f64) -> Moment {
    START.after(std::time::Duration::from_secs_f64(seconds))
}

fn percent(percent: f64) -> Share {
    Share::from_percent(percent).unwrap()
}

/// Share of an event's being the candidate's when it fails `ratio` times as often.
fn label(share: Share, ratio: f64) -> f64 {
    let w = share.fraction();
    ratio * w / (ratio * w + 1.0 - w)
}

/// How often something is true in `runs`.
fn part(runs: u32, mut once: impl FnMut() -> bool) -> f64 {
    f64::from((0..runs).map(|_| u32::from(once())).sum::<u32>()) / f64::from(runs)
}

/// A probability, three standard errors up: what so many runs may show.
fn with_error(probability: f64, runs: u32) -> f64 {
    probability + 3.0 * (probability * (1.0 - probability) / f64::from(runs)).sqrt()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((part * values.len() as f64) as usize).min(values.len() - 1)]
}
