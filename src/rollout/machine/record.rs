//! The record of one decision: a document that can be read, kept, and judged again.
//!
//! Owns its shape and the replay. Must not know where records go.

use serde::{Deserialize, Serialize};

use super::super::evidence::{Conditions, Evidence, Judgement};
use super::super::{Moment, Share};
use super::Phase;
use super::command::Layer;

/// The version of the documents written here.
pub(super) const VERSION: u32 = 1;

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Decision {
    /// A run began.
    Started,
    /// On to a weight.
    Stepped,
    /// It does not go on for now.
    Stayed,
    /// What kept it has passed.
    WentOn,
    /// Stopped by a person.
    Paused,
    /// Freed by a person.
    Resumed,
    /// A person set a weight.
    WeightSet,
    /// That weight has ended.
    WeightEnded,
    /// All traffic, but for what is held back.
    Switched,
    /// All traffic.
    Promoted,
    /// The guard took the traffic.
    RolledBack,
    /// A person took it.
    Aborted,
}

impl Decision {
    /// As in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Stepped => "stepped",
            Self::Stayed => "stayed",
            Self::WentOn => "wentOn",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
            Self::WeightSet => "weightSet",
            Self::WeightEnded => "weightEnded",
            Self::Switched => "switched",
            Self::Promoted => "promoted",
            Self::RolledBack => "rolledBack",
            Self::Aborted => "aborted",
        }
    }
}

/// Who decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum By {
    /// The plan.
    Plan,
    /// The guard.
    Guard,
    /// A person.
    Operator(String),
}

/// Where the rollout stood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stand {
    /// In which phase.
    pub phase: Phase,
    /// The candidate's share.
    pub share: Share,
    /// Who decided over it.
    pub layer: Layer,
}

/// What a decision was made from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Basis {
    /// What followed.
    pub judgement: Judgement,
    /// The moment's conditions.
    pub conditions: Conditions,
    /// Everything that was counted: events by indicator, slot and share, epochs, exclusions, parameters.
    pub evidence: Evidence,
}

/// One decision.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Of this shape.
    pub version: u32,
    /// Whose.
    pub rollout: String,
    /// Number of its run.
    pub run: u32,
    /// Version of the candidate.
    pub revision: String,
    /// When.
    pub at: Moment,
    /// What.
    pub decision: Decision,
    /// By whom.
    pub by: By,
    /// Why, in a sentence.
    pub reason: String,
    /// Where it stood before.
    pub from: Stand,
    /// Where it stands now.
    pub to: Stand,
    /// Tells configurations apart.
    pub config_hash: String,
    /// Ids of some of the candidate's failed requests.
    pub samples: Vec<String>,
    /// What it was made from; none where nothing was judged.
    pub basis: Option<Box<Basis>>,
}

/// The same evidence, judged by this program.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replay {
    /// What follows.
    pub judgement: Judgement,
    /// Whether it is what followed then.
    pub agrees: bool,
}

impl Record {
    /// Reads a record; the error says what is wrong with it.
    pub fn read(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.version != VERSION {
            let version = record.version;
            return Err(format!(
                "this program reads records of version {VERSION}, not {version}"
            ));
        }
        Ok(record)
    }

    /// Judges again; `None` where nothing was judged.
    pub fn replay(&self) -> Option<Replay> {
        let basis = self.basis.as_ref()?;
        let judgement = basis.evidence.clone().judge(self.at, &basis.conditions);
        Some(Replay {
            agrees: judgement == basis.judgement,
            judgement,
        })
    }
}
