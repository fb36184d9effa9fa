//! Users at a steady rate: each request is sent when it is due, whatever became of the others.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Connections; more than are ever busy at once.
const CONNECTIONS: u32 = 128;

/// What the users saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    bad: Cell<u64>,
}

impl Seen {
    pub(super) fn forget(&self) {
        self.bad.set(0);
    }

    pub(super) fn bad(&self) -> u64 {
        self.bad.get()
    }
}

#[derive(Debug)]
struct Plan {
    to: SocketAddr,
    began: Instant,
    every: Duration,
    users: u64,
    next: Cell<u64>,
    stop: Cell<bool>,
}

pub(super) struct Clients {
    plan: Rc<Plan>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    pub(super) fn start(to: SocketAddr, rate: u32, users: u64, seen: &Rc<Seen>) -> Self {
        let plan = Rc::new(Plan {
            to,
            began: Instant::now(),
            every: Duration::from_secs(1) / rate,
            users,
            next: Cell::new(0),
            stop: Cell::new(false),
        });
        let tasks = (0..CONNECTIONS).map(|_| {
            let (plan, seen) = (Rc::clone(&plan), Rc::clone(seen));
            tokio::task::spawn_local(async move {
                let mut kept = None;
                while !plan.stop.get() {
                    one(&plan, &seen, &mut kept).await;
                }
            })
        });
        Self {
            tasks: tasks.collect(),
            plan,
        }
    }

    pub(super) async fn stop(self) {
        self.plan.stop.set(true);
        for task in self.tasks {
            drop(task.await);
        }
    }
}

async fn one(plan: &Plan, seen: &Seen, kept: &mut Option<SendRequest<Empty<Bytes>>>) {
    let number = plan.next.replace(plan.next.get() + 1);
    let due = plan.began + plan.every.mul_f64(number as f64);
    tokio::time::sleep_until(due.into()).await;
    // Spread over the users without a pattern: an odd multiplier of 64 bits.
    let user = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
    match exchange(plan, user % plan.users, kept).await {
        Ok(status) if status < 500 => {}
        Ok(_) => seen.bad.set(seen.bad.get() + 1),
        Err(_) => {
            *kept = None;
            seen.bad.set(seen.bad.get() + 1);
        }
    }
}

async fn exchange(
    plan: &Plan,
    user: u64,
    kept: &mut Option<SendRequest<Empty<Bytes>>>,
) -> anyhow::Result<u16> {
    let sender = match kept {
        Some(sender) if !sender.is_closed() => sender,
        _ => {
            let stream = TcpStream::connect(plan.to).await?;
            stream.set_nodelay(true)?;
            let made = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let (sender, connection) = made;
            drop(tokio::task::spawn_local(async move {
                drop(connection.await);
            }));
            kept.insert(sender)
        }
    };
    sender.ready().await?;
    let request = Request::get("/")
        .header("host", "shop.example.com")
        .header("x-user", format!("user-{user}"))
        .body(Empty::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status().as_u16();
    response.into_body().collect().await?;
    Ok(status)
}
