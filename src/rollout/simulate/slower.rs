//! How often a slower version exceeds stable's percentiles.
//!
//! Owns the shape of service times: log-normal. Must not know what is done with the rates.

use super::Rates;

/// Deviation of the logarithm of service times; the 99th percentile is then 3.2 times the median.
const DEVIATION: f64 = 0.5;

/// Rates of a candidate that takes `factor` times as long as stable, and fails as often.
pub fn slow_rates(errors: f64, factor: f64) -> Rates {
    let shift = factor.max(f64::MIN_POSITIVE).ln() / DEVIATION;
    Rates {
        errors,
        // Quantiles of the normal distribution.
        slow: above(1.281_552 - shift),
        very_slow: above(2.326_348 - shift),
    }
}

/// Probability that a standard normal value exceeds `z` (Abramowitz and Stegun, 26.2.17; within 1e-7).
fn above(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let terms = [
        0.319_381_530,
        -0.356_563_782,
        1.781_477_937,
        -1.821_255_978,
        1.330_274_429,
    ];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    let tail = sum * (-z * z / 2.0).exp() / std::f64::consts::TAU.sqrt();
    if z < 0.0 { 1.0 - tail } else { tail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_slow_as_stable_and_slower() {
        let same = slow_rates(0.001, 1.0);
        assert!((same.slow - 0.1).abs() < 1e-6 && (same.very_slow - 0.01).abs() < 1e-6);
        let twice = slow_rates(0.001, 2.0);
        assert!((twice.slow - 0.5417).abs() < 1e-3, "{}", twice.slow);
        assert!(slow_rates(0.0, 0.0).slow < 1e-9);
        assert!(slow_rates(0.0, 1e9).very_slow > 0.999_999);
    }
}
