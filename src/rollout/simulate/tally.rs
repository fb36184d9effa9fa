//! Many runs of one setup, summed up.
//!
//! Owns means and quantiles. Must not know what was simulated.

use serde::Serialize;

use super::Outcome;

/// How a number spreads over runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// Half of the runs are at most this.
    pub p50: f64,
    /// Nine of ten runs are at most this.
    pub p90: f64,
}

impl Spread {
    /// `None` without values.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let count = values.len();
        let at = |part: f64| {
            let place = (part * count as f64).ceil() as usize;
            values.get(place.saturating_sub(1)).copied()
        };
        Some(Self {
            mean: values.iter().sum::<f64>() / count as f64,
            p50: at(0.5)?,
            p90: at(0.9)?,
        })
    }
}

/// All runs of a setup.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// How many.
    pub runs: usize,
    /// In how many the candidate lost its traffic.
    pub seen: usize,
    /// After how many seconds, of those; `None` when there is none.
    pub seconds: Option<Spread>,
    /// After how many requests of both arms, of those.
    pub requests: Option<Spread>,
    /// The candidate's failed requests, of all runs.
    pub failed_requests: Option<Spread>,
    /// The same when stable answers what the shield may retry.
    pub failed_requests_shielded: Option<Spread>,
    /// Keys with a failed request.
    pub keys: Option<Spread>,
    /// The same with the shield.
    pub keys_shielded: Option<Spread>,
}

impl Tally {
    /// Of these runs.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let seen = || outcomes.iter().filter(|outcome| outcome.seen.is_some());
        let all = |value: fn(&Outcome) -> f64| Spread::of(outcomes.iter().map(value));
        Self {
            runs: outcomes.len(),
            seen: seen().count(),
            seconds: Spread::of(seen().filter_map(|it| Some(it.seen?.as_secs_f64()))),
            requests: Spread::of(seen().map(|it| it.requests)),
            failed_requests: all(|it| it.failed),
            failed_requests_shielded: all(|it| it.failed_shielded),
            keys: all(|it| it.keys),
            keys_shielded: all(|it| it.keys_shielded),
        }
    }
}
