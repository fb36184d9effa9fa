//! What the judgement itself takes: memory of an hour, and time of a look.

use std::time::Instant;

use weir::rollout::evidence::{
    Conditions, Epoch, Evidence, Flush, KeySketch, Open, Parameters, Row,
};
use weir::rollout::{PerArm, PerSli, Sli};

use super::{Chance, Line, START, Scale, at, percent};

/// Looks a second when failures come without a pause.
const LOOKS: f64 = 333.0;

/// 1,000 requests a second at 5 %, of which both arms answer every tenth badly in every way, for as long as
/// sixty copies of the bets take to begin; four requests of stable are always open.
pub(super) fn cost(scale: Scale) -> Vec<Line> {
    let seconds = if scale.0 < 1.0 { 1_810 } else { 2_400 };
    let mut chance = Chance::new(51);
    let mut evidence = Evidence::new(Parameters::default(), START);
    let epoch = evidence.begin_epoch(percent(5.0), START);
    evidence.begin_step();
    let (mut looks, mut spent) = (0_u32, 0.0);
    for second in 0..seconds {
        // A whole second every half minute; otherwise as one.
        let pieces = if second % 30 == 29 { LOOKS as u32 } else { 1 };
        for piece in 0..pieces {
            let now = f64::from(second) + f64::from(piece) / LOOKS;
            let part = 1.0 / f64::from(pieces);
            let flush = Flush {
                epoch,
                assigned: at(now),
                events: PerSli::from_fn(|_| PerArm {
                    stable: chance.poisson(95.0 * part),
                    candidate: chance.poisson(5.0 * part),
                }),
                keys: Sli::ALL.map(|sli| (sli, u64::from(piece))).to_vec(),
                ..Flush::default()
            };
            let conditions = Conditions {
                open: vec![Open {
                    assigned: at(now),
                    requests: 4,
                }],
                load_ratio: None,
            };
            let began = Instant::now();
            evidence.absorb(at(now), &flush);
            let _judged = evidence.judge(at(now + 0.003), &conditions);
            if pieces > 1 {
                spent += began.elapsed().as_secs_f64();
                looks += 1;
            }
        }
    }
    let rows: usize = Sli::ALL
        .iter()
        .map(|sli| evidence.ledger(*sli).rows().len())
        .sum();
    let bytes = rows * size_of::<Row>()
        + evidence.epochs().count() * size_of::<Epoch>()
        + Sli::ALL.len() * KeySketch::MOST * 8;
    let mut lines = vec![Line::most(
        format!("bytes, 6 indicators, 60 copies of the bets, {rows} rows"),
        bytes as f64,
        24.0 * 1_024.0,
    )];
    if scale.0 >= 1.0 {
        let look = spent / f64::from(looks);
        let setup = format!(
            "part of a core, {LOOKS} looks a second of {:.1} us",
            look * 1e6
        );
        lines.push(Line::most(setup, look * LOOKS, 0.01));
    }
    lines
}
