//! One rollout, compiled: its plan, and what it moves.
//!
//! Must not know how far it has come.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::rule::{Arm, Rule};
use super::trial::Trial;
use crate::config::document::RolloutEvent;
use crate::rollout::Share;
use crate::rollout::plan::Plan;

/// See the module.
#[derive(Debug)]
pub(crate) struct Rollout {
    pub(crate) name: Box<str>,
    pub(crate) plan: Plan,
    /// Tells versions of the candidate apart.
    pub(crate) revision: Box<str>,
    pub(crate) rule: Arc<Rule>,
    pub(crate) stable: usize,
    pub(crate) candidate: usize,
    pub(crate) trial: Arc<Trial>,
    /// The candidate's share by the weights as written.
    pub(crate) file: Share,
    pub(crate) hooks: Vec<Arc<Hook>>,
}

/// A program that is told, or asked.
#[derive(Debug)]
pub(crate) struct Hook {
    pub(crate) uri: http::Uri,
    /// `None` for one that is asked before a step.
    pub(crate) told_of: Option<Box<[RolloutEvent]>>,
    pub(crate) secret_file: Option<PathBuf>,
    pub(crate) timeout: Duration,
}

impl Hook {
    /// Whether it wants to know of such a decision.
    pub(crate) fn wants(&self, event: RolloutEvent) -> bool {
        let events = self.told_of.as_ref();
        events.is_some_and(|events| events.is_empty() || events.contains(&event))
    }
}

impl Rollout {
    /// `route/rule`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.rule.route(), self.rule.name())
    }

    pub(crate) fn stable(&self) -> Option<&Arm> {
        self.rule.split.arm(self.stable)
    }

    pub(crate) fn candidate(&self) -> Option<&Arm> {
        self.rule.split.arm(self.candidate)
    }
}
