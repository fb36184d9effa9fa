//! The rollout `pay` of a running proxy, over its admin API.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use serde_json::Value;

#[derive(Debug)]
pub(super) struct Admin {
    at: SocketAddr,
}

impl Admin {
    pub(super) fn new(at: SocketAddr) -> Self {
        Self { at }
    }

    pub(super) async fn post(&self, verb: &str) -> anyhow::Result<()> {
        self.ask(Method::POST, &format!("/{verb}")).await.map(drop)
    }

    /// Waits for a phase; returns it.
    pub(super) async fn until(
        &self,
        wanted: impl Fn(&str) -> bool,
        seconds: f64,
    ) -> anyhow::Result<String> {
        let began = Instant::now();
        loop {
            let now = self.ask(Method::GET, "").await?;
            let phase = now["phase"].as_str().context("no phase")?;
            if wanted(phase) {
                return Ok(phase.to_owned());
            }
            if began.elapsed().as_secs_f64() > seconds {
                bail!("still in {phase} after {seconds} s");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// When the last decision was made, in seconds of the wall clock.
    pub(super) async fn decided(&self) -> anyhow::Result<f64> {
        let now = self.ask(Method::GET, "").await?;
        let at = now["last"]["at"].as_str().context("nothing was decided")?;
        let at: jiff::Timestamp = at.parse()?;
        Ok(at.as_millisecond() as f64 / 1e3)
    }

    async fn ask(&self, method: Method, rest: &str) -> anyhow::Result<Value> {
        let stream = tokio::net::TcpStream::connect(self.at).await?;
        let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let (mut sender, connection) = made;
        let driver = tokio::task::spawn_local(connection);
        let request = Request::builder()
            .method(method)
            .uri(format!("/api/v1/rollouts/pay{rest}"))
            .header("host", "localhost")
            .header("connection", "close")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        driver.abort();
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
