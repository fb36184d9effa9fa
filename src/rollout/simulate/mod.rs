//! The same engine on synthetic traffic: how long a bad candidate stays unseen, and what it costs.
//!
//! Owns the traffic and the tally of many runs. Must not judge anything itself.
//!
//! Only bad events are drawn, as a Poisson process each, so that an hour of traffic takes milliseconds.
//! They reach the evidence as on the request path: when their request ends, once a key, every 20 ms.

mod run;
mod slower;
mod tally;

use std::time::Duration;

use serde::Serialize;

use super::evidence::Parameters;
use super::{PerArm, Share};

pub use run::run;
pub use slower::slow_rates;
pub use tally::{Spread, Tally};

/// Traffic, and the candidate in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setup {
    /// How strict the judgement is.
    pub parameters: Parameters,
    /// Requests a second, over both arms.
    pub rps: f64,
    /// The candidate's share.
    pub share: Share,
    /// What goes wrong, by arm.
    pub rates: PerArm<Rates>,
    /// How long a request takes, a failed one too.
    pub latency: Duration,
    /// Different keys; each has one arm. Without them, every request is its own.
    pub keys: Option<u32>,
    /// Retries on stable.
    pub shield: Shield,
    /// How long a run lasts when nothing is seen.
    pub horizon: Duration,
}

/// How often a request goes wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rates {
    /// It fails.
    pub errors: f64,
    /// It is slower than stable's 90th percentile.
    pub slow: f64,
    /// It is slower than stable's 99th percentile.
    pub very_slow: f64,
}

impl Rates {
    /// As slow as stable itself.
    pub fn of_errors(errors: f64) -> Self {
        Self {
            errors,
            slow: 0.1,
            very_slow: 0.01,
        }
    }
}

/// How many of the candidate's failed requests may be sent to stable again.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shield {
    /// At most this part of the candidate's requests,
    pub part: f64,
    /// and so many a second beside.
    pub per_second: f64,
}

/// How one run went.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Outcome {
    /// When the candidate lost its traffic; `None` when it kept it.
    pub seen: Option<Duration>,
    /// Requests of both arms until then.
    pub requests: f64,
    /// The candidate's failed requests, those under way at the decision included.
    pub failed: f64,
    /// Those that no retry on stable saved.
    pub failed_shielded: f64,
    /// Keys with a failed request.
    pub keys: f64,
    /// The same with the shield.
    pub keys_shielded: f64,
}

#[cfg(test)]
mod tests;
