//! What operators, probes and scrapers see: a listener of its own, on the control runtime.
//!
//! Owns who may ask for what. Must not know how anything is done that it asks for.

pub(crate) mod access;
pub(crate) mod dump;
pub(crate) mod health;
mod rollouts;
pub(crate) mod server;
mod socket;
pub(crate) mod status;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crossbeam_utils::CachePadded;
use tokio::sync::mpsc;

pub(crate) use self::access::TokenError;
pub(crate) use self::server::serve;
use self::status::{Asked, ReloadStatus};
use crate::drain::{Trigger, Watch};
use crate::snapshot::current::Current;
use crate::steering::Desk;
use crate::telemetry::logging::LevelHandle;
use crate::telemetry::process::ProcessMetrics;
use crate::telemetry::recorder::Registry;

/// Everything that the admin API shows or starts.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) current: Current,
    /// Where rollouts are steered from.
    pub(crate) desk: Desk,
    pub(crate) registry: Registry,
    pub(crate) drain: Watch,
    pub(crate) trigger: Trigger,
    /// Asks for a reload.
    pub(crate) ask: mpsc::Sender<Asked>,
    pub(crate) reloads: Arc<ReloadStatus>,
    pub(crate) log_level: Option<LevelHandle>,
    /// Connections open on each worker.
    pub(crate) load: Arc<[CachePadded<AtomicU32>]>,
    /// Written and bound addresses.
    pub(crate) bound: Mutex<BTreeMap<SocketAddr, SocketAddr>>,
    pub(crate) started: Instant,
    /// Kept so that its series live.
    #[expect(dead_code, reason = "the registry holds it weakly")]
    pub(crate) process: Arc<ProcessMetrics>,
}

impl State {
    /// Notes where the listeners really are.
    pub(crate) fn note_bound(&self, bound: &BTreeMap<SocketAddr, SocketAddr>) {
        self.bound
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone_from(bound);
    }

    /// Where a written address really is.
    pub(crate) fn bound(&self, written: SocketAddr) -> SocketAddr {
        let bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        bound.get(&written).copied().unwrap_or(written)
    }
}

/// Cannot listen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    #[error("cannot listen on {address}: {source}")]
    Bind {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cannot listen on {}: {source}", path.display())]
    Socket {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Token(#[from] TokenError),
}
