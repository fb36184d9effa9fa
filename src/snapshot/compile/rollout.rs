//! From a rollout as written to its plan.

use crate::config::document;
use crate::config::values::Percent;
use crate::rollout::evidence::{Parameters, Promotion, Restarts};
use crate::rollout::plan::{
    Budget, Draft, Fault, Holdback, Pace, Pause, Plan, Policy, Step, Strategy,
};
use crate::rollout::{PerSli, Share};

/// The plan, or everything that is wrong with it.
pub(crate) fn plan(written: &document::Rollout) -> Result<Plan, Vec<Fault>> {
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
            duration: std::time::Duration::from_secs(600),
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
        parameters: parameters(&written.analysis, longest),
        budget: Budget {
            failed_requests: written.budget.failed_requests,
            keys: written.budget.keys,
        },
        shield: written
            .shield
            .as_ref()
            .map_or(Share::ZERO, |shield| share(shield.percent)),
        on_no_data: policy(written.on_no_data),
        on_undecided: policy(written.on_undecided),
        holdback,
        ..Draft::default()
    }
    .compile()
}

fn parameters(
    written: &document::RolloutAnalysis,
    longest: Option<std::time::Duration>,
) -> Parameters {
    let defaults = Parameters::default();
    let tolerance = |slow: bool| {
        if slow {
            written.slow_tolerance
        } else {
            written.error_tolerance
        }
    };
    Parameters {
        false_alarm: written.false_alarm,
        tolerance: PerSli::from_fn(|sli| tolerance(sli.is_latency())),
        min_keys: usize::from(written.min_keys),
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
        let plan = plan(&written(
            r#"{"name": "v2", "rule": "a/b", "stable": "v1", "candidate": "v2",
                "steps": [{"weight": 0.5}, {"weight": 25, "pause": "manual", "maximum": "0s"}, {"weight": 100, "pause": "10m"}],
                "analysis": {"falseAlarm": 0.01, "slowTolerance": 2, "limitWithoutControl": 1},
                "budget": {"keys": 20}, "shield": {"percent": 20}, "onNoData": "rollBack", "pace": "clock"}"#,
        ))
        .unwrap();
        let draft = plan.draft();
        assert_eq!(draft.steps[0].share, Share::from_millionths(5_000));
        assert_eq!(
            draft.steps[0].maximum,
            Some(std::time::Duration::from_secs(3_600))
        );
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
    fn blue_green_keeps_a_control_unless_told() {
        let text = r#"{"name": "v2", "rule": "a/b", "stable": "v1", "candidate": "v2", "strategy": "blueGreen"}"#;
        let held = plan(&written(text)).unwrap().draft().holdback.unwrap();
        assert_eq!(held.share, Share::from_millionths(100_000));
    }
}
