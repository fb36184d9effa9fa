//! The course of a rollout: a step of time in, a weight and records out.
//!
//! Owns the phases and what leads from one to the next. Must not know a clock, who counts, or who
//! publishes weights. Whoever calls [`tick`] saves the state and does what the output says.

mod command;
mod record;
#[cfg(test)]
mod tests;
mod turn;

use std::fmt;

use serde::{Deserialize, Serialize};

use super::evidence::{Conditions, EpochId, Evidence, Flush, Judgement, Parameters};
use super::plan::{Plan, Step, Strategy};
use super::{Moment, Share};

pub use command::{Action, Command, Layer, Override, Refusal, Weights};
pub use record::{Basis, By, Decision, Record, Replay, Stand};
pub use turn::tick;

/// The version of the states written here.
const VERSION: u32 = 1;

/// Where a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "name")]
pub enum Phase {
    /// Nobody has started it; the file's weights hold.
    Waiting,
    /// Connections to the candidate are made; it has no traffic.
    Warming {
        /// From when on.
        since: Moment,
    },
    /// At a weight of the plan.
    Step {
        /// Which, from 0.
        index: usize,
        /// From when on.
        since: Moment,
        /// Since when it only waits out its pause.
        passed: Option<Moment>,
    },
    /// The candidate has all but what is held back as a control.
    Holdback {
        /// From when on.
        since: Moment,
    },
    /// The candidate has everything; only the declared limit guards.
    Watching {
        /// From when on.
        since: Moment,
    },
    /// Over: the candidate has everything.
    Promoted,
    /// Over: the guard gave everything to stable.
    RolledBack,
    /// Over: a person gave everything to stable.
    Aborted,
}

impl Phase {
    /// Every name that there is.
    pub const NAMES: [&'static str; 8] = [
        "waiting",
        "warming",
        "step",
        "holdback",
        "watching",
        "promoted",
        "rolledBack",
        "aborted",
    ];

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Warming { .. } => "warming",
            Self::Step { .. } => "step",
            Self::Holdback { .. } => "holdback",
            Self::Watching { .. } => "watching",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolledBack",
            Self::Aborted => "aborted",
        }
    }

    /// Whether the plan moves, or could.
    pub const fn is_running(self) -> bool {
        match self {
            Self::Warming { .. }
            | Self::Step { .. }
            | Self::Holdback { .. }
            | Self::Watching { .. } => true,
            Self::Waiting | Self::Promoted | Self::RolledBack | Self::Aborted => false,
        }
    }
}

/// Why a step does not go on although its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Stay {
    /// The candidate is not ready for traffic.
    Cold,
    /// A person paused it.
    Paused,
    /// A person set another weight.
    WeightSet,
    /// There is evidence against the candidate, not yet enough to roll back.
    Frozen,
    /// The step is passed and waits for a person.
    Manual,
    /// The step is passed, and a program that is asked before steps has not agreed.
    Unconfirmed,
    /// The candidate gets no requests.
    NoData,
    /// The evidence is not enough.
    Undecided,
    /// The candidate is worse, and the split is fixed.
    Worse,
    /// The steps are passed, and stable still has endpoints.
    Replacing,
}

impl fmt::Display for Stay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cold => "the candidate is not ready for traffic",
            Self::Paused => "a person paused it",
            Self::WeightSet => "a person set another weight",
            Self::Frozen => "there is evidence against the candidate, not enough to roll back",
            Self::Manual => "the step is passed and waits for a person",
            Self::Unconfirmed => "the step is passed and waits for a hook to agree",
            Self::NoData => "the candidate gets no requests",
            Self::Undecided => "the evidence is not enough either way",
            Self::Worse => "the candidate is worse; a fixed split stays as it is",
            Self::Replacing => "stable still has endpoints; it ends when the last one is gone",
        })
    }
}

/// Everything that has to survive a restart.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    version: u32,
    run: u32,
    revision: String,
    phase: Phase,
    /// Fixed when the first begins.
    steps: Vec<Step>,
    paused: bool,
    weight: Option<Override>,
    stay: Option<Stay>,
    /// What a rolling share follows.
    #[serde(default = "all")]
    ready: Share,
    evidence: Evidence,
}

fn all() -> Share {
    Share::ALL
}

/// The endpoints of both versions, as far as a rolling share follows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ready {
    /// The candidate's part of what the endpoints that are ready can take.
    pub share: Share,
    /// Whether one of them takes less now than it will soon.
    pub grows: bool,
    /// Whether stable has none left, ready or not, and the candidate has.
    pub replaced: bool,
}

impl Ready {
    /// The share, not at every moment another one while it grows: each is an epoch of its own.
    fn after(&self, before: Share) -> Share {
        let moved = self.share.millionths().abs_diff(before.millionths());
        let is_little = moved < before.millionths() / 10;
        if self.grows && is_little {
            before
        } else {
            self.share
        }
    }
}

/// What a moment brings.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// When.
    pub now: Moment,
    /// What ended since the last time.
    pub flushes: &'a [Flush],
    /// For the judgement.
    pub conditions: &'a Conditions,
    /// What a person asks.
    pub command: Option<&'a Command>,
    /// Requests a second of the rule, both arms.
    pub rps: f64,
    /// Whether the candidate has endpoints that are ready,
    pub is_ready: bool,
    /// and has had time to show it.
    pub is_warm: bool,
    /// What a rolling share follows.
    pub ready: Ready,
    /// Whether those who are asked before a step agree to leave this one.
    pub confirmed: bool,
    /// Whether an endpoint of the candidate is new.
    pub endpoint_added: bool,
    /// The candidate's share in the file.
    pub file: Share,
    /// Tells configurations apart.
    pub config_hash: &'a str,
    /// Ids of some of the candidate's failed requests.
    pub samples: &'a [String],
}

/// What is to be done.
#[derive(Debug)]
pub struct Output {
    /// The candidate's share from now on,
    pub share: Share,
    /// by whom,
    pub layer: Layer,
    /// and the number that requests assigned from now on carry.
    pub epoch: EpochId,
    /// What the evidence says, while there is a candidate to judge.
    pub judgement: Option<Judgement>,
    /// What was decided, in order.
    pub records: Vec<Record>,
    /// Why the command changed nothing.
    pub refused: Option<Refusal>,
}

/// Why a saved state cannot be used.
#[derive(Debug)]
pub enum RestoreError {
    /// It is not one.
    Syntax(serde_json::Error),
    /// It is of another version.
    Version(u32),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(error) => write!(f, "not a saved state of a rollout: {error}"),
            Self::Version(version) => {
                write!(
                    f,
                    "this program reads states of version {VERSION}, not {version}"
                )
            }
        }
    }
}

impl std::error::Error for RestoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Syntax(error) => Some(error),
            Self::Version(_) => None,
        }
    }
}

impl State {
    /// Of a rollout that nobody has started.
    pub fn new(now: Moment) -> Self {
        Self {
            version: VERSION,
            run: 0,
            revision: String::new(),
            phase: Phase::Waiting,
            steps: Vec::new(),
            paused: false,
            weight: None,
            stay: None,
            ready: Share::ALL,
            evidence: Evidence::new(Parameters::default(), now),
        }
    }

    /// Reads a saved state. What was under way when it was saved is not counted.
    pub fn restore(text: &str, now: Moment) -> Result<Self, RestoreError> {
        #[derive(Deserialize)]
        struct Version {
            version: u32,
        }
        let Version { version } = serde_json::from_str(text).map_err(RestoreError::Syntax)?;
        if version != VERSION {
            return Err(RestoreError::Version(version));
        }
        let mut state: Self = serde_json::from_str(text).map_err(RestoreError::Syntax)?;
        if let Some(epoch) = state.evidence.epoch().copied() {
            state.evidence.begin_epoch(epoch.share, now);
        }
        Ok(state)
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Number of the run; 0 before the first.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The version of the candidate that it is about; empty before the first run.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether a person paused it.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Why it does not go on.
    pub fn stay(&self) -> Option<Stay> {
        self.stay
    }

    /// The weight that a person set.
    pub fn weight(&self) -> Option<&Override> {
        self.weight.as_ref()
    }

    /// The steps of the run.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is known of the candidate.
    pub fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// The salt of the split's keys: of the rollout and the version of the candidate, so that a new version
    /// meets other clients first, and a retry the same.
    pub fn salt(&self, plan: &Plan) -> String {
        format!("{}/{}", plan.draft().name, self.revision)
    }

    /// A step's share; of a rolling rollout no more than its endpoints can take, and all where stable has
    /// none that is ready.
    fn bounded(&self, plan: &Plan, share: Share) -> Share {
        match plan.draft().strategy {
            Strategy::Rolling if self.ready == Share::ALL => Share::ALL,
            Strategy::Rolling => share.min(self.ready),
            Strategy::Canary | Strategy::BlueGreen | Strategy::Ab => share,
        }
    }

    /// What everybody wants.
    pub fn weights(&self, plan: &Plan, file: Share) -> Weights {
        let held = plan.draft().holdback.map_or(Share::ZERO, |held| held.share);
        let planned = match self.phase {
            Phase::Waiting => None,
            Phase::Warming { .. } | Phase::RolledBack | Phase::Aborted => Some(Share::ZERO),
            Phase::Step { index, .. } => {
                let step = self.steps.get(index);
                step.map(|step| self.bounded(plan, step.share))
            }
            Phase::Holdback { .. } => Some(held.rest()),
            Phase::Watching { .. } | Phase::Promoted => Some(Share::ALL),
        };
        Weights {
            file,
            plan: planned,
            operator: match self.phase {
                Phase::Aborted => Some(Share::ZERO),
                _ => self.weight.as_ref().map(|weight| weight.share),
            },
            guard: (self.phase == Phase::RolledBack).then_some(Share::ZERO),
        }
    }
}
