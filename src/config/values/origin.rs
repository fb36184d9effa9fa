//! Origins of browsers: patterns of the CORS filter.
//!
//! Owns their written form and when a pattern fits. Must not know what an origin may do.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Text, ValueError, refuse};

/// A pattern of origins: `*`, `https://www.example.com`, `https://*.example.com:8443`. The star stands
/// for one or more labels. Lower case; ports are significant (Gateway API, `CORSOrigin`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginPattern {
    /// Every origin.
    Any,
    /// This one.
    Exact(String),
    /// What begins with the first text, ends with the second, and has something between them.
    Wildcard(String, String),
}

impl OriginPattern {
    /// Whether an origin as a browser sends it fits.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(exact) => exact.eq_ignore_ascii_case(origin),
            Self::Wildcard(scheme, rest) => {
                let between = origin
                    .len()
                    .checked_sub(scheme.len() + rest.len())
                    .and_then(|length| {
                        let (start, tail) = origin.split_at_checked(scheme.len())?;
                        let (between, end) = tail.split_at_checked(length)?;
                        let framed =
                            start.eq_ignore_ascii_case(scheme) && end.eq_ignore_ascii_case(rest);
                        framed.then_some(between)
                    });
                between.is_some_and(|host| {
                    !host.is_empty() && !host.starts_with('.') && !host.contains(['/', ':'])
                })
            }
        }
    }
}

fn is_host(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('.')
}

impl FromStr for OriginPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let refused = |why: &str| refuse(text, "an origin", why);
        let lower = text.to_ascii_lowercase();
        let (scheme, rest) = lower.split_once("://").ok_or_else(|| {
            refused("expected `*`, or a scheme and a host, for example `https://*.example.com`")
        })?;
        let named = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
        let (host, port) = match rest.rsplit_once(':') {
            // An IPv6 literal has colons too.
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (rest, None),
        };
        if !named || port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(refused("its scheme or port is none"));
        }
        if rest.contains('/') {
            return Err(refused(
                "an origin has no path, not even a slash at its end",
            ));
        }
        let port = port.map_or_else(String::new, |port| format!(":{port}"));
        if let Some(suffix) = host.strip_prefix('*') {
            let parent = suffix.strip_prefix('.');
            if suffix.is_empty() || parent.is_some_and(is_host) {
                return Ok(Self::Wildcard(
                    format!("{scheme}://"),
                    format!("{suffix}{port}"),
                ));
            }
        }
        let literal = host.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        let is_literal = literal.is_some_and(|it| it.parse::<std::net::Ipv6Addr>().is_ok());
        if is_host(host) || is_literal {
            return Ok(Self::Exact(format!("{scheme}://{host}{port}")));
        }
        Err(refused(
            "`*` stands at the beginning of the host only, for example `https://*.example.com`",
        ))
    }
}

impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Wildcard(scheme, rest) => write!(f, "{scheme}*{rest}"),
        }
    }
}

written_as_text!(OriginPattern, "an origin, or a pattern of origins", {
    "examples": ["*", "https://www.example.com", "https://*.example.com"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_for_labels_and_nothing_else() {
        for (pattern, origin, fits) in [
            ("*", "null", true),
            ("https://www.foo.com", "https://www.foo.com", true),
            ("https://www.foo.com", "HTTPS://WWW.foo.com", true),
            ("https://www.foo.com", "http://www.foo.com", false),
            ("https://www.foo.com", "https://www.foo.com:8443", false),
            ("https://*.bar.com", "https://www.bar.com", true),
            ("https://*.bar.com", "https://xpto.www.bar.com", true),
            ("https://*.bar.com", "https://bar.com", false),
            ("https://*.bar.com", "https://.bar.com", false),
            ("https://*.bar.com", "https://foobar.com", false),
            ("https://*.bar.com", "https://www.bar.com.evil.org", false),
            ("https://*.bar.com", "https://evil.org/.bar.com", false),
            ("https://*.bar.com", "https://www.bar.com:8443", false),
            ("https://*.bar.com:8443", "https://www.bar.com:8443", true),
            ("https://*", "https://anything.example", true),
            ("https://*", "https://anything.example:1", false),
            ("http://[::1]:3000", "http://[::1]:3000", true),
            ("https://*.bar.com", "https://ü.bar.com", true),
            ("https://*.bar.com", "h", false),
        ] {
            let parsed: OriginPattern = pattern.parse().unwrap();
            assert_eq!(parsed.matches(origin), fits, "{pattern} {origin}");
            assert_eq!(parsed.to_string(), pattern);
        }
        for wrong in [
            "",
            "foo.com",
            "https://",
            "https://foo.com/",
            "https://a.*.com",
            "https://*foo.com",
            "https://foo.com:0",
            "https://foo.com:x",
            "1://foo.com",
            "https://[::x]",
        ] {
            assert!(wrong.parse::<OriginPattern>().is_err(), "{wrong}");
        }
    }
}
