//! The registry: hands out metric handles, keeps live series alive, renders the text format.
//!
//! Owns the exporter and its upkeep. Must not know what is measured.
//!
//! The exporter drops series that nobody has touched for [`IDLE`]. A series whose owner still exists
//! is touched before each rendering, so only those of removed routes and backends go away.
//! Histograms are ours ([`super::histogram`]) and go with their owner. So are the gauges of whatever there may be
//! many of ([`Gauges`]): the exporter keeps 400 bytes for each and takes 7,600 instructions to render one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use metrics::{Counter, Gauge, Key, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;

use super::histogram::{Histogram, label_text};
use super::names::{ALL, Kind, Metric};

/// The label value where a request has no backend, rule or route.
pub(crate) const NONE: &str = "none";

/// How long a series outlives its owner. Longer than a usual scrape interval, so that the last
/// values of a removed route are scraped once.
pub(crate) const IDLE: Duration = Duration::from_secs(90);

/// How often the exporter tidies what it keeps for a later rendering.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);

/// Something that owns series and is asked before each rendering.
pub(crate) trait Series: Send + Sync {
    /// Sets the gauges that are read off elsewhere, and touches every other series.
    fn refresh(&self);

    /// Tells the gauges that it keeps by itself.
    fn gauges(&self, _out: &mut Gauges) {}
}

/// Gauges that are asked for when they are rendered. Of two owners of the same series the younger one tells.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    /// By metric name, then by labels.
    families: BTreeMap<&'static str, (&'static str, BTreeMap<String, f64>)>,
}

impl Gauges {
    /// The value of one series.
    pub(crate) fn set(&mut self, metric: Metric, labels: &[(&'static str, &str)], value: f64) {
        debug_assert_eq!(metric.kind, Kind::Gauge);
        let (_, series) = self
            .families
            .entry(metric.name)
            .or_insert_with(|| (metric.help, BTreeMap::new()));
        series.insert(label_text(labels), value);
    }

    fn render(&self, text: &mut String) {
        for (name, (help, series)) in &self.families {
            writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge")
                .expect("writing to a String cannot fail");
            for (labels, value) in series {
                writeln!(text, "{name}{{{labels}}} {value}")
                    .expect("writing to a String cannot fail");
            }
        }
    }
}

/// The one place that makes metric handles. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
    none: Arc<str>,
    series: Mutex<Vec<Weak<dyn Series>>>,
    /// By metric name, in the order of their making.
    histograms: Mutex<BTreeMap<&'static str, Family>>,
}

/// The histograms of one name, by labels, so that the same labels give the same series.
#[derive(Default)]
struct Family {
    help: &'static str,
    series: BTreeMap<Box<str>, Weak<Histogram>>,
}

impl Registry {
    /// An empty registry with every metric described.
    pub(crate) fn new() -> Self {
        let recorder = PrometheusBuilder::new()
            .idle_timeout(MetricKindMask::ALL, Some(IDLE))
            .build_recorder();
        for metric in ALL {
            let (name, help) = (metric.name.into(), SharedString::const_str(metric.help));
            match metric.kind {
                Kind::Counter => recorder.describe_counter(name, None, help),
                Kind::Gauge => recorder.describe_gauge(name, None, help),
                Kind::Histogram => {}
            }
        }
        let handle = recorder.handle();
        Self {
            inner: Arc::new(Inner {
                recorder,
                handle,
                none: NONE.into(),
                series: Mutex::default(),
                histograms: Mutex::default(),
            }),
        }
    }

    /// [`NONE`], which many series share.
    pub(crate) fn none(&self) -> Arc<str> {
        Arc::clone(&self.inner.none)
    }

    /// A handle for one series. The same name and labels give the same series.
    pub(crate) fn counter(&self, metric: Metric, labels: &[(&'static str, &str)]) -> Counter {
        debug_assert_eq!(metric.kind, Kind::Counter);
        self.inner
            .recorder
            .register_counter(&key(metric, labels), &METADATA)
    }

    /// See [`Registry::counter`].
    pub(crate) fn gauge(&self, metric: Metric, labels: &[(&'static str, &str)]) -> Gauge {
        debug_assert_eq!(metric.kind, Kind::Gauge);
        self.inner
            .recorder
            .register_gauge(&key(metric, labels), &METADATA)
    }

    /// See [`Registry::counter`]. The series goes when the last handle goes.
    pub(crate) fn histogram(
        &self,
        metric: Metric,
        labels: &[(&'static str, &str)],
    ) -> Arc<Histogram> {
        debug_assert_eq!(metric.kind, Kind::Histogram);
        let histogram = Histogram::new(labels);
        let mut histograms = self
            .inner
            .histograms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let family = histograms.entry(metric.name).or_default();
        family.help = metric.help;
        if let Some(known) = family
            .series
            .get(histogram.labels())
            .and_then(Weak::upgrade)
        {
            return known;
        }
        let histogram = Arc::new(histogram);
        family
            .series
            .insert(histogram.labels().into(), Arc::downgrade(&histogram));
        histogram
    }

    /// Keeps the series of `owner` for as long as it lives.
    pub(crate) fn keep<T: Series + 'static>(&self, owner: &Arc<T>) {
        let weak: Weak<dyn Series> = Arc::downgrade(owner) as Weak<dyn Series>;
        self.inner
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(weak);
    }

    /// The text of `/metrics`.
    pub(crate) fn render(&self) -> String {
        let owners: Vec<_> = self.owners().iter().filter_map(Weak::upgrade).collect();
        // Touching must come before rendering: rendering is what drops the idle ones.
        for owner in &owners {
            owner.refresh();
        }
        let mut gauges = Gauges::default();
        for owner in &owners {
            owner.gauges(&mut gauges);
        }
        let mut text = self.inner.handle.render();
        gauges.render(&mut text);
        self.render_histograms(&mut text);
        text
    }

    fn render_histograms(&self, text: &mut String) {
        for (name, family) in self.families().iter() {
            let live: Vec<_> = family.series.values().filter_map(Weak::upgrade).collect();
            if !live.is_empty() {
                let help = family.help;
                writeln!(text, "# HELP {name} {help}\n# TYPE {name} histogram")
                    .expect("writing to a String cannot fail");
            }
            for histogram in live {
                histogram.render(name, text);
            }
        }
    }

    /// Lets the exporter tidy up; a proxy that is never scraped would otherwise only grow.
    /// Forgets owners that are gone, too: a weak handle keeps the memory of what it points to.
    pub(crate) fn upkeep(&self) {
        self.inner.handle.run_upkeep();
        drop(self.owners());
        drop(self.families());
    }

    /// The owners of series, less those that are gone.
    fn owners(&self) -> MutexGuard<'_, Vec<Weak<dyn Series>>> {
        let mut owners = self
            .inner
            .series
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        owners.retain(|owner| owner.strong_count() > 0);
        owners
    }

    /// The histograms, less those that nobody fills any more.
    fn families(&self) -> MutexGuard<'_, BTreeMap<&'static str, Family>> {
        let mut families = self
            .inner
            .histograms
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for family in families.values_mut() {
            family
                .series
                .retain(|_, histogram| histogram.strong_count() > 0);
        }
        families
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Registry")
    }
}

const METADATA: Metadata<'static> = Metadata::new("weir", Level::INFO, None);

fn key(metric: Metric, labels: &[(&'static str, &str)]) -> Key {
    let labels: Vec<Label> = labels
        .iter()
        .map(|(name, value)| Label::new(*name, (*value).to_owned()))
        .collect();
    Key::from_parts(metric.name, labels)
}
