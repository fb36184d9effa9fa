//! Copies of requests for backends whose answers nobody gets.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fault::Fraction;
use crate::config::values::{ByteSize, Duration, Name};

/// Sends a copy of the request to another backend, and throws its answer away. The copy has what the
/// filters of the rule (and of the backendRef where this stands) have made of the request, and
/// `x-weir-shadow: 1`. It is sent once the request itself is on its way and its body has been read, is
/// never sent twice, and is no evidence about any version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RequestMirror {
    /// Who gets the copies.
    pub backend_ref: MirrorBackendRef,
    /// Of how many in a hundred requests. Neither this nor `fraction`: of all.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub percent: Option<u8>,
    /// Of how many requests, where a hundredth is too much.
    #[serde(default)]
    pub fraction: Option<Fraction>,
    /// Bytes of a body that are kept for the copy. Requests with more are not copied, which is counted.
    #[serde(default = "body_bytes")]
    pub body_bytes: ByteSize,
    /// Copies on their way at one time over all workers, those included that wait for their body. More
    /// are dropped, which is counted.
    #[serde(default = "max_in_flight")]
    #[schemars(range(min = 1))]
    pub max_in_flight: u32,
    /// How long a copy may take, its answer included.
    #[serde(default = "timeout")]
    pub timeout: Duration,
    /// Whether the copy's host ends in `-shadow`, so that the backend can tell by the host too.
    #[serde(default)]
    pub shadow_host: bool,
}

fn body_bytes() -> ByteSize {
    ByteSize(64 * 1024)
}

fn max_in_flight() -> u32 {
    128
}

fn timeout() -> Duration {
    Duration::from_secs(10)
}

/// A backend by the words of the Gateway API. One that cannot be resolved gets no copies; requests are
/// served all the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MirrorBackendRef {
    /// Name of the backend.
    pub name: Name,
    /// The Gateway API's group; empty or absent.
    #[serde(default)]
    pub group: Option<String>,
    /// The Gateway API's kind; `Service`, `Backend` or absent.
    #[serde(default)]
    pub kind: Option<String>,
    /// The Gateway API's namespace; empty or absent, as a file has none.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The Gateway API's port; the backend's endpoints have theirs, so it decides nothing.
    #[serde(default)]
    pub port: Option<u16>,
}

impl MirrorBackendRef {
    /// What of it a file cannot resolve: a key and its value.
    pub fn foreign(&self) -> Option<(&'static str, &str)> {
        let known_kind = matches!(
            self.kind.as_deref(),
            None | Some("" | "Service" | "Backend")
        );
        let kind = self.kind.as_deref().filter(|_| !known_kind);
        [
            ("namespace", self.namespace.as_deref()),
            ("kind", kind),
            ("group", self.group.as_deref()),
        ]
        .into_iter()
        .find_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
    }
}
