//! Who a peer is by its certificate: patterns of identities, and the name of a server.
//!
//! Owns their written form and when a pattern fits. Must not know certificates.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::address::dns_name;
use super::{Text, ValueError, refuse};

/// Who a peer is by its certificate. Empty: nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// URIs, of SPIFFE above all.
    pub uris: Vec<String>,
    /// DNS names, lower case.
    pub dns: Vec<String>,
    /// As RFC 4514 writes it.
    pub subject: String,
}

impl Identity {
    /// The name to show: the first URI, else the first DNS name, else the subject.
    pub fn name(&self) -> &str {
        self.uris
            .first()
            .or(self.dns.first())
            .unwrap_or(&self.subject)
    }

    /// Whether any of its names fits the pattern.
    pub fn matches(&self, pattern: &IdentityPattern) -> bool {
        self.uris.iter().any(|uri| pattern.matches_uri(uri))
            || self.dns.iter().any(|name| pattern.matches_dns(name))
            || pattern.matches_subject(&self.subject)
    }
}

/// A pattern of identities; each kind is compared with its kind of name in a certificate only.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityPattern {
    /// A URI; a segment `*` stands for one segment, whatever it is.
    Uri(String),
    /// A DNS name; `*.` at its beginning stands for one label.
    Dns(String),
    /// A subject in the form of RFC 4514, as `weir certificates` shows it.
    Subject(String),
}

impl IdentityPattern {
    /// Whether a URI of a certificate fits.
    fn matches_uri(&self, uri: &str) -> bool {
        let Self::Uri(pattern) = self else {
            return false;
        };
        let (mut wanted, mut found) = (pattern.split('/'), uri.split('/'));
        loop {
            match (wanted.next(), found.next()) {
                (None, None) => return true,
                (Some("*"), Some(segment)) if !segment.is_empty() => {}
                (Some(wanted), Some(found)) if wanted == found => {}
                _ => return false,
            }
        }
    }

    /// Whether a DNS name of a certificate fits. A wildcard in the certificate is no name.
    fn matches_dns(&self, name: &str) -> bool {
        let Self::Dns(pattern) = self else {
            return false;
        };
        match pattern.strip_prefix("*.") {
            None => pattern.eq_ignore_ascii_case(name),
            Some(parent) => name.split_once('.').is_some_and(|(label, rest)| {
                !label.is_empty() && label != "*" && rest.eq_ignore_ascii_case(parent)
            }),
        }
    }

    /// Whether the subject of a certificate fits.
    fn matches_subject(&self, subject: &str) -> bool {
        matches!(self, Self::Subject(wanted) if wanted == subject)
    }
}

impl FromStr for IdentityPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |why: &str| refuse(text, "an identity", why);
        if let Some(subject) = text.strip_prefix("subject:") {
            return match subject.trim() {
                "" => Err(refused(
                    "its subject is missing, for example `subject:CN=frontend,O=Shop`",
                )),
                subject => Ok(Self::Subject(subject.to_owned())),
            };
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            let authority = rest.split('/').next().unwrap_or_default();
            if scheme.is_empty() || authority.is_empty() || authority.contains('*') {
                return Err(refused(
                    "a URI has a scheme and an authority without `*`, \
                     for example `spiffe://shop.example/ns/*/sa/frontend`",
                ));
            }
            if rest
                .split('/')
                .any(|part| part.contains('*') && part != "*")
            {
                return Err(refused("`*` stands for a whole segment of the path"));
            }
            return Ok(Self::Uri(text.to_owned()));
        }
        let name = text.strip_prefix("*.").unwrap_or(text);
        dns_name(name).map_err(|why| refused(&why))?;
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(text) | Self::Dns(text) => f.write_str(text),
            Self::Subject(subject) => write!(f, "subject:{subject}"),
        }
    }
}

written_as_text!(IdentityPattern, "an identity in a certificate: a URI, a DNS name, or `subject:` and a subject", {
    "minLength": 1,
    "examples": ["spiffe://shop.example/ns/*/sa/frontend", "*.shop.example.com", "subject:CN=frontend,O=Shop"]
});

/// The name by which a server is asked for, and that its certificate must have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerName {
    /// Lower-case DNS name.
    Dns(String),
    /// An address; it is verified, but not asked for (RFC 6066, 3).
    Ip(IpAddr),
}

impl FromStr for ServerName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Ip(address));
        }
        dns_name(text).map_err(|why| refuse(text, "the name of a server", &why))?;
        Ok(Self::Dns(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

written_as_text!(ServerName, "a DNS name or IP address", {
    "minLength": 1, "examples": ["checkout.shop.example.com"]
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_its_own_kind_by_whole_segments() {
        for (pattern, uri, fits) in [
            ("spiffe://a/ns/*/sa/web", "spiffe://a/ns/shop/sa/web", true),
            (
                "spiffe://a/ns/*/sa/web",
                "spiffe://a/ns/shop/x/sa/web",
                false,
            ),
            ("spiffe://a/ns/*/sa/web", "spiffe://a/ns//sa/web", false),
            (
                "spiffe://a/ns/*/sa/web",
                "spiffe://a/ns/shop/sa/web/",
                false,
            ),
            ("spiffe://a/ns/*", "spiffe://a/ns", false),
            ("spiffe://a/ns/*", "spiffe://b/ns/x", false),
            ("a.example", "a.example", false),
        ] {
            let pattern: IdentityPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches_uri(uri), fits, "{pattern} {uri}");
        }
        for (pattern, name, fits) in [
            ("*.shop.example", "web.shop.example", true),
            ("*.shop.example", "WEB.SHOP.example", true),
            ("*.shop.example", "a.web.shop.example", false),
            ("*.shop.example", "shop.example", false),
            ("*.shop.example", "*.shop.example", false),
            ("web.shop.example", "web.shop.example", true),
            ("spiffe://web/x", "web", false),
        ] {
            let pattern: IdentityPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches_dns(name), fits, "{pattern} {name}");
        }
        let subject: IdentityPattern = "subject:CN=web,O=Shop".parse().unwrap();
        assert!(subject.matches_subject("CN=web,O=Shop"));
        assert!(!subject.matches_subject("CN=web"));
    }

    #[test]
    fn what_is_no_pattern_says_why() {
        for text in [
            "",
            "*",
            "subject:",
            "spiffe://",
            "spiffe://*/x",
            "spiffe://a/x*",
            "a b",
            "*.*.a",
            "a*.b",
        ] {
            assert!(text.parse::<IdentityPattern>().is_err(), "{text:?}");
        }
    }
}
