//! The series of one rollout.
//!
//! Must not know how it is judged.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::Counter;

use super::names;
use super::recorder::{Gauges, Registry, Series};

/// What a rollout's gauges show.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing {
    /// From 0 to 1.
    pub(crate) weight: f64,
    pub(crate) set_by: &'static str,
    pub(crate) phase: &'static str,
    /// Indicator, evidence, threshold.
    pub(crate) evidence: Vec<(&'static str, f64, Option<f64>)>,
    pub(crate) excess: f64,
    pub(crate) excluded: Vec<(&'static str, u64)>,
}

/// See the module.
pub(crate) struct RolloutMetrics {
    registry: Registry,
    rollout: Box<str>,
    layers: Box<[&'static str]>,
    phases: Box<[&'static str]>,
    standing: Mutex<Standing>,
    decisions: Mutex<Vec<(&'static str, Counter)>>,
}

impl RolloutMetrics {
    /// `layers` and `phases` are all there can be.
    pub(crate) fn new(
        registry: &Registry,
        rollout: &str,
        layers: &[&'static str],
        phases: &[&'static str],
    ) -> Arc<Self> {
        let metrics = Arc::new(Self {
            layers: layers.into(),
            phases: phases.into(),
            standing: Mutex::default(),
            decisions: Mutex::default(),
            registry: registry.clone(),
            rollout: rollout.into(),
        });
        registry.keep(&metrics);
        metrics
    }

    /// Counts what a hook was told, by what became of it.
    pub(crate) fn hook(&self, result: &'static str) {
        let labels = [("rollout", &*self.rollout), ("result", result)];
        self.registry
            .counter(names::ROLLOUT_HOOKS, &labels)
            .increment(1);
    }

    /// Notes where it stands.
    pub(crate) fn stands(&self, standing: Standing) {
        *self.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
    }

    /// Counts a decision.
    pub(crate) fn decided(&self, decision: &'static str) {
        let mut known = self
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = known.iter().find(|(name, _)| *name == decision) {
            counter.increment(1);
            return;
        }
        let labels = [("rollout", &*self.rollout), ("decision", decision)];
        let counter = self.registry.counter(names::ROLLOUT_DECISIONS, &labels);
        counter.increment(1);
        known.push((decision, counter));
    }
}

impl Series for RolloutMetrics {
    fn refresh(&self) {
        let decisions = self
            .decisions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (_, counter) in decisions.iter() {
            counter.increment(0);
        }
    }

    fn gauges(&self, out: &mut Gauges) {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let is = |value: &str, held: &str| f64::from(u8::from(value == held));
        let rollout = ("rollout", &*self.rollout);
        out.set(names::ROLLOUT_WEIGHT, &[rollout], standing.weight);
        out.set(names::ROLLOUT_EXCESS, &[rollout], standing.excess);
        let mut set = |metric, label: &'static str, value: &str, to| {
            out.set(metric, &[rollout, (label, value)], to);
        };
        for by in &self.layers {
            set(names::ROLLOUT_SET_BY, "by", by, is(by, standing.set_by));
        }
        for phase in &self.phases {
            set(
                names::ROLLOUT_STATE,
                "state",
                phase,
                is(phase, standing.phase),
            );
        }
        for (sli, evidence, threshold) in &standing.evidence {
            set(names::ROLLOUT_EVIDENCE, "sli", sli, *evidence);
            if let Some(threshold) = threshold {
                set(names::ROLLOUT_THRESHOLD, "sli", sli, *threshold);
            }
        }
        for (reason, count) in &standing.excluded {
            set(names::ROLLOUT_EXCLUDED, "reason", reason, *count as f64);
        }
    }
}

impl std::fmt::Debug for RolloutMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RolloutMetrics")
            .field("rollout", &self.rollout)
            .finish_non_exhaustive()
    }
}
