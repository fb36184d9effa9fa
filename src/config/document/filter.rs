//! What is changed in a request or response, or answered without a backend.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compression::Compression;
use super::cors::Cors;
use super::fault::FaultInjection;
use super::mirror::RequestMirror;
use crate::config::values::{FieldName, FieldValue, HostPattern, StatusCode};

/// One change. `type` names the one other field that is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// The kind of filter.
    #[serde(rename = "type")]
    pub kind: FilterType,
    /// For `RequestHeaderModifier`.
    #[serde(default)]
    pub request_header_modifier: Option<HeaderModifier>,
    /// For `ResponseHeaderModifier`.
    #[serde(default)]
    pub response_header_modifier: Option<HeaderModifier>,
    /// For `RequestRedirect`.
    #[serde(default)]
    pub request_redirect: Option<RequestRedirect>,
    /// For `URLRewrite`.
    #[serde(default)]
    pub url_rewrite: Option<UrlRewrite>,
    /// For `DirectResponse`.
    #[serde(default)]
    pub direct_response: Option<DirectResponse>,
    /// For `RequestMirror`.
    #[serde(default)]
    pub request_mirror: Option<RequestMirror>,
    /// For `CORS`; on a rule only.
    #[serde(default)]
    pub cors: Option<Cors>,
    /// For `Compression`.
    #[serde(default)]
    pub compression: Option<Compression>,
    /// For `FaultInjection`.
    #[serde(default)]
    pub fault_injection: Option<FaultInjection>,
}

/// The kind of filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterType {
    /// Changes header fields of the request.
    RequestHeaderModifier,
    /// Changes header fields of the response.
    ResponseHeaderModifier,
    /// Sends a copy of the request to another backend.
    RequestMirror,
    /// Answers with a redirect.
    RequestRedirect,
    /// Changes host or path of the request.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// Answers without a backend.
    DirectResponse,
    /// Lets scripts of other origins read answers.
    #[serde(rename = "CORS")]
    Cors,
    /// Compresses answers. Ours, not the Gateway API's.
    Compression,
    /// Makes requests slow or lets them fail. Ours, not the Gateway API's.
    FaultInjection,
}

/// Changes to header fields, in the order set, add, remove. A name may stand in one list only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderModifier {
    /// Overwrite or create.
    pub set: Vec<Field>,
    /// Append a field line.
    pub add: Vec<Field>,
    /// Remove every line of that name.
    pub remove: Vec<FieldName>,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Field {
    /// Field name.
    pub name: FieldName,
    /// Field value.
    pub value: FieldValue,
}

/// A redirect; what is absent is taken from the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestRedirect {
    /// `http` or `https`.
    pub scheme: Option<RedirectScheme>,
    /// Host without port, no wildcard.
    pub hostname: Option<HostPattern>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// 301, 302 (when absent), 303, 307 or 308.
    pub status_code: Option<u16>,
}

/// Scheme of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedirectScheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// A change of path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathModifier {
    /// The kind of change.
    #[serde(rename = "type")]
    pub kind: PathModifierType,
    /// For `ReplaceFullPath`.
    #[serde(default)]
    pub replace_full_path: Option<String>,
    /// For `ReplacePrefixMatch`; only with `PathPrefix` matches.
    #[serde(default)]
    pub replace_prefix_match: Option<String>,
}

/// The kind of path change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathModifierType {
    /// The whole path.
    ReplaceFullPath,
    /// The part that the prefix matched.
    ReplacePrefixMatch,
}

/// A change of host or path before the request goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UrlRewrite {
    /// The new host, no wildcard.
    pub hostname: Option<HostPattern>,
    /// The new path.
    pub path: Option<PathModifier>,
}

/// An answer without a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectResponse {
    /// Status code, 200 to 599.
    pub status: StatusCode,
    /// The body.
    #[serde(default)]
    pub body: Option<String>,
    /// Header fields, for example `content-type`.
    #[serde(default)]
    pub headers: Vec<Field>,
}
