//! A step that must not be passed, and one that must.

use weir::rollout::PerArm;
use weir::rollout::evidence::{Conditions, Evidence, Flush, Parameters, Promotion, Rule, Verdict};

use super::{Bench, Chance, Line, START, Scale, at, bare, label, mean, part, percent, with_error};

/// Requests of the candidate until the step is passed, if within so many. The limit is 0.5 %.
fn passes(rate: f64, most: u64, chance: &mut Chance) -> Option<f64> {
    let mut evidence = Evidence::new(Parameters::default(), START);
    let epoch = evidence.begin_epoch(percent(5.0), START);
    evidence.begin_step();
    let mut flush = |good: u64, failed: u64| {
        let requests = PerArm {
            stable: 0,
            candidate: good + failed,
        };
        let failures = PerArm {
            stable: 0,
            candidate: failed,
        };
        evidence.absorb(
            at(60.0),
            &Flush {
                epoch,
                requests,
                failures,
                ..Flush::default()
            },
        );
        evidence.judge(at(60.0), &Conditions::default()).verdict == Verdict::Pass
    };
    let mut passed = 0;
    while passed < most {
        // Evidence rises with every good one, and falls with the failure that ends them.
        let good = if rate > 0.0 {
            chance.geometric(rate)
        } else {
            most
        };
        let mut left = good;
        while left > 0 {
            let some = left.min(50);
            if flush(some, 0) {
                return Some((passed + good - left + some) as f64);
            }
            left -= some;
        }
        flush(0, 1);
        passed += good + 1;
    }
    None
}

fn relative(ratio: f64, chance: &mut Chance) -> Option<f64> {
    let promotion = Promotion {
        rule: Rule::Relative,
        ..Parameters::default().promotion
    };
    let share = percent(10.0);
    let mut bench = Bench::new(
        &Parameters {
            promotion,
            ..bare(0.001, 2.0, Some(0))
        },
        share,
    );
    let epoch = bench.epoch;
    let request = Flush {
        epoch,
        requests: PerArm {
            stable: 0,
            candidate: 1,
        },
        ..Flush::default()
    };
    bench.evidence.absorb(at(60.0), &request);
    let q = label(share, ratio);
    (1..=600)
        .find(|_| {
            let ours = u64::from(chance.is(q));
            bench.absorb(60.0, epoch, 1 - ours, ours);
            ours == 0 && bench.judge(60.0).verdict == Verdict::Pass
        })
        .map(f64::from)
}

pub(super) fn promotions(scale: Scale) -> Vec<Line> {
    let (runs, mut chance) = (scale.runs(2_000), Chance::new(41));
    let bound = with_error(0.05, runs);
    let mut lines = Vec::new();
    for (what, rate) in [("at the limit", 0.005), ("at twice the limit", 0.01)] {
        let found = part(runs, || passes(rate, 20_000, &mut chance).is_some());
        lines.push(Line::most(
            format!("absolute, {what}, {runs} steps"),
            found,
            bound,
        ));
    }
    let found = part(runs, || relative(2.0, &mut chance).is_some());
    lines.push(Line::most(
        format!("relative, at the tolerance, {runs} steps"),
        found,
        bound,
    ));
    let mut needed = |rate| {
        let passed: Vec<f64> = (0..runs)
            .filter_map(|_| passes(rate, 100_000, &mut chance))
            .collect();
        mean(&passed)
    };
    lines.push(Line::most(
        "requests needed, no failure, limit 0.5 %",
        needed(0.0),
        2.0 * 598.0,
    ));
    lines.push(Line::most(
        "requests needed, 0.1 % failures, limit 0.5 %",
        needed(0.001),
        2.0 * 1_250.0,
    ));
    let events: Vec<f64> = (0..runs)
        .filter_map(|_| relative(1.0, &mut chance))
        .collect();
    lines.push(Line::most(
        "events needed, relative, as good as stable, r 2",
        mean(&events),
        2.0 * 115.0,
    ));
    lines
}
