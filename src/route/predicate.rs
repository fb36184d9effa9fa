//! What a match asks of a request: path, method, headers, query. Decides
//! whether one match applies; which of several wins is decided elsewhere.

use std::borrow::Cow;
use std::fmt;

use http::header::{COOKIE, HeaderName};
use http::{HeaderMap, Method};

use super::RequestView;
use super::path::PathPattern;
use super::pattern::{Pattern, PatternError};
use crate::config::values::IdentityPattern;

/// Criteria that have to hold together. The default matches every path.
#[derive(Clone, Debug)]
pub struct Match {
    path: PathPattern,
    /// `None`, for most: the path decides alone.
    beyond: Option<Box<Beyond>>,
}

/// What a match asks beyond the path.
#[derive(Clone, Debug, Default)]
struct Beyond {
    method: Option<Method>,
    headers: Vec<FieldPredicate>,
    query: Vec<QueryPredicate>,
    /// Any of these; empty: anybody.
    identities: Vec<IdentityPattern>,
}

/// What a match asks of one header.
#[derive(Clone, Debug)]
pub struct FieldPredicate {
    name: HeaderName,
    value: ValuePattern,
}

/// What a match asks of one query parameter.
#[derive(Clone, Debug)]
pub struct QueryPredicate {
    name: Box<str>,
    value: ValuePattern,
}

/// What a value has to be, in every byte.
#[derive(Clone, Debug)]
pub enum ValuePattern {
    /// These bytes.
    Exact(Box<str>),
    /// Anything that the pattern matches from end to end.
    Regex(Pattern),
}

/// The first thing about a request that does not fit, in the order in which a
/// lookup comes upon it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// The rule is for other hosts.
    Host,
    /// The match is for other paths.
    Path,
    /// The match is for another method.
    Method,
    /// This header is absent or has another value.
    Header(&'a HeaderName),
    /// This query parameter is absent or has another value.
    Query(&'a str),
    /// The client is somebody else, or nobody.
    Identity,
}

impl Match {
    /// Puts criteria together. Of a header or query parameter that is named
    /// twice only the first entry counts (Gateway API, `HTTPRouteMatch`).
    pub fn new(
        path: PathPattern,
        method: Option<Method>,
        headers: Vec<FieldPredicate>,
        query: Vec<QueryPredicate>,
    ) -> Self {
        let asks = method.is_some() || !headers.is_empty() || !query.is_empty();
        let beyond = asks.then(|| Beyond {
            method,
            headers: first_of_each(headers, |a, b| a.name == b.name),
            query: first_of_each(query, |a, b| a.name == b.name),
            identities: Vec::new(),
        });
        Self {
            path,
            beyond: beyond.map(Box::new),
        }
    }

    /// The same for clients with any of these identities only; empty: for anybody.
    #[must_use]
    pub fn by(mut self, identities: Vec<IdentityPattern>) -> Self {
        if !identities.is_empty() {
            self.beyond.get_or_insert_default().identities = identities;
        }
        self
    }

    /// The clients that it is for; empty: anybody.
    pub fn identities(&self) -> &[IdentityPattern] {
        self.beyond.as_ref().map_or(&[], |it| &it.identities)
    }

    /// What the path has to be.
    pub fn path(&self) -> &PathPattern {
        &self.path
    }

    /// The method, if it matters.
    pub fn method(&self) -> Option<&Method> {
        self.beyond.as_ref()?.method.as_ref()
    }

    /// The headers that matter, each once.
    pub fn headers(&self) -> &[FieldPredicate] {
        self.beyond.as_ref().map_or(&[], |it| &it.headers)
    }

    /// The query parameters that matter, each once.
    pub fn query(&self) -> &[QueryPredicate] {
        self.beyond.as_ref().map_or(&[], |it| &it.query)
    }

    /// What does not fit, the path included; `None` when everything does.
    pub fn mismatch(&self, request: &RequestView<'_>) -> Option<Mismatch<'_>> {
        if self.path.matches(request.path) {
            self.mismatch_beyond_path(request)
        } else {
            Some(Mismatch::Path)
        }
    }

    /// What does not fit in a request whose path is known to.
    pub(super) fn mismatch_beyond_path(&self, request: &RequestView<'_>) -> Option<Mismatch<'_>> {
        let asked = self.beyond.as_ref()?;
        if asked
            .method
            .as_ref()
            .is_some_and(|method| method != request.method)
        {
            return Some(Mismatch::Method);
        }
        if let Some(header) = asked
            .headers
            .iter()
            .find(|header| !header.matches(request.headers))
        {
            return Some(Mismatch::Header(&header.name));
        }
        let query = request.query.unwrap_or_default();
        if let Some(parameter) = asked
            .query
            .iter()
            .find(|parameter| !parameter.matches(query))
        {
            return Some(Mismatch::Query(&parameter.name));
        }
        let fits = |pattern| request.identity.is_some_and(|who| who.matches(pattern));
        let wanted = &asked.identities;
        (!wanted.is_empty() && !wanted.iter().any(fits)).then_some(Mismatch::Identity)
    }
}

fn first_of_each<P>(entries: Vec<P>, same: impl Fn(&P, &P) -> bool) -> Vec<P> {
    let mut kept: Vec<P> = Vec::with_capacity(entries.len());
    for entry in entries {
        if !kept.iter().any(|earlier| same(earlier, &entry)) {
            kept.push(entry);
        }
    }
    kept
}

impl Default for Match {
    fn default() -> Self {
        Self::new(PathPattern::prefix("/"), None, Vec::new(), Vec::new())
    }
}

impl FieldPredicate {
    /// Asks for a value of a header.
    pub fn new(name: HeaderName, value: ValuePattern) -> Self {
        Self { name, value }
    }

    /// Whether the header is there with such a value. Several field lines are
    /// one value, joined with commas (RFC 9110 5.3); those of a cookie, which
    /// HTTP/2 may split, with semicolons (RFC 9113 8.2.3).
    pub fn matches(&self, headers: &HeaderMap) -> bool {
        let mut lines = headers
            .get_all(&self.name)
            .iter()
            .map(|line| line.as_bytes());
        let Some(first) = lines.next() else {
            return false;
        };
        let Some(second) = lines.next() else {
            return self.value.matches(first);
        };
        let separator: &[u8] = if self.name == COOKIE { b"; " } else { b"," };
        let mut joined = [first, second].join(separator);
        for line in lines {
            joined.extend_from_slice(separator);
            joined.extend_from_slice(line);
        }
        self.value.matches(&joined)
    }
}

impl QueryPredicate {
    /// Asks for a value of a query parameter. Name and value are plain text,
    /// compared with what the request's stand for once decoded.
    pub fn new(name: &str, value: ValuePattern) -> Self {
        Self {
            name: name.into(),
            value,
        }
    }

    /// Whether the first parameter of this name has such a value.
    pub fn matches(&self, query: &str) -> bool {
        query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(name, _)| Decoded::of(name).eq(self.name.bytes()))
            .is_some_and(|(_, value)| self.value.matches(&decode(value)))
    }
}

impl ValuePattern {
    /// Exactly this text.
    pub fn exact(value: &str) -> Self {
        Self::Exact(value.into())
    }

    /// Text that the pattern matches from end to end.
    ///
    /// # Errors
    /// As [`Pattern::new`].
    pub fn regex(pattern: &str) -> Result<Self, PatternError> {
        Pattern::new(pattern).map(Self::Regex)
    }

    /// Whether the value is as asked.
    pub fn matches(&self, value: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => exact.as_bytes() == value,
            Self::Regex(pattern) => pattern.matches(value),
        }
    }
}

/// A part of a query as the bytes it stands for. Borrows where nothing was
/// encoded, which is nearly always.
fn decode(text: &str) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', text.as_bytes()) {
        None => Cow::Borrowed(text.as_bytes()),
        Some(_) => Cow::Owned(Decoded::of(text).collect()),
    }
}

/// Reads `%` with two digits as one byte and `+` as a space, as forms write
/// them (URL Standard, application/x-www-form-urlencoded). A `%` without two
/// digits stands for itself.
struct Decoded<'a> {
    rest: &'a [u8],
}

impl<'a> Decoded<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            rest: text.as_bytes(),
        }
    }
}

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        match (first, rest) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => {
                    self.rest = after;
                    Some(high << 4 | low)
                }
                (None, _) | (_, None) => Some(first),
            },
            _ => Some(first),
        }
    }
}

fn digit(hex: u8) -> Option<u8> {
    match hex {
        b'0'..=b'9' => Some(hex - b'0'),
        b'a'..=b'f' => Some(hex - b'a' + 10),
        b'A'..=b'F' => Some(hex - b'A' + 10),
        _ => None,
    }
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if let Some(method) = self.method() {
            write!(f, ", method {method}")?;
        }
        for header in self.headers() {
            write!(f, ", header {} {}", header.name, header.value)?;
        }
        for parameter in self.query() {
            write!(f, ", query {} {}", parameter.name, parameter.value)?;
        }
        Ok(())
    }
}

impl fmt::Display for ValuePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(value) => write!(f, "= {value}"),
            Self::Regex(pattern) => write!(f, "~ {}", pattern.source()),
        }
    }
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("the host is another"),
            Self::Path => f.write_str("the path is another"),
            Self::Method => f.write_str("the method is another"),
            Self::Header(name) => write!(f, "the header {name} is absent or another"),
            Self::Query(name) => write!(f, "the query parameter {name} is absent or another"),
            Self::Identity => f.write_str("the client is somebody else, or nobody"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_query_is_decoded_and_the_first_of_a_repeated_parameter_counts() {
        for (name, value, query, expected) in [
            ("animal", "whale", "animal=whale", true),
            ("animal", "whale", "x=1&animal=whale", true),
            ("animal", "whale", "animal=whaledolphin", false),
            ("animal", "whale", "ANIMAL=whale", false),
            ("animal", "whale", "animal=Whale", false),
            ("animal", "whale", "animal=dolphin&animal=whale", false),
            ("animal", "whale", "animal=whale&animal=dolphin", true),
            ("animal", "whale", "%61nimal=wh%61le", true),
            ("animal", "blue whale", "animal=blue+whale", true),
            ("animal", "blue whale", "animal=blue%20whale", true),
            ("animal", "a+b", "animal=a%2Bb", true),
            ("animal", "a=b", "animal=a=b", true),
            ("animal", "100%", "animal=100%", true),
            ("animal", "%zz%4", "animal=%zz%4", true),
            ("animal", "", "animal", true),
            ("animal", "", "animal=", true),
            ("animal", "", "", false),
        ] {
            let predicate = QueryPredicate::new(name, ValuePattern::exact(value));
            assert_eq!(
                predicate.matches(query),
                expected,
                "{name}={value} in {query}"
            );
        }
        let pattern = ValuePattern::regex("[a-z ]+").unwrap();
        let predicate = QueryPredicate::new("animal", pattern);
        assert!(predicate.matches("animal=blue%20whale"));
        assert!(!predicate.matches("animal=%FF"));
    }

    #[test]
    fn field_lines_of_one_name_are_one_value() {
        let lines = |name: &HeaderName, values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, HeaderValue::from_str(value).unwrap());
            }
            headers
        };
        let color = HeaderName::from_static("color");
        for (name, expected, values) in [
            (&color, "blue", &["blue"] as &[&str]),
            (&color, "blue,red,green", &["blue", "red", "green"]),
            (&COOKIE, "a=1; b=2; c=3", &["a=1", "b=2", "c=3"]),
        ] {
            let predicate = FieldPredicate::new(name.clone(), ValuePattern::exact(expected));
            assert!(
                predicate.matches(&lines(name, values)),
                "{name}: {values:?}"
            );
        }
        let predicate = FieldPredicate::new(color.clone(), ValuePattern::exact("blue"));
        assert!(!predicate.matches(&lines(&color, &["blue", "red"])));
        assert!(!predicate.matches(&HeaderMap::new()));
        let any = FieldPredicate::new(color.clone(), ValuePattern::regex(".*").unwrap());
        assert!(any.matches(&lines(&color, &[""])));
        assert!(!any.matches(&HeaderMap::new()));
    }

    #[test]
    fn the_first_entry_of_a_name_counts() {
        let header = |value| {
            let name = HeaderName::from_static("version");
            FieldPredicate::new(name, ValuePattern::exact(value))
        };
        let query = |name, value| QueryPredicate::new(name, ValuePattern::exact(value));
        let criteria = Match::new(
            PathPattern::prefix("/"),
            None,
            vec![header("one"), header("two")],
            vec![query("a", "1"), query("a", "2"), query("A", "3")],
        );
        assert_eq!(
            criteria.to_string(),
            "PathPrefix /, header version = one, query a = 1, query A = 3"
        );
    }
}
