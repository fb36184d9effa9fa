//! What breaks the bare test, and that its guard holds: both are shown.

use std::time::Duration;

use weir::rollout::evidence::{Conditions, EpochId, Open, Parameters, SeenKeys, Verdict};
use weir::rollout::{Share, Sli};

use super::{Bench, Chance, Line, Scale, at, bare, part, percent, with_error};

/// One client in a hundred always fails; a client makes 20 requests on average.
pub(super) fn clusters(scale: Scale) -> Vec<Line> {
    let (runs, share) = (scale.runs(2_000), percent(5.0));
    let run = |deduped: bool, chance: &mut Chance| {
        let (mut bench, seen) = (
            Bench::new(&bare(0.05, 1.0, None), share),
            SeenKeys::new(2_000),
        );
        let mut failures = Vec::new();
        for key in 0..1_000_u64 {
            let is_ours = chance.is(share.fraction());
            let rate = if chance.is(0.01) { 1.0 } else { 0.001 };
            let requests = 1 + chance.geometric(0.05);
            for _ in 0..requests {
                if chance.is(rate) {
                    failures.push((chance.unit() * 600.0, key, is_ours));
                }
            }
        }
        failures.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        failures.iter().any(|(now, key, is_ours)| {
            let counts = !deduped || seen.first(Sli::Errors, *key);
            counts && bench.fails(*now, u64::from(!is_ours), u64::from(*is_ours))
        })
    };
    let mut chance = Chance::new(11);
    let without = part(runs, || run(false, &mut chance));
    let with = part(runs, || run(true, &mut chance));
    vec![
        Line::least(
            format!("every event, {runs} rollouts"),
            without,
            with_error(0.05, runs),
        ),
        Line::most(
            format!("the first of each key, {runs} rollouts"),
            with,
            with_error(0.05, runs),
        ),
    ]
}

/// The candidate is three times as slow for its first 20 s, at 1,000 requests a second.
pub(super) fn cold_start(scale: Scale) -> Vec<Line> {
    let runs = scale.runs(100).min(100);
    let share = percent(5.0);
    let mut parameters = bare(0.001, 1.5, Some(120));
    parameters.parts = weir::rollout::PerSli {
        slow: 1.0,
        ..Default::default()
    };
    let run = |graced: bool, chance: &mut Chance| {
        let mut bench = Bench::new(&parameters, share);
        bench.sli = Sli::Slow;
        if graced {
            bench.evidence.endpoint_added(at(0.0));
        }
        (0..600).any(|tick| {
            let now = f64::from(tick) / 10.0;
            let ours = if now < 20.0 { 0.82 } else { 0.1 };
            let candidate = chance.poisson(5.0 * ours);
            bench.epoch = bench.evidence.epoch().unwrap().id;
            bench.fails(now, chance.poisson(9.5), candidate)
        })
    };
    let mut chance = Chance::new(12);
    let without = part(runs, || run(false, &mut chance));
    let with = part(runs, || run(true, &mut chance));
    vec![
        Line::least("without the grace", without, 1.0),
        Line::most("with the grace", with, 0.0),
    ]
}

/// A failed request: when it was assigned and when it ends, in seconds, in which epoch, whose.
struct Failure {
    assigned: f64,
    ends: f64,
    step: usize,
    is_ours: bool,
}

/// Failures a second of both arms, by the second; at most so many.
struct Pace {
    at: fn(f64) -> f64,
    most: f64,
}

/// Both arms fail as often: the candidate after 5 ms, stable after 5 s. In the order in which they end.
fn failures(steps: &[Share], pace: &Pace, chance: &mut Chance) -> Vec<Failure> {
    let mut failures = Vec::new();
    for (step, share) in steps.iter().enumerate() {
        let began = step as f64 * EVERY;
        let mut now = began + chance.exponential(pace.most);
        while now < began + EVERY {
            if chance.is((pace.at)(now) / pace.most) {
                let is_ours = chance.is(share.fraction());
                failures.push(Failure {
                    assigned: now,
                    ends: now + if is_ours { 0.005 } else { 5.0 },
                    step,
                    is_ours,
                });
            }
            now += chance.exponential(pace.most);
        }
    }
    failures.sort_unstable_by(|a, b| a.ends.total_cmp(&b.ends));
    failures
}

/// Seconds from one change of weight to the next.
const EVERY: f64 = 15.0;

/// How often it is looked, in seconds.
const LOOK: f64 = 0.02;

fn fails_fast(
    parameters: &Parameters,
    weights: [f64; 4],
    pace: &Pace,
    chance: &mut Chance,
) -> bool {
    let steps = weights.map(percent);
    let failures = failures(&steps, pace, chance);
    let mut bench = Bench::new(parameters, steps[0]);
    let mut epochs: Vec<EpochId> = vec![bench.epoch];
    let mut next = 0;
    (0..3_000).any(|look| {
        let now = f64::from(look) * LOOK;
        if now >= epochs.len() as f64 * EVERY {
            let share = steps[epochs.len()];
            epochs.push(bench.evidence.begin_epoch(share, at(now)));
        }
        let mut ours = 0;
        while let Some(it) = failures.get(next).filter(|it| it.ends <= now) {
            let is_ours = u64::from(it.is_ours);
            bench.absorb_of(now, epochs[it.step], it.assigned, 1 - is_ours, is_ours);
            ours += is_ours;
            next += 1;
        }
        // Evidence rises with the candidate's failures and with the time that stable's requests had.
        if ours == 0 && look % 10 != 0 {
            return false;
        }
        let is_open = |it: &&Failure| !it.is_ours && it.assigned <= now && it.ends > now;
        let mut open: Vec<Open> = failures[next..]
            .iter()
            .filter(is_open)
            .map(|it| Open {
                assigned: at(it.assigned),
                requests: 1,
            })
            .collect();
        open.sort_unstable_by_key(|it| it.assigned);
        let conditions = Conditions {
            open,
            load_ratio: None,
        };
        bench.evidence.judge(at(now), &conditions).verdict == Verdict::Fail
    })
}

pub(super) fn fail_fast(scale: Scale) -> Vec<Line> {
    let (runs, mut lines) = (scale.runs(2_000), Vec::new());
    let ramp = ("weight steps", [1.0, 5.0, 25.0, 50.0]);
    let outage = ("an outage of both begins", [5.0; 4]);
    let few = Pace {
        at: |_| 1.0,
        most: 1.0,
    };
    let many = Pace {
        at: |_| 10.0,
        most: 10.0,
    };
    let late = Pace {
        at: |now| if now < 30.0 { 0.1 } else { 30.0 },
        most: 30.0,
    };
    for ((what, weights), pace) in [(ramp, few), (ramp, many), (outage, late)] {
        for alpha in [0.05, 0.001] {
            let with = |hold: f64| Parameters {
                hold: Duration::from_secs_f64(hold),
                min_events: weir::rollout::PerSli::from_fn(|_| 3),
                ..bare(alpha, 1.0, Some(120))
            };
            let found = |parameters: Parameters| {
                let mut chance = Chance::new(13);
                part(runs, || {
                    fails_fast(&parameters, weights, &pace, &mut chance)
                })
            };
            let bound = with_error(alpha, runs);
            let setup = |hold| {
                let most = pace.most;
                format!("{what}, {most} failures/s, alpha {alpha}, {hold}, {runs} rollouts")
            };
            // With few failures in five seconds there is nothing to be misled by.
            if pace.most > 1.0 {
                lines.push(Line::least(setup("no hold"), found(with(0.0)), bound));
            }
            lines.push(Line::most(setup("hold"), found(with(5.25)), bound));
        }
    }
    lines
}
