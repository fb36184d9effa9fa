//! Asking endpoints whether they can serve.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, FieldValue, StatusCode};

/// What is asked of each endpoint, and how often. Exactly one of `http`, `tcp` and `grpc` is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HealthCheck {
    /// A `GET`. It goes over TLS, and by HTTP/2, where requests do.
    pub http: Option<HttpProbe>,
    /// That a connection can be made; with TLS, that it can be secured.
    pub tcp: Option<TcpProbe>,
    /// The health protocol of gRPC.
    pub grpc: Option<GrpcProbe>,
    /// From the end of a check to the beginning of the next, give or take a tenth.
    pub interval: Duration,
    /// How long a check may take.
    pub timeout: Duration,
    /// Failed checks in a row after which an endpoint gets no requests.
    #[schemars(range(min = 1, max = 1000))]
    pub unhealthy_after: u32,
    /// Good checks in a row after which it gets them again. The first check of a new endpoint is
    /// enough by itself.
    #[schemars(range(min = 1, max = 1000))]
    pub healthy_after: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            http: None,
            tcp: None,
            grpc: None,
            interval: Duration::from_secs(2),
            timeout: Duration::from_millis(500),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }
}

/// What is asked for by HTTP, and what must come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HttpProbe {
    /// Path, and query if it has one.
    pub path: String,
    /// `Host`. Absent: the endpoint's address.
    #[serde(default)]
    pub host: Option<FieldValue>,
    /// Status codes of a good answer. Absent or empty: 200 to 399.
    #[serde(default)]
    pub expected_codes: Vec<StatusCode>,
    /// Text that must be in the first 64 KiB of the body.
    #[serde(default)]
    pub expected_body: Option<String>,
}

/// Nothing but a connection.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TcpProbe {}

/// `grpc.health.v1.Health/Check`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GrpcProbe {
    /// The service that is asked about. Empty: the server as a whole.
    pub service: String,
}
