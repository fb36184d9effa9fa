//! Where the requests of a rule go, and how the choice is made.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::{root_path, yes};
use crate::config::values::{Duration, FieldName, Name, Weight};

/// A backend and its share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendRef {
    /// Name of the backend.
    pub name: Name,
    /// Share relative to the sum of the rule's weights, 0 to 1,000,000. Zero is zero.
    #[serde(default)]
    pub weight: Weight,
    /// Filters for requests that go to this backend, after the rule's own.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// The Gateway API's group; empty or absent.
    #[serde(default)]
    pub group: Option<String>,
    /// The Gateway API's kind; `Service`, `Backend` or absent. Any other: 500 for its share.
    #[serde(default)]
    pub kind: Option<String>,
    /// The Gateway API's namespace. A file has none, so a reference with one gets 500 for its share.
    #[serde(default)]
    pub namespace: Option<String>,
    /// The Gateway API's port; the backend's endpoints have theirs, so it decides nothing.
    #[serde(default)]
    pub port: Option<u16>,
}

/// How the choice among a rule's backendRefs is made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Split {
    /// What keeps a client on one version. Absent: each request is drawn anew.
    pub key: Option<SplitKey>,
    /// Text mixed into the hash of the key, so that two splits choose different clients first.
    /// Absent: `{route}/{rule}`.
    pub salt: Option<String>,
    /// What happens to the share of a backend without a usable endpoint.
    pub on_unavailable: OnUnavailable,
    /// Where testers name the backend they want.
    pub force: Option<Force>,
}

/// What happens to the share of a backend without a usable endpoint.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnUnavailable {
    /// It goes to the other backends of at least the same weight.
    #[default]
    Shift,
    /// It gets 503.
    Error,
}

/// What makes a split sticky. Exactly one field is set.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SplitKey {
    /// A cookie: its name, or an object with its attributes. One is issued to clients without.
    pub cookie: Option<KeyCookie>,
    /// A header field of the request.
    pub header: Option<FieldName>,
    /// A query parameter.
    pub query_param: Option<String>,
    /// The client's address (behind trusted proxies: the forwarded one).
    pub client_address: bool,
}

/// The cookie that carries a key.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(transform = or_a_name)]
pub struct KeyCookie {
    /// Cookie name.
    pub name: String,
    /// Whether a client without the cookie is given one.
    #[serde(default = "yes")]
    pub issue: bool,
    /// `Max-Age`. Absent: a session cookie.
    #[serde(default)]
    pub max_age: Option<Duration>,
    /// `Path`.
    #[serde(default = "root_path")]
    pub path: String,
    /// `SameSite`.
    #[serde(default)]
    pub same_site: SameSite,
}

impl KeyCookie {
    /// The cookie with every attribute at its default.
    pub fn named(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            issue: true,
            max_age: None,
            path: root_path(),
            same_site: SameSite::default(),
        }
    }
}

/// The derived schema knows the object only.
fn or_a_name(schema: &mut schemars::Schema) {
    let object = schema.clone();
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string", "minLength": 1 }, object] });
}

/// Either `cookie: user` or `cookie: { name: user, ... }`.
impl<'de> Deserialize<'de> for KeyCookie {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Attributes {
            name: String,
            #[serde(default = "yes")]
            issue: bool,
            #[serde(default)]
            max_age: Option<Duration>,
            #[serde(default = "root_path")]
            path: String,
            #[serde(default)]
            same_site: SameSite,
        }

        struct NameOrAttributes;

        impl<'de> serde::de::Visitor<'de> for NameOrAttributes {
            type Value = KeyCookie;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a cookie name, or an object with `name`")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
                Ok(KeyCookie::named(name))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(
                self,
                map: A,
            ) -> Result<Self::Value, A::Error> {
                let attributes =
                    Attributes::deserialize(serde::de::value::MapAccessDeserializer::new(map))?;
                Ok(KeyCookie {
                    name: attributes.name,
                    issue: attributes.issue,
                    max_age: attributes.max_age,
                    path: attributes.path,
                    same_site: attributes.same_site,
                })
            }
        }

        deserializer.deserialize_any(NameOrAttributes)
    }
}

/// The cookie attribute of that name (RFC 6265bis, 4.1.2.7).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SameSite {
    /// Sent on same-site requests and top-level navigation.
    #[default]
    Lax,
    /// Sent on same-site requests only.
    Strict,
    /// Sent always; browsers want TLS with it.
    None,
}

/// Where testers name the backend they want. The value is the name of one of the rule's
/// backendRefs, also of one with weight 0; any other value is ignored.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Force {
    /// A header field of the request.
    pub header: Option<FieldName>,
    /// A cookie of the request.
    pub cookie: Option<String>,
}

/// Bounds on an exchange. `0s` disables one; absent is the same.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RuleTimeouts {
    /// From the request's head to the end of the response, everything included.
    pub request: Option<Duration>,
    /// One attempt, from its first byte to the end of the response. At most `request`.
    pub backend_request: Option<Duration>,
    /// From an attempt's first byte to the head of its answer. At most `backendRequest`.
    pub first_byte: Option<Duration>,
    /// Between two pieces of the response's body.
    pub idle: Option<Duration>,
}
