//! What many rules have in common and hold once: names, and weights with what is computed from them.
//!
//! Must not know what a rule is.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::split::Division;

/// Lives as long as one compilation.
#[derive(Debug, Default)]
pub(super) struct Shared {
    names: HashSet<Arc<str>>,
    divisions: HashMap<Box<[u32]>, Arc<Division>>,
}

impl Shared {
    /// The text, made at its first use.
    pub(super) fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.names.get(text) {
            return Arc::clone(known);
        }
        let name: Arc<str> = text.into();
        self.names.insert(Arc::clone(&name));
        name
    }

    /// The division of traffic by these weights.
    pub(super) fn division(&mut self, weights: &[u32]) -> Arc<Division> {
        if let Some(known) = self.divisions.get(weights) {
            return Arc::clone(known);
        }
        let division = Arc::new(Division::new(weights));
        self.divisions.insert(weights.into(), Arc::clone(&division));
        division
    }
}
