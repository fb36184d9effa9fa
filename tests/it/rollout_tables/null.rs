//! A candidate that is as good as it has to be: how often it is rolled back.

use weir::rollout::evidence::{EpochId, Parameters, SeenKeys, Verdict};
use weir::rollout::{Share, Sli};
use weir::split::{DrawState, Split, StickySplit};

use super::{Bench, Chance, Line, Scale, bare, label, part, percent, with_error};

/// Seconds between two events.
const GAP: f64 = 0.5;

/// Looks after every event whether the candidate is rolled back among so many.
fn is_rejected(
    parameters: &Parameters,
    share: Share,
    ratio: f64,
    events: u64,
    chance: &mut Chance,
) -> bool {
    let (mut bench, q) = (Bench::new(parameters, share), label(share, ratio));
    let mut passed = 0;
    loop {
        let mut stable = chance.geometric(q);
        // Each event in its slot.
        while stable > 0 && passed < events {
            let slot_end = (passed / 60 + 1) * 60;
            let now = stable.min(slot_end - passed);
            bench.absorb(passed as f64 * GAP, bench.epoch, now, 0);
            (stable, passed) = (stable - now, passed + now);
        }
        if passed >= events {
            return false;
        }
        if bench.fails(passed as f64 * GAP, 0, 1) {
            return true;
        }
        passed += 1;
    }
}

fn rejections(alpha: f64, tolerance: f64, runs: u32, events: u64) -> Vec<Line> {
    let mut lines = Vec::new();
    for restarts in [None, Some(0)] {
        for weight in [1.0, 5.0, 25.0, 50.0] {
            let mut chance = Chance::new(weight as u64);
            let (parameters, share) = (bare(alpha, tolerance, restarts), percent(weight));
            let found = part(runs, || {
                is_rejected(&parameters, share, tolerance, events, &mut chance)
            });
            let kind = if restarts.is_none() {
                "with restarts"
            } else {
                "without"
            };
            let setup = format!("w {weight} %, {runs} rollouts of {events} events, {kind}");
            lines.push(Line::most(setup, found, with_error(alpha, runs)));
        }
    }
    lines
}

pub(super) fn five_percent(scale: Scale) -> Vec<Line> {
    rejections(
        0.05,
        1.0,
        scale.runs(10_000),
        if scale.0 < 1.0 { 300 } else { 2_000 },
    )
}

pub(super) fn one_in_a_thousand(scale: Scale) -> Vec<Line> {
    rejections(
        0.001,
        1.0,
        scale.runs(200_000).max(200),
        if scale.0 < 1.0 { 60 } else { 300 },
    )
}

pub(super) fn composite(scale: Scale) -> Vec<Line> {
    rejections(
        0.05,
        2.0,
        scale.runs(10_000),
        if scale.0 < 1.0 { 300 } else { 2_000 },
    )
}

pub(super) fn composite_one_in_a_thousand(scale: Scale) -> Vec<Line> {
    rejections(
        0.001,
        2.0,
        scale.runs(200_000).max(200),
        if scale.0 < 1.0 { 60 } else { 300 },
    )
}

/// Events at a rate that changes, flushed every 100 ms.
fn over_time(seconds: u32, share: Share, rate: impl Fn(f64) -> f64, chance: &mut Chance) -> bool {
    let mut bench = Bench::new(&bare(0.05, 1.0, None), share);
    (0..seconds * 10).any(|tick| {
        let now = f64::from(tick) / 10.0;
        let events = chance.poisson(rate(now) / 10.0);
        let ours = (0..events).filter(|_| chance.is(share.fraction())).count() as u64;
        bench.fails(now, events - ours, ours)
    })
}

/// Both arms go from 0.1 % to 30 % of 1,000 requests a second, for a minute.
pub(super) fn outage(scale: Scale) -> Vec<Line> {
    let runs = scale.runs(1_000);
    let rate = |now: f64| {
        if (60.0..120.0).contains(&now) {
            300.0
        } else {
            1.0
        }
    };
    [5.0, 50.0]
        .into_iter()
        .map(|weight| {
            let mut chance = Chance::new(3);
            let found = part(runs, || over_time(180, percent(weight), rate, &mut chance));
            Line::most(
                format!("w {weight} %, {runs} rollouts"),
                found,
                with_error(0.05, runs),
            )
        })
        .collect()
}

pub(super) fn bursts(scale: Scale) -> Vec<Line> {
    let runs = scale.runs(1_000);
    let rate = |now: f64| {
        if ((now / 7.0) as u64).is_multiple_of(3) {
            30.0
        } else {
            3.0
        }
    };
    let mut chance = Chance::new(4);
    let found = part(runs, || over_time(180, percent(5.0), rate, &mut chance));
    vec![Line::most(
        format!("w 5 %, {runs} rollouts"),
        found,
        with_error(0.05, runs),
    )]
}

/// Requests take a second on average, some many; the weight changes under them.
pub(super) fn ramp(scale: Scale) -> Vec<Line> {
    let runs = scale.runs(2_000);
    let mut chance = Chance::new(5);
    let found = part(runs, || {
        let steps = [1.0, 5.0, 10.0, 25.0, 50.0].map(percent);
        let mut bench = Bench::new(&bare(0.05, 1.0, None), steps[0]);
        // End, assignment, epoch, whose.
        let mut events = Vec::new();
        for (index, share) in steps.iter().enumerate() {
            let (mut now, end) = (index as f64 * 20.0, index as f64 * 20.0 + 20.0);
            loop {
                now += chance.exponential(5.0);
                if now >= end {
                    break;
                }
                let took = chance.exponential(1.0) * if chance.is(0.1) { 10.0 } else { 1.0 };
                events.push((now + took, now, index, chance.is(share.fraction())));
            }
        }
        events.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut epochs: Vec<EpochId> = vec![bench.epoch];
        events.iter().any(|(end, assigned, index, is_ours)| {
            while epochs.len() < steps.len() && *end >= epochs.len() as f64 * 20.0 {
                let now = super::at(epochs.len() as f64 * 20.0);
                epochs.push(bench.evidence.begin_epoch(steps[epochs.len()], now));
            }
            let (stable, ours) = (u64::from(!is_ours), u64::from(*is_ours));
            bench.absorb_of(*end, epochs[*index], *assigned, stable, ours);
            ours > 0 && bench.judge(*end).verdict == Verdict::Fail
        })
    });
    vec![Line::most(
        format!("{runs} rollouts"),
        found,
        with_error(0.05, runs),
    )]
}

/// Labels that are not independent draws: by a keyed hash of a new salt, and stratified.
pub(super) fn draws(scale: Scale) -> Vec<Line> {
    let (runs, share) = (scale.runs(2_000), percent(5.0));
    let mut chance = Chance::new(6);
    let mut salt = 0;
    let keyed = part(runs, || {
        salt += 1;
        let split = StickySplit::new(&format!("rollout-{salt}"), [("v1", 95), ("v2", 5)]);
        let (mut bench, seen) = (
            Bench::new(&bare(0.05, 1.0, None), share),
            SeenKeys::new(2_000),
        );
        (0..600).any(|event| {
            let key = chance.below(2_000);
            if !seen.first(Sli::Errors, key) {
                return false;
            }
            let ours = u64::from(split.pick(&key.to_le_bytes()) == Some(1));
            bench.fails(f64::from(event) * GAP, 1 - ours, ours)
        })
    });
    let split = Split::new(vec![("v1", 95), ("v2", 5)]);
    let stratified = part(runs, || {
        let (mut bench, mut state) = (
            Bench::new(&bare(0.05, 1.0, None), share),
            DrawState::default(),
        );
        let mut now = 0.0;
        (0..6_000).any(|_| {
            let ours = u64::from(split.draw(&mut state, chance.rng()) == Some(1));
            now += GAP / 10.0;
            chance.is(0.1) && bench.fails(now, 1 - ours, ours)
        })
    });
    let line = |what, found| {
        Line::most(
            format!("{what}, {runs} rollouts"),
            found,
            with_error(0.05, runs),
        )
    };
    vec![
        line("keyed hash, the first of each key", keyed),
        line("stratified", stratified),
    ]
}
