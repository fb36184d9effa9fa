//! How strict the judgement is.
//!
//! Owns the defaults. Must not know what is judged with them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::{PerSli, Sli};
use super::Restarts;

/// Everything that a verdict depends on beside the counts; a record carries it, so that it can be judged
/// again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    /// Greatest probability that a good candidate is ever rolled back, over a whole rollout: α.
    pub false_alarm: f64,
    /// How α is divided; an indicator without a part is watched and decides nothing. At most 1 together.
    pub parts: PerSli<f64>,
    /// How many times as often the candidate may fail as stable, at least 1.
    pub tolerance: PerSli<f64>,
    /// Events of the candidate without which there is no rollback.
    pub min_events: PerSli<u64>,
    /// Different keys among these, at most [`super::KeySketch::MOST`].
    pub min_keys: usize,
    /// Evidence over all indicators at which the ramp stops. A good candidate gets there in at most
    /// `1/freeze` of all rollouts.
    pub freeze: f64,
    /// Evidence is raised to the power `1/temper`, at least 1: caution against clusters that no key tells.
    pub temper: f64,
    /// What counts once.
    pub unit: Unit,
    /// When fresh copies of the bets begin.
    pub restarts: Restarts,
    /// How long latency is not judged after an endpoint is new.
    pub grace: Duration,
    /// How long a request of stable that has not ended may still fail, and is waited for: stable's time-out.
    pub hold: Duration,
    /// When a step is passed.
    pub promotion: Promotion,
    /// Rate of failure that the candidate must not exceed when it has all traffic and no control is left.
    pub limit_without_control: Option<f64>,
}

/// What counts once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Unit {
    /// The first event of a key.
    #[default]
    Key,
    /// Every event, against the share of requests that really came. For a few clients that send
    /// everything; no longer exact, because the requests of a client are alike.
    Request,
}

/// By which test a step is passed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Rule {
    /// The candidate's rate is below a limit. Needs requests of the candidate.
    #[default]
    Absolute,
    /// The candidate is less than `tolerance` times as bad as stable. Needs bad events.
    Relative,
}

/// When a step is passed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Promotion {
    /// Greatest probability that a step is passed by a candidate beyond the limit: β.
    pub false_pass: f64,
    /// By which test.
    pub rule: Rule,
    /// For the absolute rule: the limit is so many times stable's rate over the rollout so far.
    pub factor: f64,
    /// For the absolute rule: the limit is at least this.
    pub floor: f64,
    /// For the relative rule.
    pub tolerance: f64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            false_alarm: 0.001,
            parts: PerSli {
                errors: 0.5,
                timeouts: 0.2,
                slow: 0.1,
                very_slow: 0.1,
                client_errors: 0.0,
                custom: 0.1,
            },
            tolerance: PerSli::from_fn(|sli| if sli.is_latency() { 1.5 } else { 1.25 }),
            min_events: PerSli::from_fn(|sli| match sli {
                Sli::Errors | Sli::Timeouts => 3,
                Sli::Slow | Sli::VerySlow | Sli::ClientErrors | Sli::Custom => 5,
            }),
            min_keys: 3,
            freeze: 20.0,
            temper: 1.0,
            unit: Unit::Key,
            restarts: Restarts::until(None),
            grace: Duration::from_secs(30),
            hold: Duration::from_secs(2),
            promotion: Promotion {
                false_pass: 0.05,
                rule: Rule::Absolute,
                factor: 2.0,
                floor: 0.005,
                tolerance: 2.0,
            },
            limit_without_control: None,
        }
    }
}

impl Parameters {
    /// The logarithm of the evidence at which this indicator rolls back; `None` when it decides nothing.
    pub fn log_threshold(&self, sli: Sli) -> Option<f64> {
        let alpha = self.false_alarm * self.parts.get(sli);
        (alpha > 0.0).then(|| -alpha.ln())
    }

    /// For a fleet whose evidence is added up, and in which every replica may also act alone when it
    /// cannot reach the others: the false alarms of both together are those of one.
    #[must_use]
    pub fn shared_by(&self, replicas: u32) -> [Self; 2] {
        let with = |false_alarm| Self {
            false_alarm,
            ..self.clone()
        };
        let half = self.false_alarm / 2.0;
        [with(half), with(half / f64::from(replicas.max(1)))]
    }
}
