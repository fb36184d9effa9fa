//! What is slow: thresholds from stable's running quantiles, and quantiles with a band for reports.
//!
//! Owns a histogram of one arm's durations. Must not know what is timed, nor decide anything.
//!
//! A threshold comes from the window before, so it is fixed before the request that it judges, and a
//! candidate like stable exceeds it exactly as often as stable does.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Moment;

/// Ratio of neighbouring bucket bounds: a value in the middle is at most 2 % off.
const RATIO: f64 = 1.02 / 0.98;

/// The first bound, in seconds.
const FIRST: f64 = 1e-4;

/// Up to beyond 1,000 s.
const BUCKETS: usize = 404;

/// Durations of one arm, in buckets of equal ratio.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations {
    counts: Box<[u32; BUCKETS]>,
    total: u64,
}

impl Default for Durations {
    fn default() -> Self {
        Self {
            counts: Box::new([0; BUCKETS]),
            total: 0,
        }
    }
}

impl Durations {
    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        if let Some(count) = self.counts.get_mut(bucket(duration)) {
            *count = count.saturating_add(1);
            self.total += 1;
        }
    }

    /// Adds what another worker or replica has counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts.iter()) {
            *count = count.saturating_add(*more);
        }
        self.total = self.total.saturating_add(other.total);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The upper bound of the bucket in which the part `quantile` of all durations is reached; `None` when
    /// there is none.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let rank = (quantile.clamp(0.0, 1.0) * self.total as f64)
            .ceil()
            .max(1.0);
        let mut passed = 0_u64;
        let bucket = self.counts.iter().position(|count| {
            passed += u64::from(*count);
            passed as f64 >= rank
        })?;
        Some(Duration::from_secs_f64(FIRST * RATIO.powi(bucket as i32)))
    }

    /// A quantile and the bounds that hold at all times together with probability `1 − error`
    /// (Howard and Ramdas 2022: a time-uniform band around the distribution). For reports only.
    pub fn quantile_band(&self, quantile: f64, error: f64) -> Option<[Duration; 3]> {
        let half = half_width(self.total, error);
        let all = Duration::MAX;
        Some([
            self.quantile(quantile - half)
                .filter(|_| quantile > half)
                .unwrap_or_default(),
            self.quantile(quantile)?,
            self.quantile(quantile + half)
                .filter(|_| quantile + half < 1.0)
                .unwrap_or(all),
        ])
    }
}

fn bucket(duration: Duration) -> usize {
    let place = (duration.as_secs_f64() / FIRST).max(1.0).ln() / RATIO.ln();
    // A cast cuts what is too large, and the last bucket takes it.
    (place.ceil() as usize).min(BUCKETS - 1)
}

/// Durations that one thread records and another takes.
#[derive(Debug)]
pub struct SharedDurations(Box<[AtomicU32]>);

impl Default for SharedDurations {
    fn default() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU32::new(0)).collect())
    }
}

impl SharedDurations {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        if let Some(count) = self.0.get(bucket(duration)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted since the last time.
    pub fn take(&self) -> Durations {
        let mut durations = Durations::default();
        for (taken, count) in durations.counts.iter_mut().zip(&self.0) {
            *taken = count.swap(0, Ordering::Relaxed);
            durations.total += u64::from(*taken);
        }
        durations
    }
}

/// Half the width of the band around a distribution after so many values.
pub fn half_width(count: u64, error: f64) -> f64 {
    let count = count.max(1) as f64;
    let doubts = (count.ln() + 1.0).ln() + 0.8 * (1612.0 / error).ln();
    0.85 * (doubts / count).sqrt()
}

/// Above which a request is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Thresholds {
    /// Stable's 90th percentile of the window before.
    pub slow: Duration,
    /// Its 99th.
    pub very_slow: Duration,
}

/// Stable's thresholds, renewed window by window.
#[derive(Debug, Clone, Default)]
pub struct Running {
    began: Option<Moment>,
    window: Durations,
    thresholds: Option<Thresholds>,
}

impl Running {
    /// How long a window lasts, at least.
    const WINDOW: Duration = Duration::from_secs(30);

    /// How many durations it needs, or it goes on: ten beyond the 99th percentile.
    const LEAST: u64 = 1_000;

    /// Adds stable's newest durations.
    pub fn add(&mut self, durations: &Durations) {
        self.window.add(durations);
    }

    /// Ends the window when it is time; returns what holds from now on. `None` until a first window ended.
    pub fn thresholds(&mut self, now: Moment) -> Option<Thresholds> {
        let began = *self.began.get_or_insert(now);
        if now.since(began) >= Self::WINDOW && self.window.count() >= Self::LEAST {
            let ended = std::mem::take(&mut self.window);
            self.began = Some(now);
            self.thresholds = Option::zip(ended.quantile(0.9), ended.quantile(0.99))
                .map(|(slow, very_slow)| Thresholds { slow, very_slow });
        }
        self.thresholds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(milliseconds: std::ops::RangeInclusive<u64>) -> Durations {
        let mut durations = Durations::default();
        for one in milliseconds {
            durations.record(Duration::from_millis(one));
        }
        durations
    }

    #[test]
    fn quantiles_are_near() {
        let durations = uniform(1..=1_000);
        for quantile in [0.01, 0.5, 0.9, 0.99, 1.0] {
            let found = durations.quantile(quantile).unwrap().as_secs_f64();
            assert!(
                (found / quantile - 1.0).abs() < 0.041,
                "{quantile}: {found}"
            );
        }
        assert_eq!(Durations::default().quantile(0.5), None);
        assert_eq!(Durations::default().quantile_band(0.5, 0.001), None);
    }

    #[test]
    fn the_longest_and_the_shortest_have_a_bucket() {
        let mut durations = Durations::default();
        durations.record(Duration::ZERO);
        durations.record(Duration::MAX);
        assert_eq!(durations.count(), 2);
        assert!(durations.quantile(1.0).unwrap() > Duration::from_secs(1_000));
        assert!(durations.quantile(0.0).unwrap() <= Duration::from_micros(100));
    }

    /// The figures of the paper's bound at an error of 0.001.
    #[test]
    fn the_band_narrows() {
        for (count, half) in [
            (100, 0.308),
            (1_000, 0.099),
            (10_000, 0.032),
            (100_000, 0.010),
        ] {
            let found = half_width(count, 0.001);
            assert!((found - half).abs() < 0.0006, "{count}: {found}");
        }
        let [low, middle, high] = uniform(1..=10_000).quantile_band(0.5, 0.001).unwrap();
        assert!(low < middle && middle < high && high < Duration::from_secs(6));
        let [low, _, high] = uniform(1..=10).quantile_band(0.5, 0.001).unwrap();
        assert_eq!((low, high), (Duration::ZERO, Duration::MAX));
    }

    #[test]
    fn a_threshold_comes_from_the_window_before() {
        let (mut running, mut now) = (Running::default(), Moment::from_millis(5));
        assert_eq!(running.thresholds(now), None);
        running.add(&uniform(1..=2_000));
        assert_eq!(running.thresholds(now), None, "the window has not ended");
        now = now.after(Running::WINDOW);
        let first = running.thresholds(now).unwrap();
        assert!((first.slow.as_secs_f64() / 1.8 - 1.0).abs() < 0.041);
        running.add(&uniform(1..=4_000));
        assert_eq!(
            running.thresholds(now),
            Some(first),
            "fixed within a window"
        );
        now = now.after(Running::WINDOW);
        assert!(running.thresholds(now).unwrap().very_slow > first.very_slow);
        let second = running.thresholds(now);
        running.add(&uniform(1..=10));
        now = now.after(Running::WINDOW);
        assert_eq!(running.thresholds(now), second, "too few to tell");
    }
}
