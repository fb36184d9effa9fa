//! Which of several matches wins, as one key with one order. The index walks
//! down this order and `explain` prints it; neither has an order of its own.

use std::cmp::Reverse;

use super::path::Kind;
use super::predicate::Match;
use crate::config::values::HostPattern;

/// The rank of a match under one of its rule's hosts; the greatest wins.
///
/// The fields stand in the order in which the Gateway API compares them
/// (`HTTPRouteSpec.hostnames`, then `HTTPRouteRule.matches`). Its ties by age
/// and name become file order, as a file has no age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Precedence {
    host: HostRank,
    path: PathRank,
    method: bool,
    headers: usize,
    query: usize,
    /// Ours; after everything that the Gateway API has.
    identity: bool,
    order: Reverse<usize>,
}

/// By characters in a matching name, then by characters in a matching wildcard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Any,
    Wildcard(usize),
    Exact(usize),
}

/// The specification leaves the place of regular expressions open: here they
/// come after exact paths and before prefixes, the longest pattern first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Prefix(usize),
    Regex(usize),
    Exact(usize),
}

impl Precedence {
    /// The rank of the match that stands at `order` in the file, under a host
    /// of its rule (`None`: any host).
    pub fn of(host: Option<&HostPattern>, criteria: &Match, order: usize) -> Self {
        Self {
            host: match host {
                None => HostRank::Any,
                Some(HostPattern::Wildcard(suffix)) => HostRank::Wildcard(suffix.len()),
                Some(HostPattern::Exact(name)) => HostRank::Exact(name.len()),
            },
            path: match &criteria.path().0 {
                Kind::Prefix(prefix) => PathRank::Prefix(prefix.len()),
                Kind::Regex(pattern) => PathRank::Regex(pattern.source().len()),
                Kind::Exact(path) => PathRank::Exact(path.len()),
            },
            method: criteria.method().is_some(),
            headers: criteria.headers().len(),
            query: criteria.query().len(),
            identity: !criteria.identities().is_empty(),
            order: Reverse(order),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, Method};

    use super::super::path::PathPattern;
    use super::super::predicate::{FieldPredicate, QueryPredicate, ValuePattern};
    use super::*;

    fn rank(
        host: Option<HostPattern>,
        path: PathPattern,
        method: bool,
        fields: (usize, usize),
        order: usize,
    ) -> Precedence {
        let header = |i| {
            let name = HeaderName::try_from(format!("h{i}")).unwrap();
            FieldPredicate::new(name, ValuePattern::exact("v"))
        };
        let query = |i| QueryPredicate::new(&format!("q{i}"), ValuePattern::exact("v"));
        let criteria = Match::new(
            path,
            method.then_some(Method::GET),
            (0..fields.0).map(header).collect(),
            (0..fields.1).map(query).collect(),
        );
        Precedence::of(host.as_ref(), &criteria, order)
    }

    /// Each line wins over the next although it is behind in every later key.
    #[test]
    fn the_order_of_the_specification() {
        let exact = |name: &str| Some(HostPattern::Exact(name.to_owned()));
        let wildcard = |name: &str| Some(HostPattern::Wildcard(name.to_owned()));
        let prefix = PathPattern::prefix;
        let regex = |pattern| PathPattern::regex(pattern).unwrap();
        let ranks = [
            // "Characters in a matching non-wildcard hostname."
            (
                "exact host",
                rank(exact("a.io"), prefix("/"), false, (0, 0), 13),
            ),
            // "Characters in a matching hostname."
            (
                "longer wildcard",
                rank(wildcard("example.io"), prefix("/"), false, (0, 0), 12),
            ),
            (
                "shorter wildcard",
                rank(wildcard("io"), prefix("/"), false, (0, 0), 11),
            ),
            // "'Exact' path match."
            (
                "exact path",
                rank(None, PathPattern::exact("/a"), false, (0, 0), 10),
            ),
            // Implementation-specific.
            ("longer regex", rank(None, regex("/a.*"), false, (0, 0), 9)),
            ("shorter regex", rank(None, regex("/.*"), false, (0, 0), 8)),
            // "'Prefix' path match with largest number of characters."
            (
                "longer prefix",
                rank(None, prefix("/a/b"), false, (0, 0), 7),
            ),
            // "Method match."
            ("method", rank(None, prefix("/a"), true, (0, 0), 6)),
            // "Largest number of header matches."
            ("two headers", rank(None, prefix("/a"), false, (2, 0), 5)),
            ("one header", rank(None, prefix("/a"), false, (1, 0), 4)),
            // "Largest number of query param matches."
            ("two parameters", rank(None, prefix("/a"), false, (0, 2), 3)),
            ("one parameter", rank(None, prefix("/a"), false, (0, 1), 2)),
            // "The first matching rule (in list order)"
            ("first", rank(None, prefix("/a"), false, (0, 0), 0)),
            (
                "second, trailing slash",
                rank(None, prefix("/a/"), false, (0, 0), 1),
            ),
        ];
        for pair in ranks.windows(2) {
            assert!(pair[0].1 > pair[1].1, "{} over {}", pair[0].0, pair[1].0);
        }
    }
}
