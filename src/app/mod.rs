//! The composition root: the only module that knows all others.
//!
//! Owns the start, the control loop and the end of the process. Must not know requests.

mod let_go;
mod memory;
mod preconnect;
pub(crate) mod reload;
pub(crate) mod signals;
mod upkeep;
pub(crate) mod workers;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use self::reload::{Asked, Material, ReloadError, Reloader};
use self::signals::Signals;
use self::workers::Workers;
use crate::admin::{self, State};
use crate::config::Document;
use crate::drain::{self, Phase};
use crate::http::serve::Close;
use crate::listener::manager::{BindError, Command, Manager};
use crate::snapshot::current::Current;
use crate::steering::Desk;
use crate::telemetry::logging::LevelHandle;
use crate::telemetry::process::ProcessMetrics;
use crate::telemetry::recorder::{Registry, UPKEEP};

/// What is run.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) source: Source,
    /// Threads of the data path; at least 1.
    pub(crate) workers: usize,
    /// In place of the configured admin address.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) log_level: Option<LevelHandle>,
}

/// Where the configuration is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// A file or folder, which is watched.
    Path(PathBuf),
    /// Made by the command line; there is nothing to reload.
    Made(Box<Document>),
}

/// Why the process does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("{0}")]
    Config(#[from] ReloadError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("admin: {0}")]
    Admin(#[from] admin::AdminError),
    #[error("cannot start a thread or runtime: {0}")]
    Runtime(std::io::Error),
    #[error("cannot watch {path}: {source}")]
    Watch {
        path: String,
        source: std::io::Error,
    },
}

/// A process that has started: everything is bound and served.
#[derive(Debug)]
pub(crate) struct App {
    state: Arc<State>,
    admin: SocketAddr,
    reloader: Reloader,
    workers: Workers,
    trigger: drain::Trigger,
    asked: mpsc::Receiver<Asked>,
}

/// Longest wait for what has been cut to notice it.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl App {
    /// Reads, compiles, binds, starts. Must run on the control runtime.
    ///
    /// # Errors
    /// The first thing that keeps the process from serving; nothing is left behind.
    pub(crate) async fn start(options: Options) -> Result<Self, StartError> {
        let registry = Registry::new();
        let (ask, asked) = mpsc::channel(16);
        // The watch begins before the first read, so that no change falls between.
        let watch = reload::watch(&options.source, &ask)?;
        let first = reload::first(&options.source, &registry, options.workers).await?;
        let current = Current::new(Arc::new(first));
        let desk = Desk::new(&registry);
        desk.adopt(&current.load());
        let workers = Workers::start(options.workers, &current).map_err(StartError::Runtime)?;
        let mut manager = Manager::new(Arc::clone(&workers.peers().mailboxes));
        let snapshot = current.load();
        let prepared = manager.prepare(&snapshot)?;
        let (trigger, watch_drain) = drain::new();
        let process = ProcessMetrics::new(&registry, options.log_level.clone());
        let status = Arc::new(admin::status::ReloadStatus::new(&registry, &snapshot));
        let state = Arc::new(State {
            current: current.clone(),
            desk,
            registry: registry.clone(),
            drain: watch_drain,
            trigger: trigger.clone(),
            ask,
            reloads: status,
            log_level: options.log_level,
            load: Arc::clone(&workers.peers().load),
            bound: std::sync::Mutex::default(),
            started: Instant::now(),
            process,
        });
        let admin = admin::serve(&state, options.admin).await?;
        upkeep::discover(&snapshot).await;
        upkeep::tend(&snapshot, None, manager.mailboxes());
        preconnect::made(&snapshot).await;
        manager.apply(prepared, &snapshot).await;
        state.note_bound(manager.bound());
        let reloader = Reloader {
            source: options.source,
            workers: options.workers,
            manager,
            watch,
            material: Material::default().follow(&current),
        };
        Ok(Self {
            state,
            admin,
            reloader,
            workers,
            trigger,
            asked,
        })
    }

    /// Where the admin listener is.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// What the admin API shows; `demo` looks at it too.
    pub(crate) fn state(&self) -> &Arc<State> {
        &self.state
    }

    /// Serves until a signal or the admin API ends it.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub(crate) async fn run(mut self) -> std::io::Result<()> {
        let mut signals = Signals::listen()?;
        let mut upkeep = tokio::time::interval(UPKEEP);
        let mut memory = tokio::time::interval(memory::INTERVAL);
        let mut ended = self.state.drain.clone();
        loop {
            tokio::select! {
                Some(asked) = self.asked.recv() => self.reloader.reload(&self.state, asked).await,
                signal = signals.next() => match signal {
                    signals::Signal::Reload => self.reloader.reload(&self.state, Asked::by_signal()).await,
                    signals::Signal::Stop => break,
                },
                () = ended.reached(Phase::LameDuck) => break,
                _ = upkeep.tick() => self.state.registry.upkeep(),
                _ = memory.tick() => memory::give_back(),
            }
        }
        self.stop(&mut signals).await;
        Ok(())
    }

    /// Lame duck, close, wait, cut. A second signal skips to the cut.
    async fn stop(mut self, signals: &mut Signals) {
        let settings = self.state.current.load().drain;
        tracing::info!(delay = ?settings.delay, timeout = ?settings.timeout, "draining");
        self.trigger.enter(Phase::LameDuck);
        self.reloader.manager.tell(|| Command::LastRequests).await;
        let orderly = async {
            tokio::time::sleep(settings.delay).await;
            self.trigger.enter(Phase::Closing);
            self.reloader.manager.stop_all().await;
            self.reloader
                .manager
                .tell(|| Command::CloseAll(Close::Graceful))
                .await;
            self.workers.idle(settings.timeout).await;
        };
        tokio::select! {
            () = orderly => {}
            () = signals.stop() => tracing::warn!("second signal: stopping now"),
        }
        let left = self.workers.connections();
        if left > 0 {
            tracing::warn!(connections = left, "cutting what has not ended in time");
        }
        self.reloader.manager.stop_all().await;
        self.reloader
            .manager
            .tell(|| Command::CloseAll(Close::Now))
            .await;
        self.workers.idle(LAST_WORDS).await;
        self.trigger.enter(Phase::Gone);
        self.workers.join().await;
        self.state.desk.close();
        tracing::info!("stopped");
    }
}
