//! The bets against "the candidate is no worse than the tolerance allows", event by event.
//!
//! Owns what one labelled event is worth. Must not know events, time or indicators.
//!
//! With tolerance `r` and candidate share `w`, an event is the candidate's with probability at most
//! `π = r·w / (r·w + 1 − w)`. A bet at odds `ψ` expects `ψ·π / (ψ·π + 1 − π)` and multiplies its stake by
//! `ψ / (1 + (ψ − 1)·π)` on an event of the candidate and by `1 / (1 + (ψ − 1)·π)` on one of stable. Its
//! expectation is at most one at every point of the null, so the mean of the bets is an e-process
//! (Ville's inequality; Howard and Ramdas 2022, Lindon and Malek 2022 for counts).

use super::super::{PerArm, Share};

/// One number for each bet.
pub(super) type Bets = [f64; 8];

/// Odds beyond the tolerance: from the regressions that take long to see to the total failure.
const ODDS: Bets = [1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 100.0, 1e6];

/// What is bet on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The candidate is worse than the tolerance.
    Worse,
    /// The candidate is better than the tolerance.
    Better,
}

/// What an event of either arm adds to the logarithm of each bet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stakes {
    candidate: Bets,
    stable: Bets,
}

impl Stakes {
    /// `None` at a share of none or all: there is no control.
    pub(super) fn new(share: Share, tolerance: f64, side: Side) -> Option<Self> {
        let w = share.fraction();
        if share == Share::ZERO || share == Share::ALL {
            return None;
        }
        let null = tolerance * w / (tolerance * w + 1.0 - w);
        let odds = match side {
            Side::Worse => ODDS,
            Side::Better => ODDS.map(f64::recip),
        };
        let stable = odds.map(|odds| -((odds - 1.0) * null).ln_1p());
        let mut candidate = stable;
        for (stake, odds) in candidate.iter_mut().zip(odds) {
            *stake += odds.ln();
        }
        Some(Self { candidate, stable })
    }

    /// Adds so many events to the logarithms. Their order does not matter.
    pub(super) fn add(&self, logs: &mut Bets, events: PerArm<u64>) {
        let (stable, candidate) = (events.stable as f64, events.candidate as f64);
        for (log, (lost, won)) in logs.iter_mut().zip(self.stable.iter().zip(&self.candidate)) {
            *log += candidate * won + stable * lost;
        }
    }
}

/// A sum of exponentials that neither overflows nor vanishes.
#[derive(Debug, Clone, Copy)]
pub(super) struct LogSum {
    greatest: f64,
    sum: f64,
}

impl LogSum {
    pub(super) fn new() -> Self {
        Self {
            greatest: f64::NEG_INFINITY,
            sum: 0.0,
        }
    }

    /// Adds `mass · exp(log)`.
    pub(super) fn add(&mut self, mass: f64, log: f64) {
        if mass <= 0.0 || log == f64::NEG_INFINITY {
            return;
        }
        if log > self.greatest {
            self.sum = self.sum * (self.greatest - log).exp() + mass;
            self.greatest = log;
        } else {
            self.sum += mass * (log - self.greatest).exp();
        }
    }

    /// Adds the mean of the bets, weighed by `mass`.
    pub(super) fn add_mean(&mut self, mass: f64, logs: &Bets) {
        for log in logs {
            self.add(mass / logs.len() as f64, *log);
        }
    }

    /// The logarithm of the sum.
    pub(super) fn log(self) -> f64 {
        self.greatest + self.sum.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn share(percent: f64) -> Share {
        Share::from_percent(percent).unwrap()
    }

    fn log_mean(logs: &Bets) -> f64 {
        let mut sum = LogSum::new();
        sum.add_mean(1.0, logs);
        sum.log()
    }

    /// By the definition, with plain shares.
    #[test]
    fn three_events_at_five_percent() {
        let stakes = Stakes::new(share(5.0), 1.0, Side::Worse).unwrap();
        let events = PerArm {
            stable: 1,
            candidate: 3,
        };
        let mut logs = [0.0; 8];
        stakes.add(&mut logs, events);
        let expected: f64 = ODDS
            .iter()
            .map(|odds| {
                let bet = odds * 0.05 / (odds * 0.05 + 0.95);
                (bet / 0.05).powi(3) * (1.0 - bet) / 0.95 / 8.0
            })
            .sum();
        assert!((log_mean(&logs) - expected.ln()).abs() < 1e-12);
    }

    #[test]
    fn no_control_no_bet() {
        assert_eq!(Stakes::new(Share::ZERO, 1.0, Side::Worse), None);
        assert_eq!(Stakes::new(Share::ALL, 1.0, Side::Better), None);
    }

    #[test]
    fn the_sum_of_very_different_terms() {
        let mut sum = LogSum::new();
        for log in [-1e5, 800.0, 1e5, f64::NEG_INFINITY] {
            sum.add(0.5, log);
        }
        assert!((sum.log() - (1e5 + 0.5_f64.ln())).abs() < 1e-6);
        assert_eq!(LogSum::new().log(), f64::NEG_INFINITY);
    }

    proptest! {
        /// The expectation of every factor at every point of the null is at most one, and is one at its edge.
        #[test]
        fn nobody_wins_under_the_null(
            millionths in 1..1_000_000_u32, tolerance in 1.0..4.0_f64, within in 0.0..1.0_f64,
        ) {
            let share = Share::from_millionths(millionths);
            let w = share.fraction();
            for (side, ratio) in [(Side::Worse, within), (Side::Better, 1.0 / within.max(1e-9))] {
                for (ratio, exact) in [(ratio, false), (1.0, true)] {
                    let ratio = ratio * tolerance;
                    let q = ratio * w / (ratio * w + 1.0 - w);
                    let stakes = Stakes::new(share, tolerance, side).unwrap();
                    for (won, lost) in stakes.candidate.iter().zip(&stakes.stable) {
                        let mean = q * won.exp() + (1.0 - q) * lost.exp();
                        prop_assert!(mean <= 1.0 + 1e-9, "{mean}");
                        prop_assert!(!exact || mean >= 1.0 - 1e-9, "{mean}");
                    }
                }
            }
        }
    }
}
