//! Hosts: which pattern covers which name, what two patterns have in common,
//! and the map from a name to whatever is kept for the patterns that cover it.
//! Knows nothing of paths, and takes names in canonical form only.

use hashbrown::HashMap;

use crate::config::values::HostPattern;

/// Values by host pattern, looked up by host name.
///
/// Serves rules and listeners alike: both prefer the exact name, then the
/// longest wildcard, then what is bound to no name.
#[derive(Debug)]
pub struct HostMap<V> {
    exact: HashMap<Box<str>, V>,
    /// By suffix without the `*.`.
    wildcard: HashMap<Box<str>, V>,
    any: Option<V>,
    /// Bytes of the longest key of `wildcard`: a longer suffix of a request's
    /// host is not worth hashing.
    longest_suffix: usize,
}

impl<V> HostMap<V> {
    /// The values whose pattern covers the host, most specific first.
    pub fn candidates(&self, host: &str) -> impl Iterator<Item = &V> {
        self.exact
            .get(host)
            .into_iter()
            .chain(self.wildcards(host))
            .chain(&self.any)
    }

    /// The values of the wildcards that cover the host, longest suffix first.
    fn wildcards(&self, host: &str) -> impl Iterator<Item = &V> {
        let start = host.len().saturating_sub(self.longest_suffix + 1);
        memchr::memchr_iter(b'.', &host.as_bytes()[start..])
            .map(move |dot| start + dot)
            .filter(|&dot| dot > 0) // the star stands for at least one label
            .filter_map(|dot| self.wildcard.get(&host[dot + 1..]))
    }

    /// The same patterns with other values.
    pub fn map<W>(self, mut value: impl FnMut(V) -> W) -> HostMap<W> {
        let mut all = |values: HashMap<Box<str>, V>| {
            let values = values.into_iter();
            values.map(|(host, it)| (host, value(it))).collect()
        };
        HostMap {
            exact: all(self.exact),
            wildcard: all(self.wildcard),
            any: self.any.map(value),
            longest_suffix: self.longest_suffix,
        }
    }
}

impl<V: Default> HostMap<V> {
    /// The value of one pattern, `None` being any host, made when absent.
    pub fn entry(&mut self, host: Option<&HostPattern>) -> &mut V {
        match host {
            Some(HostPattern::Exact(name)) => self.exact.entry(name.as_str().into()).or_default(),
            Some(HostPattern::Wildcard(suffix)) => {
                self.longest_suffix = self.longest_suffix.max(suffix.len());
                self.wildcard.entry(suffix.as_str().into()).or_default()
            }
            None => self.any.get_or_insert_default(),
        }
    }
}

impl<V> Default for HostMap<V> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            wildcard: HashMap::new(),
            any: None,
            longest_suffix: 0,
        }
    }
}

/// The hosts that a route serves on a listener: of each pair the more specific
/// pattern (Gateway API, `HTTPRouteHostnameIntersection`).
///
/// An empty list is any host. `None`: they have nothing in common, so the
/// route does not attach.
pub fn intersect(
    listener: Option<&HostPattern>,
    route: &[HostPattern],
) -> Option<Vec<HostPattern>> {
    let Some(listener) = listener else {
        return Some(route.to_vec());
    };
    if route.is_empty() {
        return Some(vec![listener.clone()]);
    }
    let mut common = Vec::new();
    for pattern in route {
        let narrower = if contains(listener, pattern) {
            pattern
        } else if contains(pattern, listener) {
            listener
        } else {
            continue;
        };
        if !common.contains(narrower) {
            common.push(narrower.clone());
        }
    }
    (!common.is_empty()).then_some(common)
}

/// Whether the pattern covers the host name.
pub(super) fn covers(pattern: &HostPattern, host: &str) -> bool {
    match pattern {
        HostPattern::Exact(name) => name == host,
        HostPattern::Wildcard(suffix) => is_below(host, suffix),
    }
}

/// Whether every name that `inner` covers is covered by `outer`.
fn contains(outer: &HostPattern, inner: &HostPattern) -> bool {
    match (outer, inner) {
        (_, HostPattern::Exact(name)) => covers(outer, name),
        (HostPattern::Exact(_), HostPattern::Wildcard(_)) => false,
        (HostPattern::Wildcard(outer), HostPattern::Wildcard(inner)) => {
            outer == inner || is_below(inner, outer)
        }
    }
}

/// Whether the name has one or more labels left of the suffix.
fn is_below(name: &str, suffix: &str) -> bool {
    name.strip_suffix(suffix)
        .and_then(|left| left.strip_suffix('.'))
        .is_some_and(|labels| !labels.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> HostPattern {
        match text.strip_prefix("*.") {
            Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
            None => HostPattern::Exact(text.to_owned()),
        }
    }

    #[test]
    fn a_wildcard_covers_one_or_more_labels_and_never_the_apex() {
        for (pattern, name, expected) in [
            ("*.example.com", "a.example.com", true),
            ("*.example.com", "b.a.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", ".example.com", false),
            ("*.example.com", "badexample.com", false),
            ("*.example.com", "a.example.com.evil", false),
            ("*.example.com", "", false),
            ("example.com", "example.com", true),
            ("example.com", "a.example.com", false),
        ] {
            assert_eq!(covers(&host(pattern), name), expected, "{pattern} {name}");
            let mut map: HostMap<()> = HostMap::default();
            map.entry(Some(&host(pattern)));
            assert_eq!(
                map.candidates(name).count() == 1,
                expected,
                "map: {pattern} {name}"
            );
        }
    }

    #[test]
    fn candidates_come_most_specific_first() {
        let mut map: HostMap<&str> = HostMap::default();
        *map.entry(None) = "any";
        for pattern in ["*.com", "b.a.com", "*.a.com", "*.b.a.com"] {
            *map.entry(Some(&host(pattern))) = pattern;
        }
        let found = |name: &str| map.candidates(name).copied().collect::<Vec<_>>();
        assert_eq!(found("b.a.com"), ["b.a.com", "*.a.com", "*.com", "any"]);
        assert_eq!(found("c.b.a.com"), ["*.b.a.com", "*.a.com", "*.com", "any"]);
        assert_eq!(found("com"), ["any"]);
        assert_eq!(found(""), ["any"]);
        assert_eq!(found("x\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}"), ["any"]);
    }

    #[test]
    fn httproute_hostname_intersection() {
        /// Listener, route, what they have in common.
        type Case<'a> = (Option<&'a str>, &'a [&'a str], Option<&'a [&'a str]>);
        let cases: &[Case<'_>] = &[
            (None, &[], Some(&[])),
            (None, &["a.com", "*.b.com"], Some(&["a.com", "*.b.com"])),
            (Some("a.com"), &[], Some(&["a.com"])),
            (Some("*.a.com"), &[], Some(&["*.a.com"])),
            // A specific listener with specific and wildcard routes.
            (
                Some("very.specific.com"),
                &[
                    "non.matching.com",
                    "*.nonmatchingwildcard.io",
                    "very.specific.com",
                ],
                Some(&["very.specific.com"]),
            ),
            (
                Some("very.specific.com"),
                &["non.matching.com", "*.specific.com"],
                Some(&["very.specific.com"]),
            ),
            // A wildcard listener with specific and wildcard routes.
            (
                Some("*.wildcard.io"),
                &[
                    "non.matching.com",
                    "wildcard.io",
                    "foo.wildcard.io",
                    "foo.bar.wildcard.io",
                ],
                Some(&["foo.wildcard.io", "foo.bar.wildcard.io"]),
            ),
            (
                Some("*.anotherwildcard.io"),
                &["*.anotherwildcard.io"],
                Some(&["*.anotherwildcard.io"]),
            ),
            (Some("*.a.io"), &["*.b.a.io"], Some(&["*.b.a.io"])),
            (Some("*.b.a.io"), &["*.a.io"], Some(&["*.b.a.io"])),
            // One pattern once, however often it results.
            (Some("b.a.io"), &["*.a.io", "*.io"], Some(&["b.a.io"])),
            // Nothing in common.
            (
                Some("very.specific.com"),
                &["specific.but.wrong.com", "wildcard.io"],
                None,
            ),
            (Some("*.a.io"), &["a.io", "*.ba.io"], None),
        ];
        for (listener, route, expected) in cases {
            let route: Vec<_> = route.iter().map(|name| host(name)).collect();
            let expected = expected.map(|names| names.iter().map(|name| host(name)).collect());
            let found = intersect(listener.map(host).as_ref(), &route);
            assert_eq!(found, expected, "{listener:?} {route:?}");
        }
    }
}
