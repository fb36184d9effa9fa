//! Cross-origin resource sharing (the Fetch standard): what is said to a browser about its scripts.
//!
//! Owns the fields of the answers. Must not know which rule they are for.

use std::fmt::Write as _;

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method};

use crate::config::values::OriginPattern;

/// What is allowed, compiled.
#[derive(Debug)]
pub(crate) struct Cors {
    pub(crate) origins: Box<[OriginPattern]>,
    pub(crate) credentials: bool,
    pub(crate) methods: Allowed,
    pub(crate) headers: Allowed,
    pub(crate) expose: Allowed,
    /// Seconds.
    pub(crate) max_age: u32,
}

/// A list of names.
#[derive(Debug)]
pub(crate) enum Allowed {
    /// `*`
    All,
    /// These, as they are sent; `None`: no more than the standard allows to everybody.
    These(Option<HeaderValue>),
}

/// Whose word about it is replaced.
const OF_BACKENDS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

impl Allowed {
    /// The list of names.
    pub(crate) fn new<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Self {
        if names.clone().any(|name| name == "*") {
            return Self::All;
        }
        let mut text = String::new();
        for name in names {
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a String cannot fail.
            write!(text, "{comma}{name}").unwrap_or_default();
        }
        // Names are tokens, which are valid values.
        let value = HeaderValue::try_from(text).ok();
        Self::These(value.filter(|value| !value.is_empty()))
    }

    /// What is said. `asked`: what the request asks for. With credentials a star would be the name of
    /// something that is called so.
    fn value(&self, asked: Option<&HeaderValue>, credentials: bool) -> Option<HeaderValue> {
        match self {
            Self::All if credentials => asked.cloned(),
            Self::All => Some(HeaderValue::from_static("*")),
            Self::These(value) => value.clone(),
        }
    }
}

/// Whether a browser asks what a script may do.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The method that a preflight request asks about.
pub(crate) fn asked_method(headers: &HeaderMap) -> Option<Method> {
    let value = headers.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    Method::from_bytes(value.as_bytes()).ok()
}

/// Removes what a backend says about it.
pub(crate) fn strip(headers: &mut HeaderMap) {
    for name in &OF_BACKENDS {
        headers.remove(name);
    }
}

impl Cors {
    /// Adds the fields of every answer to a request with these headers.
    pub(crate) fn answer(&self, request: &HeaderMap, fields: &mut HeaderMap) {
        // Also where it is not allowed: the next origin may be (RFC 9110, 12.5.5).
        fields.append(VARY, HeaderValue::from_static("origin"));
        let Some(origin) = self.allowed(request) else {
            return;
        };
        fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            fields.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        if let Some(value) = self.expose.value(None, self.credentials) {
            fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, value);
        }
    }

    /// Adds the fields of the answer to a preflight request, in addition to those of every answer.
    pub(crate) fn preflight(&self, request: &HeaderMap, fields: &mut HeaderMap) {
        for name in [
            "access-control-request-method",
            "access-control-request-headers",
        ] {
            fields.append(VARY, HeaderValue::from_static(name));
        }
        if self.allowed(request).is_none() {
            return;
        }
        let lists = [
            (
                ACCESS_CONTROL_ALLOW_METHODS,
                ACCESS_CONTROL_REQUEST_METHOD,
                &self.methods,
            ),
            (
                ACCESS_CONTROL_ALLOW_HEADERS,
                ACCESS_CONTROL_REQUEST_HEADERS,
                &self.headers,
            ),
        ];
        for (name, asks, allowed) in lists {
            if let Some(value) = allowed.value(request.get(asks), self.credentials) {
                fields.insert(name, value);
            }
        }
        fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age));
    }

    /// The origin of the request, if it may.
    fn allowed<'a>(&self, request: &'a HeaderMap) -> Option<&'a HeaderValue> {
        let origin = request.get(ORIGIN)?;
        let text = origin.to_str().ok()?;
        let fits = self.origins.iter().any(|pattern| pattern.matches(text));
        fits.then_some(origin)
    }
}

impl std::fmt::Display for Cors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let origins: Vec<_> = self.origins.iter().map(ToString::to_string).collect();
        let credentials = if self.credentials {
            ", with credentials"
        } else {
            ""
        };
        write!(f, "CORS for {}{credentials}", origins.join(", "))
    }
}
