//! What a person may ask of a rollout, and who decides over its weight.
//!
//! Owns commands, refusals and the precedence of weights. Must not know how they are carried out.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::super::{Moment, Share};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Action {
    /// Begin, with this version of the candidate. Another version deals keys anew; the same one does not.
    Start {
        /// Tells versions apart.
        revision: String,
    },
    /// Stay at this weight. The guard goes on.
    Pause,
    /// Go on; a weight that was set ends.
    Resume,
    /// On to the next step, without waiting for evidence.
    Promote,
    /// On to all of the traffic, without waiting for evidence.
    PromoteFully,
    /// All traffic to stable.
    Abort,
    /// Begin again after a rollback or an abort, with the same version.
    Retry,
    /// Another weight than the plan's.
    SetWeight {
        /// The candidate's share.
        share: Share,
        /// When it ends; `None`: when somebody resumes.
        until: Option<Moment>,
    },
}

/// An action, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Command {
    /// What is asked.
    pub action: Action,
    /// Who asks.
    pub owner: String,
    /// Why.
    pub reason: String,
}

/// Why a command changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It runs.
    Running,
    /// It does not.
    NotRunning,
    /// It was neither rolled back nor aborted.
    NothingToRetry,
    /// There is nothing to resume.
    NotPaused,
    /// The time at which the weight ends has passed.
    Past,
    /// No endpoint of the candidate is ready.
    NotReady,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "the rollout runs; abort it first",
            Self::NotRunning => "the rollout does not run; after a rollback or an abort, retry it",
            Self::NothingToRetry => "the rollout was neither rolled back nor aborted",
            Self::NotPaused => "the rollout is not paused, and no weight is set",
            Self::Past => "the weight would have ended already",
            Self::NotReady => "no endpoint of the candidate is ready",
        })
    }
}

/// A weight that somebody set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// The candidate's share.
    pub share: Share,
    /// When it ends.
    pub until: Option<Moment>,
    /// Who set it.
    pub owner: String,
    /// Why.
    pub reason: String,
}

/// Who decided over the weight, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Layer {
    /// The rule's weights as written.
    File,
    /// The rollout's step.
    Plan,
    /// A person.
    Operator,
    /// The guard, which only takes away.
    Guard,
}

impl Layer {
    /// Every name that there is.
    pub const NAMES: [&'static str; 4] = ["file", "plan", "operator", "guard"];

    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Plan => "plan",
            Self::Operator => "operator",
            Self::Guard => "guard",
        }
    }
}

/// What everybody wants, side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weights {
    /// The candidate's share in the file.
    pub file: Share,
    /// That of the plan, while there is one.
    pub plan: Option<Share>,
    /// That of a person.
    pub operator: Option<Share>,
    /// No more than this.
    pub guard: Option<Share>,
}

impl Weights {
    /// What holds, and by whom.
    pub fn effective(&self) -> (Share, Layer) {
        let written = (self.file, Layer::File);
        let planned = self.plan.map_or(written, |share| (share, Layer::Plan));
        let wanted = self
            .operator
            .map_or(planned, |share| (share, Layer::Operator));
        match self.guard {
            Some(cap) if cap <= wanted.0 => (cap, Layer::Guard),
            _ => wanted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stronger_decides_and_the_guard_only_takes() {
        let [one, two, three] = [10, 20, 30].map(Share::from_millionths);
        let mut weights = Weights {
            file: one,
            plan: None,
            operator: None,
            guard: None,
        };
        assert_eq!(weights.effective(), (one, Layer::File));
        weights.plan = Some(two);
        assert_eq!(weights.effective(), (two, Layer::Plan));
        weights.operator = Some(three);
        assert_eq!(weights.effective(), (three, Layer::Operator));
        weights.guard = Some(Share::ALL);
        assert_eq!(weights.effective(), (three, Layer::Operator));
        weights.guard = Some(Share::ZERO);
        assert_eq!(weights.effective(), (Share::ZERO, Layer::Guard));
    }
}
