//! A second attempt while the first one is still waited for.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::Duration;

/// Sends a request that takes long to another endpoint of the same backend too; the first answer is passed
/// on, and the other attempt is given up. Only requests whose method is idempotent (RFC 9110, 9.2.2), only
/// once each, and within `retry.budget`; only with a body of which is known, by its length or because it has
/// come to its end, that it is not longer than `retry.bodyBytes`. Without `retry`, its defaults hold.
/// Requests that are evidence about a version under judgement are sent once.
/// An attempt that fails, or answers with what `retry` would not pass on, leaves the word to the other.
/// Exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Hedge {
    /// How long the first attempt may take to the head of its answer.
    pub after: Option<Duration>,
    /// The same as what so many in a hundred requests of this rule to the backend take; learnt from at
    /// least a hundred of them.
    #[schemars(range(min = 50, max = 99))]
    pub percentile: Option<u8>,
}
