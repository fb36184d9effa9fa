//! The compiled world: everything that a request needs, resolved, in one immutable value.
//!
//! Owns the running form of the configuration. Must not know the written form (only [`compile`] reads
//! it) and nothing that happens after a request has found its rule.
//!
//! A request loads it once. What must change together lives behind the same pointer.

pub(crate) mod authorization;
pub(crate) mod chance;
pub(crate) mod change;
pub(crate) mod compile;
pub(crate) mod current;
pub(crate) mod fault;
pub(crate) mod filters;
pub(crate) mod hedge;
pub(crate) mod limits;
pub(crate) mod mirror;
pub(crate) mod port;
pub(crate) mod rollout;
pub(crate) mod rule;
mod sparse;
pub(crate) mod trial;
pub(crate) mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::port::Port;
use self::rollout::Rollout;
use self::rule::Rule;
use self::written::Written;
use crate::telemetry::access_log::{self, AccessLog};
use crate::tls::client::Originator;
use crate::tls::files::PartStatus;
use crate::tls::server::Terminator;
use crate::upstream::backend::Backend;

/// One compiled configuration.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// Counts from 1; the number in logs, metrics and answers of the admin API.
    pub(crate) generation: u64,
    /// Of the files' content.
    pub(crate) hash: u64,
    /// By address.
    pub(crate) ports: BTreeMap<SocketAddr, Arc<Port>>,
    /// Addresses that are no longer configured, as they were last: for requests that cross the close
    /// of their connection. Kept until the first reload that finds no connection of theirs.
    pub(crate) leaving: BTreeMap<SocketAddr, Arc<Port>>,
    /// In file order, for people.
    pub(crate) rules: Vec<Arc<Rule>>,
    /// By name, for people and for the next compilation.
    pub(crate) backends: BTreeMap<Box<str>, Arc<Backend>>,
    /// In file order.
    pub(crate) rollouts: Vec<Arc<Rollout>>,
    pub(crate) access_log: Arc<AccessLogHandle>,
    pub(crate) state_folder: Option<PathBuf>,
    pub(crate) drain: DrainSettings,
    pub(crate) admin: AdminSettings,
    /// Labels of backends, by the name of one that has any; only shown.
    pub(crate) labels: BTreeMap<Box<str>, BTreeMap<String, String>>,
    /// Empty where nothing will be served.
    pub(crate) written: Written,
}

impl Snapshot {
    /// The port at an address, also of one that is leaving.
    pub(crate) fn port(&self, address: SocketAddr) -> Option<&Arc<Port>> {
        self.ports
            .get(&address)
            .or_else(|| self.leaving.get(&address))
    }

    fn terminators(&self) -> impl Iterator<Item = &Arc<Terminator>> {
        let listeners = self.ports.values().flat_map(|port| &port.listeners);
        listeners.filter_map(|listener| listener.tls.as_ref())
    }

    fn originators(&self) -> impl Iterator<Item = &Arc<Originator>> {
        self.backends.values().filter_map(|backend| backend.tls())
    }

    /// Every file of keys, certificates and lists.
    pub(crate) fn tls_files(&self) -> BTreeSet<PathBuf> {
        let served = self.terminators().flat_map(|tls| tls.files());
        served
            .chain(self.originators().flat_map(|tls| tls.files()))
            .collect()
    }

    /// Reads those files again; new connections use what can be used. Blocks.
    pub(crate) fn renew_tls(&self) {
        self.terminators().for_each(|tls| tls.refresh());
        self.originators().for_each(|tls| tls.refresh());
    }

    /// What is in use of those files, with whose it is: `listener/` or `backend/` and a name.
    pub(crate) fn tls_status(&self) -> Vec<(String, PartStatus)> {
        let served = self.terminators().flat_map(|tls| {
            let owner = format!("listener/{}", tls.settings().listener);
            tls.status()
                .into_iter()
                .map(move |part| (owner.clone(), part))
        });
        let asked = self.originators().flat_map(|tls| {
            let owner = format!("backend/{}", tls.settings().backend);
            tls.status()
                .into_iter()
                .map(move |part| (owner.clone(), part))
        });
        served.chain(asked).collect()
    }
}

/// The access log of a snapshot, with what it was opened from.
#[derive(Debug, Clone)]
pub(crate) struct AccessLogHandle {
    pub(crate) settings: Option<access_log::Settings>,
    pub(crate) log: AccessLog,
    /// Its series; and the guard that writes out what is queued when the last snapshot that uses it
    /// goes.
    #[expect(dead_code, reason = "held for what its drop does")]
    pub(crate) kept: Option<Arc<(Arc<access_log::Drops>, access_log::Guard)>>,
}

/// How the process stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DrainSettings {
    pub(crate) delay: Duration,
    pub(crate) timeout: Duration,
}

/// Where the admin listeners are, and what changes need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminSettings {
    pub(crate) address: SocketAddr,
    pub(crate) metrics_address: Option<SocketAddr>,
    pub(crate) socket: Option<PathBuf>,
    pub(crate) token_file: Option<PathBuf>,
}
