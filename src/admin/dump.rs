//! The shapes of `/api/v1/*` and `/config`: documented structs, one a page.
//!
//! Owns what is shown of the running state. Must not know how it is sent.

use std::io;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde_json::{Value, json};

use super::State;
use crate::config::values::Identity;
use crate::drain::Phase;
use crate::proxy_protocol::Version;
use crate::snapshot::port::ProxyProtocol;
use crate::snapshot::rule::{OnUnavailable, Rule};
use crate::steering::view::{KeptView, RolloutView, SummaryView};
use crate::telemetry::discovery::DiscoveryResult;
use crate::telemetry::process::resident_bytes;
use crate::tls::certificate::Certificate;
use crate::upstream::backend::Protocol;
use crate::upstream::balance::Policy;
use crate::upstream::discovery::Discovery;
use crate::upstream::endpoints::{Member, Standing};

/// `/api/v1/status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    version: &'static str,
    /// `serving`, `draining` or `stopping`.
    phase: &'static str,
    uptime_seconds: u64,
    generation: u64,
    /// Of the files' content, hexadecimal.
    config_hash: String,
    workers: usize,
    /// Open connections, on each worker.
    connections: Vec<u32>,
    resident_bytes: Option<u64>,
    reload: Reload,
    /// Absent where nothing is to be kept.
    state: Option<KeptView>,
    rollouts: Vec<SummaryView>,
}

/// How the last reloads went.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Reload {
    applied: u64,
    refused: u64,
    /// Whether the newest content serves.
    last_successful: bool,
    /// Unix time in seconds.
    last_success: f64,
    /// Why the newest content does not serve.
    error: Option<String>,
}

pub(crate) fn status(state: &State) -> Status {
    let snapshot = state.current.load();
    let last = state.reloads.last();
    let standing = state.desk.standing();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        phase: match state.drain.phase() {
            Phase::Serving => "serving",
            Phase::LameDuck => "draining",
            Phase::Closing | Phase::Gone => "stopping",
        },
        uptime_seconds: state.started.elapsed().as_secs(),
        generation: snapshot.generation,
        config_hash: format!("{:016x}", snapshot.hash),
        workers: state.load.len(),
        connections: state
            .load
            .iter()
            .map(|load| load.load(Ordering::Relaxed))
            .collect(),
        resident_bytes: resident_bytes(),
        reload: Reload {
            applied: last.applied,
            refused: last.refused,
            last_successful: last.error.is_none(),
            last_success: last.success,
            error: last.error,
        },
        state: state.desk.kept(),
        rollouts: standing.into_iter().map(RolloutView::summary).collect(),
    }
}

/// One of `/api/v1/listeners`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListenerView {
    name: String,
    /// As written; the port may be 0.
    address: String,
    /// Where connections really are accepted.
    bound: String,
    hostname: Option<String>,
    /// Whose connections begin with a header of the PROXY protocol: `none`, `all`, or a list of peers.
    proxy_protocol: String,
    /// Open connections of the address.
    connections: u32,
}

pub(crate) fn listeners(state: &State) -> Vec<ListenerView> {
    let snapshot = state.current.load();
    let of_port = |port: &std::sync::Arc<crate::snapshot::port::Port>| {
        let door = &port.door;
        let (address, bound, open) = (door.address, state.bound(door.address), door.metrics.open());
        let view = move |listener: &std::sync::Arc<crate::snapshot::port::Listener>| ListenerView {
            name: listener.name.to_string(),
            address: address.to_string(),
            bound: bound.to_string(),
            hostname: listener.hostname.as_deref().map(str::to_owned),
            proxy_protocol: proxy_protocol(door.proxy_protocol.as_ref()),
            connections: open,
        };
        port.listeners.iter().map(view).collect::<Vec<_>>()
    };
    snapshot.ports.values().flat_map(of_port).collect()
}

fn proxy_protocol(expected: Option<&ProxyProtocol>) -> String {
    match expected.map(|expected| &expected.trusted) {
        None => "none".to_owned(),
        Some(None) => "all".to_owned(),
        Some(Some(nets)) => {
            let nets: Vec<_> = nets.iter().map(ToString::to_string).collect();
            nets.join(" ")
        }
    }
}

/// One rule of `/api/v1/routes`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleView {
    route: String,
    rule: String,
    /// `cookie user`, `header x`, `queryParam x`, `clientAddress`, or null without a key.
    key: Option<String>,
    on_unavailable: &'static str,
    /// What else is done with its requests, in words: limits, mirrors, CORS and others.
    policies: Vec<String>,
    backends: Vec<ArmView>,
}

/// One backendRef.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArmView {
    name: String,
    weight: u32,
    /// What part of the requests it gets, 0 to 1: its weight in their sum, or what a rollout gives it.
    share: f64,
    resolved: bool,
    requests: u64,
    /// Upper bounds of the quantiles, in seconds; null without requests or beyond the last bucket.
    p50_seconds: Option<f64>,
    p99_seconds: Option<f64>,
}

pub(crate) fn routes(state: &State) -> Vec<RuleView> {
    state
        .current
        .load()
        .rules
        .iter()
        .map(|rule| rule_view(rule))
        .collect()
}

fn rule_view(rule: &Rule) -> RuleView {
    let arms = rule.split.arms().enumerate().map(|(index, arm)| {
        let weight = rule.split.weight(index);
        let duration = arm.metrics.duration();
        let quantile = |q| Some(duration?.quantile(q)?.as_secs_f64());
        ArmView {
            name: arm.name().to_owned(),
            weight,
            share: rule.share(index),
            resolved: arm.backend.is_some(),
            requests: duration.map_or(0, |it| it.total().0),
            p50_seconds: quantile(0.5),
            p99_seconds: quantile(0.99),
        }
    });
    RuleView {
        route: rule.route().to_owned(),
        rule: rule.name().to_owned(),
        key: rule.sticky.as_ref().map(|sticky| sticky.source.to_string()),
        on_unavailable: match rule.on_unavailable {
            OnUnavailable::Shift => "shift",
            OnUnavailable::Error => "error",
        },
        policies: rule.policies(),
        backends: arms.collect(),
    }
}

/// One of `/api/v1/backends`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BackendView {
    name: String,
    protocol: &'static str,
    policy: &'static str,
    /// `v1` or `v2`; null where endpoints are not told whose connections they get.
    proxy_protocol: Option<&'static str>,
    /// Whether it has an endpoint that requests may go to.
    usable: bool,
    /// Of the endpoints that requests go to; null when there is none.
    priority: Option<u16>,
    /// So few endpoints are usable that all are used.
    panics: bool,
    /// Open connections to it.
    connections: u32,
    requests_in_flight: u32,
    /// Requests that wait for a connection.
    requests_pending: u32,
    /// Null where the configuration lists the endpoints.
    discovery: Option<DiscoveryView>,
    endpoints: Vec<EndpointView>,
    labels: std::collections::BTreeMap<String, String>,
}

/// Who says where the endpoints of a backend are.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DiscoveryView {
    /// `dns NAME:PORT`, `dns srv NAME` or `file PATH`.
    source: String,
    /// Of the last answer: `ok`, `empty` or `failed`; null before the first one.
    result: Option<&'static str>,
    /// Why the last answer is not in use.
    trouble: Option<String>,
    /// How long ago the endpoints were last told; null: never.
    good_seconds_ago: Option<u64>,
}

/// One endpoint.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointView {
    address: String,
    weight: u32,
    priority: u16,
    /// `ready`, `unknown`, `unhealthy` or `ejected`.
    state: &'static str,
    /// Why its last check failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
    requests_in_flight: u32,
}

fn endpoint_view(member: &Member) -> EndpointView {
    let endpoint = &member.endpoint;
    EndpointView {
        address: endpoint.address().to_string(),
        weight: member.weight,
        priority: member.priority,
        state: endpoint.state().as_str(),
        trouble: endpoint.trouble(),
        requests_in_flight: endpoint.in_flight(),
    }
}

fn discovery_view(discovery: &Discovery) -> DiscoveryView {
    let status = discovery.status();
    let ago = status.good_at.and_then(|at| at.elapsed().ok());
    DiscoveryView {
        source: discovery.source().to_string(),
        result: status.result.map(DiscoveryResult::as_str),
        trouble: status.trouble,
        good_seconds_ago: ago.map(|ago| ago.as_secs()),
    }
}

fn policy(policy: &Policy) -> &'static str {
    match policy {
        Policy::RoundRobin => "roundRobin",
        Policy::LeastRequest => "leastRequest",
        Policy::PeakEwma => "peakEwma",
        Policy::Random => "random",
        Policy::ConsistentHash(_) => "consistentHash",
    }
}

pub(crate) fn backends(state: &State) -> Vec<BackendView> {
    let snapshot = state.current.load();
    let view = |backend: &std::sync::Arc<crate::upstream::backend::Backend>| {
        let (settings, endpoints) = (backend.settings(), backend.endpoints());
        let standing = endpoints.standing();
        BackendView {
            name: backend.name().to_owned(),
            protocol: match settings.protocol {
                Protocol::Http1 => "http1",
                Protocol::H2c => "h2c",
                Protocol::Auto => "auto",
            },
            policy: policy(&settings.balancing.policy),
            proxy_protocol: settings.proxy_protocol.map(|version| match version {
                Version::V1 => "v1",
                Version::V2 => "v2",
            }),
            usable: standing != Standing::Unavailable,
            priority: match standing {
                Standing::Unavailable => None,
                Standing::Serves { priority } | Standing::Panics { priority } => Some(priority),
            },
            panics: matches!(standing, Standing::Panics { .. }),
            connections: backend.metrics().open.load(Ordering::Relaxed),
            requests_in_flight: backend.metrics().serving.load(Ordering::Relaxed),
            requests_pending: backend.metrics().pending.load(Ordering::Relaxed),
            discovery: backend.discovery().map(|it| discovery_view(it)),
            endpoints: endpoints.all().iter().map(endpoint_view).collect(),
            labels: (snapshot.labels.get(backend.name()))
                .cloned()
                .unwrap_or_default(),
        }
    };
    snapshot.backends.values().map(view).collect()
}

/// One file of `/api/v1/certificates`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateFileView {
    /// `listener/` or `backend/` and a name.
    owner: String,
    /// `server`, `client_ca`, `client`, `ca` or `crl`.
    role: &'static str,
    files: Vec<String>,
    /// When what is in use ends: the first certificate, or the first list of revoked ones.
    ends: Option<String>,
    /// Why what the file says now is not in use.
    error: Option<String>,
    certificates: Vec<CertificateView>,
}

/// One certificate.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CertificateView {
    subject: String,
    issuer: String,
    serial: String,
    names: Vec<String>,
    not_before: String,
    not_after: String,
    /// SHA-256.
    fingerprint: String,
}

pub(crate) fn certificates(state: &State) -> Vec<CertificateFileView> {
    let all = state.current.load().tls_status();
    all.into_iter()
        .map(|(owner, part)| CertificateFileView {
            owner,
            role: part.role,
            files: part
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect(),
            ends: part.ends.map(time),
            error: part.trouble,
            certificates: part
                .certificates
                .into_iter()
                .map(certificate_view)
                .collect(),
        })
        .collect()
}

fn certificate_view(certificate: Certificate) -> CertificateView {
    let Identity { uris, dns, subject } = certificate.identity;
    CertificateView {
        subject,
        issuer: certificate.issuer,
        serial: certificate.serial,
        names: [uris, dns, certificate.addresses].concat(),
        not_before: time(certificate.not_before),
        not_after: time(certificate.not_after),
        fingerprint: certificate.fingerprint,
    }
}

/// RFC 3339; what is outside of its years is shown as seconds.
fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

/// `/config`: what was written, with every default.
pub(crate) fn config(state: &State) -> Result<Value, io::Error> {
    let snapshot = state.current.load();
    // Secrets stand in files of their own; the document holds only their paths.
    let document = snapshot.written.document()?;
    Ok(json!({ "generation": snapshot.generation, "document": document }))
}
