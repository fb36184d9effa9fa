//! TLS of listeners and backends: certificates, who is believed, who is let in.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::values::{Duration, IdentityPattern, ServerName};

/// TLS of a listener. Its files are watched: what is replaced is used by new connections at once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates with their keys. The first whose names and key type suit the client is shown;
    /// where no name does, the first whose key type does.
    pub certificates: Vec<KeyPair>,
    /// The oldest version of TLS that a client may speak.
    #[serde(default)]
    pub min_version: TlsVersion,
    /// What is asked of the client's certificate. Absent: none is asked for.
    #[serde(default)]
    pub client_validation: Option<ClientValidation>,
    /// How long a handshake may take, waiting for its turn included.
    #[serde(default = "ten_seconds")]
    pub handshake_timeout: Duration,
    /// Handshakes in flight; more wait for their turn.
    #[serde(default = "many_handshakes")]
    #[schemars(range(min = 1))]
    pub max_handshakes: u32,
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn many_handshakes() -> u32 {
    1024
}

/// A certificate with its chain, and its private key. PEM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyPair {
    /// File with the certificate, then those that issued it.
    pub certificate: PathBuf,
    /// File with the key. Absent: it is in the file of the certificate.
    #[serde(default)]
    pub key: Option<PathBuf>,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "1.3")]
    Tls13,
}

/// What is asked of the client's certificate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClientValidation {
    /// Whether a client must have one.
    #[serde(default)]
    pub mode: ClientValidationMode,
    /// File with the certificates of the authorities that are believed. PEM.
    #[serde(default)]
    pub ca: Option<PathBuf>,
    /// Files with lists of revoked certificates. PEM. With any, a certificate whose issuer has no
    /// list, or only an expired one, is refused.
    #[serde(default)]
    pub crls: Vec<PathBuf>,
    /// Who is let in: a URI such as `spiffe://shop.example/ns/*/sa/frontend`, where `*` stands for
    /// one segment; a DNS name, also `*.example.com`; or `subject:` and a subject. Empty: whoever
    /// has a certificate of an authority that is believed.
    #[serde(default)]
    pub allowed_identities: Vec<IdentityPattern>,
}

/// Whether a client must have a certificate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClientValidationMode {
    /// Without a good one there is no connection.
    #[default]
    Require,
    /// It is asked for; a client may have none, but not a bad one.
    Optional,
    /// It is not asked for.
    None,
}

/// TLS to the endpoints of a backend. Its files are watched.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BackendTls {
    /// File with the certificates of the authorities that are believed. PEM. Absent: those of the
    /// system, or where it has none, Mozilla's as of the build.
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI) and that the endpoint's certificate must have. Absent: the
    /// host of the endpoint's address.
    pub server_name: Option<ServerName>,
    /// Identities of which the endpoint's certificate must have one, in place of `serverName`.
    pub subject_alt_names: Vec<IdentityPattern>,
    /// Our own certificate, for endpoints that ask for one.
    pub client_certificate: Option<KeyPair>,
    /// Files with lists of revoked certificates. PEM. As in `clientValidation`.
    pub crls: Vec<PathBuf>,
    /// The oldest version of TLS that is spoken.
    pub min_version: TlsVersion,
}
