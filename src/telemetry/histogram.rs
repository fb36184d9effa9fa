//! A duration histogram that workers fill without sharing cache lines.
//!
//! Owns the buckets of one series and their text form. Must not know what is measured.
//!
//! The exporter's own histogram keeps 16 bytes a sample until its upkeep, and has no way to keep an
//! idle series alive or to drop one; this one costs two relaxed additions on a line of its worker.

use std::cell::Cell;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_utils::CachePadded;

use super::names::SECONDS_BUCKETS;

/// Threads beyond this number share shards.
const SHARDS: usize = 16;
const BUCKETS: usize = SECONDS_BUCKETS.len() + 1;

/// One series. Its name and labels are kept by the registry.
pub(crate) struct Histogram {
    /// `name="value"` pairs, joined by commas.
    labels: Box<str>,
    shards: [OnceLock<Box<CachePadded<Shard>>>; SHARDS],
}

#[derive(Default)]
struct Shard {
    buckets: [AtomicU64; BUCKETS],
    /// Wraps after 584 years of summed durations.
    sum_nanos: AtomicU64,
}

thread_local! {
    static SHARD: Cell<usize> = {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS)
    };
}

/// Labels in the text format, without braces.
pub(super) fn label_text(labels: &[(&'static str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        // Values come from names of the configuration, which need no escaping.
        let separator = if text.is_empty() { "" } else { "," };
        write!(text, "{separator}{name}=\"{value}\"").expect("writing to a String cannot fail");
    }
    text
}

impl Histogram {
    pub(crate) fn new(labels: &[(&'static str, &str)]) -> Self {
        Self {
            labels: label_text(labels).into(),
            shards: Default::default(),
        }
    }

    /// The labels in the text format, without braces.
    pub(crate) fn labels(&self) -> &str {
        &self.labels
    }

    /// Adds a sample.
    pub(crate) fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let seconds = duration.as_secs_f64();
        let bucket = SECONDS_BUCKETS
            .iter()
            .take_while(|bound| seconds > **bound)
            .count();
        let shard = self.shards[SHARD.get()].get_or_init(Box::default);
        shard.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        shard.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Number of samples and the sum of their durations.
    pub(crate) fn total(&self) -> (u64, Duration) {
        let (buckets, sum) = self.read();
        (buckets.iter().sum(), Duration::from_nanos(sum))
    }

    /// An upper bound of the quantile `q`, 0 to 1: the bound of the bucket it falls into.
    pub(crate) fn quantile(&self, q: f64) -> Option<Duration> {
        let (buckets, _) = self.read();
        let count: u64 = buckets.iter().sum();
        let rank = (q * count as f64).ceil() as u64;
        let mut seen = 0;
        for (bucket, n) in buckets.iter().enumerate() {
            seen += n;
            if count > 0 && seen >= rank {
                return SECONDS_BUCKETS
                    .get(bucket)
                    .map(|bound| Duration::from_secs_f64(*bound));
            }
        }
        None
    }

    /// Appends the series in the text format 0.0.4.
    pub(crate) fn render(&self, name: &str, out: &mut String) {
        let (buckets, sum) = self.read();
        let labels = &self.labels;
        let mut cumulative = 0;
        for (bucket, n) in buckets.iter().enumerate() {
            cumulative += n;
            let written = match SECONDS_BUCKETS.get(bucket) {
                Some(bound) => {
                    writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {cumulative}")
                }
                None => writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {cumulative}"),
            };
            written.expect("writing to a String cannot fail");
        }
        let seconds = Duration::from_nanos(sum).as_secs_f64();
        writeln!(
            out,
            "{name}_sum{{{labels}}} {seconds}\n{name}_count{{{labels}}} {cumulative}"
        )
        .expect("writing to a String cannot fail");
    }

    fn read(&self) -> ([u64; BUCKETS], u64) {
        let mut buckets = [0; BUCKETS];
        let mut sum = 0u64;
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            for (total, bucket) in buckets.iter_mut().zip(&shard.buckets) {
                *total += bucket.load(Ordering::Relaxed);
            }
            sum = sum.wrapping_add(shard.sum_nanos.load(Ordering::Relaxed));
        }
        (buckets, sum)
    }
}

impl std::fmt::Debug for Histogram {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Histogram({})", self.labels)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_all_threads_land_in_cumulative_buckets() {
        let histogram = Histogram::new(&[("route", "a"), ("backend", "b")]);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    histogram.record(Duration::from_micros(500));
                    histogram.record(Duration::from_millis(3));
                    histogram.record(Duration::from_secs(20));
                });
            }
        });
        let mut text = String::new();
        histogram.render("x_seconds", &mut text);
        assert!(
            text.contains("x_seconds_bucket{route=\"a\",backend=\"b\",le=\"0.0005\"} 4\n"),
            "{text}"
        );
        assert!(text.contains("le=\"0.005\"} 8\n"), "{text}");
        assert!(text.contains("le=\"10\"} 8\n"), "{text}");
        assert!(text.contains("le=\"+Inf\"} 12\n"), "{text}");
        assert!(
            text.contains("x_seconds_count{route=\"a\",backend=\"b\"} 12\n"),
            "{text}"
        );
        assert!(
            text.contains("x_seconds_sum{route=\"a\",backend=\"b\"} 80.014\n"),
            "{text}"
        );
        assert_eq!(histogram.total().0, 12);
        assert_eq!(histogram.quantile(0.5), Some(Duration::from_millis(5)));
        assert_eq!(histogram.quantile(0.99), None, "beyond the last bound");
    }
}
