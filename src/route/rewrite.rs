//! Changes to a request or response as data: paths, header edits, redirects.
//! Computes the new text; must not know when it is applied or sent.

use std::borrow::Cow;

use http::header::{HeaderName, HeaderValue, MaxSizeReached};
use http::{HeaderMap, StatusCode};

use super::path::MatchedPath;

/// A new path. Texts are in canonical form, without query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// Replaces the whole path.
    Full(String),
    /// Replaces the prefix that matched. A trailing slash is ignored.
    Prefix(String),
}

/// Changes to a header section, in the order `remove`, `set`, `add`; as one
/// filter may name a header only once, the order shows nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Replaces all field lines of the name by one.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appends a field line, never by joining: `set-cookie` cannot be joined
    /// (RFC 9110 5.3).
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Drops all field lines of the name.
    pub remove: Vec<HeaderName>,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; absent: the request's.
    pub scheme: Option<&'static str>,
    /// Absent: the request's host.
    pub hostname: Option<String>,
    /// Absent: the request's path.
    pub path: Option<PathRewrite>,
    /// Absent: the well-known port of `scheme`, or else the listener's.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// What a redirect takes over from the request.
#[derive(Clone, Copy, Debug)]
pub struct RedirectSource<'a> {
    /// `http` or `https`.
    pub scheme: &'a str,
    /// Without port; empty when the request names none.
    pub host: &'a str,
    /// The port that clients know the listener by.
    pub listener_port: u16,
    /// In canonical form.
    pub path: &'a str,
    /// What follows the `?`.
    pub query: Option<&'a str>,
    /// How the path matched.
    pub matched: MatchedPath,
}

impl PathRewrite {
    /// The new path, which begins with `/`. A prefix is replaced only where
    /// one matched; any other path stays, as the Gateway API allows
    /// `ReplacePrefixMatch` with `PathPrefix` only.
    pub fn apply<'a>(&'a self, path: &'a str, matched: &MatchedPath) -> Cow<'a, str> {
        match (self, matched) {
            (Self::Full(full), _) => rooted(Cow::Borrowed(full)),
            (Self::Prefix(replacement), MatchedPath::Prefix(length)) => {
                let rest = path.get(*length..).unwrap_or_default();
                match replacement.trim_end_matches('/') {
                    // `//host` would be read as another authority (RFC 3986
                    // 4.2), and what is left of `/x//host` without `/x` is that.
                    "" => one_leading_slash(rest),
                    replacement => rooted(Cow::Owned([replacement, rest].concat())),
                }
            }
            (Self::Prefix(_), MatchedPath::Exact | MatchedPath::Regex) => Cow::Borrowed(path),
        }
    }
}

fn rooted(path: Cow<'_, str>) -> Cow<'_, str> {
    if path.starts_with('/') {
        path
    } else {
        Cow::Owned(format!("/{path}"))
    }
}

fn one_leading_slash(path: &str) -> Cow<'_, str> {
    match path.trim_start_matches('/') {
        rest if rest.len() + 1 == path.len() => Cow::Borrowed(path),
        rest => Cow::Owned(format!("/{rest}")),
    }
}

impl HeaderEdits {
    /// Applies all edits.
    ///
    /// # Errors
    /// The map cannot hold more fields (32,768), so that the edits are not
    /// complete and the message must not be passed on.
    pub fn apply(&self, headers: &mut HeaderMap) -> Result<(), MaxSizeReached> {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.try_insert(name, value.clone())?;
        }
        for (name, value) in &self.add {
            headers.try_append(name, value.clone())?;
        }
        Ok(())
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }
}

impl Redirect {
    /// The value of `Location`: absolute, or without scheme and host when
    /// neither the redirect nor the request names a host.
    pub fn location(&self, source: &RedirectSource<'_>) -> String {
        let scheme = self.scheme.unwrap_or(source.scheme);
        let host = self.hostname.as_deref().unwrap_or(source.host);
        let path = match &self.path {
            Some(rewrite) => rewrite.apply(source.path, &source.matched),
            None => Cow::Borrowed(source.path),
        };
        let path = match path.starts_with('/') {
            true => path,
            false => Cow::Borrowed("/"), // `*` has no place in a URI
        };
        let mut location = String::new();
        if host.is_empty() {
            location.push_str(&one_leading_slash(&path));
        } else {
            location.push_str(scheme);
            location.push_str("://");
            push_host(&mut location, host);
            if let Some(port) = self.visible_port(scheme, source.listener_port) {
                location.push(':');
                location.push_str(&port.to_string());
            }
            location.push_str(&path);
        }
        if let Some(query) = source.query {
            location.push('?');
            location.push_str(query);
        }
        location
    }

    /// The port, unless it is the one that the scheme implies.
    fn visible_port(&self, scheme: &str, listener_port: u16) -> Option<u16> {
        let implied = match scheme {
            "http" => Some(80),
            "https" => Some(443),
            _ => None,
        };
        let port = match (self.port, self.scheme) {
            (Some(port), _) => Some(port),
            (None, Some(_)) => implied,
            (None, None) => Some(listener_port),
        };
        port.filter(|_| port != implied)
    }
}

/// An IPv6 address stands in brackets (RFC 3986 3.2.2).
fn push_host(location: &mut String, host: &str) {
    if host.contains(':') && !host.starts_with('[') {
        location.push('[');
        location.push_str(host);
        location.push(']');
    } else {
        location.push_str(host);
    }
}

#[cfg(test)]
mod tests {
    use super::super::path::PathPattern;
    use super::*;

    fn replace_prefix(path: &str, prefix: &str, replacement: &str) -> String {
        let rewrite = PathRewrite::Prefix(replacement.to_owned());
        let matched = PathPattern::prefix(prefix).matched();
        rewrite.apply(path, &matched).into_owned()
    }

    /// The table of the specification, `HTTPPathModifier.replacePrefixMatch`.
    #[test]
    fn httproute_rewrite_path_prefix() {
        for (path, prefix, replacement, expected) in [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            // The suite's requests.
            ("/prefix/one/two", "/prefix/one", "/one", "/one/two"),
            ("/strip-prefix/three", "/strip-prefix", "/", "/three"),
            ("/strip-prefix", "/strip-prefix", "/", "/"),
            // Ours.
            ("/a", "/", "/xyz", "/xyz/a"),
            ("/a", "/", "/", "/a"),
            ("/foo/bar", "/foo", "xyz", "/xyz/bar"),
            ("/foo//evil.example", "/foo", "/", "/evil.example"),
            ("//evil.example", "/", "/", "/evil.example"),
            ("/foo//bar", "/foo", "/xyz", "/xyz//bar"),
        ] {
            let found = replace_prefix(path, prefix, replacement);
            assert_eq!(found, expected, "{path} {prefix} {replacement}");
        }
    }

    #[test]
    fn httproute_rewrite_path_full() {
        for (full, expected) in [("/one", "/one"), ("one", "/one"), ("", "/")] {
            let rewrite = PathRewrite::Full(full.to_owned());
            for matched in [
                MatchedPath::Prefix(5),
                MatchedPath::Exact,
                MatchedPath::Regex,
            ] {
                assert_eq!(rewrite.apply("/full/one/two", &matched), expected, "{full}");
            }
        }
        let rewrite = PathRewrite::Prefix("/x".to_owned());
        assert_eq!(rewrite.apply("/a", &MatchedPath::Exact), "/a");
        assert_eq!(rewrite.apply("/a", &MatchedPath::Prefix(9)), "/x");
    }

    #[test]
    fn httproute_request_header_modifier() {
        let name = HeaderName::from_static;
        let value = HeaderValue::from_static;
        let edits = HeaderEdits {
            set: vec![(name("x-set"), value("set"))],
            add: vec![
                (name("x-add"), value("add")),
                (name("set-cookie"), value("b=2")),
            ],
            remove: vec![name("x-remove")],
        };
        let all = |headers: &HeaderMap, name: &str| -> Vec<String> {
            let lines = headers.get_all(name).iter();
            lines
                .map(|line| line.to_str().unwrap().to_owned())
                .collect()
        };

        let mut headers = HeaderMap::new();
        edits.apply(&mut headers).unwrap();
        assert_eq!(all(&headers, "X-Set"), ["set"]);
        assert_eq!(all(&headers, "X-Add"), ["add"]);
        assert_eq!(all(&headers, "X-Remove"), [""; 0]);

        let mut headers = HeaderMap::new();
        for header in ["x-set", "x-set", "x-add", "x-remove", "x-remove", "x-other"] {
            headers.append(header, value("old"));
        }
        headers.append("set-cookie", value("a=1"));
        edits.apply(&mut headers).unwrap();
        assert_eq!(all(&headers, "x-set"), ["set"]);
        assert_eq!(all(&headers, "x-add"), ["old", "add"]);
        assert_eq!(all(&headers, "x-remove"), [""; 0]);
        assert_eq!(all(&headers, "x-other"), ["old"]);
        assert_eq!(all(&headers, "set-cookie"), ["a=1", "b=2"]);
    }

    const SOURCE: RedirectSource<'_> = RedirectSource {
        scheme: "http",
        host: "example.org",
        listener_port: 80,
        path: "/original-prefix/lemon",
        query: None,
        matched: MatchedPath::Prefix("/original-prefix".len()),
    };

    const PLAIN: Redirect = Redirect {
        scheme: None,
        hostname: None,
        path: None,
        port: None,
        status: StatusCode::FOUND,
    };

    #[test]
    fn httproute_redirect_port_and_scheme() {
        for (listener_port, scheme, port, expected) in [
            (80, None, None, "http://example.org"),
            (80, None, Some(80), "http://example.org"),
            (80, None, Some(8080), "http://example.org:8080"),
            (80, Some("https"), None, "https://example.org"),
            (80, Some("https"), Some(443), "https://example.org"),
            (80, Some("https"), Some(8443), "https://example.org:8443"),
            (8080, None, None, "http://example.org:8080"),
            (8080, None, Some(80), "http://example.org"),
            (8080, Some("https"), None, "https://example.org"),
            (443, None, None, "https://example.org"),
            (443, None, Some(8443), "https://example.org:8443"),
            (443, Some("http"), None, "http://example.org"),
            (443, Some("http"), Some(80), "http://example.org"),
            (443, Some("http"), Some(8080), "http://example.org:8080"),
        ] {
            let redirect = Redirect {
                scheme,
                port,
                ..PLAIN
            };
            let source = RedirectSource {
                scheme: if listener_port == 443 {
                    "https"
                } else {
                    "http"
                },
                listener_port,
                path: "/",
                ..SOURCE
            };
            let location = redirect.location(&source);
            assert_eq!(
                location,
                format!("{expected}/"),
                "{listener_port} {scheme:?} {port:?}"
            );
        }
    }

    #[test]
    fn httproute_redirect_path() {
        let prefix = Some(PathRewrite::Prefix("/replacement-prefix".to_owned()));
        let full = Some(PathRewrite::Full("/full-path-replacement".to_owned()));
        let host = Some("example.com".to_owned());
        for (path, hostname, expected) in [
            (None, None, "http://example.org/original-prefix/lemon?a=1"),
            (
                prefix,
                None,
                "http://example.org/replacement-prefix/lemon?a=1",
            ),
            (
                full.clone(),
                None,
                "http://example.org/full-path-replacement?a=1",
            ),
            (full, host, "http://example.com/full-path-replacement?a=1"),
        ] {
            let redirect = Redirect {
                path,
                hostname,
                ..PLAIN
            };
            let source = RedirectSource {
                query: Some("a=1"),
                ..SOURCE
            };
            assert_eq!(redirect.location(&source), expected);
        }
    }

    #[test]
    fn httproute_redirect_host() {
        for (hostname, host, path, expected) in [
            (
                Some("example.com"),
                "example.org",
                "/",
                "http://example.com/",
            ),
            (None, "::1", "/", "http://[::1]/"),
            (None, "[::1]", "/", "http://[::1]/"),
            (None, "example.org", "*", "http://example.org/"),
            (None, "", "/a", "/a"),
            (None, "", "//evil.example", "/evil.example"),
            (Some("example.com"), "", "/a", "http://example.com/a"),
        ] {
            let redirect = Redirect {
                hostname: hostname.map(str::to_owned),
                ..PLAIN
            };
            let source = RedirectSource {
                host,
                path,
                ..SOURCE
            };
            assert_eq!(
                redirect.location(&source),
                expected,
                "{hostname:?} {host} {path}"
            );
        }
    }
}
