//! Twenty replicas of unequal load that send their totals every 100 ms; one message in ten is lost, one in
//! ten comes twice, late.

use weir::rollout::Share;
use weir::rollout::evidence::{Conditions, Evidence, Parameters, Totals, Verdict};

use super::{Bench, Chance, Line, START, Scale, at, bare, label, mean, part, percent, with_error};

const REPLICAS: usize = 20;

struct Fleet {
    replicas: Vec<Bench>,
    /// What the reducer knows of each.
    known: Vec<Totals>,
    /// What was sent before, to come again.
    earlier: Vec<Totals>,
    reducer: Evidence,
}

impl Fleet {
    fn new(parameters: &Parameters, share: Share) -> Self {
        let mut reducer = Evidence::new(parameters.clone(), START);
        reducer.begin_epoch(share, START);
        Self {
            replicas: (0..REPLICAS)
                .map(|_| Bench::new(parameters, share))
                .collect(),
            known: vec![Totals::default(); REPLICAS],
            earlier: vec![Totals::default(); REPLICAS],
            reducer,
        }
    }

    /// Sends, sums up and judges.
    fn fails(&mut self, seconds: f64, chance: &mut Chance) -> bool {
        let mut sum = self.reducer.clone();
        for (index, replica) in self.replicas.iter_mut().enumerate() {
            replica.judge(seconds);
            let now = replica.evidence.totals();
            if chance.is(0.1) {
                self.known[index] = self.earlier[index].clone();
            } else if !chance.is(0.1) {
                self.known[index] = now.clone();
            }
            self.earlier[index] = now;
            sum.merge(&self.known[index]);
        }
        sum.judge(at(seconds), &Conditions::default()).verdict == Verdict::Fail
    }
}

/// Seconds until detection by the fleet and by one that sees everything, if any.
fn detect(
    alpha: f64,
    ratio: f64,
    rate: f64,
    seconds: f64,
    chance: &mut Chance,
) -> (Option<f64>, Option<f64>) {
    let share = percent(5.0);
    let parameters = bare(alpha, 1.0, Some(120));
    let (mut fleet, mut single) = (
        Fleet::new(&parameters, share),
        Bench::new(&parameters, share),
    );
    let q = label(share, ratio);
    let (mut by_fleet, mut by_single) = (None, None);
    let (mut now, mut next_message, mut is_news) = (chance.exponential(rate), 0.1, 0);
    while now < seconds && (by_fleet.is_none() || by_single.is_none()) {
        while next_message < now {
            // Losses delay news by a message or two.
            if is_news > 0 && by_fleet.is_none() {
                by_fleet = fleet.fails(next_message, chance).then_some(next_message);
                is_news -= 1;
            }
            next_message += 0.1;
        }
        let ours = u64::from(chance.is(q));
        // The first replica sees half of everything, the next half of the rest.
        let whose = (chance.geometric(0.5) as usize).min(REPLICAS - 1);
        let replica = &mut fleet.replicas[whose];
        replica.absorb(now, replica.epoch, 1 - ours, ours);
        is_news = 4;
        if by_single.is_none() && single.fails(now, 1 - ours, ours) {
            by_single = Some(now);
        }
        now += chance.exponential(rate);
    }
    (by_fleet, by_single)
}

pub(super) fn fleet(scale: Scale) -> Vec<Line> {
    let runs = scale.runs(2_000);
    let mut chance = Chance::new(21);
    let alarms = part(runs, || {
        detect(0.05, 1.0, 2.0, 60.0, &mut chance).0.is_some()
    });
    let mut delays = [Vec::new(), Vec::new()];
    for _ in 0..runs {
        // 0.1 % to 2 % of 1,000 requests a second.
        if let (Some(fleet), Some(single)) = detect(0.001, 20.0, 1.95, 600.0, &mut chance) {
            delays[0].push(fleet);
            delays[1].push(single);
        }
    }
    let ratio = mean(&delays[0]) / mean(&delays[1]);
    vec![
        Line::most(
            format!("false alarms, alpha 0.05, {runs} rollouts"),
            alarms,
            with_error(0.05, runs),
        ),
        Line::most("delay, in delays of a single one", ratio, 1.1),
        Line::least(
            "of all bad candidates seen",
            delays[0].len() as f64 / f64::from(runs),
            1.0,
        ),
    ]
}
