//! Sending a request again when an attempt at an endpoint has failed.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{ByteSize, Duration, Name, StatusCode};

/// When and how often a request is sent again. A connection that cannot be made, breaks, or does not
/// answer in time is always a reason (Gateway API, GEP-1731); `codes` and `grpcCodes` add answers.
/// What may have been processed is sent again only if its method is idempotent (RFC 9110, 9.2.2).
/// From the second attempt on, endpoints are told its number by `x-weir-attempt`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// How often it is sent again, at most.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: u8,
    /// Status codes of answers that are not passed on but tried again: 400 to 599.
    pub codes: Vec<StatusCode>,
    /// The same for the status of gRPC calls that fail before any message.
    pub grpc_codes: Vec<GrpcCode>,
    /// The least pause before it is sent again. Doubled each time, and up to twice as long by chance.
    pub backoff: Duration,
    /// Also send again what may be processed twice: `POST`, `PATCH` and others.
    pub non_idempotent: bool,
    /// Bytes of a request's body that are kept for being sent again. A longer body is sent once.
    pub body_bytes: ByteSize,
    /// The backendRef that the first repetition goes to, whichever backend has failed; absent: the same
    /// backend, at another endpoint where there is one. A failure of the fallback itself is repeated there.
    pub fallback: Option<Name>,
    /// What repetitions may cost.
    pub budget: RetryBudget,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 1,
            codes: Vec::new(),
            grpc_codes: Vec::new(),
            backoff: Duration::from_millis(25),
            non_idempotent: false,
            body_bytes: ByteSize(64 * 1024),
            fallback: None,
            budget: RetryBudget::default(),
        }
    }
}

/// How many repetitions a backend gets, over all workers and ten seconds. Beyond it, what would have been
/// repeated gets 503 (Gateway API, GEP-3388).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryBudget {
    /// Of the rule's requests to the backend.
    #[schemars(range(min = 0, max = 100))]
    pub percent: u8,
    /// On top of it, for rules with few requests.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_retries_per_second: u32,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self {
            percent: 20,
            min_retries_per_second: 10,
        }
    }
}

/// A status of gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum GrpcCode {
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}
