//! How the last reloads went: for the API, the metrics and whoever asked.
//!
//! Must not know how a reload is done.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge};
use tokio::sync::oneshot;

use crate::aside;
use crate::config::{Problem, problem};
use crate::listener::manager::BindError;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::CompileError;
use crate::telemetry::names;
use crate::telemetry::recorder::{Registry, Series};

/// A wish for a reload.
#[derive(Debug)]
pub(crate) struct Asked {
    /// `file`, `signal` or `api`; for the log.
    pub(crate) by: &'static str,
    /// Do nothing when the files' content is what serves already.
    pub(crate) only_if_changed: bool,
    pub(crate) reply: Option<oneshot::Sender<Result<ReloadOutcome, ReloadError>>>,
}

impl Asked {
    /// The files may have changed.
    pub(crate) fn by_file() -> Self {
        Self {
            by: "file",
            only_if_changed: true,
            reply: None,
        }
    }

    /// Somebody sent HUP. Names are looked up again even when no file has changed.
    pub(crate) fn by_signal() -> Self {
        Self {
            by: "signal",
            only_if_changed: false,
            reply: None,
        }
    }

    /// Somebody asked over the API and waits for the answer.
    pub(crate) fn by_api() -> (Self, oneshot::Receiver<Result<ReloadOutcome, ReloadError>>) {
        let (reply, answer) = oneshot::channel();
        (
            Self {
                by: "api",
                only_if_changed: false,
                reply: Some(reply),
            },
            answer,
        )
    }
}

/// What a reload did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReloadOutcome {
    /// A new generation serves.
    Applied { generation: u64, change: String },
    /// The content is what serves already.
    Unchanged,
}

/// Why a reload did nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    #[error("{}", problem::render(.0, false))]
    Invalid(Vec<Problem>),
    #[error(transparent)]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the configuration was not read: {0}")]
    Aside(#[from] aside::Failed),
}

/// What is known of the reloads so far.
#[derive(Debug)]
pub(crate) struct ReloadStatus {
    metrics: Arc<ReloadMetrics>,
    last: Mutex<Last>,
}

/// The newest facts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Last {
    /// Unix time in seconds when the serving configuration was put to work.
    pub(crate) success: f64,
    /// The text of the newest refusal, if nothing has succeeded since.
    pub(crate) error: Option<String>,
    /// Reloads that were applied and refused.
    pub(crate) applied: u64,
    pub(crate) refused: u64,
}

struct ReloadMetrics {
    generation: Gauge,
    success: Counter,
    failure: Counter,
    successful: Gauge,
    success_time: Gauge,
    now: Mutex<(u64, bool, f64)>,
}

impl ReloadStatus {
    /// The first configuration counts as a success, not as a reload.
    pub(crate) fn new(registry: &Registry, first: &Snapshot) -> Self {
        let success = unix_now();
        let metrics = Arc::new(ReloadMetrics {
            generation: registry.gauge(names::CONFIG_GENERATION, &[]),
            success: registry.counter(names::CONFIG_RELOADS, &[("result", "success")]),
            failure: registry.counter(names::CONFIG_RELOADS, &[("result", "failure")]),
            successful: registry.gauge(names::CONFIG_LAST_SUCCESSFUL, &[]),
            success_time: registry.gauge(names::CONFIG_LAST_SUCCESS, &[]),
            now: Mutex::new((first.generation, true, success)),
        });
        registry.keep(&metrics);
        Self {
            metrics,
            last: Mutex::new(Last {
                success,
                ..Last::default()
            }),
        }
    }

    /// Notes how a reload went.
    pub(crate) fn note(&self, result: &Result<ReloadOutcome, ReloadError>) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut now = self
            .metrics
            .now
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(outcome) => {
                if let ReloadOutcome::Applied { generation, .. } = outcome {
                    last.success = unix_now();
                    last.applied += 1;
                    self.metrics.success.increment(1);
                    now.0 = *generation;
                    now.2 = last.success;
                }
                // Unchanged after a refusal: the file is again what serves.
                last.error = None;
                now.1 = true;
            }
            Err(error) => {
                last.refused += 1;
                last.error = Some(error.to_string());
                self.metrics.failure.increment(1);
                now.1 = false;
            }
        }
    }

    pub(crate) fn last(&self) -> Last {
        self.last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Series for ReloadMetrics {
    fn refresh(&self) {
        let (generation, successful, time) =
            *self.now.lock().unwrap_or_else(PoisonError::into_inner);
        self.generation.set(generation as f64);
        self.successful.set(f64::from(u8::from(successful)));
        self.success_time.set(time);
        self.success.increment(0);
        self.failure.increment(0);
    }
}

impl std::fmt::Debug for ReloadMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReloadMetrics")
    }
}

fn unix_now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64())
}
