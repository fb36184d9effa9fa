//! The header of the PROXY protocol off a socket, before anything else is read.
//!
//! Owns who must send one and how long it may take. Must not know what a header looks like; that is
//! [`crate::proxy_protocol`].

use std::io;
use std::net::SocketAddr;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::proxy_protocol::{Addresses, Header, Malformed, Version, decode};
use crate::snapshot::port::ProxyProtocol;
use crate::telemetry::proxy_protocol::ProxyProtocolResult;

/// Looked at in one go. Most headers are shorter.
const LOOK: usize = 256;

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
#[error("{}: {detail}", result.as_str())]
pub(crate) struct Refused {
    result: ProxyProtocolResult,
    detail: String,
}

impl Refused {
    /// A probe that connects and leaves is nothing to tell an operator of.
    pub(crate) fn log(&self, peer: SocketAddr, address: SocketAddr) {
        if self.result == ProxyProtocolResult::Closed {
            tracing::debug!(%peer, %address, "no PROXY header: {self}");
        } else {
            tracing::info!(%peer, %address, "no PROXY header: {self}");
        }
    }

    fn new(result: ProxyProtocolResult, detail: impl ToString) -> Self {
        Self {
            result,
            detail: detail.to_string(),
        }
    }
}

/// What the header says of the connection's ends; `None` where the socket's own addresses count.
///
/// # Errors
/// See [`ProxyProtocolResult`]; it is counted already.
pub(crate) async fn read(
    stream: &mut TcpStream,
    peer: SocketAddr,
    expected: &ProxyProtocol,
) -> Result<Option<Addresses>, Refused> {
    let ip = peer.ip().to_canonical();
    let trusted = expected.trusted.as_ref();
    if trusted.is_some_and(|nets| !nets.iter().any(|net| net.contains(&ip))) {
        expected.metrics.began(ProxyProtocolResult::Untrusted);
        return Ok(None);
    }
    let result = if expected.deadline.is_zero() {
        header(stream).await
    } else {
        match tokio::time::timeout(expected.deadline, header(stream)).await {
            Ok(result) => result,
            Err(_) => Err(Refused::new(
                ProxyProtocolResult::Timeout,
                format_args!("not there after {:?}", expected.deadline),
            )),
        }
    };
    expected.metrics.began(match &result {
        Ok(header) => match (header.addresses, header.version) {
            (None, _) => ProxyProtocolResult::Own,
            (Some(_), Version::V1) => ProxyProtocolResult::V1,
            (Some(_), Version::V2) => ProxyProtocolResult::V2,
        },
        Err(refused) => refused.result,
    });
    result.map(|header| header.addresses)
}

/// Takes the header and not one byte more: what follows is for TLS or HTTP, which look at the socket
/// themselves. So bytes are looked at first, and those that belong to the header are taken.
async fn header(stream: &mut TcpStream) -> Result<Header, Refused> {
    let mut bytes = Vec::with_capacity(LOOK);
    loop {
        let taken = bytes.len();
        bytes.resize(taken + LOOK, 0);
        let seen = match stream.peek(&mut bytes[taken..]).await {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        bytes.truncate(taken + seen.map_err(closed)?);
        let header = decode(&bytes).map_err(malformed)?;
        let whole = header.map_or(bytes.len(), |header| header.length);
        stream
            .read_exact(&mut bytes[taken..whole])
            .await
            .map_err(closed)?;
        if let Some(header) = header {
            return Ok(header);
        }
    }
}

fn closed(error: io::Error) -> Refused {
    Refused::new(ProxyProtocolResult::Closed, error)
}

fn malformed(why: Malformed) -> Refused {
    let result = match why {
        Malformed::Missing => ProxyProtocolResult::Missing,
        Malformed::Syntax => ProxyProtocolResult::Malformed,
        Malformed::TooLong => ProxyProtocolResult::TooLong,
        Malformed::Checksum => ProxyProtocolResult::Checksum,
    };
    Refused::new(result, why)
}
