//! A new connection to an endpoint, TLS included, within a deadline.
//!
//! Must not know what is sent over it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::tls::client::Originator;
use crate::tls::stream::{Fault, Stream};

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
    /// The TCP connection stands, but the endpoint is not believed, does not believe us, or does not
    /// speak TLS.
    #[error("no TLS with {address}: {source}")]
    Tls {
        address: SocketAddr,
        source: io::Error,
    },
    /// TLS stands, but the endpoint did not agree to HTTP/2.
    #[error("{address} did not choose h2 (ALPN)")]
    NoHttp2 { address: SocketAddr },
    /// The connection stands, but HTTP did not begin.
    #[error("no HTTP with {address}: {source}")]
    Handshake {
        address: SocketAddr,
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The backend has its limit of connections, and of requests that wait for one.
    #[error("the limit of {limit} connections is reached, and enough requests wait for one")]
    Limit { limit: u32 },
    /// None of the connections became free.
    #[error("the limit of {limit} connections is reached; none was free within {waited:?}")]
    Waited { limit: u32, waited: Duration },
}

impl ConnectError {
    /// TLS with the endpoint failed, in the handshake or after it.
    pub(crate) fn tls(
        address: SocketAddr,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        let source = io::Error::other(source);
        Self::Tls { address, source }.told()
    }

    /// Logs it. The client learns no more than the reason; operators need to know what to repair.
    pub(crate) fn told(self) -> Self {
        tracing::info!("{self}");
        self
    }
}

/// Connects, and sends `preface` before anything else. A zero `limit` means no deadline but the
/// kernel's. With `http1`, nothing else is offered.
pub(crate) async fn connect(
    address: SocketAddr,
    preface: &[u8],
    tls: Option<&Originator>,
    http1: bool,
    limit: Duration,
) -> Result<Stream, ConnectError> {
    let attempt = async {
        let tcp = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if !preface.is_empty() {
                stream.write_all(preface).await?;
            }
            Ok(stream)
        };
        let stream = tcp
            .await
            .map_err(|source| ConnectError::Failed { address, source })?;
        let Some(tls) = tls else {
            return Ok(Stream::Plain(stream));
        };
        let stream = tls.connect(stream, address, http1).await;
        stream
            .map(|stream| Stream::Tls(Box::new(stream), Some(Fault::default())))
            .map_err(|source| ConnectError::tls(address, source))
    };
    if limit.is_zero() {
        return attempt.await;
    }
    match tokio::time::timeout(limit, attempt).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::Timeout { address, limit }),
    }
}
