//! A GET to the admin API of a running proxy.
//!
//! Must not know what is asked for.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;

use super::run::control_runtime;

/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Status and body of a page.
///
/// # Errors
/// When nobody answers there, or not in time.
pub(super) fn get(admin: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    control_runtime()?.block_on(ask(admin, path))
}

/// The same, from within a local runtime.
pub(super) async fn ask(admin: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    match tokio::time::timeout(TIMEOUT, exchange(admin, path)).await {
        Ok(result) => result,
        Err(_) => bail!("no answer from {admin} within {TIMEOUT:?}"),
    }
}

async fn exchange(admin: SocketAddr, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
    let stream = tokio::net::TcpStream::connect(admin)
        .await
        .with_context(|| {
            format!("no proxy answers at {admin}; give its admin address with --admin")
        })?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::task::spawn_local(connection);
    let request = Request::get(path)
        .header(http::header::HOST, admin.to_string())
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    driver.abort();
    Ok((status, body))
}
