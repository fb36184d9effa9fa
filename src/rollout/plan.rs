//! The compiled plan of a rollout: which way traffic moves, how fast, and what happens when nobody knows.
//!
//! Owns what makes sense together. Must not know how it was written, nor a running rollout.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Share;
use super::evidence::Parameters;
use super::forecast;

/// How traffic moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// In steps, each judged.
    #[default]
    Canary,
    /// All at once, with a part held back as a control.
    BlueGreen,
    /// By its part of the endpoints that are ready, and never beyond the step.
    Rolling,
    /// Not at all: a fixed split with evidence.
    Ab,
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pace {
    /// Evidence that the candidate is good enough.
    #[default]
    Evidence,
    /// Time, while there is no evidence against it.
    Clock,
}

/// What a passed step still waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Pause {
    /// A person.
    Manual,
    /// This long.
    For(Duration),
}

/// A share of traffic, and how long it lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The candidate's.
    pub share: Share,
    /// At least so long; longer than a request takes to time out.
    pub minimum: Duration,
    /// After so long the policy decides; `None`: never.
    pub maximum: Option<Duration>,
    /// What it waits for when it is passed.
    pub pause: Option<Pause>,
}

/// What happens when a step has lasted its maximum without a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// It stays, until a person or evidence moves it.
    #[default]
    Hold,
    /// On to the next step.
    Continue,
    /// On to all of the traffic.
    Promote,
    /// Back to stable.
    RollBack,
}

/// What a bad candidate may cost, beyond what stable's failures explain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// Failed requests.
    pub failed_requests: Option<u64>,
    /// Keys with a failed request.
    pub keys: Option<u64>,
}

/// The old version keeps a part after the switch: a control for what shows late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holdback {
    /// Stable's part.
    pub share: Share,
    /// How long.
    pub duration: Duration,
}

/// A plan that makes sense. Made by [`Draft::compile`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan(Draft);

/// A plan as somebody imagines it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Draft {
    /// The rollout's name.
    pub name: String,
    /// How traffic moves.
    pub strategy: Strategy,
    /// Growing shares; none: made from the budget and the traffic, each at most three times the one before.
    pub steps: Vec<Step>,
    /// The step that steps are made from when there are none.
    pub usual: Step,
    /// What a step waits for.
    pub pace: Pace,
    /// How strict the judgement is.
    pub parameters: Parameters,
    /// What a bad candidate may cost.
    pub budget: Budget,
    /// The part of the candidate's requests that may be retried on stable.
    pub shield: Share,
    /// When the candidate gets no requests.
    pub on_no_data: Policy,
    /// When the evidence is not enough.
    pub on_undecided: Policy,
    /// What stable keeps after the switch.
    pub holdback: Option<Holdback>,
    /// How long the candidate is watched without a control, by the declared limit.
    pub watch: Duration,
    /// How long it may take to become warm.
    pub warm_up: Duration,
}

/// Why a plan makes no sense.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// The step with this index is not above the one before.
    NotGrowing(usize),
    /// A step's maximum is below its minimum.
    Duration(usize),
    /// Steps of a strategy that has one weight.
    TooManySteps,
    /// A fixed split needs a share between none and all.
    NoSplit,
    /// No control would be left, or no candidate.
    Holdback,
    /// A number is outside of its range; its name and the range.
    Range(&'static str, &'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGrowing(index) => {
                write!(
                    f,
                    "step {} is not above the one before; weights only grow",
                    index + 1
                )
            }
            Self::Duration(index) => {
                write!(f, "step {} has a maximum below its minimum", index + 1)
            }
            Self::TooManySteps => f.write_str("this strategy has a single step"),
            Self::NoSplit => f.write_str("a fixed split needs one step above 0 and below 100"),
            Self::Holdback => f.write_str("what is held back has to be above 0 and at most 50"),
            Self::Range(name, range) => write!(f, "{name} has to be {range}"),
        }
    }
}

impl std::error::Error for Fault {}

impl Default for Draft {
    fn default() -> Self {
        let minute = Duration::from_secs(60);
        Self {
            name: String::new(),
            strategy: Strategy::Canary,
            steps: Vec::new(),
            usual: Step {
                share: Share::ALL,
                minimum: minute,
                maximum: Some(60 * minute),
                pause: None,
            },
            pace: Pace::Evidence,
            parameters: Parameters::default(),
            budget: Budget::default(),
            shield: Share::ZERO,
            on_no_data: Policy::Hold,
            on_undecided: Policy::Hold,
            holdback: None,
            watch: 10 * minute,
            warm_up: minute,
        }
    }
}

impl Draft {
    /// The plan, or everything that is wrong with it.
    pub fn compile(self) -> Result<Plan, Vec<Fault>> {
        let mut faults = Vec::new();
        for (index, pair) in self.steps.windows(2).enumerate() {
            if pair[1].share <= pair[0].share {
                faults.push(Fault::NotGrowing(index + 1));
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            if step.maximum.is_some_and(|maximum| maximum < step.minimum) {
                faults.push(Fault::Duration(index));
            }
        }
        let is_split = |share: Share| share > Share::ZERO && share < Share::ALL;
        if self.strategy == Strategy::Ab {
            match self.steps.as_slice() {
                [step] if is_split(step.share) => {}
                _ => faults.push(Fault::NoSplit),
            }
        }
        if self.strategy == Strategy::BlueGreen && self.steps.len() > 2 {
            faults.push(Fault::TooManySteps);
        }
        let half = Share::from_millionths(500_000);
        if self
            .holdback
            .is_some_and(|held| held.share == Share::ZERO || held.share > half)
        {
            faults.push(Fault::Holdback);
        }
        faults.extend(ranges(&self.parameters));
        if faults.is_empty() {
            Ok(Plan(self))
        } else {
            Err(faults)
        }
    }
}

fn ranges(parameters: &Parameters) -> Vec<Fault> {
    let each = |check: fn(f64) -> bool, values: &super::PerSli<f64>| {
        super::Sli::ALL.iter().all(|sli| check(*values.get(*sli)))
    };
    let parts: f64 = super::Sli::ALL
        .iter()
        .map(|sli| *parameters.parts.get(*sli))
        .sum();
    let (alpha, promotion) = (parameters.false_alarm, &parameters.promotion);
    let open = |value: f64| value > 0.0 && value < 1.0;
    [
        (open(alpha), "falseAlarm", "above 0 and below 1"),
        (
            open(promotion.false_pass),
            "falsePass",
            "above 0 and below 1",
        ),
        (open(promotion.floor), "floor", "above 0 and below 1"),
        (
            promotion.factor >= 0.0 && promotion.factor.is_finite(),
            "factor",
            "at least 0",
        ),
        (
            promotion.tolerance >= 1.0 && promotion.tolerance <= 1e3,
            "tolerance",
            "from 1 to 1000",
        ),
        (
            each(|it| (1.0..=1e3).contains(&it), &parameters.tolerance),
            "tolerance",
            "from 1 to 1000",
        ),
        (
            each(|it| (0.0..=1.0).contains(&it), &parameters.parts) && parts <= 1.0 + 1e-9,
            "the parts of falseAlarm",
            "at least 0, and at most 1 together",
        ),
        (parameters.freeze >= 1.0, "freeze", "at least 1"),
        (parameters.temper >= 1.0, "temper", "at least 1"),
        (
            parameters.min_keys <= super::evidence::KeySketch::MOST,
            "minKeys",
            "at most 16",
        ),
        (
            parameters.limit_without_control.is_none_or(open),
            "limit",
            "above 0 and below 1",
        ),
    ]
    .into_iter()
    .filter(|(holds, _, _)| !holds)
    .map(|(_, name, range)| Fault::Range(name, range))
    .collect()
}

/// How long a failed request takes, the decision and its effect included, where nothing else is known.
const REACTION: f64 = 0.5;

/// Greatest growth of steps that nobody wrote.
const GROWTH: u32 = 3;

impl Plan {
    /// What was compiled.
    pub fn draft(&self) -> &Draft {
        &self.0
    }

    /// The steps at this traffic, in requests a second: as written, after smaller ones where the budget
    /// does not allow the first.
    pub fn steps(&self, rps: f64) -> Vec<Step> {
        let draft = &self.0;
        let mut steps = draft.steps.clone();
        if steps.is_empty() {
            steps.push(Step {
                share: Share::ALL,
                ..draft.usual
            });
        }
        let first = steps.first().map_or(Share::ALL, |step| step.share);
        let allowed = self.first_share(rps).unwrap_or(match draft.strategy {
            Strategy::Canary if draft.steps.is_empty() => Share::from_millionths(10_000),
            _ => Share::ALL,
        });
        if matches!(draft.strategy, Strategy::Canary | Strategy::Rolling) {
            let mut smaller = Vec::new();
            let mut share = allowed;
            while share < first && share > Share::ZERO {
                smaller.push(Step {
                    share,
                    pause: None,
                    ..*steps.first().unwrap_or(&draft.usual)
                });
                share = Share::from_millionths(share.millionths().saturating_mul(GROWTH));
            }
            smaller.append(&mut steps);
            steps = smaller;
        }
        steps
    }

    /// The greatest share at which a total failure is seen within the budget; `None` without a budget.
    pub fn first_share(&self, rps: f64) -> Option<Share> {
        let budget = self.0.budget;
        // A failed request hits at most one key.
        let least = [budget.failed_requests, budget.keys]
            .into_iter()
            .flatten()
            .min()?;
        Some(forecast::first_share(
            &self.0.parameters,
            least as f64,
            rps,
            REACTION,
        ))
    }

    /// Expected seconds until a step at this share is decided, at this traffic: until it is passed by a
    /// candidate without failures, and until a total failure is seen.
    pub fn outlook(&self, share: Share, rps: f64) -> Option<(f64, f64)> {
        let ours = rps * share.fraction();
        if ours <= 0.0 {
            return None;
        }
        let promotion = &self.0.parameters.promotion;
        // A mixture of four bets.
        let needed = ((1.0 / promotion.false_pass).ln() + 4_f64.ln()) / promotion.floor;
        let traffic = forecast::Traffic {
            share,
            stable: 0.001,
            candidate: 1.0,
        };
        let (_, failing) = forecast::expected(&self.0.parameters, super::Sli::Errors, traffic)?;
        Some((needed / ours, failing / rps))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(percent: f64) -> Step {
        Step {
            share: Share::from_percent(percent).unwrap(),
            ..Draft::default().usual
        }
    }

    fn shares(plan: &Plan, rps: f64) -> Vec<String> {
        plan.steps(rps)
            .iter()
            .map(|step| step.share.to_string())
            .collect()
    }

    #[test]
    fn written_steps_stay_as_written() {
        let steps = vec![step(1.0), step(5.0), step(100.0)];
        let plan = Draft {
            steps,
            ..Draft::default()
        }
        .compile()
        .unwrap();
        assert_eq!(shares(&plan, 1e5), ["1 %", "5 %", "100 %"]);
        assert_eq!(plan.first_share(1e5), None);
    }

    #[test]
    fn a_budget_begins_lower() {
        let budget = Budget {
            failed_requests: Some(50),
            keys: Some(20),
        };
        let steps = vec![step(5.0), step(100.0)];
        let plan = Draft {
            steps,
            budget,
            ..Draft::default()
        }
        .compile()
        .unwrap();
        assert_eq!(shares(&plan, 100.0), ["5 %", "100 %"]);
        let busy = shares(&plan, 10_000.0);
        assert_eq!(busy.len(), 5, "{busy:?}");
        let plan = Draft {
            budget,
            ..Draft::default()
        }
        .compile()
        .unwrap();
        let steps = plan.steps(1_000.0);
        assert!(steps[0].share < Share::from_millionths(50_000));
        for pair in steps.windows(2) {
            assert!(pair[1].share.fraction() <= pair[0].share.fraction() * 3.0 + 1e-9);
        }
        assert_eq!(steps.last().unwrap().share, Share::ALL);
    }

    #[test]
    fn strategies_have_steps_of_their_own() {
        let of = |strategy| {
            shares(
                &Draft {
                    strategy,
                    ..Draft::default()
                }
                .compile()
                .unwrap(),
                100.0,
            )
        };
        assert_eq!(
            of(Strategy::Canary),
            ["1 %", "3 %", "9 %", "27 %", "81 %", "100 %"]
        );
        assert_eq!(of(Strategy::Rolling), ["100 %"]);
        assert_eq!(of(Strategy::BlueGreen), ["100 %"]);
    }

    #[test]
    fn every_fault_is_told() {
        let defaults = Parameters::default();
        let parameters = Parameters {
            false_alarm: 0.0,
            parts: super::super::PerSli {
                errors: 1.0,
                ..defaults.parts
            },
            tolerance: super::super::PerSli {
                slow: f64::NAN,
                ..defaults.tolerance
            },
            ..defaults
        };
        let inverted = Step {
            maximum: Some(Duration::ZERO),
            ..step(5.0)
        };
        let none = Holdback {
            share: Share::ZERO,
            duration: Duration::ZERO,
        };
        let faults = Draft {
            strategy: Strategy::Ab,
            steps: vec![step(5.0), inverted],
            parameters,
            holdback: Some(none),
            ..Draft::default()
        }
        .compile()
        .unwrap_err();
        let text: Vec<String> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), 7, "{text:#?}");
        assert_eq!(
            text[0],
            "step 2 is not above the one before; weights only grow"
        );
    }

    #[test]
    fn the_outlook_is_in_seconds() {
        let plan = Draft::default().compile().unwrap();
        let share = Share::from_millionths(50_000);
        let (passed, failing) = plan.outlook(share, 400.0).unwrap();
        assert!((40.0..60.0).contains(&passed), "{passed}");
        assert!((0.1..0.5).contains(&failing), "{failing}");
        assert_eq!(plan.outlook(Share::ZERO, 400.0), None);
    }
}
