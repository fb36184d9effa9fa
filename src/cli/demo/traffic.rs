//! The built-in traffic of the demo: an open loop over a few kept-alive connections.
//!
//! Owns what a client sees, in bounded memory. Must not know the proxy's inside.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::super::run::control_runtime;
use crate::drain::{Phase, Watch};

/// Connections for each 100 requests a second, at least and at most.
const CONNECTIONS: (u32, u32) = (4, 256);
/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Width and number of the latencies' buckets: 0.1 ms up to 1 s.
const BUCKET: Duration = Duration::from_micros(100);
const BUCKETS: usize = 10_000;

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
    pub(super) answers: [Latencies; 2],
    pub(super) failed: u64,
    /// Why the first one failed.
    pub(super) failure: Option<String>,
}

impl Seen {
    pub(super) fn answered(&self) -> u64 {
        self.answers.iter().map(Latencies::count).sum()
    }
}

/// How long answers took: a histogram, so that a demo may run for days.
#[derive(Debug)]
pub(super) struct Latencies {
    count: u64,
    /// One bucket more than there are, for all that took longer.
    buckets: Vec<u64>,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            count: 0,
            buckets: vec![0; BUCKETS + 1],
        }
    }
}

impl Latencies {
    pub(super) fn record(&mut self, took: Duration) {
        let bucket = took.as_micros() / BUCKET.as_micros();
        self.buckets[usize::try_from(bucket).unwrap_or(BUCKETS).min(BUCKETS)] += 1;
        self.count += 1;
    }

    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The bound below which the part `q` of the answers was; `None` without answers, and for what
    /// took longer than the histogram reaches.
    pub(super) fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((q * self.count as f64).ceil() as u64).max(1);
        let mut passed = 0;
        let bucket = self.buckets.iter().position(|count| {
            passed += count;
            passed >= rank
        })?;
        let upper = u32::try_from(bucket + 1).ok()?;
        (bucket < BUCKETS).then(|| BUCKET * upper)
    }
}

/// Sends until the plan is done, the proxy stops, or `look`, which is called every `pause`, has seen enough.
///
/// # Errors
/// When there is no runtime to be had.
pub(super) fn run(
    plan: &Plan,
    watch: &Watch,
    pause: Duration,
    mut look: impl FnMut(&Seen) -> bool,
) -> anyhow::Result<Seen> {
    control_runtime()?.block_on(async {
        let seen = RefCell::new(Seen::default());
        let next = Cell::new(0);
        let began = Instant::now();
        let connections = (plan.rps / 100).clamp(CONNECTIONS.0, CONNECTIONS.1);
        let senders = (0..connections).map(|_| send(plan, watch, &next, &seen, began));
        let mut all = Box::pin(join_all(senders.map(Box::pin).collect()));
        let mut tick = tokio::time::interval(pause);
        tick.tick().await;
        loop {
            tokio::select! {
                () = &mut all => break,
                _ = tick.tick() => {
                    if look(&seen.borrow()) {
                        break;
                    }
                }
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
    let mut stopping = watch.clone();
    loop {
        let number = next.get();
        if plan.requests.is_some_and(|most| number >= most) {
            return;
        }
        next.set(number + 1);
        let due = began + Duration::from_secs_f64(number as f64 / f64::from(plan.rps));
        // A request that finds all connections busy has waited since it was due; one that waits for
        // its time begins when the timer, which is a millisecond coarse, has woken.
        let waits = due > Instant::now();
        tokio::select! {
            biased;
            () = stopping.reached(Phase::LameDuck) => return,
            () = tokio::time::sleep_until(due), if waits => {}
            () = std::future::ready(()), if !waits => {}
        }
        let sent = if waits { Instant::now() } else { due };
        let answer = tokio::time::timeout(TIMEOUT, exchange(plan, &mut connection)).await;
        let mut seen = seen.borrow_mut();
        match answer.context("no answer in time").flatten() {
            Ok(index) => seen.answers[index].record(sent.elapsed()),
            Err(error) => {
                connection = None;
                seen.failed += 1;
                seen.failure.get_or_insert_with(|| format!("{error:#}"));
            }
        }
    }
}

/// One request; the number of the backend that has answered.
async fn exchange(
    plan: &Plan,
    kept: &mut Option<SendRequest<Empty<Bytes>>>,
) -> anyhow::Result<usize> {
    let proxy = plan.proxy;
    let sender = match kept {
        Some(sender) if !sender.is_closed() => sender,
        _ => {
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
    let status = response.status();
    anyhow::ensure!(status == StatusCode::OK, "status {status}");
    let body = response.into_body().collect().await?.to_bytes();
    let name = body.trim_ascii();
    plan.names
        .iter()
        .position(|known| known.as_bytes() == name)
        .with_context(|| format!("the answer is no backend's: {body:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_upper_bounds_of_buckets() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.quantile(0.5), None);
        for ms in 1..=100 {
            latencies.record(Duration::from_millis(ms) - Duration::from_micros(1));
        }
        assert_eq!(latencies.count(), 100);
        for (q, ms) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(
                latencies.quantile(q),
                Some(Duration::from_millis(ms)),
                "{q}"
            );
        }
    }

    #[test]
    fn what_takes_longer_than_the_buckets_reach_is_counted_too() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_millis(2));
        latencies.record(Duration::from_secs(3600));
        assert_eq!(latencies.count(), 2);
        assert_eq!(latencies.quantile(0.5), Some(Duration::from_micros(2100)));
        assert_eq!(latencies.quantile(0.99), None);
    }
}
