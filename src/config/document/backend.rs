//! The versions of a service: endpoints, protocol, limits.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::balancing::LoadBalancing;
use super::discovery::Dns;
use super::health::{HealthCheck, OutlierDetection};
use super::tls::BackendTls;
use crate::config::values::{Duration, EndpointAddress, Name, Weight};

/// One version of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Name that backendRefs, logs and metrics use.
    pub name: Name,
    /// Its addresses. Empty: the backend is known and has no endpoint, which answers 503.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// In place of `endpoints`: a name that DNS has the addresses of.
    #[serde(default)]
    pub dns: Option<Dns>,
    /// In place of `endpoints`: a YAML or JSON file with `endpoints: [{ address: 10.0.0.11:8080 }]`, which is
    /// watched. Write it elsewhere and rename it, or swap a link to its folder.
    #[serde(default)]
    pub endpoints_file: Option<PathBuf>,
    /// The HTTP version spoken to the endpoints. A connection of HTTP/2 whose endpoint sends far more frames of
    /// a kind than an honest one would (a second: 100 PING, 50 SETTINGS, 100 RST_STREAM, 500 WINDOW_UPDATE, 100
    /// empty DATA; 8 CONTINUATION for a head) is closed, and counted by kind in
    /// `weir_upstream_http2_limit_exceeded_total`.
    #[serde(default)]
    pub protocol: BackendProtocol,
    /// TLS to the endpoints. Absent: none.
    #[serde(default)]
    pub tls: Option<BackendTls>,
    /// The header of the PROXY protocol that each connection to an endpoint begins with, before TLS; it
    /// tells the client's address and the one that the client connected to. A connection that tells
    /// whose it is serves only requests of that client's connection, and ends with it, so there are at
    /// least as many as clients. Absent: none.
    #[serde(default)]
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// How a request's endpoint is chosen.
    #[serde(default)]
    pub load_balancing: LoadBalancing,
    /// Asking the endpoints themselves whether they can serve. Absent: they are believed to.
    #[serde(default)]
    pub health_check: Option<HealthCheck>,
    /// Giving no requests for a while to endpoints at which too many fail. Absent: failures do not count.
    #[serde(default)]
    pub outlier_detection: Option<OutlierDetection>,
    /// Bounds on what goes to this backend at once.
    #[serde(default)]
    pub limits: BackendLimits,
    /// The connections kept for later requests.
    #[serde(default)]
    pub pool: Pool,
    /// How long connecting may take.
    #[serde(default = "one_second")]
    pub connect_timeout: Duration,
    /// Labels for people; shown by the admin API, used by nothing.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// One address of a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Address and port. A name is looked up once, when the configuration is loaded.
    pub address: EndpointAddress,
    /// Its share of the backend's requests, relative to the others. Zero is zero.
    #[serde(default)]
    pub weight: Weight,
    /// Endpoints of a higher number get requests only when those of the lower ones cannot be used.
    #[serde(default)]
    pub priority: u16,
}

/// The HTTP version spoken to a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, with prior knowledge where there is no TLS.
    #[serde(alias = "h2")]
    H2c,
    /// Under TLS what the endpoint chooses by ALPN; otherwise HTTP/1.1.
    Auto,
}

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProxyProtocolVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Bounds on what goes to a backend at once, over all workers. Beyond one: 503 at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackendLimits {
    /// Open connections. When there are so many, a request waits until one is free, for at most
    /// `connectTimeout`.
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Requests that wait so at once. 0: none does.
    pub pending_requests: u32,
    /// Requests in flight. Absent: no bound of its own.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
}

impl Default for BackendLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            pending_requests: 1024,
            requests: None,
        }
    }
}

/// The connections kept for later requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pool {
    /// How long an unused connection is kept. Keep it below the endpoints' own limit.
    pub idle_timeout: Duration,
    /// How long a connection is used at most. `0s`: for ever.
    pub max_age: Duration,
    /// Unused connections kept for one endpoint by one worker.
    pub max_idle: u32,
    /// Make a connection, with TLS where there is TLS, from each worker to an endpoint before it gets its first
    /// request, and its first one after its checks have turned good, while others are ready. A rollout begins
    /// when an endpoint of its candidate has them. Not with `proxyProtocol`.
    pub preconnect: bool,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(55),
            max_age: Duration::from_secs(3600),
            max_idle: 256,
            preconnect: false,
        }
    }
}
