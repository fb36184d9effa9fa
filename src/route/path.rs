//! Path patterns: exact, prefix by segment, regular expression. Compares paths
//! in canonical form byte by byte; how a request's path becomes canonical is
//! not its business.

use std::fmt;

use super::pattern::{Pattern, PatternError};

/// What a rule asks of the path.
#[derive(Clone, Debug)]
pub struct PathPattern(pub(super) Kind);

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Exact(Box<str>),
    /// Without its trailing slash; empty for `/`.
    Prefix(Box<str>),
    Regex(Box<Pattern>),
}

/// How a path matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchedPath {
    /// Byte for byte.
    Exact,
    /// The bytes of the prefix without its trailing slash; 0 for `/`.
    Prefix(usize),
    /// By regular expression.
    Regex,
}

impl PathPattern {
    /// The path itself: case and a trailing slash matter.
    pub fn exact(path: &str) -> Self {
        Self(Kind::Exact(path.into()))
    }

    /// The path and everything below it. A trailing slash is ignored: `/v2`
    /// and `/v2/` both match `/v2` and `/v2/x`, but not `/v2x`.
    pub fn prefix(path: &str) -> Self {
        Self(Kind::Prefix(path.strip_suffix('/').unwrap_or(path).into()))
    }

    /// Paths that the pattern matches from end to end.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn regex(pattern: &str) -> Result<Self, PatternError> {
        Pattern::new(pattern).map(|pattern| Self(Kind::Regex(Box::new(pattern))))
    }

    /// Whether the path matches.
    pub fn matches(&self, path: &str) -> bool {
        match &self.0 {
            Kind::Exact(exact) => **exact == *path,
            Kind::Prefix(prefix) => is_under(path, prefix),
            Kind::Regex(pattern) => pattern.matches(path.as_bytes()),
        }
    }

    /// How a path that matches does so.
    pub fn matched(&self) -> MatchedPath {
        match &self.0 {
            Kind::Exact(_) => MatchedPath::Exact,
            Kind::Prefix(prefix) => MatchedPath::Prefix(prefix.len()),
            Kind::Regex(_) => MatchedPath::Regex,
        }
    }
}

/// Whether the path is the prefix or continues it with a new segment. `*` is no path, but the server
/// that it asks about is whoever serves the root.
pub(super) fn is_under(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || path == "*")
}

impl fmt::Display for PathPattern {
    /// The Gateway API's name of the type, then the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exact(path) => write!(f, "Exact {path}"),
            Kind::Prefix(path) if path.is_empty() => f.write_str("PathPrefix /"),
            Kind::Prefix(path) => write!(f, "PathPrefix {path}"),
            Kind::Regex(pattern) => write!(f, "RegularExpression {}", pattern.source()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_matches_whole_segments_and_ignores_its_trailing_slash() {
        for (prefix, path, expected) in [
            ("/v2", "/v2", true),
            ("/v2", "/v2/", true),
            ("/v2", "/v2/x", true),
            ("/v2", "/v2example", false),
            ("/v2", "/V2", false),
            ("/v2", "/x/v2", false),
            ("/v2/", "/v2", true),
            ("/v2/", "/v2/x", true),
            ("/v2/", "/v2example", false),
            ("/", "/", true),
            ("/", "/x", true),
            ("/", "*", true),
            ("/x", "*", false),
            ("", "/x", true),
        ] {
            let pattern = PathPattern::prefix(prefix);
            assert_eq!(pattern.matches(path), expected, "{prefix} {path}");
        }
    }

    #[test]
    fn httproute_exact_path_matching() {
        for (exact, path, expected) in [
            ("/one", "/one", true),
            ("/one", "/one/example", false),
            ("/two", "/two", true),
            ("/two", "/two/", false),
            ("/two", "/Two", false),
            ("*", "*", true),
        ] {
            let pattern = PathPattern::exact(exact);
            assert_eq!(pattern.matches(path), expected, "{exact} {path}");
        }
    }

    #[test]
    fn a_regular_expression_is_anchored() {
        let pattern = PathPattern::regex("/v[0-9]+/.*").unwrap();
        assert!(pattern.matches("/v12/x/y"));
        assert!(!pattern.matches("/x/v12/y"));
        assert_eq!(pattern.to_string(), "RegularExpression /v[0-9]+/.*");
    }
}
