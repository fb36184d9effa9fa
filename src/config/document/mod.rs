//! What the operator may write: one serde struct per object of the file, one doc comment per field.
//!
//! Owns the shape of the file and the defaults. Must not know how it is read, checked or compiled.
//! The JSON Schema and the reference are generated from these structs; a rule copied out of a
//! Gateway API `HTTPRoute` deserializes unchanged.

mod authorization;
mod backend;
mod balancing;
mod compression;
mod cors;
mod discovery;
mod fault;
mod filter;
mod health;
mod hedge;
mod limits;
mod listener;
mod mirror;
mod retry;
mod rollout;
mod route;
mod split;
mod tls;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::authorization::{Authorization, AuthorizationRule};
pub use self::backend::{
    Backend, BackendLimits, BackendProtocol, Endpoint, Pool, ProxyProtocolVersion,
};
pub use self::balancing::{HashKey, LoadBalancing, LoadBalancingPolicy, SlowStart};
pub use self::compression::{Compression, CompressionAlgorithm, CompressionLevel};
pub use self::cors::Cors;
pub use self::discovery::{Dns, DnsRecords, EndpointsFile, OnEmpty};
pub use self::fault::{FaultAbort, FaultDelay, FaultInjection, Fraction};
pub use self::filter::{
    DirectResponse, Field, Filter, FilterType, HeaderModifier, PathModifier, PathModifierType,
    RedirectScheme, RequestRedirect, UrlRewrite,
};
pub use self::health::{
    GrpcProbe, HealthCheck, HttpProbe, OutlierDetection, SuccessRate, TcpProbe,
};
pub use self::hedge::Hedge;
pub use self::limits::{
    LimitStatus, Overload, RateLimit, RateLimitFields, RateLimitKey, RuleLimits,
};
pub use self::listener::{
    Listener, ListenerLimits, ListenerProtocol, ListenerProxyProtocol, ListenerTimeouts,
};
pub use self::mirror::{MirrorBackendRef, RequestMirror};
pub use self::retry::{GrpcCode, Retry, RetryBudget};
pub use self::rollout::{
    Rollout, RolloutAnalysis, RolloutBudget, RolloutEvent, RolloutHoldback, RolloutHook,
    RolloutOnRollback, RolloutPace, RolloutPause, RolloutPolicy, RolloutShield, RolloutStep,
    RolloutStrategy, RolloutStreams, RolloutUnit,
};
pub use self::route::{
    FieldMatch, Match, PathMatch, PathMatchType, QueryParamMatch, Route, Rule, ValueMatchType,
};
pub use self::split::{
    BackendRef, Force, KeyCookie, OnUnavailable, RuleTimeouts, SameSite, Split, SplitKey,
};
pub use self::tls::{
    BackendTls, ClientValidation, ClientValidationMode, KeyPair, ListenerTls, TlsVersion,
};

use super::values::{Address, Duration};

/// One configuration file. With a folder, the lists of all its files are joined in file-name order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["version"]))]
pub struct Document {
    /// Version of the file format. Always 1.
    #[schemars(with = "u32", range(min = 1, max = 1))]
    pub version: Option<u32>,
    /// Where operators and scrapers reach the proxy.
    pub admin: Option<Admin>,
    /// The access log.
    pub access_log: Option<AccessLog>,
    /// How the proxy stops.
    pub drain: Option<Drain>,
    /// What is kept over a restart.
    pub state: Option<State>,
    /// How the whole process is protected from more than it can do.
    pub overload: Option<Overload>,
    /// Who may do what.
    pub authorization: Option<Authorization>,
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// What happens to a request. Order breaks ties between rules of equal rank.
    pub routes: Vec<Route>,
    /// The versions of services that requests go to.
    pub backends: Vec<Backend>,
    /// The planned moves of traffic from one version to another.
    pub rollouts: Vec<Rollout>,
}

impl Document {
    /// Lists one after the other; of what may stand once, the first.
    pub fn join(self, other: Self) -> Self {
        Self {
            version: self.version.or(other.version),
            admin: self.admin.or(other.admin),
            access_log: self.access_log.or(other.access_log),
            drain: self.drain.or(other.drain),
            state: self.state.or(other.state),
            overload: self.overload.or(other.overload),
            authorization: self.authorization.or(other.authorization),
            listeners: join(self.listeners, other.listeners),
            routes: join(self.routes, other.routes),
            backends: join(self.backends, other.backends),
            rollouts: join(self.rollouts, other.rollouts),
        }
    }
}

/// One of the two is mostly empty; then the other is not copied.
fn join<T>(mut list: Vec<T>, other: Vec<T>) -> Vec<T> {
    if list.is_empty() {
        return other;
    }
    list.extend(other);
    list
}

/// The listener for operators: health, metrics, state and the few commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// Address of the admin listener.
    pub address: Address,
    /// A second address that serves only `/live`, `/ready` and `/metrics`.
    pub metrics_address: Option<Address>,
    /// A Unix socket that serves the same. Whoever may open it may also change things.
    pub socket: Option<PathBuf>,
    /// A file whose content is the bearer token that changes need. Without one, changes are
    /// answered on loopback and on the Unix socket only.
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: Address::loopback(14490),
            metrics_address: None,
            socket: None,
            token_file: None,
        }
    }
}

/// What is kept over a restart: how far rollouts have come, and what was decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// The folder for it, of this process alone. It is made where it is missing.
    pub folder: PathBuf,
}

/// One line for each request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessLog {
    /// The form of a line.
    pub format: AccessLogFormat,
    /// The file to append to. Absent: standard output.
    pub path: Option<PathBuf>,
    /// How many of 100 ordinary requests are written. Errors and slow requests always are.
    #[schemars(range(max = 100))]
    pub sample_percent: u8,
    /// A request that took longer than this is always written.
    pub slower_than: Option<Duration>,
    /// Replace the query string by `?…`.
    pub redact_query: bool,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: AccessLogFormat::Json,
            path: None,
            sample_percent: 100,
            slower_than: None,
            redact_query: false,
        }
    }
}

/// The form of an access-log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogFormat {
    /// One JSON object with the field names of this product.
    Json,
    /// One JSON object in the Elastic Common Schema 9.
    Ecs,
    /// The NCSA combined format, followed by nothing.
    Combined,
    /// No access log.
    Off,
}

/// How the proxy stops after TERM or INT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Drain {
    /// How long new connections are still accepted while `/ready` already fails.
    pub delay: Duration,
    /// How long requests in flight may take to end after that; then they are reset.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        }
    }
}

fn yes() -> bool {
    true
}

fn root_path() -> String {
    "/".to_owned()
}
