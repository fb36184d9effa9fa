//! What `weir simulate` says beside the table of delays: it runs the same engine on traffic in time.

use std::time::Duration;

use weir::rollout::PerArm;
use weir::rollout::simulate::{Rates, Setup, Shield, Tally, run};

use super::delay::{ROWS, parameters};
use super::{Chance, Line, Scale, percent};

/// Where both know only errors, and a flush of 20 ms is short beside the delay.
pub(super) fn foresight(scale: Scale) -> Vec<Line> {
    let slow = |row: &&(f64, f64, f64, f64, f64)| row.4 > 1_000.0 && row.1 < 10.0;
    let short = |row: &&(f64, f64, f64, f64, f64)| scale.0 >= 1.0 || row.4 < 8_000.0;
    let errors = |percent: f64| Rates {
        errors: percent / 100.0,
        ..Rates::default()
    };
    let mut lines = Vec::new();
    for row in ROWS.iter().filter(slow).filter(short) {
        let (runs, mut chance) = (scale.runs(1_000), Chance::new(61));
        let setup = Setup {
            parameters: parameters(row.3),
            rps: 1_000.0,
            share: percent(row.0),
            rates: PerArm {
                stable: errors(row.1),
                candidate: errors(row.2),
            },
            latency: Duration::ZERO,
            keys: None,
            shield: Shield {
                part: 0.2,
                per_second: 10.0,
            },
            horizon: Duration::from_secs(36_000),
        };
        let outcomes: Vec<_> = (0..runs).map(|_| run(&setup, chance.rng())).collect();
        let tally = Tally::of(&outcomes);
        let ratio = tally.requests.map_or(f64::NAN, |it| it.mean) / row.4;
        let slack = 0.15
            + if scale.0 < 1.0 {
                3.0 * 0.7 / f64::from(runs).sqrt()
            } else {
                0.0
            };
        let name = format!(
            "w {} %, {} % -> {} %, requests in those of the table",
            row.0, row.1, row.2
        );
        lines.push(Line::most(name.clone(), ratio, 1.0 + slack));
        lines.push(Line::least(name, ratio, 1.0 - slack));
        let saved = tally
            .failed_requests_shielded
            .map_or(f64::NAN, |it| it.mean)
            / tally.failed_requests.map_or(f64::NAN, |it| it.mean);
        lines.push(Line::most(
            "  failed with the shield, in those without",
            saved,
            0.1,
        ));
    }
    lines
}
