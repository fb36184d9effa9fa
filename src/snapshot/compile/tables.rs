//! The routing tables of all listeners, filled route by route.
//!
//! Owns which listeners a route is for. Must not know what a rule does.

use std::sync::Arc;

use super::CompiledRule;
use crate::config::document as written;
use crate::route::{Table, TableBuilder, intersect};
use crate::snapshot::rule::Rule;

/// One a listener, in file order.
pub(super) struct Tables<'a>(Vec<(&'a written::Listener, TableBuilder<Arc<Rule>>)>);

impl<'a> Tables<'a> {
    pub(super) fn of(listeners: &'a [written::Listener]) -> Self {
        let empty = listeners.iter().map(|it| (it, TableBuilder::new()));
        Self(empty.collect())
    }

    /// Adds a route's rules to those that it is for.
    pub(super) fn add(&mut self, route: &written::Route, rules: &[CompiledRule]) {
        for (listener, table) in &mut self.0 {
            let attached = route.listeners.is_empty() || route.listeners.contains(&listener.name);
            let hosts = intersect(listener.hostname.as_ref(), &route.hostnames);
            let (true, Some(hosts)) = (attached, hosts) else {
                continue;
            };
            for rule in rules {
                table.add(&hosts, rule.matches.clone(), Arc::clone(&rule.rule));
            }
        }
    }

    /// The tables, each with the number of its listener.
    pub(super) fn build(self) -> impl Iterator<Item = (u16, &'a written::Listener, RuleTable)> {
        let all = (0..).zip(self.0);
        all.map(|(id, (listener, table))| (id, listener, table.build()))
    }
}

pub(super) type RuleTable = Table<Arc<Rule>>;
