//! A candidate that is worse: after how many requests it is seen.

use weir::rollout::PerSli;
use weir::rollout::evidence::Parameters;

use super::{Bench, Chance, Line, Scale, bare, label, mean, percent, quantile};

/// Weight, rates of stable and candidate in percent, tolerance, and the mean requests that were simulated
/// when the engine was designed.
pub(super) const ROWS: [(f64, f64, f64, f64, f64); 18] = [
    (5.0, 0.1, 100.0, 1.0, 61.0),
    (5.0, 0.1, 50.0, 1.0, 125.0),
    (5.0, 0.1, 20.0, 1.0, 329.0),
    (5.0, 0.1, 5.0, 1.0, 1_614.0),
    (5.0, 0.1, 2.0, 1.0, 5_149.0),
    (5.0, 0.1, 1.0, 1.0, 14_089.0),
    (5.0, 0.1, 0.5, 1.0, 46_701.0),
    (1.0, 0.1, 100.0, 1.0, 300.0),
    (1.0, 0.1, 5.0, 1.0, 6_969.0),
    (10.0, 0.1, 1.0, 1.0, 7_812.0),
    (25.0, 0.1, 1.0, 1.0, 4_122.0),
    (50.0, 0.1, 1.0, 1.0, 3_704.0),
    (10.0, 1.0, 5.0, 1.25, 3_178.0),
    (10.0, 1.0, 3.0, 1.25, 11_109.0),
    (10.0, 1.0, 2.0, 1.25, 51_436.0),
    (5.0, 10.0, 30.0, 1.25, 2_058.0),
    (5.0, 10.0, 20.0, 1.25, 9_306.0),
    (10.0, 10.0, 50.0, 1.25, 318.0),
];

/// Requests until detection, if within so many.
fn requests(
    parameters: &Parameters,
    row: (f64, f64, f64, f64, f64),
    most: f64,
    chance: &mut Chance,
) -> Option<f64> {
    let share = percent(row.0);
    let w = share.fraction();
    let rate = (w * row.2 + (1.0 - w) * row.1) / 100.0;
    let q = label(share, row.2 / row.1);
    let mut bench = Bench::new(parameters, share);
    let (mut passed, mut stable) = (0.0, 0);
    while passed < most {
        passed += 1.0 + chance.geometric(rate) as f64;
        if !chance.is(q) {
            stable += 1;
        } else if bench.fails(0.0, std::mem::take(&mut stable), 1) {
            return Some(passed);
        }
    }
    None
}

pub(super) fn parameters(tolerance: f64) -> Parameters {
    Parameters {
        min_events: PerSli::from_fn(|_| 3),
        ..bare(0.001, tolerance, Some(0))
    }
}

fn name(row: (f64, f64, f64, f64, f64)) -> String {
    format!("w {} %, {} % -> {} %, r {}", row.0, row.1, row.2, row.3)
}

pub(super) fn delay(scale: Scale) -> Vec<Line> {
    let mut lines = Vec::new();
    // The long rows take long in a debug build.
    for row in ROWS
        .into_iter()
        .filter(|row| scale.0 >= 1.0 || row.4 < 8_000.0)
    {
        let (runs, mut chance) = (scale.runs(2_000), Chance::new(31));
        let parameters = parameters(row.3);
        let mut found: Vec<f64> = (0..runs)
            .filter_map(|_| requests(&parameters, row, f64::INFINITY, &mut chance))
            .collect();
        let average = mean(&found);
        // Few runs scatter: a standard deviation is about 0.7 of the mean.
        let slack = if scale.0 < 1.0 {
            3.0 * 0.7 / f64::from(runs).sqrt()
        } else {
            0.0
        };
        let setup = format!("{}, mean requests", name(row));
        lines.push(Line::most(setup, average, row.4 * (1.15 + slack)));
        let ninth = quantile(&mut found, 0.9) / average;
        lines.push(Line::most(
            format!("{}, 90th percentile in means", name(row)),
            ninth,
            2.2 + slack,
        ));
    }
    lines
}

pub(super) fn misses(scale: Scale) -> Vec<Line> {
    let worse = |row: &(f64, f64, f64, f64, f64)| row.2 >= 5.0 * row.1;
    let short = |row: &(f64, f64, f64, f64, f64)| scale.0 >= 1.0 || row.4 < 4_000.0;
    ROWS.into_iter()
        .filter(worse)
        .filter(short)
        .map(|row| {
            let (runs, mut chance) = (scale.runs(2_000), Chance::new(32));
            let parameters = parameters(row.3);
            let missed = super::part(runs, || {
                requests(&parameters, row, 10.0 * row.4, &mut chance).is_none()
            });
            Line::most(name(row), missed, 0.05)
        })
        .collect()
}

/// Events after the change until it is seen, at 400 requests a second and 5 %: 0.1 % to 50 %.
fn after_change(good_seconds: f64, chance: &mut Chance) -> f64 {
    let parameters = Parameters {
        min_events: PerSli::from_fn(|_| 3),
        ..bare(0.001, 1.0, Some(120))
    };
    let mut bench = Bench::new(&parameters, percent(5.0));
    let mut now = chance.exponential(0.4);
    while now < good_seconds {
        let ours = u64::from(chance.is(0.05));
        bench.absorb(now, bench.epoch, 1 - ours, ours);
        now += chance.exponential(0.4);
    }
    let (mut events, mut now) = (0, good_seconds);
    let q = label(percent(5.0), 500.0);
    loop {
        now += chance.exponential(10.38);
        events += 1;
        let ours = u64::from(chance.is(q));
        if bench.fails(now, 1 - ours, ours) {
            return f64::from(events);
        }
    }
}

pub(super) fn late(scale: Scale) -> Vec<Line> {
    let (runs, mut chance) = (scale.runs(2_000), Chance::new(33));
    let mut average = |good| {
        let events = (0..runs).map(|_| after_change(good, &mut chance));
        mean(&events.collect::<Vec<_>>())
    };
    let (fresh, late, within) = (average(0.0), average(3_600.0), average(3_585.0));
    let setup = |what, events| format!("{what}: {events:.2} events, {fresh:.2} at once; ratio");
    vec![
        Line::most(setup("after an hour", late), late / fresh, 1.8),
        // The newest copy has seen half a slot of good traffic.
        Line::most(
            setup("in the middle of a slot", within),
            within / fresh,
            3.0,
        ),
    ]
}
