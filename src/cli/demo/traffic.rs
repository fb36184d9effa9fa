//! The built-in traffic of the demo: an open loop over a few kept-alive connections.
//!
//! Owns what a client sees. Must not know the proxy's inside.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::super::run::control_runtime;
use crate::drain::{Phase, Watch};

const CONNECTIONS: usize = 16;
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What is sent.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) proxy: SocketAddr,
    /// How many; for ever when absent.
    pub(super) requests: Option<u64>,
    pub(super) rps: u32,
    pub(super) names: [&'static str; 2],
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each backend's answers.
    pub(super) latencies: [Vec<Duration>; 2],
    pub(super) failed: u64,
}

impl Seen {
    pub(super) fn answered(&self) -> u64 {
        self.latencies.iter().map(|of| of.len() as u64).sum()
    }
}

/// Sends until the plan is done or the proxy stops; calls `look` once a second.
pub(super) fn run(plan: &Plan, watch: &Watch, look: impl Fn(&Seen)) -> anyhow::Result<Seen> {
    control_runtime()?.block_on(async {
        let seen = RefCell::new(Seen::default());
        let next = Rc::new(Cell::new(0));
        let began = Instant::now();
        let senders = (0..CONNECTIONS).map(|_| send(plan, watch, &next, &seen, began));
        let mut all = Box::pin(join_all(senders.map(Box::pin).collect()));
        let mut tick = tokio::time::interval(Duration::from_secs(1));
        tick.tick().await;
        loop {
            tokio::select! {
                () = &mut all => break,
                _ = tick.tick() => look(&seen.borrow()),
            }
        }
        drop(all);
        look(&seen.borrow());
        Ok(seen.into_inner())
    })
}

/// Polls all until all are done.
async fn join_all<F: Future<Output = ()> + Unpin>(mut futures: Vec<F>) {
    std::future::poll_fn(|cx| {
        futures.retain_mut(|future| std::pin::Pin::new(future).poll(cx).is_pending());
        if futures.is_empty() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

async fn send(plan: &Plan, watch: &Watch, next: &Cell<u64>, seen: &RefCell<Seen>, began: Instant) {
    let mut connection = None;
    while watch.phase() == Phase::Serving {
        let number = next.get();
        if plan.requests.is_some_and(|most| number >= most) {
            return;
        }
        next.set(number + 1);
        tokio::time::sleep_until(
            began + Duration::from_secs_f64(number as f64 / f64::from(plan.rps)),
        )
        .await;
        let sent = Instant::now();
        let answer = tokio::time::timeout(TIMEOUT, exchange(plan.proxy, &mut connection)).await;
        let mut seen = seen.borrow_mut();
        let backend = match answer {
            Ok(Ok(body)) => plan
                .names
                .iter()
                .position(|name| *body.trim_ascii() == *name.as_bytes()),
            Ok(Err(_)) | Err(_) => {
                connection = None;
                None
            }
        };
        match backend {
            Some(index) => seen.latencies[index].push(sent.elapsed()),
            None if watch.phase() == Phase::Serving => seen.failed += 1,
            None => {}
        }
    }
}

async fn exchange(
    proxy: SocketAddr,
    kept: &mut Option<SendRequest<Empty<Bytes>>>,
) -> anyhow::Result<Bytes> {
    let sender = match kept {
        Some(sender) => sender,
        None => {
            let stream = tokio::net::TcpStream::connect(proxy).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            drop(tokio::task::spawn_local(
                async move { drop(connection.await) },
            ));
            kept.insert(sender)
        }
    };
    sender.ready().await?;
    let request = Request::get("/")
        .header(HOST, proxy.to_string())
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(
        response.status() == StatusCode::OK,
        "status {}",
        response.status()
    );
    Ok(response.into_body().collect().await?.to_bytes())
}
