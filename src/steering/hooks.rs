//! Programs that are told of decisions, or asked before a step.
//!
//! Owns the request, its signature and how often it is repeated. Must not know what is decided. Nothing here
//! is waited for by a judgement: each delivery is a task of its own, and there are only so many.

use std::sync::Arc;
use std::sync::LazyLock;
use std::time::Duration;

use anyhow::{Context, bail};
use aws_lc_rs::hmac;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tokio_util::either::Either;

use super::view::RolloutView;
use crate::config::document::RolloutEvent;
use crate::rollout::machine::{Decision, Record};
use crate::snapshot::rollout::Hook;
use crate::telemetry::rollout::RolloutMetrics;
use crate::tls::material::system_authorities;

/// Deliveries at a time, repetitions included; what is beyond is not told.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(64)));

/// Pauses before it is tried again.
const AGAIN: [u64; 5] = [1, 2, 5, 15, 30];

/// Bytes of an answer that are read.
const ANSWER: usize = 4096;

/// Tells every hook that wants to know; returns at once.
pub(super) fn tell(hooks: &[Arc<Hook>], record: &Record, metrics: &Arc<RolloutMetrics>) {
    let event = event(record.decision);
    let mut body = None;
    for hook in hooks.iter().filter(|hook| hook.wants(event)) {
        let body = body
            .get_or_insert_with(|| Bytes::from(message(record)))
            .clone();
        let (hook, metrics) = (Arc::clone(hook), Arc::clone(metrics));
        let Ok(place) = Arc::clone(&PLACES).try_acquire_owned() else {
            tracing::error!(hook = %hook.uri, "too much to tell; this decision is not told");
            metrics.hook("dropped");
            continue;
        };
        drop(tokio::spawn(async move {
            let reached = deliver(&hook, &body).await;
            metrics.hook(if reached { "delivered" } else { "failed" });
            drop(place);
        }));
    }
}

fn event(decision: Decision) -> RolloutEvent {
    match decision {
        Decision::Started => RolloutEvent::Start,
        Decision::Stepped | Decision::Switched => RolloutEvent::Step,
        Decision::Stayed | Decision::WentOn => RolloutEvent::Verdict,
        Decision::RolledBack | Decision::Aborted => RolloutEvent::Rollback,
        Decision::Promoted => RolloutEvent::Promotion,
        Decision::Paused | Decision::Resumed | Decision::WeightSet | Decision::WeightEnded => {
            RolloutEvent::Operator
        }
    }
}

/// The record without what it was decided from, which is long; the verdict stays.
fn message(record: &Record) -> String {
    let judgement = record.basis.as_ref().map(|basis| &basis.judgement);
    json!({
        "rollout": record.rollout,
        "run": record.run,
        "revision": record.revision,
        "at": record.at,
        "decision": record.decision,
        "by": record.by,
        "reason": record.reason,
        "from": record.from,
        "to": record.to,
        "samples": record.samples,
        "judgement": judgement,
    })
    .to_string()
}

/// Whether it got there at last.
async fn deliver(hook: &Hook, body: &Bytes) -> bool {
    let mut pauses = AGAIN.iter();
    loop {
        let failed = match post(hook, body).await {
            Ok(status) if status.is_success() => return true,
            Ok(status) => anyhow::anyhow!("it answered {status}"),
            Err(error) => error,
        };
        let Some(seconds) = pauses.next() else {
            tracing::warn!(hook = %hook.uri, "not told: {failed:#}");
            return false;
        };
        tracing::debug!(hook = %hook.uri, seconds, "again later: {failed:#}");
        tokio::time::sleep(Duration::from_secs(*seconds)).await;
    }
}

/// A question to all who are asked before a step.
#[derive(Debug)]
pub(super) struct Asking {
    whom: Vec<Arc<Hook>>,
    /// Run and step that it is about.
    pub(super) place: (u32, usize),
    body: Bytes,
}

impl Asking {
    pub(super) fn new(whom: Vec<Arc<Hook>>, place: (u32, usize), view: &RolloutView) -> Self {
        let body = serde_json::to_vec(view).unwrap_or_default();
        Self {
            whom,
            place,
            body: body.into(),
        }
    }

    /// Whether each of them answers with a success.
    pub(super) async fn all_agree(&self) -> bool {
        for hook in &self.whom {
            match post(hook, &self.body).await {
                Ok(status) if status.is_success() => {}
                Ok(status) => {
                    tracing::debug!(hook = %hook.uri, %status, "does not agree yet");
                    return false;
                }
                Err(error) => {
                    tracing::warn!(hook = %hook.uri, "cannot be asked: {error:#}");
                    return false;
                }
            }
        }
        true
    }
}

async fn post(hook: &Hook, body: &Bytes) -> anyhow::Result<StatusCode> {
    match tokio::time::timeout(hook.timeout, exchange(hook, body)).await {
        Ok(result) => result,
        Err(_) => bail!("no answer within {:?}", hook.timeout),
    }
}

async fn exchange(hook: &Hook, body: &Bytes) -> anyhow::Result<StatusCode> {
    let authority = hook.uri.authority().context("the URL has no host")?;
    let is_secure = hook.uri.scheme_str() == Some("https");
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']');
    let port = authority
        .port_u16()
        .unwrap_or(if is_secure { 443 } else { 80 });
    let target = hook.uri.path_and_query().map_or("/", |it| it.as_str());
    let mut request = Request::post(target)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, "application/json");
    if let Some(file) = &hook.secret_file {
        let secret = tokio::fs::read(file).await;
        let secret = secret.with_context(|| format!("cannot read {}", file.display()))?;
        request = request.header("x-weir-signature", signature(secret.trim_ascii(), body));
    }
    let request = request.body(Full::new(body.clone()))?;
    let stream = TcpStream::connect((host, port)).await?;
    let stream = if is_secure {
        let name = ServerName::try_from(host.to_owned())?;
        Either::Right(connector()?.connect(name, stream).await?)
    } else {
        Either::Left(stream)
    };
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(async move { drop(connection.await) });
    let response = sender.send_request(request).await;
    let status = match response {
        Ok(response) => {
            let status = response.status();
            // Read, so that a program which writes an answer is not cut off; what it says does not matter.
            drop(Limited::new(response.into_body(), ANSWER).collect().await);
            Ok(status)
        }
        Err(error) => Err(error.into()),
    };
    driver.abort();
    status
}

/// `sha256=` and the HMAC of the body, hexadecimal.
fn signature(secret: &[u8], body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), body);
    let digits: String = tag
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256={digits}")
}

fn connector() -> anyhow::Result<TlsConnector> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(system_authorities())
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test case 2.
    #[test]
    fn a_signature_is_the_hmac_of_the_body() {
        assert_eq!(
            signature(b"Jefe", b"what do ya want for nothing?"),
            "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }
}
