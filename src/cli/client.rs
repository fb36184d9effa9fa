//! A request to the admin API of a running proxy.
//!
//! Must not know what is asked for.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use super::run::control_runtime;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the admin API of a proxy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    Tcp(SocketAddr),
    /// Written `unix:` and a path.
    Unix(PathBuf),
}

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some("") => Err("the path of the socket is missing".to_owned()),
            Some(path) => Ok(Self::Unix(path.into())),
            None => text.parse().map(Self::Tcp).map_err(|_| {
                "expected an address such as 127.0.0.1:14490, or unix:/path".to_owned()
            }),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Status and body of a page.
///
/// # Errors
/// When nobody answers there, or not in time.
pub(super) fn get(admin: &AdminAddress, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    control_runtime()?.block_on(ask(admin, path))
}

/// Status and body of the answer to a command.
///
/// # Errors
/// When nobody answers there, or not in time.
pub(super) fn post(
    admin: &AdminAddress,
    path: &str,
    token: Option<&str>,
    body: String,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let mut request = Request::post(path).header(CONTENT_TYPE, "application/json");
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::from(body))?;
    control_runtime()?.block_on(bounded(admin, request))
}

/// The same, from within a local runtime.
pub(super) async fn ask(admin: &AdminAddress, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    bounded(admin, Request::get(path).body(Full::default())?).await
}

async fn bounded(
    admin: &AdminAddress,
    request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    match tokio::time::timeout(TIMEOUT, exchange(admin, request)).await {
        Ok(result) => result,
        Err(_) => bail!("no answer from {admin} within {TIMEOUT:?}"),
    }
}

async fn exchange(
    admin: &AdminAddress,
    mut request: Request<Full<Bytes>>,
) -> anyhow::Result<(StatusCode, Bytes)> {
    let (stream, host) = match admin {
        AdminAddress::Tcp(address) => (
            TcpStream::connect(address).await.map(Either::Left),
            address.to_string(),
        ),
        AdminAddress::Unix(path) => (
            UnixStream::connect(path).await.map(Either::Right),
            "localhost".to_owned(),
        ),
    };
    let stream = stream.with_context(|| {
        format!("no proxy answers at {admin}; give its admin address with --admin")
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::task::spawn_local(connection);
    request.headers_mut().insert(HOST, host.try_into()?);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
