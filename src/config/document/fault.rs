//! Failures that are made on purpose.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::retry::GrpcCode;
use super::route::Match;
use crate::config::values::{Duration, StatusCode};

/// Makes requests slow or lets them fail, to see what clients do. On a rule, before a backend is chosen;
/// on a backendRef, for requests that get it. What is injected counts neither against endpoints nor
/// as evidence about a version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultInjection {
    /// Any of these must match the request as it came. Absent or empty: every request of the rule.
    pub matches: Vec<Match>,
    /// Waiting before anything else is done.
    pub delay: Option<FaultDelay>,
    /// Failing, after the delay where there is one.
    pub abort: Option<FaultAbort>,
}

/// A wait. It counts towards the timeout of the request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultDelay {
    /// How long.
    pub duration: Duration,
    /// Of how many in a hundred requests. Neither this nor `fraction`: all.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub percent: Option<u8>,
    /// Of how many requests, where a hundredth is too much.
    #[serde(default)]
    pub fraction: Option<Fraction>,
}

/// A failure: `status`, `grpcStatus` or both, or else `reset`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FaultAbort {
    /// The status code of the answer. A gRPC call gets what that is in gRPC, unless `grpcStatus` says
    /// otherwise.
    pub status: Option<StatusCode>,
    /// The status of a gRPC call. Without `status`, other requests do not fail.
    pub grpc_status: Option<GrpcCode>,
    /// No answer: the connection of HTTP/1 is closed, the stream of HTTP/2 is reset.
    pub reset: bool,
    /// Of how many in a hundred requests. Neither this nor `fraction`: all.
    #[schemars(range(max = 100))]
    pub percent: Option<u8>,
    /// Of how many requests, where a hundredth is too much.
    pub fraction: Option<Fraction>,
}

/// A part of all requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fraction {
    /// So many, at most `denominator`.
    pub numerator: u32,
    /// Of so many.
    #[serde(default = "hundred")]
    #[schemars(range(min = 1))]
    pub denominator: u32,
}

fn hundred() -> u32 {
    100
}
