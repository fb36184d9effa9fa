//! Why a request goes where it goes: every rule with its fate. Reads the table
//! one rule after the other, so it is for people and not for requests; owns no
//! order and no comparison of its own.

use std::cmp::Reverse;
use std::fmt;

use super::host::covers;
use super::precedence::Precedence;
use super::predicate::{Match, Mismatch};
use super::{RequestView, Rule, Table};
use crate::config::values::HostPattern;

/// One rule, seen from one request.
#[derive(Debug)]
pub struct Candidate<'t, T> {
    /// What the rule was added with.
    pub value: &'t T,
    /// The rule's host that covers the request's, or else its most specific
    /// one; `None`: any.
    pub host: Option<&'t HostPattern>,
    /// The match that applies, or else the one that came closest.
    pub criteria: &'t Match,
    /// The place in the order over all matches.
    pub precedence: Precedence,
    /// What became of it.
    pub verdict: Verdict<'t>,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'t> {
    /// It answers the request.
    Won,
    /// It matches, but so does one with a higher precedence.
    Outranked,
    /// It does not match.
    Lost(Mismatch<'t>),
}

impl<T> Table<T> {
    /// Every rule in order of precedence. So those before the winner do not
    /// match, and those after it would have been asked next.
    pub fn explain(&self, request: &RequestView<'_>) -> Vec<Candidate<'_, T>> {
        let mut candidates: Vec<_> = (self.rules.iter())
            .filter_map(|rule| self.candidate(rule, request))
            .collect();
        candidates.sort_by_key(|candidate| Reverse(candidate.precedence));
        let winner = candidates
            .iter_mut()
            .find(|candidate| candidate.verdict == Verdict::Outranked);
        if let Some(winner) = winner {
            winner.verdict = Verdict::Won;
        }
        candidates
    }

    /// The rule by its best match, which counts as outranked until the winner
    /// is known. There always is one: a rule has at least one match.
    fn candidate<'t>(
        &'t self,
        rule: &'t Rule<T>,
        request: &RequestView<'_>,
    ) -> Option<Candidate<'t, T>> {
        let (host, covered) = best_host(&rule.hosts, request.host);
        rule.entries
            .clone()
            .map(|order| {
                let criteria = &self.entries[order].criteria;
                let mismatch = match covered {
                    true => criteria.mismatch(request),
                    false => Some(Mismatch::Host),
                };
                Candidate {
                    value: &rule.value,
                    host,
                    criteria,
                    precedence: Precedence::of(host, criteria, order),
                    verdict: mismatch.map_or(Verdict::Outranked, Verdict::Lost),
                }
            })
            .max_by_key(|candidate| (closeness(&candidate.verdict), candidate.precedence))
    }
}

/// The most specific host among those that cover the name, or among all when
/// none does; and whether the name is covered.
fn best_host<'t>(hosts: &'t [HostPattern], name: &str) -> (Option<&'t HostPattern>, bool) {
    let best = hosts.iter().max_by_key(|host| {
        let (exact, length) = match host {
            HostPattern::Exact(name) => (true, name.len()),
            HostPattern::Wildcard(suffix) => (false, suffix.len()),
        };
        (covers(host, name), exact, length)
    });
    (best, best.is_none_or(|host| covers(host, name)))
}

/// How far a match came: it is compared in this order.
fn closeness(verdict: &Verdict<'_>) -> u8 {
    match verdict {
        Verdict::Lost(Mismatch::Host) => 0,
        Verdict::Lost(Mismatch::Path) => 1,
        Verdict::Lost(Mismatch::Method) => 2,
        Verdict::Lost(Mismatch::Header(_)) => 3,
        Verdict::Lost(Mismatch::Query(_)) => 4,
        Verdict::Lost(Mismatch::Identity) => 5,
        Verdict::Outranked | Verdict::Won => 6,
    }
}

impl fmt::Display for Verdict<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Won => f.write_str("won"),
            Self::Outranked => f.write_str("matches, but a rule with higher precedence won"),
            Self::Lost(mismatch) => write!(f, "lost: {mismatch}"),
        }
    }
}
