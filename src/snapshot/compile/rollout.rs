//! From a rollout as written to its plan, and to what its rule needs for it.
//!
//! Owns which trial lives on over a reload: that of the same rollout between the same backends.

use std::sync::Arc;
use std::time::Duration;

use super::{CompileError, Compiler, compile_retry};
use crate::config::document;
use crate::config::values::{Name, Percent};
use crate::rollout::evidence::{Parameters, Promotion, Restarts, Unit};
use crate::rollout::plan::{
    Budget, Draft, Fault, Holdback, Pace, Pause, Plan, Policy, Step, Strategy,
};
use crate::rollout::{PerSli, Share};
use crate::snapshot::rollout::{Hook, Rollout};
use crate::snapshot::rule::{OnTrial, Retry, Rule, Shield};
use crate::snapshot::trial::Trial;
use crate::upstream::budget::{Budget as Tokens, BudgetSettings};

/// Answers that the shield replaces.
const SHIELDED: [u16; 4] = [500, 502, 503, 504];

/// The same for gRPC: DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS.
const SHIELDED_GRPC: [u8; 4] = [4, 13, 14, 15];

/// How late a time-out may be told, and how long a decision waits at most.
const LATE: Duration = Duration::from_millis(250);
const LONGEST_HOLD: Duration = Duration::from_secs(15);

impl Compiler<'_> {
    /// What a rule needs for the rollout that moves its traffic.
    pub(super) fn on_trial(
        &self,
        written: &document::Rollout,
        rule: &document::Rule,
    ) -> Option<OnTrial> {
        let position = |name: &Name| rule.backend_refs.iter().position(|it| it.name == *name);
        let (stable, candidate) = (position(&written.stable)?, position(&written.candidate)?);
        let names = [written.stable.as_str(), written.candidate.as_str()];
        let earlier = self.earlier.and_then(|earlier| {
            let mut rollouts = earlier.rollouts.iter();
            rollouts.find(|it| {
                *it.name == *written.name.as_str()
                    && it.trial.is_of(names[0], names[1], self.workers)
            })
        });
        let trial = earlier.map_or_else(
            || Trial::new(names[0], names[1], self.workers),
            |earlier| Arc::clone(&earlier.trial),
        );
        let shield = written.shield.as_ref().map(|shield| {
            let settings = BudgetSettings {
                percent: shield.percent,
                per_second: shield.per_second,
            };
            let same = earlier
                .and_then(|earlier| earlier.rule.on_trial.as_ref()?.shield.as_ref())
                .map(|shield| &shield.budget)
                .filter(|budget| budget.settings() == settings);
            Shield {
                retry: shielding(shield, rule, stable),
                budget: same.map_or_else(|| Tokens::new(settings), Arc::clone),
                tells: shield.header,
            }
        });
        let analysis = &written.analysis;
        Some(OnTrial {
            trial,
            stable,
            candidate,
            shield,
            bad_codes: analysis.codes.iter().map(|code| code.get()).collect(),
            bad_grpc_codes: analysis.grpc_codes.iter().map(|code| *code as u8).collect(),
            rolls: written.strategy == document::RolloutStrategy::Rolling,
            recall: match written.on_rollback.streams {
                document::RolloutStreams::Drain => Some(written.on_rollback.grace.get()),
                document::RolloutStreams::Keep => None,
            },
        })
    }

    /// The rollouts of the compiled rules.
    pub(super) fn rollouts(
        &self,
        document: &document::Document,
        rules: &[Arc<Rule>],
    ) -> Result<Vec<Arc<Rollout>>, CompileError> {
        let mut compiled = Vec::new();
        for written in &document.rollouts {
            let rule = rules
                .iter()
                .find(|rule| format!("{}/{}", rule.route(), rule.name()) == written.rule);
            let Some((rule, pair)) = rule.and_then(|rule| Some((rule, rule.on_trial.as_ref()?)))
            else {
                continue;
            };
            let plan = plan(written, time_out(rule)).map_err(|faults| CompileError::Rollout {
                name: written.name.to_string(),
                faults: faults.iter().map(|fault| format!("; {fault}")).collect(),
            })?;
            let weight = |index| f64::from(rule.split.weight(index));
            let [stable, candidate] = [pair.stable, pair.candidate].map(weight);
            compiled.push(Arc::new(Rollout {
                name: written.name.as_str().into(),
                plan,
                revision: revision(written, document).into(),
                rule: Arc::clone(rule),
                stable: pair.stable,
                candidate: pair.candidate,
                trial: Arc::clone(&pair.trial),
                file: Share::from_fraction(candidate / (stable + candidate)),
                hooks: written.hooks.iter().filter_map(hook).collect(),
            }));
        }
        Ok(compiled)
    }
}

fn hook(written: &document::RolloutHook) -> Option<Arc<Hook>> {
    Some(Arc::new(Hook {
        // The check has accepted it.
        uri: written.url.parse().ok()?,
        told_of: (!written.confirm).then(|| written.events.clone().into()),
        secret_file: written.secret_file.clone(),
        timeout: written.timeout.get(),
    }))
}

/// Another candidate is another version whatever is written.
fn revision(written: &document::Rollout, document: &document::Document) -> String {
    let backend = document
        .backends
        .iter()
        .find(|backend| backend.name == written.candidate);
    let label = backend.and_then(|backend| backend.labels.get("version"));
    match written.revision.as_ref().or(label) {
        Some(revision) => format!("{}@{revision}", written.candidate),
        None => written.candidate.to_string(),
    }
}

/// The rule's own retries, but that the first goes to stable.
fn shielding(written: &document::RolloutShield, rule: &document::Rule, stable: usize) -> Retry {
    let usual = document::Retry::default();
    let mut retry = compile_retry(rule.retry.as_ref().unwrap_or(&usual), rule);
    retry.fallback = Some(stable);
    retry.non_idempotent |= written.non_idempotent;
    let mut codes = retry.codes.into_vec();
    codes.extend(SHIELDED);
    retry.codes = codes.into();
    let mut codes = retry.grpc_codes.into_vec();
    codes.extend(SHIELDED_GRPC);
    retry.grpc_codes = codes.into();
    retry
}

/// After how long a request of stable has failed at the latest, as far as the rule knows.
fn time_out(rule: &Rule) -> Option<Duration> {
    let timeouts = &rule.timeouts;
    [timeouts.request, timeouts.attempt, timeouts.first_byte]
        .into_iter()
        .flatten()
        .min()
}

/// The plan, or everything that is wrong with it. A decision waits for requests of stable until they have
/// timed out.
fn plan(written: &document::Rollout, time_out: Option<Duration>) -> Result<Plan, Vec<Fault>> {
    let maximum =
        |maximum: crate::config::values::Duration| (!maximum.is_zero()).then(|| maximum.get());
    let step = |weight: Percent, pause, least: Option<_>, most: Option<_>| Step {
        share: share(weight),
        minimum: least.unwrap_or(written.minimum).get(),
        maximum: maximum(most.unwrap_or(written.maximum)),
        pause,
    };
    let steps: Vec<Step> = written
        .steps
        .iter()
        .map(|it| step(it.weight, it.pause.map(pause), it.minimum, it.maximum))
        .collect();
    let usual = step(Percent::ALL, None, None, None);
    let is_blue_green = written.strategy == document::RolloutStrategy::BlueGreen;
    let holdback = match &written.holdback {
        Some(held) => Some(Holdback {
            share: share(held.weight),
            duration: held.duration.get(),
        }),
        None => is_blue_green.then(|| Holdback {
            share: Share::from_millionths(100_000),
            duration: Duration::from_secs(600),
        }),
    };
    // Restarts are spread over as long as all steps may last.
    let longest = match steps.as_slice() {
        [] => None,
        steps => steps.iter().map(|step| step.maximum).sum(),
    };
    Draft {
        name: written.name.to_string(),
        strategy: strategy(written.strategy),
        steps,
        usual,
        pace: match written.pace {
            document::RolloutPace::Evidence => Pace::Evidence,
            document::RolloutPace::Clock => Pace::Clock,
        },
        parameters: parameters(&written.analysis, longest, time_out),
        budget: Budget {
            failed_requests: written.budget.failed_requests,
            keys: written.budget.keys,
        },
        shield: written.shield.as_ref().map_or(Share::ZERO, |shield| {
            Share::from_millionths(u32::from(shield.percent) * 10_000)
        }),
        on_no_data: policy(written.on_no_data),
        on_undecided: policy(written.on_undecided),
        holdback,
        ..Draft::default()
    }
    .compile()
}

fn parameters(
    written: &document::RolloutAnalysis,
    longest: Option<Duration>,
    time_out: Option<Duration>,
) -> Parameters {
    let defaults = Parameters::default();
    let hold = time_out.map_or(defaults.hold, |it| (it + LATE).min(LONGEST_HOLD));
    let tolerance = |slow: bool| {
        if slow {
            written.slow_tolerance
        } else {
            written.error_tolerance
        }
    };
    Parameters {
        false_alarm: written.false_alarm,
        hold,
        tolerance: PerSli::from_fn(|sli| tolerance(sli.is_latency())),
        min_keys: match written.unit {
            document::RolloutUnit::Key => usize::from(written.min_keys),
            document::RolloutUnit::Request => 0,
        },
        unit: match written.unit {
            document::RolloutUnit::Key => Unit::Key,
            document::RolloutUnit::Request => Unit::Request,
        },
        promotion: Promotion {
            false_pass: written.false_pass,
            ..defaults.promotion
        },
        restarts: Restarts::until(longest),
        limit_without_control: written
            .limit_without_control
            .map(|limit| share(limit).fraction()),
        ..defaults
    }
}

fn share(percent: Percent) -> Share {
    Share::from_millionths(percent.millionths())
}

fn pause(written: document::RolloutPause) -> Pause {
    match written {
        document::RolloutPause::Manual => Pause::Manual,
        document::RolloutPause::For(duration) => Pause::For(duration.get()),
    }
}

fn strategy(written: document::RolloutStrategy) -> Strategy {
    match written {
        document::RolloutStrategy::Canary => Strategy::Canary,
        document::RolloutStrategy::BlueGreen => Strategy::BlueGreen,
        document::RolloutStrategy::Rolling => Strategy::Rolling,
        document::RolloutStrategy::Ab => Strategy::Ab,
    }
}

fn policy(written: document::RolloutPolicy) -> Policy {
    match written {
        document::RolloutPolicy::Hold => Policy::Hold,
        document::RolloutPolicy::Continue => Policy::Continue,
        document::RolloutPolicy::Promote => Policy::Promote,
        document::RolloutPolicy::RollBack => Policy::RollBack,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> document::Rollout {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn as_written() {
        let plan = plan(
            &written(
            r#"{"name": "v2", "rule": "a/b", "stable": "v1", "candidate": "v2",
                "steps": [{"weight": 0.5}, {"weight": 25, "pause": "manual", "maximum": "0s"}, {"weight": 100, "pause": "10m"}],
                "analysis": {"falseAlarm": 0.01, "slowTolerance": 2, "limitWithoutControl": 1},
                "budget": {"keys": 20}, "shield": {"percent": 20}, "onNoData": "rollBack", "pace": "clock"}"#,
            ),
            None,
        )
        .unwrap();
        let draft = plan.draft();
        assert_eq!(draft.steps[0].share, Share::from_millionths(5_000));
        assert_eq!(draft.steps[0].maximum, Some(Duration::from_secs(3_600)));
        assert_eq!(
            (draft.steps[1].pause, draft.steps[1].maximum),
            (Some(Pause::Manual), None)
        );
        assert_eq!(
            (draft.pace, draft.on_no_data),
            (Pace::Clock, Policy::RollBack)
        );
        assert_eq!(draft.parameters.tolerance.slow, 2.0);
        assert_eq!(draft.parameters.limit_without_control, Some(0.01));
        assert_eq!((draft.budget.keys, draft.holdback), (Some(20), None));
    }

    #[test]
    fn another_name_label_or_revision_is_another_version() {
        let document = |label: &str| -> document::Document {
            let backend = format!(r#"{{"name": "v2", "labels": {{{label}}}}}"#);
            serde_json::from_str(&format!(r#"{{"version": 1, "backends": [{backend}]}}"#)).unwrap()
        };
        let rollout = |candidate: &str, more: &str| {
            written(&format!(
                r#"{{"name": "pay", "rule": "a/b", "stable": "v1", "candidate": "{candidate}"{more}}}"#
            ))
        };
        for (candidate, more, label, expected) in [
            ("v2", "", "", "v2"),
            ("v3", "", "", "v3"),
            ("v2", "", r#""version": "7""#, "v2@7"),
            ("v2", r#", "revision": "8""#, r#""version": "7""#, "v2@8"),
        ] {
            assert_eq!(
                revision(&rollout(candidate, more), &document(label)),
                expected
            );
        }
    }

    #[test]
    fn blue_green_keeps_a_control_unless_told() {
        let text = r#"{"name": "v2", "rule": "a/b", "stable": "v1", "candidate": "v2", "strategy": "blueGreen"}"#;
        let held = plan(&written(text), None)
            .unwrap()
            .draft()
            .holdback
            .unwrap();
        assert_eq!(held.share, Share::from_millionths(100_000));
    }
}
