//! Requests over kept connections, as many as can be or at a rate, and backends that answer at once.
//!
//! Must not know the proxy.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::header::HOST;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::run::control_runtime;
use super::subject::Asked;

/// Longest wait for one answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// What a backend answers.
const BODY: &[u8] = &[b'0'; 128];

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) to: SocketAddr,
    pub(super) asked: Asked,
    pub(super) connections: usize,
    pub(super) duration: Duration,
    /// Requests a second; none: the next one when the last is answered.
    pub(super) rate: Option<f64>,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of each answer, since the request was due.
    pub(super) microseconds: Vec<u32>,
    pub(super) failed: usize,
}

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        self.microseconds.extend(other.microseconds);
        self.failed += other.failed;
    }
}

/// Starts two backends on a thread that lives as long as the process.
///
/// # Errors
/// When no port or thread can be had.
pub(super) fn backends() -> std::io::Result<[SocketAddr; 2]> {
    let bind = || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0")?;
        socket.set_nonblocking(true)?;
        Ok::<_, std::io::Error>(socket)
    };
    let (one, two) = (bind()?, bind()?);
    let addresses = [one.local_addr()?, two.local_addr()?];
    std::thread::Builder::new()
        .name("bench-backends".to_owned())
        .spawn(move || -> std::io::Result<()> {
            control_runtime()?
                .block_on(async { tokio::try_join!(serve(one), serve(two)).map(drop) })
        })?;
    Ok(addresses)
}

async fn serve(socket: std::net::TcpListener) -> std::io::Result<()> {
    let listener = TcpListener::from_std(socket)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = service_fn(|_| async {
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(BODY))))
        });
        let http1 = hyper::server::conn::http1::Builder::new();
        let connection = http1.serve_connection(TokioIo::new(stream), answer);
        // A connection may end at any time.
        drop(tokio::task::spawn_local(
            async move { drop(connection.await) },
        ));
    }
}

/// Carries the plan out.
///
/// # Errors
/// When there is no runtime to be had.
pub(super) fn run(plan: &Plan) -> anyhow::Result<Seen> {
    control_runtime()?.block_on(async {
        let shared = std::rc::Rc::new((Cell::new(0_u64), RefCell::new(Seen::default())));
        let began = Instant::now();
        let mut tasks = JoinSet::new();
        for _ in 0..plan.connections {
            let (shared, plan) = (std::rc::Rc::clone(&shared), plan.clone());
            tasks.spawn_local(async move { send(&plan, &shared.0, &shared.1, began).await });
        }
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok(shared.1.take())
    })
}

async fn send(plan: &Plan, next: &Cell<u64>, seen: &RefCell<Seen>, began: Instant) {
    let mut connection = None;
    loop {
        let now = Instant::now();
        let due = match plan.rate {
            None => now,
            Some(rate) => {
                let number = next.replace(next.get() + 1);
                began + Duration::from_secs_f64(number as f64 / rate)
            }
        };
        if due.saturating_duration_since(began) >= plan.duration {
            return;
        }
        // A request that finds all connections busy has waited since it was due; one that waits for its
        // time begins when the timer, which is a millisecond coarse, has woken.
        let sent = if due > now {
            tokio::time::sleep_until(due).await;
            Instant::now()
        } else {
            due
        };
        let answer =
            tokio::time::timeout(TIMEOUT, exchange(plan.to, &plan.asked, &mut connection)).await;
        let mut seen = seen.borrow_mut();
        if answer.context("no answer in time").flatten().is_ok() {
            let took = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
            seen.microseconds.push(took);
        } else {
            connection = None;
            seen.failed += 1;
        }
    }
}

/// Asks once.
///
/// # Errors
/// When the answer is not a built-in backend's.
pub(super) async fn once(to: SocketAddr, asked: &Asked) -> anyhow::Result<()> {
    tokio::time::timeout(TIMEOUT, exchange(to, asked, &mut None)).await?
}

async fn exchange(
    to: SocketAddr,
    asked: &Asked,
    kept: &mut Option<SendRequest<Empty<Bytes>>>,
) -> anyhow::Result<()> {
    let sender = match kept {
        Some(sender) if !sender.is_closed() => sender,
        _ => {
            let stream = TcpStream::connect(to).await?;
            stream.set_nodelay(true)?;
            let io = TokioIo::new(stream);
            let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
            drop(tokio::task::spawn_local(
                async move { drop(connection.await) },
            ));
            kept.insert(sender)
        }
    };
    sender.ready().await?;
    let request = Request::get(asked.target.clone()).header(HOST, asked.host.clone());
    let response = sender.send_request(request.body(Empty::new())?).await?;
    let status = response.status();
    anyhow::ensure!(status == StatusCode::OK, "status {status}");
    let body = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(body == BODY, "{} bytes came", body.len());
    Ok(())
}
