//! What the operator may write: one serde struct per object of the file, one doc comment per field.
//!
//! Owns the shape of the file and the defaults. Must not know how it is read, checked or compiled.
//! The JSON Schema and the reference are generated from these structs; a rule copied out of a
//! Gateway API `HTTPRoute` deserializes unchanged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{
    Address, ByteSize, Cidr, Duration, EndpointAddress, FieldName, FieldValue, HostPattern,
    MethodName, Name, StatusCode, Weight,
};

/// One configuration file. With a folder, the lists of all its files are joined in file-name order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["version"]))]
pub struct Document {
    /// Version of the file format. Always 1.
    #[schemars(with = "u32", range(min = 1, max = 1))]
    pub version: Option<u32>,
    /// Where operators and scrapers reach the proxy.
    pub admin: Option<Admin>,
    /// The access log.
    pub access_log: Option<AccessLog>,
    /// How the proxy stops.
    pub drain: Option<Drain>,
    /// Where connections are accepted.
    pub listeners: Vec<Listener>,
    /// What happens to a request. Order breaks ties between rules of equal rank.
    pub routes: Vec<Route>,
    /// The versions of services that requests go to.
    pub backends: Vec<Backend>,
}

/// The listener for operators: health, metrics, state and the few commands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Admin {
    /// Address of the admin listener.
    pub address: Address,
    /// A second address that serves only `/live`, `/ready` and `/metrics`.
    pub metrics_address: Option<Address>,
    /// A file whose content is the bearer token that changes need. Without one, changes are
    /// answered on loopback only.
    pub token_file: Option<PathBuf>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            address: Address::loopback(14490),
            metrics_address: None,
            token_file: None,
        }
    }
}

/// One line for each request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AccessLog {
    /// The form of a line.
    pub format: AccessLogFormat,
    /// The file to append to. Absent: standard output.
    pub path: Option<PathBuf>,
    /// How many of 100 ordinary requests are written. Errors and slow requests always are.
    #[schemars(range(max = 100))]
    pub sample_percent: u8,
    /// A request that took longer than this is always written.
    pub slower_than: Option<Duration>,
    /// Replace the query string by `?…`.
    pub redact_query: bool,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            format: AccessLogFormat::Json,
            path: None,
            sample_percent: 100,
            slower_than: None,
            redact_query: false,
        }
    }
}

/// The form of an access-log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogFormat {
    /// One JSON object with the field names of this product.
    Json,
    /// One JSON object in the Elastic Common Schema 9.
    Ecs,
    /// The NCSA combined format, followed by nothing.
    Combined,
    /// No access log.
    Off,
}

/// How the proxy stops after TERM or INT.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Drain {
    /// How long new connections are still accepted while `/ready` already fails.
    pub delay: Duration,
    /// How long requests in flight may take to end after that; then they are reset.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            delay: Duration::from_secs(5),
            timeout: Duration::from_secs(30),
        }
    }
}

/// An address and port that accepts connections. Listeners may share an address when their
/// hostnames differ.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Name that routes, logs and metrics use.
    pub name: Name,
    /// Address and port, for example `0.0.0.0:8080`, `[::]:8080` or `:8080` (the same as `0.0.0.0:8080`).
    pub address: Address,
    /// Only requests for this host: exact, or `*.example.com`. Absent: any host.
    #[serde(default)]
    pub hostname: Option<HostPattern>,
    /// The port that clients see, where it differs from the one in `address`; used in redirects.
    #[serde(default)]
    pub advertised_port: Option<u16>,
    /// The HTTP versions spoken. `http1` and `h2c` share the port.
    #[serde(default = "both_protocols")]
    pub protocols: Vec<ListenerProtocol>,
    /// Peers whose `x-forwarded-*` and `x-request-id` are believed.
    #[serde(default)]
    pub trusted_proxies: Vec<Cidr>,
    /// Bounds on what a client may send and hold.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// Bounds on how long a client may take.
    #[serde(default)]
    pub timeouts: ListenerTimeouts,
    /// Whether a client that has closed its sending side still gets its answer.
    #[serde(default = "yes")]
    pub half_close: bool,
}

fn both_protocols() -> Vec<ListenerProtocol> {
    vec![ListenerProtocol::Http1, ListenerProtocol::H2c]
}

fn yes() -> bool {
    true
}

/// An HTTP version on a listener without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ListenerProtocol {
    /// HTTP/1.0 and HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    H2c,
}

/// Bounds on what a client may send and hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Open connections. More wait in the kernel's queue.
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Requests in flight; more get 503 at once. Absent: no bound of its own.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
    /// Bytes of a request's head; more get 431.
    pub header_bytes: ByteSize,
    /// Fields of a request's head; more get 431.
    #[schemars(range(min = 1, max = 1000))]
    pub header_count: u16,
    /// Bytes of a request's target; more get 414.
    pub target_bytes: ByteSize,
    /// Bytes of a request's body; more get 413. Absent: no bound.
    pub body_bytes: Option<ByteSize>,
    /// Concurrent HTTP/2 streams of one connection.
    #[schemars(range(min = 1))]
    pub streams: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 65_536,
            requests: None,
            header_bytes: ByteSize(64 * 1024),
            header_count: 128,
            target_bytes: ByteSize(16 * 1024),
            body_bytes: None,
            streams: 128,
        }
    }
}

/// Bounds on how long a client may take. `0s` disables one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListenerTimeouts {
    /// From a request's first byte to the end of its head.
    pub header: Duration,
    /// Between two requests of a connection.
    pub idle: Duration,
    /// Between two pieces of a request's body.
    pub body: Duration,
}

impl Default for ListenerTimeouts {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(10),
            idle: Duration::from_secs(75),
            body: Duration::from_secs(30),
        }
    }
}

/// Hostnames and the rules for their requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Route {
    /// Name that logs and metrics use.
    pub name: Name,
    /// Names of the listeners it is attached to. Absent or empty: all.
    #[serde(default)]
    pub listeners: Vec<Name>,
    /// Hosts: exact, or `*.example.com`. Absent or empty: any.
    #[serde(default)]
    pub hostnames: Vec<HostPattern>,
    /// What happens to its requests.
    pub rules: Vec<Rule>,
}

/// Matches, filters and the backends behind them. The fields are the Gateway API's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Rule {
    /// Name within the route. Absent: its position, counted from 0.
    pub name: Option<Name>,
    /// Any of these must match. Absent or empty: every path.
    pub matches: Vec<Match>,
    /// Changes to request and response, in this order.
    pub filters: Vec<Filter>,
    /// Where requests go, by weight.
    pub backend_refs: Vec<BackendRef>,
    /// How the choice among the backendRefs is made.
    pub split: Split,
    /// Bounds on the exchange.
    pub timeouts: RuleTimeouts,
}

/// All given fields must match.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Match {
    /// The path. Absent: prefix `/`.
    pub path: Option<PathMatch>,
    /// The method, in capitals.
    pub method: Option<MethodName>,
    /// Header fields; of two entries with one name only the first counts.
    pub headers: Vec<FieldMatch>,
    /// Query parameters; of two entries with one name only the first counts.
    pub query_params: Vec<QueryParamMatch>,
}

/// How a path is compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathMatch {
    /// The kind of comparison.
    #[serde(default, rename = "type")]
    pub kind: PathMatchType,
    /// The path, prefix or expression; begins with `/` unless it is an expression.
    #[serde(default = "root_path")]
    pub value: String,
}

fn root_path() -> String {
    "/".to_owned()
}

/// The kind of path comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathMatchType {
    /// Byte for byte.
    Exact,
    /// By whole segments; `/a` matches `/a` and `/a/b`, not `/ab`.
    #[default]
    PathPrefix,
    /// RE2-style, anchored at both ends; ranks between `Exact` and `PathPrefix`.
    RegularExpression,
}

/// The kind of header or query comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValueMatchType {
    /// Byte for byte.
    #[default]
    Exact,
    /// RE2-style, anchored at both ends.
    RegularExpression,
}

/// A header field to match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FieldMatch {
    /// The kind of comparison.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// Field name; case does not matter.
    pub name: FieldName,
    /// Value or expression.
    pub value: String,
}

/// A query parameter to match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryParamMatch {
    /// The kind of comparison.
    #[serde(default, rename = "type")]
    pub kind: ValueMatchType,
    /// Parameter name; case matters.
    pub name: String,
    /// Value or expression; of a repeated parameter the first value counts.
    pub value: String,
}

/// One change. `type` names the one other field that is set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Filter {
    /// The kind of filter.
    #[serde(rename = "type")]
    pub kind: FilterType,
    /// For `RequestHeaderModifier`.
    #[serde(default)]
    pub request_header_modifier: Option<HeaderModifier>,
    /// For `ResponseHeaderModifier`.
    #[serde(default)]
    pub response_header_modifier: Option<HeaderModifier>,
    /// For `RequestRedirect`.
    #[serde(default)]
    pub request_redirect: Option<RequestRedirect>,
    /// For `URLRewrite`.
    #[serde(default)]
    pub url_rewrite: Option<UrlRewrite>,
    /// For `DirectResponse`.
    #[serde(default)]
    pub direct_response: Option<DirectResponse>,
}

/// The kind of filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum FilterType {
    /// Changes header fields of the request.
    RequestHeaderModifier,
    /// Changes header fields of the response.
    ResponseHeaderModifier,
    /// Answers with a redirect.
    RequestRedirect,
    /// Changes host or path of the request.
    #[serde(rename = "URLRewrite")]
    UrlRewrite,
    /// Answers without a backend.
    DirectResponse,
}

/// Changes to header fields, in the order set, add, remove. A name may stand in one list only.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HeaderModifier {
    /// Overwrite or create.
    pub set: Vec<Field>,
    /// Append a field line.
    pub add: Vec<Field>,
    /// Remove every line of that name.
    pub remove: Vec<FieldName>,
}

/// A header field.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Field {
    /// Field name.
    pub name: FieldName,
    /// Field value.
    pub value: FieldValue,
}

/// A redirect; what is absent is taken from the request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RequestRedirect {
    /// `http` or `https`.
    pub scheme: Option<RedirectScheme>,
    /// Host without port, no wildcard.
    pub hostname: Option<HostPattern>,
    /// The path.
    pub path: Option<PathModifier>,
    /// The port.
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// 301, 302 (when absent), 303, 307 or 308.
    pub status_code: Option<u16>,
}

/// Scheme of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RedirectScheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

/// A change of path.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PathModifier {
    /// The kind of change.
    #[serde(rename = "type")]
    pub kind: PathModifierType,
    /// For `ReplaceFullPath`.
    #[serde(default)]
    pub replace_full_path: Option<String>,
    /// For `ReplacePrefixMatch`; only with `PathPrefix` matches.
    #[serde(default)]
    pub replace_prefix_match: Option<String>,
}

/// The kind of path change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum PathModifierType {
    /// The whole path.
    ReplaceFullPath,
    /// The part that the prefix matched.
    ReplacePrefixMatch,
}

/// A change of host or path before the request goes on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct UrlRewrite {
    /// The new host, no wildcard.
    pub hostname: Option<HostPattern>,
    /// The new path.
    pub path: Option<PathModifier>,
}

/// An answer without a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectResponse {
    /// Status code, 200 to 599.
    pub status: StatusCode,
    /// The body.
    #[serde(default)]
    pub body: Option<String>,
    /// Header fields, for example `content-type`.
    #[serde(default)]
    pub headers: Vec<Field>,
}

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
}

/// One version of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Name that backendRefs, logs and metrics use.
    pub name: Name,
    /// Its addresses. Empty: the backend is known and has no endpoint, which answers 503.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// The HTTP version spoken to the endpoints.
    #[serde(default)]
    pub protocol: BackendProtocol,
    /// How a request's endpoint is chosen.
    #[serde(default)]
    pub load_balancing: LoadBalancing,
    /// Bounds on what goes to this backend at once.
    #[serde(default)]
    pub limits: BackendLimits,
    /// The connections kept for later requests.
    #[serde(default)]
    pub pool: Pool,
    /// How long connecting may take.
    #[serde(default = "one_second")]
    pub connect_timeout: Duration,
    /// Labels for people; shown by the admin API, used by nothing.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

/// One address of a backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Endpoint {
    /// Address and port. A name is looked up once, when the configuration is loaded.
    pub address: EndpointAddress,
}

/// The HTTP version spoken to a backend without TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge.
    H2c,
}

/// How a request's endpoint is chosen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancing {
    /// The policy.
    pub policy: LoadBalancingPolicy,
}

/// A load-balancing policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancingPolicy {
    /// One after the other.
    RoundRobin,
    /// The less busy of two drawn at random.
    #[default]
    LeastRequest,
}

/// Bounds on what goes to a backend at once, over all workers. Beyond one: 503 at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackendLimits {
    /// Open connections.
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Requests in flight. Absent: no bound of its own.
    #[schemars(range(min = 1))]
    pub requests: Option<u32>,
}

impl Default for BackendLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            requests: None,
        }
    }
}

/// The connections kept for later requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Pool {
    /// How long an unused connection is kept. Keep it below the endpoints' own limit.
    pub idle_timeout: Duration,
    /// How long a connection is used at most. `0s`: for ever.
    pub max_age: Duration,
    /// Unused connections kept for one endpoint by one worker.
    pub max_idle: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(55),
            max_age: Duration::from_secs(3600),
            max_idle: 256,
        }
    }
}
