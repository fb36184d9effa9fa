//! The process itself: CPU, memory, descriptors, start, panics.
//!
//! Owns what is read from `/proc`. Must not know what the process does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use metrics::{Counter, Gauge};

use super::logging::LevelHandle;
use super::names;
use super::recorder::{Registry, Series};

/// Panics since the start, counted by the hook that `app` sets.
pub(crate) static PANICS: AtomicU64 = AtomicU64::new(0);

/// Tasks alive on the workers, as they have last looked.
static TASKS: AtomicU64 = AtomicU64::new(0);

/// What one worker adds to the tasks alive.
#[derive(Debug, Default)]
pub(crate) struct Tasks(u64);

impl Tasks {
    /// Notes how many this worker has now.
    pub(crate) fn set(&mut self, alive: usize) {
        let alive = alive as u64;
        // Of all workers together it is never below zero.
        TASKS.fetch_add(alive.wrapping_sub(self.0), Ordering::Relaxed);
        self.0 = alive;
    }
}

/// Handles of the process metrics.
pub(crate) struct ProcessMetrics {
    cpu: Counter,
    memory: Gauge,
    fds: Gauge,
    max_fds: Gauge,
    start: Gauge,
    started: f64,
    build: Gauge,
    panics: Counter,
    tasks: Gauge,
    log: Option<LevelHandle>,
    log_dropped: Counter,
}

impl ProcessMetrics {
    /// Resolves the handles.
    pub(crate) fn new(registry: &Registry, log: Option<LevelHandle>) -> Arc<Self> {
        let metrics = Arc::new(Self {
            cpu: registry.counter(names::PROCESS_CPU, &[]),
            memory: registry.gauge(names::PROCESS_MEMORY, &[]),
            fds: registry.gauge(names::PROCESS_FDS, &[]),
            max_fds: registry.gauge(names::PROCESS_MAX_FDS, &[]),
            start: registry.gauge(names::PROCESS_START, &[]),
            started: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0.0, |d| d.as_secs_f64()),
            build: registry.gauge(names::BUILD_INFO, &[("version", env!("CARGO_PKG_VERSION"))]),
            panics: registry.counter(names::PANICS, &[]),
            tasks: registry.gauge(names::TASKS, &[]),
            log,
            log_dropped: registry.counter(names::LOG_DROPPED, &[]),
        });
        registry.keep(&metrics);
        metrics
    }
}

impl Series for ProcessMetrics {
    fn refresh(&self) {
        self.build.set(1.0);
        self.start.set(self.started);
        self.panics.absolute(PANICS.load(Ordering::Relaxed));
        self.tasks.set(TASKS.load(Ordering::Relaxed) as f64);
        self.log_dropped
            .absolute(self.log.as_ref().map_or(0, LevelHandle::dropped));
        // Whole seconds: the exporter's counters are integers.
        self.cpu.absolute(cpu_seconds().unwrap_or(0));
        if let Some(bytes) = resident_bytes() {
            self.memory.set(bytes as f64);
        }
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            self.fds.set(open.count() as f64);
        }
        if let Some(limit) = max_fds() {
            self.max_fds.set(limit as f64);
        }
    }
}

impl std::fmt::Debug for ProcessMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ProcessMetrics")
    }
}

/// Resident memory in bytes, where the kernel tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .trim()
        .parse::<u64>()
        .ok()
        .map(|kib| kib * 1024)
}

/// Ticks of a second in `/proc`; 100 on every Linux of today (`man 5 proc`, `sysconf(_SC_CLK_TCK)`).
const TICKS: u64 = 100;

fn cpu_seconds() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name in parentheses may hold anything; what follows the last one is fields 3 and on.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS)
}

fn max_fds() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Counts panics and writes them to the program log, from now on.
pub(crate) fn count_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        let backtrace = std::backtrace::Backtrace::capture();
        tracing::error!(%panic, %backtrace, "a task panicked; its connection is lost, everything else goes on");
    }));
}
