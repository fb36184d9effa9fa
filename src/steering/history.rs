//! What was decided of late.
//!
//! Must not know where records are kept for longer.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::rollout::machine::Record;

/// Records of one rollout that are at hand.
pub(super) const KEPT: usize = 200;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Arc<Record>>);

impl History {
    pub(super) fn new(records: Vec<Record>) -> Self {
        let surplus = records.len().saturating_sub(KEPT);
        Self(records.into_iter().skip(surplus).map(Arc::new).collect())
    }

    pub(super) fn add(&mut self, record: Record) -> Arc<Record> {
        let record = Arc::new(record);
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(Arc::clone(&record));
        record
    }

    /// Oldest first.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        self.0.iter().cloned().collect()
    }

    pub(super) fn last(&self) -> Option<&Record> {
        self.0.back().map(|record| &**record)
    }
}
