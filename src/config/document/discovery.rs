//! Where endpoints are, when the configuration does not list them.
//!
//! Owns these objects of the file and their defaults. Must not know how they are read or compiled.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::backend::Endpoint;
use crate::config::values::{Duration, EndpointAddress, HostPattern};

/// Asking DNS where the endpoints are, again and again. While there is no good answer, the last good one
/// counts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// The name. Under TLS also the one that endpoints must have a certificate for, unless `serverName`
    /// is set; without its parts that begin with `_`.
    pub name: HostPattern,
    /// The port of every endpoint. Absent: as the records say, which only `srv` do.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Which records are asked for.
    #[serde(default)]
    pub records: DnsRecords,
    /// What becomes of the endpoints when there are no records, or no such name.
    #[serde(default)]
    pub on_empty: OnEmpty,
    /// The name is asked for again after the time to live of its records, or of the answer that there are
    /// none, but not sooner than this. Also the wait after a failure, which doubles with each further one.
    #[serde(default = "one_second")]
    pub min_ttl: Duration,
    /// Nor later than this.
    #[serde(default = "five_minutes")]
    pub max_ttl: Duration,
    /// How long an answer may take, with everything that it needs.
    #[serde(default = "two_seconds")]
    pub timeout: Duration,
    /// Who is asked: addresses and ports, the first ones first. Absent: as in /etc/resolv.conf, its search list
    /// and /etc/hosts included.
    #[serde(default)]
    pub resolvers: Vec<EndpointAddress>,
}

/// Records of DNS that tell where endpoints are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum DnsRecords {
    /// Addresses, IPv4 and IPv6 (A and AAAA).
    #[default]
    Addresses,
    /// IPv4 addresses (A).
    Ipv4,
    /// IPv6 addresses (AAAA).
    Ipv6,
    /// Names with port, priority and weight, and their addresses (SRV, A and AAAA). A weight of 0 counts
    /// as 1.
    Srv,
}

/// What becomes of the endpoints when DNS says that there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnEmpty {
    /// The last ones are kept.
    #[default]
    Keep,
    /// They are removed, so that the backend has none.
    Remove,
}

/// A file of endpoints. Its list takes the place of the one before; a file that is missing, empty or
/// wrong changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EndpointsFile {
    /// As in a backend, but by address, not by name.
    pub endpoints: Vec<Endpoint>,
}

fn one_second() -> Duration {
    Duration::from_secs(1)
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

fn five_minutes() -> Duration {
    Duration::from_secs(300)
}
