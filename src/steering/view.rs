//! How a rollout stands, as the admin API shows it.
//!
//! Owns these shapes. Must not know how they are sent.

use serde::Serialize;

use crate::rollout::evidence::{Excess, Judgement, Reason, Totals, Verdict};
use crate::rollout::machine::{By, Layer, Override, Phase, Record, State};
use crate::rollout::plan::{Pause, Step, Strategy};
use crate::rollout::{Moment, PerArm, Share, Sli};
use crate::snapshot::rollout::Rollout;

/// One of `/api/v1/rollouts`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RolloutView {
    pub(crate) name: String,
    /// `route/rule`.
    pub(crate) rule: String,
    pub(crate) stable: String,
    pub(crate) candidate: String,
    pub(crate) strategy: Strategy,
    /// The version of the candidate that the run is about.
    pub(crate) revision: String,
    /// Number of the run, from 1.
    pub(crate) run: u32,
    /// `waiting`, `warming`, `step`, `holdback`, `watching`, `promoted`, `rolledBack` or `aborted`.
    pub(crate) phase: &'static str,
    /// Since when; null where that is not known.
    pub(crate) since: Option<Moment>,
    pub(crate) steps: Vec<StepView>,
    /// The candidate's part of what both get, in percent.
    pub(crate) weight: f64,
    /// `file`, `plan`, `operator` or `guard`.
    pub(crate) set_by: Layer,
    /// What each of them wants.
    pub(crate) weights: WeightsView,
    /// The weight that a person set.
    #[serde(rename = "override")]
    pub(crate) set: Option<Override>,
    pub(crate) paused: bool,
    /// Why it does not go on, in words.
    pub(crate) stays: Option<String>,
    pub(crate) verdict: Option<Verdict>,
    pub(crate) reason: Option<Reason>,
    /// Whether evidence against the candidate stops the ramp.
    pub(crate) frozen: bool,
    pub(crate) evidence: Vec<EvidenceView>,
    pub(crate) promotion: Option<PromotionView>,
    /// Failures of the candidate beyond what stable's explain.
    pub(crate) excess: Option<Excess>,
    /// Requests of the run, and those that failed.
    pub(crate) requests: PerArm<u64>,
    pub(crate) failures: PerArm<u64>,
    /// Requests a second, both.
    pub(crate) rps: f64,
    pub(crate) outlook: Option<OutlookView>,
    pub(crate) last: Option<LastView>,
}

/// A step of the plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StepView {
    /// In percent.
    pub(crate) weight: f64,
    pub(crate) current: bool,
    /// `manual`, or in seconds.
    pub(crate) pause: Option<String>,
}

/// In percent.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WeightsView {
    pub(crate) file: f64,
    pub(crate) plan: Option<f64>,
    pub(crate) operator: Option<f64>,
    pub(crate) guard: Option<f64>,
}

/// One indicator.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EvidenceView {
    pub(crate) sli: Sli,
    pub(crate) events: PerArm<u64>,
    /// Natural logarithms.
    pub(crate) log_evidence: f64,
    pub(crate) log_threshold: Option<f64>,
    /// Holds at any number of looks.
    pub(crate) p: f64,
    /// Different keys among the candidate's events, up to 16.
    pub(crate) keys: usize,
}

/// How near the step is to be passed; natural logarithms.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PromotionView {
    pub(crate) log_evidence: f64,
    pub(crate) log_threshold: f64,
}

/// The evidence of one proxy, as vectors that add up: totals, so that an old one only means old news.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TotalsView {
    pub(crate) rollout: String,
    pub(crate) run: u32,
    pub(crate) revision: String,
    pub(crate) totals: Totals,
}

/// What is to be expected at this traffic and weight.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutlookView {
    /// Until the step is passed by a candidate without failures.
    pub(crate) pass_seconds: f64,
    /// Until a total failure is seen.
    pub(crate) total_failure_seconds: f64,
}

/// The newest decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastView {
    pub(crate) at: Moment,
    pub(crate) decision: &'static str,
    pub(crate) by: String,
    pub(crate) reason: String,
    pub(crate) samples: Vec<String>,
}

/// What a view is made from.
#[derive(Debug)]
pub(super) struct Parts<'a> {
    pub(super) rollout: &'a Rollout,
    pub(super) state: &'a State,
    pub(super) judgement: Option<&'a Judgement>,
    pub(super) layer: Layer,
    pub(super) rps: f64,
    pub(super) last: Option<&'a Record>,
}

/// Who decided, in a word.
pub(crate) fn by(by: &By) -> &str {
    match by {
        By::Plan => "plan",
        By::Guard => "guard",
        By::Operator(name) => name,
    }
}

fn percent(share: Share) -> f64 {
    f64::from(share.millionths()) / 10_000.0
}

pub(super) fn of(parts: &Parts<'_>) -> RolloutView {
    let (rollout, state, judgement) = (parts.rollout, parts.state, parts.judgement);
    let share = rollout.trial.share();
    let weights = state.weights(&rollout.plan, rollout.file);
    let name = |arm: Option<&crate::snapshot::rule::Arm>| {
        arm.map_or_else(String::new, |arm| arm.name().to_owned())
    };
    let (requests, failures) = state.evidence().requests();
    let outlook = rollout.plan.outlook(share, parts.rps);
    RolloutView {
        name: rollout.name.to_string(),
        rule: rollout.path(),
        stable: name(rollout.stable()),
        candidate: name(rollout.candidate()),
        strategy: rollout.plan.draft().strategy,
        revision: state.revision().to_owned(),
        run: state.run(),
        phase: state.phase().name(),
        since: since(state.phase()),
        steps: steps(state),
        weight: percent(share),
        set_by: parts.layer,
        weights: WeightsView {
            file: percent(weights.file),
            plan: weights.plan.map(percent),
            operator: weights.operator.map(percent),
            guard: weights.guard.map(percent),
        },
        set: state.weight().cloned(),
        paused: state.is_paused(),
        stays: state.stay().map(|stay| stay.to_string()),
        verdict: judgement.map(|it| it.verdict),
        reason: judgement.map(|it| it.reason),
        frozen: judgement.is_some_and(|it| it.frozen),
        evidence: judgement.map(evidence).unwrap_or_default(),
        promotion: judgement.map(|it| PromotionView {
            log_evidence: it.log_promotion,
            log_threshold: it.log_promotion_threshold,
        }),
        excess: judgement.map(|it| it.excess),
        requests,
        failures,
        rps: parts.rps,
        outlook: outlook.filter(|_| state.phase().is_running()).map(
            |(pass_seconds, total_failure_seconds)| OutlookView {
                pass_seconds,
                total_failure_seconds,
            },
        ),
        last: parts.last.map(|record| LastView {
            at: record.at,
            decision: record.decision.name(),
            by: by(&record.by).to_owned(),
            reason: record.reason.clone(),
            samples: record.samples.clone(),
        }),
    }
}

fn since(phase: Phase) -> Option<Moment> {
    match phase {
        Phase::Warming { since }
        | Phase::Step { since, .. }
        | Phase::Holdback { since }
        | Phase::Watching { since } => Some(since),
        Phase::Waiting | Phase::Promoted | Phase::RolledBack | Phase::Aborted => None,
    }
}

fn steps(state: &State) -> Vec<StepView> {
    let current = match state.phase() {
        Phase::Step { index, .. } => Some(index),
        _ => None,
    };
    let view = |(index, step): (usize, &Step)| StepView {
        weight: percent(step.share),
        current: current == Some(index),
        pause: step.pause.map(|pause| match pause {
            Pause::Manual => "manual".to_owned(),
            Pause::For(time) => format!("{}s", time.as_secs_f64()),
        }),
    };
    state.steps().iter().enumerate().map(view).collect()
}

fn evidence(judgement: &Judgement) -> Vec<EvidenceView> {
    let view = |sli: &Sli| {
        let reading = judgement.indicators.get(*sli);
        EvidenceView {
            sli: *sli,
            events: reading.events,
            log_evidence: reading.log_evidence,
            log_threshold: reading.log_threshold,
            p: reading.p,
            keys: reading.keys,
        }
    };
    Sli::ALL.iter().map(view).collect()
}

/// What a metric of another controller reads: one number and one word.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VerdictView {
    /// `pass`, `fail`, `undecided` or `noData`.
    pub(crate) verdict: Verdict,
    /// 1 for a pass, -1 for a failure, else 0.
    pub(crate) value: i8,
    pub(crate) phase: &'static str,
    pub(crate) weight: f64,
}

/// How a rollout stands, for the status of the proxy.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SummaryView {
    name: String,
    phase: &'static str,
    steps: Vec<StepView>,
    weight: f64,
    set_by: Layer,
    #[serde(rename = "override")]
    set: Option<Override>,
    verdict: Option<Verdict>,
    stays: Option<String>,
    last: Option<LastView>,
}

/// Where the states of rollouts are kept.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct KeptView {
    pub(crate) folder: String,
    /// Why they are not.
    pub(crate) trouble: Option<String>,
}

impl RolloutView {
    pub(crate) fn summary(self) -> SummaryView {
        SummaryView {
            name: self.name,
            phase: self.phase,
            steps: self.steps,
            weight: self.weight,
            set_by: self.set_by,
            set: self.set,
            verdict: self.verdict,
            stays: self.stays,
            last: self.last,
        }
    }

    /// Where a rollout is over, its end is the verdict.
    pub(crate) fn verdict_document(&self) -> VerdictView {
        let verdict = match self.phase {
            "promoted" => Verdict::Pass,
            "rolledBack" | "aborted" => Verdict::Fail,
            _ => self.verdict.unwrap_or(Verdict::NoData),
        };
        VerdictView {
            verdict,
            value: match verdict {
                Verdict::Pass => 1,
                Verdict::Fail => -1,
                Verdict::Undecided | Verdict::NoData => 0,
            },
            phase: self.phase,
            weight: self.weight,
        }
    }
}
