//! The values of a configuration file, each parsed once: what does not parse cannot be represented.
//!
//! Owns the written form of every value (parse, print, schema) and the message when it is refused.
//! Must not know the document, the reader or what a value is used for.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Why a text is not a value: one sentence that says what was expected and gives an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValueError(String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

/// `text` is shortened and escaped: it may be a pasted key or a megabyte of anything.
fn refuse(text: &str, what: &str, why: &str) -> ValueError {
    const SHOWN: usize = 60;
    let mut shown: String = text
        .chars()
        .take(SHOWN)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(SHOWN).is_some() {
        shown.push('…');
    }
    ValueError(format!("`{shown}` is not {what}: {why}"))
}

/// Serde by way of `FromStr` and `Display`, and the schema beside it. A macro, because neither
/// trait is ours, so that one generic `impl` over a trait of ours is not allowed.
macro_rules! written_as_text {
    ($type:ident, $expecting:literal, { $($schema:tt)* }) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text($expecting, PhantomData))
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $expecting, $($schema)* })
            }
        }
    };
}

struct Text<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err = ValueError>> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

mod address;
mod field;
mod identity;
mod origin;
mod percent;
mod quantity;
#[cfg(test)]
mod tests;

pub use address::{Address, Cidr, EndpointAddress, HostPattern};
pub use field::{FieldName, FieldValue, MethodName};
pub use identity::{Identity, IdentityPattern, ServerName};
pub use origin::OriginPattern;
pub use percent::Percent;
pub use quantity::{ByteSize, Duration, StatusCode, Weight};

/// Name of a listener, route, rule or backend; safe in logs, metrics, URLs and file names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// The name as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let starts = text
            .as_bytes()
            .first()
            .is_some_and(u8::is_ascii_alphanumeric);
        if starts && text.len() <= 253 && text.bytes().all(inner) {
            return Ok(Self(text.to_owned()));
        }
        Err(refuse(
            text,
            "a name",
            "expected letters, digits, `.`, `_` and `-`, a letter or digit first, at most 253, \
             for example `checkout-v2`",
        ))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(Name, "a name: letters, digits, `.`, `_` and `-`, a letter or digit first", {
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]*$", "maxLength": 253, "examples": ["checkout-v2"]
});
