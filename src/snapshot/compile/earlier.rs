//! The rules of the snapshot that serves now, by name: what they have counted and learnt lives on.
//!
//! Must not know what of them is taken over.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::aside;
use crate::snapshot::Snapshot;
use crate::snapshot::rule::Rule;

/// Finds rules without a walk over all of them.
#[derive(Debug, Default)]
pub(super) struct EarlierRules<'a> {
    rules: &'a [Arc<Rule>],
    /// Where those of a route stand, which are in a row.
    routes: HashMap<&'a str, Range<usize>>,
}

impl<'a> EarlierRules<'a> {
    pub(super) fn of(snapshot: Option<&'a Snapshot>) -> Self {
        let rules = snapshot.map_or(&[][..], |snapshot| &snapshot.rules);
        let mut routes = HashMap::new();
        for (index, rule) in rules.iter().enumerate() {
            aside::give_way();
            let range = routes.entry(rule.route()).or_insert(index..index);
            range.end = index + 1;
        }
        Self { rules, routes }
    }

    /// Those of a route, in file order.
    pub(super) fn of_route(&self, route: &str) -> &'a [Arc<Rule>] {
        let range = self.routes.get(route);
        range.map_or(&[], |range| &self.rules[range.clone()])
    }

    pub(super) fn find(&self, route: &str, name: &str) -> Option<&'a Rule> {
        let mut rules = self.of_route(route).iter();
        rules.find(|rule| rule.name() == name).map(|rule| &**rule)
    }
}
