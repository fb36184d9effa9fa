//! Names and values of header fields, and methods: what the `http` crate has types for.
//!
//! Owns their written form. Must not know which fields may be changed.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use http::{HeaderName, HeaderValue, Method};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Text, ValueError, refuse};

/// Name of a header field, lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldName(HeaderName);

impl FieldName {
    /// As the library's type.
    pub const fn get(&self) -> &HeaderName {
        &self.0
    }

    /// The name, lower case.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl FromStr for FieldName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        text.parse().map(Self).map_err(|_| {
            refuse(
                text,
                "the name of a header field",
                "expected a token (RFC 9110, 5.6.2), for example `x-version`",
            )
        })
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

written_as_text!(FieldName, "the name of a header field; case does not matter", {
    "pattern": "^[A-Za-z0-9!#$%&'*+.^_|~`-]+$", "maxLength": 256, "examples": ["x-version"]
});

/// Value of a header field: visible ASCII, with spaces or tabs inside but not at its ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldValue(HeaderValue);

impl FieldValue {
    /// As the library's type.
    pub const fn get(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for FieldValue {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // Whitespace at the ends is not part of a field's value (RFC 9110, 5.5).
        let value =
            Some(text).filter(|text| text.is_ascii() && text.trim() == *text && text.len() <= 4096);
        value
            .and_then(|text| HeaderValue::from_str(text).ok())
            .map(Self)
            .ok_or_else(|| {
                let why =
                    "expected visible ASCII on one line, no spaces at its ends, at most 4096 bytes";
                refuse(text, "the value of a header field", why)
            })
    }
}

impl fmt::Display for FieldValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.to_str().unwrap_or_default())
    }
}

written_as_text!(FieldValue, "the value of a header field: visible ASCII on one line", {
    "pattern": "^([!-~]([ \\t!-~]*[!-~])?)?$", "maxLength": 4096
});

/// A request method in capitals.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MethodName(Method);

impl MethodName {
    /// As the library's type.
    pub const fn get(&self) -> &Method {
        &self.0
    }
}

impl FromStr for MethodName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        // Methods are case-sensitive (RFC 9110, 9.1); in practice a small letter is a mistake.
        let capitals = !text.bytes().any(|byte| byte.is_ascii_lowercase());
        let method = Method::from_bytes(text.as_bytes())
            .ok()
            .filter(|_| capitals);
        method.map(Self).ok_or_else(|| {
            let upper = text.to_ascii_uppercase();
            let example = if Method::from_bytes(upper.as_bytes()).is_ok() {
                &upper
            } else {
                "GET"
            };
            refuse(
                text,
                "a method",
                &format!("expected capitals, for example `{example}`"),
            )
        })
    }
}

impl fmt::Display for MethodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

written_as_text!(MethodName, "a request method in capitals", {
    "pattern": "^[A-Z0-9!#$%&'*+.^_|~`-]+$", "examples": ["GET", "POST"]
});
