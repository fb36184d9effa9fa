//! What the evidence says at one moment.
//!
//! Owns the shape that status, records and the state machine read. Must not know how it came about.

use serde::{Deserialize, Serialize};

use super::super::{PerArm, PerSli, Sli};

/// The verdict on a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The candidate is good enough for the next step.
    Pass,
    /// The candidate is worse than the tolerance allows.
    Fail,
    /// Not enough evidence either way.
    Undecided,
    /// The candidate got no request that counts.
    NoData,
}

/// Why the verdict is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reason {
    /// An indicator's evidence reached its threshold.
    Worse(Sli),
    /// The rate without a control exceeds the declared limit.
    AboveLimit,
    /// The rule of the step holds.
    RuleHolds,
    /// The candidate got no request that counts.
    NoRequests,
    /// Evidence is above its threshold, and too few events or keys of the candidate stand behind it.
    FewKeys(Sli),
    /// Latency is worse, and so is the load of the candidate's endpoints.
    Confounded(Sli),
    /// It would fail, unless stable's requests that are open fail as well: waits for them.
    Held(Sli),
    /// Evidence against the candidate stops the ramp.
    Frozen,
    /// Neither.
    MoreEvidence,
}

/// One indicator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reading {
    /// Events that count.
    pub events: PerArm<u64>,
    /// Natural logarithm of the evidence against the candidate, whatever becomes of stable's open requests.
    pub log_evidence: f64,
    /// The same if none of these fails.
    pub log_early: f64,
    /// Where it rolls back; none when the indicator is only watched.
    pub log_threshold: Option<f64>,
    /// The smallest p-value so far that holds at any number of looks.
    pub p: f64,
    /// Different keys among the candidate's events, up to 16.
    pub keys: usize,
}

/// All indicators, and what follows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Judgement {
    /// The verdict on the step.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Whether the ramp must not go on: by what there is, sure or early.
    pub frozen: bool,
    /// Natural logarithm of the evidence over all indicators, each weighed by its part.
    pub log_evidence: f64,
    /// Natural logarithm of the evidence for passing the step, and where it passes.
    pub log_promotion: f64,
    /// Where it passes.
    pub log_promotion_threshold: f64,
    /// Failures beyond what stable's explain, in requests; and in keys.
    pub excess: Excess,
    /// Whether the false alarms are as promised; not so when every request counts.
    pub exact: bool,
    /// By indicator.
    pub indicators: PerSli<Reading>,
}

/// Failures of the candidate beyond what stable's at the same time explain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Excess {
    /// Failed requests.
    pub requests: f64,
    /// Keys with a failed request.
    pub keys: f64,
}
