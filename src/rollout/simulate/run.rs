//! One run: traffic until the candidate loses it, or the horizon.
//!
//! Owns the order of events. Must not know how runs are summed up.

use std::collections::HashSet;
use std::time::Duration;

use rand::{Rng, RngExt};

use super::super::evidence::{Conditions, Evidence, Flush, SeenKeys, Verdict};
use super::super::{Arm, Excluded, Moment, Sli};
use super::{Outcome, Setup};

/// How often the data path hands over its counts.
const FLUSH: f64 = 0.02;

/// Any time will do.
const START: Moment = Moment::from_millis(1_750_000_000_000);

/// What can happen.
const KINDS: [(Arm, Sli); 6] = [
    (Arm::Stable, Sli::Errors),
    (Arm::Candidate, Sli::Errors),
    (Arm::Stable, Sli::Slow),
    (Arm::Candidate, Sli::Slow),
    (Arm::Stable, Sli::VerySlow),
    (Arm::Candidate, Sli::VerySlow),
];

/// From the moment in which the candidate gets its share.
pub fn run(setup: &Setup, rng: &mut impl Rng) -> Outcome {
    let mut run = Run::new(setup);
    let rates = KINDS.map(|(arm, sli)| run.rate(arm, sli));
    let total: f64 = rates.iter().sum();
    let horizon = setup.horizon.as_secs_f64();
    let mut time = exponential(total, rng);
    while time <= horizon {
        // Everything up to the next flush at which something is to be told.
        let next = (time / FLUSH).floor() * FLUSH + FLUSH;
        while time < next {
            let (arm, sli) = KINDS[chosen(&rates, total, rng)];
            run.event(arm, sli, time, rng);
            time += exponential(total, rng);
        }
        if let Some(outcome) = run.flush(next, rng) {
            return outcome;
        }
    }
    run.outcome(None, horizon, rng)
}

struct Run<'a> {
    setup: &'a Setup,
    evidence: Evidence,
    seen: Option<SeenKeys>,
    /// The next key when every request is its own.
    fresh: u64,
    pending: Flush,
    has_candidate: bool,
    failed: f64,
    failed_shielded: f64,
    keys: HashSet<u64>,
    keys_shielded: HashSet<u64>,
    shielded: f64,
}

impl<'a> Run<'a> {
    fn new(setup: &'a Setup) -> Self {
        let mut evidence = Evidence::new(setup.parameters.clone(), START);
        let epoch = evidence.begin_epoch(setup.share, START);
        evidence.begin_step();
        Self {
            setup,
            evidence,
            seen: setup.keys.map(|keys| SeenKeys::new(keys as usize)),
            fresh: 0,
            pending: Flush {
                epoch,
                ..Flush::default()
            },
            has_candidate: false,
            failed: 0.0,
            failed_shielded: 0.0,
            keys: HashSet::new(),
            keys_shielded: HashSet::new(),
            shielded: 0.0,
        }
    }

    /// Bad events of that kind a second.
    fn rate(&self, arm: Arm, sli: Sli) -> f64 {
        let (share, rates) = match arm {
            Arm::Stable => (self.setup.share.rest(), &self.setup.rates.stable),
            Arm::Candidate => (self.setup.share, &self.setup.rates.candidate),
        };
        let rate = match sli {
            Sli::Errors => rates.errors,
            Sli::Slow => rates.slow,
            Sli::VerySlow => rates.very_slow,
            Sli::Timeouts | Sli::ClientErrors | Sli::Custom => 0.0,
        };
        self.setup.rps * share.fraction() * rate
    }

    fn event(&mut self, arm: Arm, sli: Sli, time: f64, rng: &mut impl Rng) {
        let key = self.key(arm, rng);
        if arm == Arm::Candidate && sli == Sli::Errors {
            self.failure(key, time, rng);
        }
        let failures = self.pending.failures.get_mut(arm);
        *failures += u64::from(sli == Sli::Errors);
        if self.seen.as_ref().is_some_and(|seen| !seen.first(sli, key)) {
            self.pending.excluded.add(Excluded::RepeatedKey, 1);
            return;
        }
        *self.pending.events.get_mut(sli).get_mut(arm) += 1;
        if arm == Arm::Candidate {
            self.has_candidate = true;
            self.pending.keys.push((sli, key));
        }
    }

    /// What it costs, with the shield and without.
    fn failure(&mut self, key: u64, time: f64, rng: &mut impl Rng) {
        let setup = self.setup;
        let requests = setup.rps * setup.share.fraction() * time + 1.0;
        let allowance = setup.shield.part * requests + setup.shield.per_second * (time + 1.0);
        self.failed += 1.0;
        self.keys.insert(key);
        let is_saved = self.shielded < allowance && {
            self.shielded += 1.0;
            !rng.random_bool(setup.rates.stable.errors.clamp(0.0, 1.0))
        };
        if !is_saved {
            self.failed_shielded += 1.0;
            self.keys_shielded.insert(key);
        }
    }

    /// A key of the arm: the first of them are the candidate's.
    fn key(&mut self, arm: Arm, rng: &mut impl Rng) -> u64 {
        let Some(keys) = self.setup.keys else {
            self.fresh += 1;
            return self.fresh;
        };
        let ours = (f64::from(keys) * self.setup.share.fraction()).round() as u32;
        let range = match arm {
            Arm::Candidate => 0..ours.max(1),
            Arm::Stable => ours.min(keys.saturating_sub(1))..keys.max(1),
        };
        u64::from(rng.random_range(range))
    }

    /// Hands over what has ended; returns how it went when that decided it.
    fn flush(&mut self, time: f64, rng: &mut impl Rng) -> Option<Outcome> {
        let now = START.after(Duration::from_secs_f64(time) + self.setup.latency);
        let epoch = self
            .evidence
            .epoch()
            .map(|epoch| epoch.id)
            .unwrap_or_default();
        let mut flush = std::mem::replace(
            &mut self.pending,
            Flush {
                epoch,
                ..Flush::default()
            },
        );
        flush.assigned = START.after(Duration::from_secs_f64(time));
        self.evidence.absorb(now, &flush);
        // Only an event of the candidate raises the evidence.
        if !std::mem::take(&mut self.has_candidate) {
            return None;
        }
        // Every request takes as long, so that none of stable's is open that was assigned before a failure.
        let judgement = self.evidence.judge(now, &Conditions::default());
        (judgement.verdict == Verdict::Fail).then(|| {
            let decided = time + self.setup.latency.as_secs_f64();
            self.outcome(Some(decided), decided, rng)
        })
    }

    fn outcome(&mut self, seen: Option<f64>, time: f64, rng: &mut impl Rng) -> Outcome {
        if seen.is_some() {
            // Requests that were assigned while the failures that decided were under way.
            let rate = self.rate(Arm::Candidate, Sli::Errors);
            let mut later = time - self.setup.latency.as_secs_f64() + exponential(rate, rng);
            while later < time {
                let key = self.key(Arm::Candidate, rng);
                self.failure(key, later, rng);
                later += exponential(rate, rng);
            }
        }
        Outcome {
            seen: seen.map(Duration::from_secs_f64),
            requests: self.setup.rps * time,
            failed: self.failed,
            failed_shielded: self.failed_shielded,
            keys: self.keys.len() as f64,
            keys_shielded: self.keys_shielded.len() as f64,
        }
    }
}

/// Time to the next event; infinite when there is none.
fn exponential(rate: f64, rng: &mut impl Rng) -> f64 {
    if rate <= 0.0 {
        return f64::INFINITY;
    }
    // In (0, 1], so that the logarithm is finite.
    let uniform = 1.0 - rng.random::<f64>();
    -uniform.ln() / rate
}

fn chosen(rates: &[f64], total: f64, rng: &mut impl Rng) -> usize {
    let mut point = rng.random::<f64>() * total;
    let last = rates.iter().rposition(|rate| *rate > 0.0).unwrap_or(0);
    for (index, rate) in rates.iter().enumerate() {
        point -= rate;
        if point < 0.0 {
            return index;
        }
    }
    last
}
