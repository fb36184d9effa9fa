//! How a request's endpoint is chosen.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, FieldName};

/// How a request's endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancing {
    /// The policy.
    pub policy: LoadBalancingPolicy,
    /// What `consistentHash` hashes. Absent: the key of the rule's split. A request without one goes to
    /// an endpoint at random.
    pub key: Option<HashKey>,
    /// Let the share of an endpoint that has just become ready grow step by step, while others have been
    /// ready for longer. Absent: it gets all of it at once. `consistentHash` knows no such step.
    pub slow_start: Option<SlowStart>,
    /// With fewer usable endpoints than this part of them (in percent), all get requests, as the few
    /// would break down under the load of the others. 0: never. A backend without any usable endpoint is
    /// unavailable, whatever this says.
    #[schemars(range(min = 0, max = 100))]
    pub panic_threshold: u8,
}

/// A load-balancing policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancingPolicy {
    /// One after the other.
    RoundRobin,
    /// The less busy of two drawn at random.
    #[default]
    LeastRequest,
    /// The one of two drawn at random where an answer is expected sooner, by the time that answers took
    /// lately and the requests in flight.
    PeakEwma,
    /// Any.
    Random,
    /// Always the same one for the same key, as long as it is usable (Maglev).
    ConsistentHash,
}

/// What is hashed. Exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HashKey {
    /// A cookie of the request. None is issued.
    pub cookie: Option<String>,
    /// A header field of the request.
    pub header: Option<FieldName>,
    /// A query parameter.
    pub query_param: Option<String>,
    /// The client's address (behind trusted proxies: the forwarded one).
    pub client_address: bool,
}

/// How the share of a new endpoint grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SlowStart {
    /// After this long it has all of its share.
    pub window: Duration,
    /// What it begins with, in percent of its share.
    #[serde(default = "ten")]
    #[schemars(range(min = 1, max = 100))]
    pub from_percent: u8,
}

fn ten() -> u8 {
    10
}
