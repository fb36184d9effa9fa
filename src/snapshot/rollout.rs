//! One rollout, compiled: its plan, and what it moves.
//!
//! Must not know how far it has come.

use std::sync::Arc;

use super::rule::{Arm, Rule};
use super::trial::Trial;
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
}

impl Rollout {
    /// `route/rule`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.rule.route, self.rule.name)
    }

    pub(crate) fn stable(&self) -> Option<&Arm> {
        self.rule.split.arm(self.stable)
    }

    pub(crate) fn candidate(&self) -> Option<&Arm> {
        self.rule.split.arm(self.candidate)
    }
}
