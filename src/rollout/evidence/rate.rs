//! Bets on one arm's rate of failure against a fixed limit, request by request.
//!
//! Owns the two tests: is the rate below the limit (to promote), is it above (without a control).
//! Must not know what is counted.
//!
//! With an alternative `p` the stake is multiplied by `p/limit` on a failure and by `(1 − p)/(1 − limit)`
//! on a success. The expectation is linear in the true rate and one at the limit, so it is at most one on
//! the whole of the other side. The product depends on the two counts alone, whatever their order.

use super::bets::LogSum;

/// Alternatives to "at least the limit", as parts of it.
const BELOW: [f64; 4] = [0.0, 0.1, 0.25, 0.5];

/// Alternatives to "at most the limit", as multiples of it.
const ABOVE: [f64; 4] = [1.5, 2.0, 4.0, 10.0];

/// The logarithm of the evidence that the rate is below `limit`.
pub(crate) fn log_below(limit: f64, requests: u64, failures: u64) -> f64 {
    log_evidence(limit, BELOW.map(|part| part * limit), requests, failures)
}

/// The logarithm of the evidence that the rate is above `limit`.
pub(crate) fn log_above(limit: f64, requests: u64, failures: u64) -> f64 {
    // A rate has to stay below one; beyond, the bet is on what lies halfway.
    let alternative = |factor: f64| (factor * limit).min((1.0 + limit) / 2.0);
    log_evidence(limit, ABOVE.map(alternative), requests, failures)
}

fn log_evidence(limit: f64, alternatives: [f64; 4], requests: u64, failures: u64) -> f64 {
    if !(limit > 0.0 && limit < 1.0) {
        return 0.0;
    }
    let good = requests.saturating_sub(failures) as f64;
    let bad = failures as f64;
    let mut sum = LogSum::new();
    for rate in alternatives {
        // With no failure, the bet on none at all has lost nothing.
        let lost = if failures == 0 {
            0.0
        } else {
            bad * (rate / limit).ln()
        };
        let won = good * ((1.0 - rate) / (1.0 - limit)).ln();
        sum.add(0.25, lost + won);
    }
    sum.log()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests_without_failure(limit: f64) -> u64 {
        (1..)
            .find(|requests| log_below(limit, *requests, 0) >= 20_f64.ln())
            .unwrap()
    }

    /// analysis: at best about 3/limit, with a mixture up to twice that.
    #[test]
    fn requests_that_a_promotion_needs() {
        for (limit, best) in [(0.01, 298), (0.005, 598), (0.001, 2_994)] {
            let needed = requests_without_failure(limit);
            assert!((best..2 * best).contains(&needed), "{limit}: {needed}");
        }
    }

    #[test]
    fn one_at_the_start_and_for_no_limit() {
        for limit in [0.005, 0.0, 1.0, f64::NAN] {
            assert!(log_below(limit, 0, 0).abs() < 1e-12);
            assert!(log_above(limit, 0, 0).abs() < 1e-12);
        }
        // More failures than requests: counts of two moments.
        assert!(log_below(0.1, 1, 5) < 0.0);
    }

    /// The exact expectation over all outcomes of 30 requests.
    #[test]
    fn expectation_at_the_limit_is_one() {
        for limit in [0.01, 0.2, 0.7] {
            for test in [log_below, log_above] {
                for (rate, exact) in [(limit, true), (limit * 0.9, false), (limit * 1.1, false)] {
                    let mut binomial = f64::powi(1.0 - rate, 30);
                    let mut mean = 0.0_f64;
                    for failures in 0..=30_u32 {
                        mean += binomial * test(limit, 30, u64::from(failures)).exp();
                        let next = f64::from(30 - failures) / f64::from(failures + 1);
                        binomial *= next * rate / (1.0 - rate);
                    }
                    let is_null = (rate > limit) == (test(limit, 30, 0) > 0.0);
                    assert!(!exact || (mean - 1.0).abs() < 1e-9, "{limit}: {mean}");
                    assert!(exact || (mean < 1.0) == is_null, "{limit} {rate}: {mean}");
                }
            }
        }
    }
}
