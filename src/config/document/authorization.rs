//! Who may do what: lists of identities, methods and paths that are let through or refused.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::route::PathMatch;
use crate::config::values::{IdentityPattern, MethodName, Name};

/// Who may do what. A request that any of `deny` fits is refused. Where `allow` has anything for its
/// listener, one of those must fit. The answer is 403.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Authorization {
    /// Only count and log what would be refused.
    pub dry_run: bool,
    /// What is refused, whatever `allow` says.
    pub deny: Vec<AuthorizationRule>,
    /// What is let through.
    pub allow: Vec<AuthorizationRule>,
}

/// All given lists must fit; of a list, any element.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AuthorizationRule {
    /// Name that logs and metrics use.
    pub name: Name,
    /// Names of listeners. Absent or empty: all.
    #[serde(default)]
    pub listeners: Vec<Name>,
    /// Who the client is by its verified certificate. Absent or empty: anybody, also nobody.
    #[serde(default)]
    pub identities: Vec<IdentityPattern>,
    /// Methods, in capitals. Absent or empty: any.
    #[serde(default)]
    pub methods: Vec<MethodName>,
    /// Paths as the client asks for them, in canonical form. Absent or empty: any.
    #[serde(default)]
    pub paths: Vec<PathMatch>,
}
