//! How long an endpoint takes to answer: an average that forgets slowly and learns bad news at once
//! (peak EWMA, as in Finagle).
//!
//! Must not know requests. Workers write without waiting for one another; that one of two answers of
//! the same moment is lost changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::upstream::endpoint::{self, Endpoint};

/// What was learnt counts for a third after so many milliseconds.
const FORGOTTEN: f64 = 10_000.0;

/// A failure counts as an answer after so many milliseconds: one that fails at once must not look fast.
const FAILURE: f64 = 1000.0;

/// Below this, endpoints are equally fast and the requests in flight decide.
const LEAST: f64 = 0.05;

/// See the module. In milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    /// The bits of the average; 0 when nothing is known.
    average: AtomicU64,
    /// When that was.
    at: AtomicU64,
}

impl Latency {
    /// What a request there is expected to cost, with so many before it. Where nothing is known yet one
    /// request is sent to find out, and no more until it has been answered.
    pub(super) fn cost(&self, now: u64, pending: f64) -> f64 {
        match self.average(now) {
            Some(average) => average.max(LEAST) * (1.0 + pending),
            None if pending > 0.0 => FAILURE * (1.0 + pending),
            None => 0.0,
        }
    }

    fn average(&self, now: u64) -> Option<f64> {
        let average = f64::from_bits(self.average.load(Ordering::Relaxed));
        let past = now.saturating_sub(self.at.load(Ordering::Relaxed));
        (average > 0.0).then(|| average * (-(past as f64) / FORGOTTEN).exp())
    }

    pub(super) fn learn(&self, now: u64, took: f64) {
        let took = took.max(f64::MIN_POSITIVE);
        let before = self.average(now);
        let next = match before {
            Some(faded) if took < faded => {
                let past = now.saturating_sub(self.at.load(Ordering::Relaxed));
                let kept = (-(past as f64) / FORGOTTEN).exp();
                // `faded` has been multiplied with `kept` already.
                took.mul_add(1.0 - kept, faded)
            }
            _ => took,
        };
        self.average.store(next.to_bits(), Ordering::Relaxed);
        self.at.store(now, Ordering::Relaxed);
    }
}

/// The time of one attempt. One that is given up counts for as long as it took until then.
#[derive(Debug)]
pub(crate) struct Timing {
    endpoint: Option<Arc<Endpoint>>,
    began: std::time::Instant,
}

impl Timing {
    pub(crate) fn begin(endpoint: &Arc<Endpoint>) -> Self {
        Self {
            endpoint: Some(Arc::clone(endpoint)),
            began: std::time::Instant::now(),
        }
    }

    /// The endpoint has answered, or failed.
    pub(crate) fn end(mut self, good: bool) {
        self.note(if good { 0.0 } else { FAILURE });
    }

    /// It was not about the endpoint.
    pub(crate) fn forget(mut self) {
        self.endpoint = None;
    }

    fn note(&mut self, least: f64) {
        if let Some(endpoint) = self.endpoint.take() {
            let took = self.began.elapsed().as_secs_f64() * 1000.0;
            let latency = endpoint.latency();
            latency.learn(endpoint::clock(), took.max(least));
        }
    }
}

impl Drop for Timing {
    fn drop(&mut self) {
        self.note(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-6, "{found} {expected}");
    }

    #[test]
    fn bad_news_count_at_once_and_are_forgotten_slowly() {
        let latency = Latency::default();
        near(latency.cost(0, 0.0), 0.0);
        assert!(latency.cost(0, 1.0) >= FAILURE, "one is sent to find out");
        latency.learn(0, 10.0);
        near(latency.cost(0, 0.0), 10.0);
        near(latency.cost(0, 3.0), 40.0);
        latency.learn(0, 500.0);
        near(latency.cost(0, 0.0), 500.0);
        // A good answer in the same moment takes nothing away; after ten seconds, two thirds.
        latency.learn(0, 10.0);
        near(latency.cost(0, 0.0), 500.0);
        near(latency.cost(10_000, 0.0), 500.0 / std::f64::consts::E);
        let kept = (-1.0_f64).exp();
        latency.learn(10_000, 10.0);
        near(
            latency.cost(10_000, 0.0),
            500.0 * kept + 10.0 * (1.0 - kept),
        );
        // Whoever gets nothing is tried again in the end.
        near(latency.cost(600_000, 0.0), LEAST);
    }

    #[test]
    fn an_attempt_counts_once_and_one_that_fails_is_not_fast() {
        let endpoint = Endpoint::new(([127, 0, 0, 1], 1).into());
        let cost = || endpoint.latency().cost(endpoint::clock(), 0.0);
        Timing::begin(&endpoint).forget();
        near(cost(), 0.0);
        Timing::begin(&endpoint).end(true);
        assert!((LEAST..900.0).contains(&cost()));
        Timing::begin(&endpoint).end(false);
        assert!(cost() >= 900.0);
    }
}
