//! Where the endpoints of a backend are, when somebody else knows: DNS, or a file.
//!
//! Owns when it is asked again and what an answer changes. Runs on the control runtime, once for each
//! backend of the process. Must not know requests.

mod dns;
mod file;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::Notify;

pub(crate) use self::dns::{DnsSettings, Records};
use super::backend::Backend;
use super::endpoints::Listed;
use crate::telemetry::discovery::{DiscoveryMetrics, DiscoveryResult};

/// Who knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Dns(DnsSettings),
    File(PathBuf),
}

/// What was said.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    Endpoints(Vec<Listed>),
    /// In good order, and none.
    Empty {
        remove: bool,
        said: String,
    },
    Failed(String),
}

/// An answer, and for how long it is good.
#[derive(Debug)]
struct Told {
    answer: Answer,
    good_for: Duration,
}

/// What is known of the answers to a backend's questions.
#[derive(Debug)]
pub(crate) struct Discovery {
    source: Source,
    metrics: Arc<DiscoveryMetrics>,
    status: Mutex<Status>,
    /// Somebody asks already.
    begun: AtomicBool,
    answered: AtomicBool,
    first: Notify,
    /// The source may say something else, or the backend is no more.
    look: Arc<Notify>,
}

/// For people.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status {
    /// Of the last answer; `None` before the first one.
    pub(crate) result: Option<DiscoveryResult>,
    /// Why the last answer was not used, or what it was used for.
    pub(crate) trouble: Option<String>,
    /// When there was a good one.
    pub(crate) good_at: Option<SystemTime>,
}

/// Longest time between two looks at whether the backend is still there.
const LOOK: Duration = Duration::from_secs(10);

/// Most doublings of the wait after failures.
const DOUBLED: u32 = 5;

impl Discovery {
    /// Nothing is asked yet. What `earlier` knew of the same source is still known.
    pub(crate) fn new(
        source: Source,
        metrics: Arc<DiscoveryMetrics>,
        earlier: Option<&Self>,
    ) -> Arc<Self> {
        let status = earlier
            .filter(|earlier| earlier.source == source)
            .map(Self::status);
        Arc::new(Self {
            source,
            metrics,
            status: Mutex::new(status.unwrap_or_default()),
            begun: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            first: Notify::new(),
            look: Arc::default(),
        })
    }

    pub(crate) fn source(&self) -> &Source {
        &self.source
    }

    pub(crate) fn metrics(&self) -> &Arc<DiscoveryMetrics> {
        &self.metrics
    }

    pub(crate) fn status(&self) -> Status {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.clone()
    }

    /// Whether nobody asks yet; whoever is told so must do it.
    pub(crate) fn begin(&self) -> bool {
        !self.begun.swap(true, Ordering::Relaxed)
    }

    /// Waits for the first answer, whatever it is.
    pub(crate) async fn answered(&self) {
        let mut waiting = std::pin::pin!(self.first.notified());
        waiting.as_mut().enable();
        if !self.answered.load(Ordering::Acquire) {
            waiting.await;
        }
    }

    /// It is to be seen whether something has changed.
    pub(super) fn look(&self) {
        self.look.notify_one();
    }

    fn note(&self, result: DiscoveryResult, trouble: Option<String>) -> Option<DiscoveryResult> {
        self.metrics.answered(result);
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if result == DiscoveryResult::Ok {
            status.good_at = Some(SystemTime::now());
        }
        status.trouble = trouble;
        status.result.replace(result)
    }

    fn end_first(&self) {
        self.answered.store(true, Ordering::Release);
        self.first.notify_waiters();
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(settings) => settings.fmt(f),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

/// Asks until the backend is gone.
pub(crate) async fn tend(backend: Weak<Backend>, seed: u64) {
    let Some(discovery) = backend.upgrade().and_then(|it| it.discovery().cloned()) else {
        return;
    };
    match &discovery.source {
        Source::Dns(settings) => ask_again(&backend, &discovery, settings, seed).await,
        Source::File(path) => file::follow(&backend, &discovery, path).await,
    }
}

fn held(backend: &Weak<Backend>) -> Option<Arc<Backend>> {
    backend.upgrade().filter(|backend| !backend.is_retired())
}

async fn ask_again(
    backend: &Weak<Backend>,
    discovery: &Discovery,
    settings: &DnsSettings,
    seed: u64,
) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut failures = 0_u32;
    while held(backend).is_some() {
        let before = held(backend).map(|it| it.endpoints().listed());
        let told = settings.ask(&before.unwrap_or_default()).await;
        let failed = matches!(told.answer, Answer::Failed(_));
        let good_for = if failed {
            settings.min_ttl.saturating_mul(1 << failures.min(DOUBLED))
        } else {
            told.good_for
        };
        failures = if failed {
            failures.saturating_add(1)
        } else {
            0
        };
        let Some(held) = held(backend) else { return };
        apply(&held, discovery, told.answer);
        drop(held);
        // Up to a tenth later, so that many proxies do not ask in step.
        let pause = good_for.clamp(settings.min_ttl, settings.max_ttl);
        pause_or_look(pause.mul_f64(1.0 + 0.1 * rng.random::<f64>()), discovery).await;
    }
}

/// Waits; less long where there may be news. For a long time only in pieces: nobody tells of a backend
/// that was never put to work.
async fn pause_or_look(pause: Duration, discovery: &Discovery) {
    // Either is a reason to go on.
    drop(tokio::time::timeout(pause, discovery.look.notified()).await);
}

/// Puts an answer to work.
fn apply(backend: &Backend, discovery: &Discovery, answer: Answer) {
    let (name, source) = (backend.name(), discovery.source.to_string());
    match answer {
        Answer::Endpoints(listed) => {
            let before = discovery.note(DiscoveryResult::Ok, None);
            if before.is_some_and(|before| before != DiscoveryResult::Ok) {
                tracing::info!(backend = name, source, "endpoints are known again");
            }
            backend.replace(&listed);
        }
        Answer::Empty { remove, said } => {
            let before = discovery.note(DiscoveryResult::Empty, Some(said.clone()));
            if before != Some(DiscoveryResult::Empty) {
                let kept = if remove {
                    "none is kept"
                } else {
                    "the last ones are kept"
                };
                tracing::warn!(backend = name, source, "{said}; {kept}");
            }
            if remove {
                backend.replace(&[]);
            }
        }
        Answer::Failed(why) => {
            let before = discovery.note(DiscoveryResult::Failed, Some(why.clone()));
            if before != Some(DiscoveryResult::Failed) {
                let why = why.trim_end();
                tracing::error!(backend = name, source, "the last endpoints are kept: {why}");
            }
        }
    }
    discovery.end_first();
}
