//! Which rule answers a request. Owns the lookup table and the meaning of
//! hosts, paths and predicates; must not know what a rule leads to, nor any
//! clock, socket or metric.
//!
//! A lookup goes from the most specific to the least, and the first rule that
//! matches in full wins:
//!
//! 1. [`HostMap`]: the exact host, then wildcards from the longest suffix to
//!    the shortest, then the rules of any host;
//! 2. inside a host, `PathIndex`: the exact path, then regular expressions
//!    from the longest to the shortest, then prefixes from the deepest segment
//!    boundary up to `/`;
//! 3. inside one path, the matches in order of [`Precedence`].
//!
//! These steps walk down one total order over all matches, [`Precedence`],
//! without looking at the matches that cannot apply: the cost depends on the
//! request and on the deepest rule, not on the number of rules. Only regular
//! expressions are tried one by one.

mod explain;
mod host;
mod index;
mod path;
mod pattern;
mod precedence;
mod predicate;
#[cfg(test)]
mod properties;
mod rewrite;
#[cfg(test)]
mod tests;

use std::ops::Range;

use http::{HeaderMap, Method};

pub use self::explain::{Candidate, Verdict};
pub use self::host::{HostMap, intersect};
pub use self::path::{MatchedPath, PathPattern};
pub use self::pattern::{Pattern, PatternError};
pub use self::precedence::Precedence;
pub use self::predicate::{FieldPredicate, Match, Mismatch, QueryPredicate, ValuePattern};
pub use self::rewrite::{HeaderEdits, PathRewrite, Redirect, RedirectSource};

use self::index::PathIndex;
use crate::config::values::{HostPattern, Identity};

/// What routing looks at in a request, in canonical form.
#[derive(Clone, Copy, Debug)]
pub struct RequestView<'a> {
    /// Lower case, without port, an IPv6 literal in brackets; empty when the
    /// request names no host.
    pub host: &'a str,
    /// Begins with `/`, or is `*`, which asks about the server and not a resource
    /// (RFC 9110 9.3.7): of the prefixes only `/` matches it.
    pub path: &'a str,
    /// What follows the `?`, still percent-encoded.
    pub query: Option<&'a str>,
    /// Compared byte by byte: a rule for GET does not match HEAD.
    pub method: &'a Method,
    /// The field lines as received.
    pub headers: &'a HeaderMap,
    /// Who the client is by its certificate; `None`: nobody.
    pub identity: Option<&'a Identity>,
}

/// The rule that answers a request.
#[derive(Debug)]
pub struct Found<'t, T> {
    /// What the rule was added with.
    pub value: &'t T,
    /// How its path matched, which a prefix rewrite needs.
    pub path: MatchedPath,
}

/// All rules of one listener, immutable. `T` is what a rule leads to.
#[derive(Debug)]
pub struct Table<T> {
    rules: Vec<Rule<T>>,
    entries: Vec<Entry>,
    hosts: HostMap<PathIndex>,
}

/// Collects rules in file order, which is the last tie-break.
#[derive(Debug)]
pub struct TableBuilder<T> {
    rules: Vec<Rule<T>>,
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Rule<T> {
    value: T,
    /// Empty: any host.
    hosts: Box<[HostPattern]>,
    entries: Range<usize>,
}

/// One match of one rule. Its position in the table is its file order.
#[derive(Debug)]
struct Entry {
    rule: usize,
    criteria: Match,
}

impl<T> Table<T> {
    /// The rule with the highest precedence among those that match.
    pub fn find(&self, request: &RequestView<'_>) -> Option<Found<'_, T>> {
        let entry = self
            .hosts
            .candidates(request.host)
            .find_map(|paths| paths.find(request, &self.entries))?;
        Some(Found {
            value: &self.rules[entry.rule].value,
            path: entry.criteria.path().matched(),
        })
    }

    /// Every rule's value, in file order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.rules.iter().map(|rule| &rule.value)
    }
}

impl<T> TableBuilder<T> {
    /// A table without rules.
    pub fn new() -> Self {
        Self {
            rules: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Adds one rule. No hosts: any host. No matches: the prefix `/`.
    pub fn add(&mut self, hosts: &[HostPattern], mut matches: Vec<Match>, value: T) {
        if matches.is_empty() {
            matches.push(Match::default());
        }
        let rule = self.rules.len();
        let first = self.entries.len();
        self.entries
            .extend(matches.into_iter().map(|criteria| Entry { rule, criteria }));
        self.rules.push(Rule {
            value,
            hosts: hosts.into(),
            entries: first..self.entries.len(),
        });
    }

    /// Indexes what was added.
    pub fn build(mut self) -> Table<T> {
        self.rules.shrink_to_fit();
        self.entries.shrink_to_fit();
        let mut hosts: HostMap<Vec<u32>> = HostMap::default();
        for (position, entry) in (0..).zip(&self.entries) {
            let own = &self.rules[entry.rule].hosts;
            if own.is_empty() {
                hosts.entry(None).push(position);
            }
            for host in own {
                hosts.entry(Some(host)).push(position);
            }
        }
        let entries = self.entries;
        Table {
            rules: self.rules,
            hosts: hosts.map(|matches| PathIndex::new(&matches, &entries)),
            entries,
        }
    }
}

impl<T> Default for TableBuilder<T> {
    fn default() -> Self {
        Self::new()
    }
}
