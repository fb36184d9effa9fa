//! Passive health: endpoints at which requests fail too often get none for a while.
//!
//! Owns who is ejected and for how long. Costs a backend without it nothing. Must not know why a request
//! failed.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::backend::Backend;
use super::endpoint::Endpoint;
use super::endpoints::Member;
use crate::telemetry::backend::EjectionReason;

/// When an endpoint is ejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutlierSettings {
    /// Failures in a row; 0 for no such bound.
    pub(crate) consecutive_failures: u32,
    /// For the first time; as often as it has been ejected lately for the next.
    pub(crate) eject_for: Duration,
    /// The longest it gets.
    pub(crate) eject_for_most: Duration,
    /// Of the endpoints. One of several may always be ejected, the last never.
    pub(crate) most_percent: u32,
    pub(crate) success_rate: Option<SuccessRateSettings>,
}

/// Ejects endpoints that fail clearly more often than the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SuccessRateSettings {
    pub(crate) interval: Duration,
    /// Requests in an interval below which an endpoint is not judged.
    pub(crate) requests: u32,
    /// Endpoints that can be judged below which none is.
    pub(crate) endpoints: usize,
}

/// Below the mean by so many standard deviations is clearly more often (Envoy's default).
const DEVIATIONS: f64 = 1.9;

/// What is counted of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Failures since the last success.
    in_a_row: AtomicU32,
    /// Of this interval.
    succeeded: AtomicU32,
    failed: AtomicU32,
    ejected: AtomicBool,
    /// How often it was ejected, less the times that it was well for as long since.
    times: AtomicU32,
}

impl Record {
    pub(crate) fn is_ejected(&self) -> bool {
        self.ejected.load(Ordering::Relaxed)
    }

    /// Notes how a request ended; whether it was one failure too many in a row.
    fn note(&self, good: bool, settings: &OutlierSettings) -> bool {
        if settings.success_rate.is_some() {
            let counter = if good { &self.succeeded } else { &self.failed };
            counter.fetch_add(1, Ordering::Relaxed);
        }
        if good {
            // Read first: a line that all workers write for every request is dear.
            if self.in_a_row.load(Ordering::Relaxed) > 0 {
                self.in_a_row.store(0, Ordering::Relaxed);
            }
            return false;
        }
        let in_a_row = self.in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
        settings.consecutive_failures > 0 && in_a_row >= settings.consecutive_failures
    }

    /// Ejects it; for how long.
    pub(super) fn eject(&self, settings: &OutlierSettings) -> Duration {
        self.ejected.store(true, Ordering::Relaxed);
        self.in_a_row.store(0, Ordering::Relaxed);
        let times = self.times.fetch_add(1, Ordering::Relaxed) + 1;
        let longer = settings.eject_for.saturating_mul(times);
        longer.min(settings.eject_for_most)
    }

    pub(super) fn take_back(&self) {
        self.ejected.store(false, Ordering::Relaxed);
        self.in_a_row.store(0, Ordering::Relaxed);
    }

    /// It was well for as long as an ejection takes.
    fn forgive(&self) {
        // Only the control runtime forgives, so what is more than 0 stays so.
        if self.times.load(Ordering::Relaxed) > 0 {
            self.times.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn take_interval(&self) -> (u32, u32) {
        let succeeded = self.succeeded.swap(0, Ordering::Relaxed);
        (succeeded, self.failed.swap(0, Ordering::Relaxed))
    }
}

/// How many of `total` endpoints may be ejected at once.
pub(super) fn most_ejected(total: usize, percent: u32) -> usize {
    let share = total.saturating_mul(percent as usize) / 100;
    let least = usize::from(percent > 0 && total > 1);
    share.max(least).min(total.saturating_sub(1))
}

/// Notes how a request ended at an endpoint. Ejects it, for the next request on any worker, where it was
/// one failure too many.
pub(crate) fn note(backend: &Backend, endpoint: &Arc<Endpoint>, good: bool) {
    if let Some(settings) = &backend.settings().outlier
        && endpoint.record().note(good, settings)
    {
        backend.eject(endpoint, settings, EjectionReason::ConsecutiveFailures);
    }
}

/// Takes ejected endpoints back in time, and judges success rates, until the backend is gone.
pub(crate) async fn tend(backend: Weak<Backend>) {
    let mut judged = Instant::now();
    loop {
        let Some(held) = backend.upgrade() else {
            return;
        };
        let Some(settings) = held
            .settings()
            .outlier
            .as_ref()
            .filter(|_| !held.is_retired())
        else {
            return;
        };
        let now = Instant::now();
        if let Some(rate) = &settings.success_rate
            && now.saturating_duration_since(judged) >= rate.interval
        {
            judged = now;
            judge(&held, settings, rate);
        }
        let mut next = settings
            .success_rate
            .as_ref()
            .map(|rate| judged + rate.interval);
        for (endpoint, until) in held.ejected() {
            if until <= now {
                held.take_back(&endpoint);
                tokio::spawn(forgive_later(Arc::downgrade(&endpoint), settings.eject_for));
            } else {
                next = Some(next.map_or(until, |next| next.min(until)));
            }
        }
        let changed = held.ejections();
        drop(held);
        match next {
            Some(next) => {
                // Either is a reason to look again.
                drop(tokio::time::timeout_at(next.into(), changed.notified()).await);
            }
            None => changed.notified().await,
        }
    }
}

async fn forgive_later(endpoint: Weak<Endpoint>, after: Duration) {
    tokio::time::sleep(after).await;
    if let Some(endpoint) = endpoint.upgrade()
        && !endpoint.record().is_ejected()
    {
        endpoint.record().forgive();
    }
}

fn judge(backend: &Backend, settings: &OutlierSettings, rate: &SuccessRateSettings) {
    let endpoints = backend.endpoints();
    let counted = endpoints.all().iter().map(|Member { endpoint, .. }| {
        let (succeeded, failed) = endpoint.record().take_interval();
        (endpoint, succeeded, succeeded.saturating_add(failed))
    });
    let judged: Vec<_> = counted
        .filter(|(_, _, all)| *all >= rate.requests.max(1))
        .map(|(endpoint, succeeded, all)| (endpoint, f64::from(succeeded) / f64::from(all)))
        .collect();
    if judged.len() < rate.endpoints {
        return;
    }
    let rates: Vec<f64> = judged.iter().map(|(_, rate)| *rate).collect();
    for (endpoint, _) in judged
        .iter()
        .zip(outliers(&rates))
        .filter_map(|(one, out)| out.then_some(one))
    {
        backend.eject(endpoint, settings, EjectionReason::SuccessRate);
    }
}

/// Which of the rates are clearly below the others.
fn outliers(rates: &[f64]) -> Vec<bool> {
    let count = rates.len().max(1) as f64;
    let mean = rates.iter().sum::<f64>() / count;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / count;
    let bound = mean - DEVIATIONS * variance.sqrt();
    rates.iter().map(|rate| *rate < bound).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(consecutive_failures: u32) -> OutlierSettings {
        OutlierSettings {
            consecutive_failures,
            eject_for: Duration::from_secs(10),
            eject_for_most: Duration::from_secs(25),
            most_percent: 50,
            success_rate: None,
        }
    }

    #[test]
    fn only_failures_in_a_row_eject() {
        for (requests, ejected) in [
            ("---", true),
            ("--+--", false),
            ("+--+---", true),
            ("++++", false),
            ("", false),
        ] {
            let record = Record::default();
            let found = requests
                .chars()
                .any(|one| record.note(one == '+', &settings(3)));
            assert_eq!(found, ejected, "{requests}");
        }
        let record = Record::default();
        assert!((0..1000).all(|_| !record.note(false, &settings(0))));
    }

    #[test]
    fn ejections_grow_up_to_a_bound_and_shrink_with_good_conduct() {
        let record = Record::default();
        let seconds: Vec<_> = (0..4)
            .map(|_| record.eject(&settings(1)).as_secs())
            .collect();
        assert_eq!(seconds, [10, 20, 25, 25]);
        (0..9).for_each(|_| record.forgive());
        assert_eq!(record.eject(&settings(1)).as_secs(), 10);
    }

    #[test]
    fn the_last_endpoint_is_never_ejected() {
        for (total, percent, most) in [
            (0, 50, 0),
            (1, 100, 0),
            (2, 50, 1),
            (2, 10, 1),
            (3, 50, 1),
            (10, 50, 5),
            (10, 100, 9),
            (10, 0, 0),
        ] {
            assert_eq!(most_ejected(total, percent), most, "{total} {percent} %");
        }
    }

    #[test]
    fn a_rate_far_below_the_others_stands_out() {
        assert_eq!(outliers(&[1.0; 6]), [false; 6]);
        let mut rates = [0.99, 1.0, 0.98, 1.0, 0.99, 0.5];
        assert_eq!(outliers(&rates).iter().filter(|out| **out).count(), 1);
        assert!(outliers(&rates)[5]);
        rates[5] = 0.985;
        assert_eq!(outliers(&rates), [false; 6]);
        assert!(outliers(&[]).is_empty());
    }
}
