//! Hostnames, rules and matches: which requests a rule is for.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::hedge::Hedge;
use super::limits::RuleLimits;
use super::retry::Retry;
use super::root_path;
use super::split::{BackendRef, RuleTimeouts, Split};
use crate::config::values::{FieldName, HostPattern, IdentityPattern, MethodName, Name};

/// Hostnames and the rules for their requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Name that logs and metrics use.
    pub name: Name,
    /// Names of the listeners it is attached to. Absent or empty: all.
    #[serde(default)]
    pub listeners: Vec<Name>,
    /// Hosts: exact, or `*.example.com`. Absent or empty: any.
    #[serde(default)]
    pub hostnames: Vec<HostPattern>,
    /// Bounds on the requests of all its rules together.
    #[serde(default)]
    pub limits: RuleLimits,
    /// What happens to its requests.
    pub rules: Vec<Rule>,
}

/// Matches, filters and the backends behind them. The fields are the Gateway API's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Name within the route. Absent: its position, counted from 0.
    pub name: Option<Name>,
    /// Any of these must match. Absent or empty: every path.
    pub matches: Vec<Match>,
    /// Changes to request and response, in this order.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight.
    pub backend_refs: Vec<BackendRef>,
    /// How the choice among the backendRefs is made.
    pub split: Split,
    /// Bounds on the exchange.
    pub timeouts: RuleTimeouts,
    /// Bounds on its requests.
    pub limits: RuleLimits,
    /// Sending a request again when an attempt fails. Absent: only what a stale connection has lost.
    pub retry: Option<Retry>,
    /// A second attempt while the first one is still waited for. Absent: none.
    pub hedge: Option<Hedge>,
}

/// All given fields must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// The path. Absent: prefix `/`.
    pub path: Option<PathMatch>,
    /// The method, in capitals.
    pub method: Option<MethodName>,
    /// Header fields; of two entries with one name only the first counts.
    pub headers: Vec<FieldMatch>,
    /// Query parameters; of two entries with one name only the first counts.
    pub query_params: Vec<QueryParamMatch>,
    /// Who the client is by its verified certificate; any of these. Ours, not the Gateway API's.
    /// Empty: anybody.
    pub identities: Vec<IdentityPattern>,
}

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathMatch {
    /// The kind of comparison.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// The path, prefix or expression; begins with `/` unless it is an expression.
    #[serde(default = "root_path")]
    pub value: String,
}

/// The kind of path comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// Byte for byte.
    Exact,
    /// By whole segments; `/a` matches `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
    /// RE2-style, anchored at both ends; ranks between `Exact` and `PathPrefix`.
    RegularExpression,
}

/// The kind of header or query comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// Byte for byte.
    #[default]
    Exact,
    /// RE2-style, anchored at both ends.
    RegularExpression,
}

/// A header field to match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldMatch {
    /// The kind of comparison.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// Field name; case does not matter.
    pub name: FieldName,
    /// Value or expression.
    pub value: String,
}

/// A query parameter to match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryParamMatch {
    /// The kind of comparison.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// Parameter name; case matters.
    pub name: String,
    /// Value or expression; of a repeated parameter the first value counts.
    pub value: String,
}
