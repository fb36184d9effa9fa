//! The PROXY protocol, versions 1 and 2: what a header says, and a header that says it.
//!
//! Pure. Owns how much of a stream is the header, and what of it is believed. Must not know sockets
//! or who may send one. Sections are those of HAProxy's proxy-protocol.txt.
//!
//! The crate `proxy-header` reads the addresses and writes headers. It cannot tell a header that is
//! not whole yet from one whose length leaves no room for its addresses, reads the family of a LOCAL
//! header, which is to be ignored, and checks no checksum; so extent, command and fields are read
//! here.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};
use proxy_header::{ParseConfig, Protocol, ProxiedAddress, ProxyHeader};

/// Most bytes of a header of version 1, line end included (2.1).
pub const V1_BYTES: usize = 107;

/// Most bytes of a header of version 2, its fields included. The protocol itself would allow
/// 65,551; a header with every field of 2.2 and a client's certificate is shorter than this.
pub const V2_BYTES: usize = 4096;

const V1_BEGIN: &[u8] = b"PROXY ";
const V2_BEGIN: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, the command, the family and the length.
const V2_FIXED: usize = 16;

/// CRC32c (RFC 9260, appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary, with fields of further facts.
    V2,
}

/// The two ends of the connection that a header speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// Where the client connected to.
    pub destination: SocketAddr,
}

/// A header that is whole and well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub version: Version,
    /// `None` where it speaks of no TCP connection (LOCAL, UNKNOWN, AF_UNIX, datagrams): then the
    /// socket's own addresses count.
    pub addresses: Option<Addresses>,
    /// In bytes. What follows belongs to the connection.
    pub length: usize,
}

/// Why what came is not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It does not begin like one of either version.
    #[error("what came is not a PROXY header")]
    Missing,
    /// It begins like one and is not formed like one.
    #[error("the PROXY header is malformed")]
    Syntax,
    /// It is longer than [`V1_BYTES`] or [`V2_BYTES`].
    #[error("the PROXY header is too long")]
    TooLong,
    /// The checksum that it carries is that of another header.
    #[error("the PROXY header's checksum is wrong")]
    Checksum,
}

/// Reads a header off the beginning of `bytes`. `None`: all of `bytes` belongs to the header, and
/// there is more to come.
///
/// # Errors
/// As early as the bytes show that no header will come of them.
pub fn decode(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let begins = |signature: &[u8]| {
        let shown = bytes.len().min(signature.len());
        bytes[..shown] == signature[..shown]
    };
    if begins(V1_BEGIN) {
        decode_v1(bytes)
    } else if begins(V2_BEGIN) {
        decode_v2(bytes)
    } else {
        Err(Malformed::Missing)
    }
}

/// A header. Without addresses it says that the connection is the sender's own.
#[must_use]
pub fn encode(version: Version, addresses: Option<&Addresses>) -> Vec<u8> {
    let header = addresses.map_or_else(ProxyHeader::with_local, |of| {
        let (source, destination) = of.of_one_family();
        ProxyHeader::with_address(ProxiedAddress::stream(source, destination))
    });
    let mut bytes = Vec::with_capacity(V1_BYTES);
    let encoded = match version {
        Version::V1 => header.encode_v1(&mut bytes),
        Version::V2 => header.encode_v2(&mut bytes),
    };
    encoded.expect("a header of two addresses of one family and without fields has a form");
    bytes
}

fn decode_v1(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let most = &bytes[..bytes.len().min(V1_BYTES)];
    let Some(end) = most.iter().position(|byte| *byte == b'\n') else {
        return match most.len() {
            V1_BYTES => Err(Malformed::TooLong),
            _ => Ok(None),
        };
    };
    let line = &most[..=end];
    let rest = &line[V1_BEGIN.len().min(line.len())..];
    if let Some(unknown) = rest.strip_prefix(b"UNKNOWN") {
        // Whatever else the line says is to be ignored (2.1).
        let well_formed = unknown.ends_with(b"\r\n") && matches!(unknown[0], b'\r' | b' ');
        return if well_formed {
            Ok(Some(Header::new(Version::V1, None, line.len())))
        } else {
            Err(Malformed::Syntax)
        };
    }
    // The library takes a sign before a port for a part of it.
    if line.contains(&b'+') {
        return Err(Malformed::Syntax);
    }
    let (header, length) =
        ProxyHeader::parse(line, ParseConfig::default()).map_err(|_| Malformed::Syntax)?;
    if length != line.len() {
        return Err(Malformed::Syntax);
    }
    Ok(Some(Header::new(
        Version::V1,
        header.proxied_address(),
        length,
    )))
}

fn decode_v2(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some(fixed) = bytes.get(..V2_FIXED) else {
        return Ok(None);
    };
    let local = match fixed[12] {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Syntax),
    };
    let length = V2_FIXED + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if length > V2_BYTES {
        return Err(Malformed::TooLong);
    }
    let Some(whole) = bytes.get(..length) else {
        return Ok(None);
    };
    if local {
        // All that follows is to be skipped, the family included (2.2).
        return Ok(Some(Header::new(Version::V2, None, length)));
    }
    let (header, _) =
        ProxyHeader::parse(whole, ParseConfig::default()).map_err(|_| Malformed::Syntax)?;
    let addresses = match fixed[13] >> 4 {
        0 => 0,
        1 => 12,
        2 => 36,
        _ => 216,
    };
    check_fields(whole, V2_FIXED + addresses)?;
    Ok(Some(Header::new(
        Version::V2,
        header.proxied_address(),
        length,
    )))
}

/// Walks the fields that begin at `at`, and compares the checksum where there is one (2.2.3).
fn check_fields(header: &[u8], mut at: usize) -> Result<(), Malformed> {
    const CHECKSUM: u8 = 0x03;
    let mut checksum = None;
    while at < header.len() {
        let Some(&[kind, high, low]) = header.get(at..at + 3) else {
            return Err(Malformed::Syntax);
        };
        let value = at + 3;
        at = value + usize::from(u16::from_be_bytes([high, low]));
        let Some(bytes) = header.get(value..at) else {
            return Err(Malformed::Syntax);
        };
        if kind == CHECKSUM {
            let told: [u8; 4] = bytes.try_into().map_err(|_| Malformed::Syntax)?;
            if checksum
                .replace((value, u32::from_be_bytes(told)))
                .is_some()
            {
                return Err(Malformed::Syntax);
            }
        }
    }
    let Some((place, told)) = checksum else {
        return Ok(());
    };
    // It is that of the header with zeros in its own place.
    let mut digest = CRC32C.digest();
    digest.update(&header[..place]);
    digest.update(&[0; 4]);
    digest.update(&header[place + 4..]);
    if digest.finalize() == told {
        Ok(())
    } else {
        Err(Malformed::Checksum)
    }
}

impl Header {
    fn new(version: Version, told: Option<&ProxiedAddress>, length: usize) -> Self {
        let told = told.filter(|told| told.protocol == Protocol::Stream);
        Self {
            version,
            addresses: told.map(|told| Addresses {
                source: told.source,
                destination: told.destination,
            }),
            length,
        }
    }
}

impl Addresses {
    /// A header has one family for both. IPv4 that goes with IPv6 is written as a part of that
    /// (RFC 4291, 2.5.5.2), and read as IPv4 again.
    fn of_one_family(&self) -> (SocketAddr, SocketAddr) {
        let (source, destination) = (canonical(self.source), canonical(self.destination));
        if source.is_ipv4() == destination.is_ipv4() {
            (source, destination)
        } else {
            (mapped(source), mapped(destination))
        }
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn mapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::V6(ip.to_ipv6_mapped()),
        IpAddr::V6(ip) => IpAddr::V6(ip),
    };
    SocketAddr::new(ip, address.port())
}
