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

/// Giving no requests for a while to endpoints at which too many fail: answers from 500, connections
/// that fail or break, and answers that do not come in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OutlierDetection {
    /// Failures in a row after which an endpoint is ejected. 0: they do not count.
    pub consecutive_failures: u32,
    /// For how long, the first time; the second time twice as long, and so on.
    pub eject_for: Duration,
    /// The longest it gets.
    pub max_eject_for: Duration,
    /// How many of the endpoints may be ejected at once. One of several always may, the last never.
    #[schemars(range(min = 0, max = 100))]
    pub max_ejected_percent: u8,
    /// Also eject endpoints whose requests succeed clearly less often than those of the others: below the
    /// mean by 1.9 standard deviations.
    pub success_rate: Option<SuccessRate>,
}

impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            eject_for: Duration::from_secs(10),
            max_eject_for: Duration::from_secs(300),
            max_ejected_percent: 50,
            success_rate: None,
        }
    }
}

/// When rates of success are compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SuccessRate {
    /// How often, and over how long.
    pub interval: Duration,
    /// Requests in that time below which an endpoint is not judged.
    pub min_requests: u32,
    /// Endpoints to judge below which none is.
    pub min_endpoints: u32,
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            min_requests: 100,
            min_endpoints: 5,
        }
    }
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
