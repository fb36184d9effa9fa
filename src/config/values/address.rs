//! Hosts and addresses: what is listened on, connected to, matched and trusted.
//!
//! Owns their written form. Must not know how names are looked up.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Text, ValueError, refuse};

/// A host, or all hosts below one. Lower case; an IPv6 literal stands in brackets, as in `Host`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host only.
    Exact(String),
    /// One or more labels to the left of this suffix, which is without `*.`; never the suffix itself.
    Wildcard(String),
}

impl FromStr for HostPattern {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |why: &str| refuse(text, "a host name", why);
        if text == "*" {
            return Err(refused("leave the field out to mean any host"));
        }
        let lower = text.to_ascii_lowercase();
        if let Some(suffix) = lower.strip_prefix("*.") {
            dns_name(suffix).map_err(|why| refused(&why))?;
            if suffix.parse::<Ipv4Addr>().is_ok() {
                return Err(refused("an address has no names below it"));
            }
            return Ok(Self::Wildcard(suffix.to_owned()));
        }
        let bare = lower
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(&lower).parse::<Ipv6Addr>() {
            return Ok(Self::Exact(format!("[{address}]")));
        }
        dns_name(&lower).map_err(|why| refused(&why))?;
        Ok(Self::Exact(lower))
    }
}

/// Whether `name` (lower case) can stand in DNS (RFC 1123, 2.1; `_` is added because it is in use).
pub(super) fn dns_name(name: &str) -> Result<(), String> {
    if let Some((_, rest)) = name.split_once("://") {
        return Err(format!(
            "leave the scheme out: `{}`",
            rest.split(['/', ':']).next().unwrap_or("")
        ));
    }
    if let Some((host, port)) = name.rsplit_once(':')
        && !port.is_empty()
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(format!("a host is matched without its port: `{host}`"));
    }
    if name.contains('*') {
        return Err(
            "`*` stands for whole labels at the left only, for example `*.example.com`".to_owned(),
        );
    }
    if name.ends_with('.') && name.len() > 1 {
        return Err(format!(
            "leave the last dot out: `{}`",
            name.trim_end_matches('.')
        ));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(
            "expected a DNS name or an address, for example `shop.example.com`, `*.example.com` or `[::1]`"
                .to_owned(),
        );
    }
    let number = name
        .rsplit('.')
        .next()
        .is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if number && name.parse::<Ipv4Addr>().is_err() {
        return Err("its last label is a number, yet it is no IPv4 address".to_owned());
    }
    Ok(())
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
        }
    }
}

written_as_text!(HostPattern, "a host name without port, or `*.` and a host name", {
    "minLength": 1, "maxLength": 255, "examples": ["shop.example.com", "*.example.com"]
});

/// An address and port to listen on. `:8080` means `0.0.0.0:8080` (every IPv4 address; write
/// `[::]:8080` for IPv6) and `localhost:8080` means `127.0.0.1:8080`. Port 0: any free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(SocketAddr);

impl Address {
    /// 127.0.0.1 with this port.
    pub const fn loopback(port: u16) -> Self {
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    }

    /// As the standard library's type.
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if let Ok(address) = text.parse() {
            return Ok(Self(address));
        }
        let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
        match (host, port.parse()) {
            ("", Ok(port)) => {
                return Ok(Self(SocketAddr::new(
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                    port,
                )));
            }
            ("localhost", Ok(port)) => return Ok(Self::loopback(port)),
            _ => {}
        }
        let why = if text.parse::<u16>().is_ok() {
            format!("put a colon before the port: `:{text}`")
        } else {
            "expected an IP address and a port up to 65535, for example `0.0.0.0:8080`, `[::]:8080` or `:8080`"
                .to_owned()
        };
        Err(refuse(text, "an address to listen on", &why))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written_as_text!(Address, "an IP address and port to listen on; `:8080` is `0.0.0.0:8080`", {
    "pattern": ":[0-9]{1,5}$", "examples": ["0.0.0.0:8080", "[::]:8080", ":8080", "127.0.0.1:14490"]
});

/// Address and port of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// An IP address.
    Socket(SocketAddr),
    /// A name to look up.
    Name {
        /// Lower-case DNS name.
        host: String,
        /// Never 0.
        port: u16,
    },
}

impl EndpointAddress {
    /// `None` for a name.
    pub const fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Name { .. } => None,
        }
    }
}

impl FromStr for EndpointAddress {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let refused = |why: &str| refuse(text, "an endpoint's address", why);
        if text.contains("://") {
            return Err(refused(
                "leave the scheme out; `protocol` of the backend says what is spoken",
            ));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(refused("its port is missing, for example `10.0.0.11:8080`"));
        };
        let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
            return Err(refused(
                "expected a port from 1 to 65535 at its end, for example `10.0.0.11:8080`",
            ));
        };
        if let Ok(address) = text.parse() {
            return Ok(Self::Socket(address));
        }
        if host.is_empty() {
            return Err(refused("its host is missing, for example `127.0.0.1:8080`"));
        }
        if host.parse::<Ipv6Addr>().is_ok() {
            return Err(refused(
                "an IPv6 address stands in brackets, for example `[::1]:8080`",
            ));
        }
        let host = host.to_ascii_lowercase();
        dns_name(&host).map_err(|why| refused(&why))?;
        Ok(Self::Name { host, port })
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

written_as_text!(EndpointAddress, "an IP address or host name, and a port", {
    "pattern": "^[^/]+:[0-9]{1,5}$", "examples": ["10.0.0.11:8080", "[fd00::1]:8080", "shop.internal:8080"]
});

/// A range of addresses. An address alone is the range of just that one; host bits are cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(ipnet::IpNet);

impl Cidr {
    /// As the library's type.
    pub const fn get(self) -> ipnet::IpNet {
        self.0
    }

    /// Whether the address is in the range.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }
}

impl FromStr for Cidr {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let alone = text.parse::<IpAddr>().map(ipnet::IpNet::from).ok();
        alone
            .or_else(|| text.parse::<ipnet::IpNet>().ok())
            .map(|net| Self(net.trunc()))
            .ok_or_else(|| {
                refuse(
                    text,
                    "a range of addresses",
                    "expected for example `10.0.0.0/8`, `fd00::/8` or `192.0.2.7`",
                )
            })
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

written_as_text!(Cidr, "a range of addresses: an IP address, or one with `/` and the length of its prefix", {
    "examples": ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
});
