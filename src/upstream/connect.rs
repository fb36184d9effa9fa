//! A new connection to an endpoint, within a deadline.
//!
//! Must not know what is sent over it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// Refused, unreachable, reset.
    #[error("cannot connect to {address}: {source}")]
    Failed {
        address: SocketAddr,
        source: io::Error,
    },
    /// Nothing came back in time.
    #[error("connecting to {address} took longer than {limit:?}")]
    Timeout {
        address: SocketAddr,
        limit: Duration,
    },
    /// The TCP connection stands, but HTTP did not begin.
    #[error("no HTTP with {address}: {source}")]
    Handshake {
        address: SocketAddr,
        source: hyper::Error,
    },
    /// The backend has its limit of connections.
    #[error("the limit of {limit} connections is reached")]
    Limit { limit: u32 },
}

/// Connects. A zero `limit` means no deadline but the kernel's.
pub(crate) async fn connect(
    address: SocketAddr,
    limit: Duration,
) -> Result<TcpStream, ConnectError> {
    let attempt = async {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    };
    let failed = |source| ConnectError::Failed { address, source };
    if limit.is_zero() {
        return attempt.await.map_err(failed);
    }
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result.map_err(failed),
        Err(_) => Err(ConnectError::Timeout { address, limit }),
    }
}
