//! What scripts of other origins may do in a browser.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{FieldName, MethodName, OriginPattern};

/// Cross-origin resource sharing (the Fetch standard). Preflight requests are answered without a
/// backend and before the limits of the rule, whose keys they do not carry; what backends say about it is
/// replaced. A request of another origin is still served: it is the browser that keeps the answer from the
/// script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Cors {
    /// Origins whose scripts may read answers; `*` for all. `https://*.example.com` is for every host
    /// below, however deep. Ports are significant. Empty: none.
    pub allow_origins: Vec<OriginPattern>,
    /// Whether they may send cookies and other credentials.
    pub allow_credentials: bool,
    /// Methods beside those that need no leave; `*` for all.
    pub allow_methods: Vec<MethodName>,
    /// Request header fields beside those that need no leave; `*` for all.
    pub allow_headers: Vec<FieldName>,
    /// Response header fields that scripts may read; `*` for all, which with `allowCredentials` is
    /// none.
    pub expose_headers: Vec<FieldName>,
    /// Seconds for which a browser may remember the answer to a preflight request.
    #[schemars(range(min = 1))]
    pub max_age: u32,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            allow_origins: Vec::new(),
            allow_credentials: false,
            allow_methods: Vec::new(),
            allow_headers: Vec::new(),
            expose_headers: Vec::new(),
            max_age: 5,
        }
    }
}
