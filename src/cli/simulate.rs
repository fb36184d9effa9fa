//! `weir simulate`: how long a bad candidate stays unseen at given traffic, and what it costs.
//!
//! Owns the candidates that are tried and the answer. Must not know how one is judged.

use std::process::ExitCode;
use std::time::Duration;

use rand::{SeedableRng, rngs::SmallRng};
use serde::Serialize;

use super::Failure;
use super::arguments::SimulateOptions;
use super::show::{new_table, print, right};
use crate::rollout::evidence::{Parameters, Restarts};
use crate::rollout::simulate::{self, Rates, Setup, Shield, Spread, Tally, slow_rates};
use crate::rollout::{PerArm, PerSli, Share, Sli};

/// Regressions that are tried when none is named.
const ERRORS: [f64; 4] = [1.0, 0.05, 0.01, 0.005];
const SLOWER: [f64; 2] = [2.0, 1.2];

/// How long a good candidate is looked at.
const GOOD: Duration = Duration::from_secs(300);

/// The shield's retries beside its part, as retries have by default.
const SHIELDED_PER_SECOND: f64 = 10.0;

/// The documented answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    requests_per_second: f64,
    weight_percent: f64,
    horizon_seconds: f64,
    /// Greatest probability that a good candidate is rolled back in a whole rollout.
    false_alarm: f64,
    /// How many times as often as stable a candidate may fail, and be slow.
    error_tolerance: f64,
    slow_tolerance: f64,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    /// For people.
    what: String,
    is_good: bool,
    stable: Rates,
    candidate: Rates,
    #[serde(flatten)]
    tally: Tally,
}

/// Simulates and prints.
pub(super) fn run(options: &SimulateOptions) -> Result<ExitCode, Failure> {
    let base = setup(options)?;
    let mut rng = SmallRng::seed_from_u64(options.seed);
    let mut candidates = Vec::new();
    let mut tried = |what: String, candidate: Rates, horizon: Duration, is_good: bool| {
        let rates = PerArm {
            candidate,
            ..base.rates
        };
        let setup = Setup {
            rates,
            horizon,
            ..base.clone()
        };
        let outcomes: Vec<_> = (0..options.runs)
            .map(|_| simulate::run(&setup, &mut rng))
            .collect();
        candidates.push(Candidate {
            what,
            is_good,
            stable: base.rates.stable,
            candidate,
            tally: Tally::of(&outcomes),
        });
    };
    let stable = base.rates.stable;
    let none_named = options.candidate_errors.is_empty() && options.candidate_slower.is_empty();
    let named = |list: &[f64], defaults: &[f64]| match none_named {
        true => defaults.to_vec(),
        false => list.to_vec(),
    };
    for errors in named(&options.candidate_errors, &ERRORS) {
        let what = format!("fails {} %", errors * 100.0);
        tried(what, Rates::of_errors(errors), base.horizon, false);
    }
    for factor in named(&options.candidate_slower, &SLOWER) {
        let what = format!("takes {factor} times as long");
        tried(what, slow_rates(stable.errors, factor), base.horizon, false);
    }
    tried(
        "as good as stable".to_owned(),
        stable,
        base.horizon.min(GOOD),
        true,
    );
    let answer = Answer {
        requests_per_second: base.rps,
        weight_percent: base.share.fraction() * 100.0,
        horizon_seconds: base.horizon.as_secs_f64(),
        false_alarm: base.parameters.false_alarm,
        error_tolerance: options.error_tolerance,
        slow_tolerance: options.slow_tolerance,
        candidates,
    };
    print(&serde_json::to_value(&answer)?, options.output, |_| {
        table(&answer)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn setup(options: &SimulateOptions) -> Result<Setup, Failure> {
    let usage = |message: &str| Failure::Usage(message.to_owned());
    let share = Share::from_fraction(options.weight);
    if share == Share::ZERO || share == Share::ALL {
        return Err(usage(
            "--weight: with none or all of the traffic there is no comparison; write a percentage between",
        ));
    }
    if options.false_alarm <= 0.0 || options.false_alarm >= 1.0 {
        return Err(usage(
            "--false-alarm: write a percentage between 0 and 100, for example `--false-alarm 0.1%`",
        ));
    }
    let horizon = options.horizon.get();
    let defaults = Parameters::default();
    let tolerance = |sli: Sli| match sli.is_latency() {
        true => options.slow_tolerance,
        false => options.error_tolerance,
    };
    Ok(Setup {
        parameters: Parameters {
            false_alarm: options.false_alarm,
            tolerance: PerSli::from_fn(tolerance),
            restarts: Restarts::until(Some(horizon)),
            ..defaults
        },
        rps: options.rps,
        share,
        rates: PerArm {
            stable: slow_rates(options.stable_errors, 1.0),
            candidate: Rates::default(),
        },
        latency: options.latency.get(),
        keys: (options.keys > 0).then_some(options.keys),
        shield: Shield {
            part: options.shield,
            per_second: SHIELDED_PER_SECOND,
        },
        horizon,
    })
}

fn table(answer: &Answer) -> String {
    let headings = [
        "A CANDIDATE THAT",
        "SEEN",
        "AFTER",
        "9 OF 10",
        "REQUESTS",
        "FAILED",
        "SHIELDED",
        "KEYS",
        "SHIELDED",
    ];
    let mut table = new_table(&headings);
    for candidate in answer
        .candidates
        .iter()
        .filter(|candidate| !candidate.is_good)
    {
        let tally = &candidate.tally;
        let mean =
            |spread: &Option<Spread>| spread.map_or_else(|| "-".to_owned(), |it| figures(it.mean));
        table.add_row([
            candidate.what.clone(),
            format!("{} of {}", tally.seen, tally.runs),
            tally
                .seconds
                .map_or_else(|| "-".to_owned(), |it| time(it.mean)),
            tally
                .seconds
                .map_or_else(|| "-".to_owned(), |it| time(it.p90)),
            mean(&tally.requests),
            mean(&tally.failed_requests),
            mean(&tally.failed_requests_shielded),
            mean(&tally.keys),
            mean(&tally.keys_shielded),
        ]);
    }
    let mut text = format!("{}\n", right(table, &[1, 2, 3, 4, 5, 6, 7, 8]));
    text.push_str(&format!(
        "{} requests/s, weight {} %, stable fails {} %. FAILED: the candidate's failed requests until it lost its\n\
         traffic; SHIELDED: those that a retry on stable did not save; KEYS: different clients among them; means.\n\
         Allowed: {} times as many failures as stable, and being slow {} times as often.\n",
        answer.requests_per_second,
        answer.weight_percent,
        answer.candidates.first().map_or(0.0, |it| it.stable.errors * 100.0),
        answer.error_tolerance,
        answer.slow_tolerance,
    ));
    for good in answer
        .candidates
        .iter()
        .filter(|candidate| candidate.is_good)
    {
        text.push_str(&format!(
            "{} of {} good candidates were rolled back; promised: at most {} % of all rollouts.",
            good.tally.seen,
            good.tally.runs,
            answer.false_alarm * 100.0
        ));
    }
    text
}

fn time(seconds: f64) -> String {
    match seconds {
        ..1.0 => format!("{seconds:.2} s"),
        ..10.0 => format!("{seconds:.1} s"),
        ..120.0 => format!("{seconds:.0} s"),
        ..7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.1} h", seconds / 3_600.0),
    }
}

fn figures(number: f64) -> String {
    if number < 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.0}")
    }
}

/// A percentage, with or without its sign, as a fraction.
pub(super) fn percentage(text: &str) -> Result<f64, String> {
    let number = text.trim_end_matches('%').trim_end();
    let percent: f64 = number
        .parse()
        .map_err(|_| "expected a percentage, for example `0.1%`".to_owned())?;
    if !(0.0..=100.0).contains(&percent) {
        return Err("expected a percentage from 0 to 100".to_owned());
    }
    Ok(percent / 100.0)
}

/// A finite number, at least `least`.
pub(super) fn at_least(least: f64, text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && (least..=1e6).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from {least} to 1000000")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages() {
        assert_eq!(percentage("0.1%"), Ok(0.001));
        assert_eq!(percentage("5"), Ok(0.05));
        assert_eq!(percentage("100 %"), Ok(1.0));
        for wrong in ["", "%", "-1%", "101", "nan", "one"] {
            assert!(percentage(wrong).is_err(), "{wrong}");
        }
        assert!(at_least(1.0, "inf").is_err() && at_least(1.0, "0.9").is_err());
        assert_eq!(at_least(1.0, "1.25"), Ok(1.25));
    }

    #[test]
    fn times_have_as_many_figures_as_they_deserve() {
        let times = [0.154, 3.25, 35.2, 600.0, 36_000.0].map(time);
        assert_eq!(times, ["0.15 s", "3.2 s", "35 s", "10 min", "10.0 h"]);
    }
}
