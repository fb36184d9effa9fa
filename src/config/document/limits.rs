//! Bounds on the requests of a route, of a rule, and of the whole process.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, FieldName, Name};

/// Bounds over all workers of this process. What is beyond is refused at once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleLimits {
    /// Requests in flight. Absent: no bound of its own.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
    /// The status of answers beyond `requests`.
    pub status: LimitStatus,
    /// Requests over time. Each request takes one from all of them, in this order.
    pub rates: Vec<RateLimit>,
}

/// The status of answers beyond a bound on requests in flight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LimitStatus {
    /// Service Unavailable.
    #[default]
    #[serde(rename = "503")]
    Unavailable,
    /// Too Many Requests.
    #[serde(rename = "429")]
    TooMany,
}

/// Requests over time: a bucket of `burst` tokens, refilled evenly. A request without a token gets 429.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateLimit {
    /// Name that clients are told. Absent: that of the rule or route.
    #[serde(default)]
    pub name: Option<Name>,
    /// Tokens that come back in each `per`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub requests: u32,
    /// See `requests`.
    #[serde(default = "second")]
    pub per: Duration,
    /// Tokens in a full bucket. Absent: as many as `requests`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
    /// A bucket for each value of this. Absent: one bucket for all requests.
    #[serde(default)]
    pub key: Option<RateLimitKey>,
    /// Buckets that are remembered at one time, 16 bytes each. Beyond it, of eight the one that is
    /// nearest to being full is forgotten.
    #[serde(default = "ten_thousand")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_keys: u32,
    /// The fields of every answer that tell clients what is left.
    #[serde(default)]
    pub fields: RateLimitFields,
}

fn second() -> Duration {
    Duration::from_secs(1)
}

fn ten_thousand() -> u32 {
    10_000
}

/// Whose requests are counted together. Exactly one field is set. Requests that do not have it share a
/// bucket.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimitKey {
    /// A header field of the request.
    pub header: Option<FieldName>,
    /// A cookie.
    pub cookie: Option<String>,
    /// A query parameter.
    pub query_param: Option<String>,
    /// The client's address (behind trusted proxies: the forwarded one).
    pub client_address: bool,
    /// Who the client is by its verified certificate.
    pub identity: bool,
}

/// How clients are told what is left of a rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RateLimitFields {
    /// `RateLimit-Policy` and `RateLimit`, as in draft-ietf-httpapi-ratelimit-headers-11.
    #[default]
    Standard,
    /// `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset`, as in its version 06, which many
    /// clients know.
    Legacy,
    /// Not at all; `retry-after` stands in refusals nevertheless.
    None,
}

/// Protection of the whole process.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Overload {
    /// Connections open at all listeners together. More wait in the kernel's queue until one has gone, as
    /// with `limits.connections` of a listener. Absent: no bound.
    #[schemars(range(min = 1))]
    pub connections: Option<u32>,
    /// Requests in flight at all listeners together. More get 503 at once, before a rule is looked for.
    /// The admin listener is not among them. Absent: no bound.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
}
