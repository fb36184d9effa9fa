//! Complete exchanges over loopback, all on one thread: a client, the worker, a backend that answers from
//! memory.
//!
//! Client and backend are a few lines that read and write bytes, so that most of what is measured is the
//! proxy; [`Way::Direct`] says what they cost. Must not know what the proxy does.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::{LOG_JSON, LOG_OFF, ROLLOUT, Stage, written};
use crate::listener::connection;

/// What stands between the client and the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Nothing: what client and backend cost.
    Direct,
    /// The proxy, with all metrics.
    Plain,
    /// The same, and header filters in both directions.
    Filters,
    /// The same as plain, and an access log in JSON.
    Logged,
    /// The same as plain, and a rollout that judges every request.
    Judged,
}

const REQUEST: &[u8] = b"GET /items/42?page=2 HTTP/1.1\r\nhost: shop.example.com\r\n\
    user-agent: bench\r\naccept: */*\r\naccept-encoding: gzip\r\ncookie: user=4711\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nserver: mock\r\ncontent-type: text/plain\r\n\
    date: Thu, 26 Nov 2026 00:00:00 GMT\r\ncontent-length: 16\r\n\r\n0123456789abcdef";
const BODY_BYTES: usize = 16;
const END_OF_HEAD: &[u8] = b"\r\n\r\n";
/// Room for either head.
const ROOM: usize = 4096;

const FILTERS: &str = "filters: [\
    { type: RequestHeaderModifier, requestHeaderModifier: { set: [{ name: x-team, value: shop }], remove: [cookie] } }, \
    { type: ResponseHeaderModifier, responseHeaderModifier: { add: [{ name: x-served-by, value: weir }] } }],";

/// A client with one kept connection.
#[derive(Debug)]
pub struct Exchanges {
    runtime: LocalRuntime,
    client: TcpStream,
}

impl Exchanges {
    /// Starts everything that the way needs, and connects.
    ///
    /// # Errors
    /// When the configuration does not compile, or loopback is not to be had.
    pub fn new(way: Way) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())?;
        let client = runtime.block_on(async {
            let backends = [backend().await?, backend().await?];
            let to = match way {
                Way::Direct => backends[0],
                _ => proxy(way, backends).await?,
            };
            let client = TcpStream::connect(to).await?;
            client.set_nodelay(true)?;
            anyhow::Ok(client)
        })?;
        Ok(Self { runtime, client })
    }

    /// So many exchanges, one after another; how long they took.
    ///
    /// # Errors
    /// When an answer is not the backend's.
    pub fn run(&mut self, count: u64) -> io::Result<Duration> {
        let client = &mut self.client;
        self.runtime.block_on(async {
            let mut answer = Vec::with_capacity(ROOM);
            let began = Instant::now();
            for _ in 0..count {
                client.write_all(REQUEST).await?;
                answer.clear();
                let head = until_end_of_head(client, &mut answer).await?;
                while answer.len() < head + BODY_BYTES {
                    more(client, &mut answer).await?;
                }
                if !answer.starts_with(b"HTTP/1.1 200") || !answer.ends_with(b"abcdef") {
                    let said = String::from_utf8_lossy(&answer).into_owned();
                    return Err(io::Error::other(said));
                }
            }
            Ok(began.elapsed())
        })
    }
}

async fn proxy(way: Way, backends: [SocketAddr; 2]) -> anyhow::Result<SocketAddr> {
    let log = if way == Way::Logged {
        LOG_JSON
    } else {
        LOG_OFF
    };
    let filters = if way == Way::Filters { FILTERS } else { "" };
    let rollout = if way == Way::Judged { ROLLOUT } else { "" };
    let stage = Stage::new(&written(backends, log, filters, rollout))?;
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    drop(tokio::task::spawn_local(async move {
        let (worker, door) = (Rc::clone(&stage.worker), Arc::clone(&stage.port.door));
        while let Ok((stream, peer)) = socket.accept().await {
            connection::spawn(stream, peer, &worker, &door);
        }
    }));
    Ok(address)
}

/// Answers each head that ends, on every connection.
async fn backend() -> io::Result<SocketAddr> {
    let socket = TcpListener::bind("127.0.0.1:0").await?;
    let address = socket.local_addr()?;
    drop(tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            // It ends with the connection.
            drop(tokio::task::spawn_local(async move {
                stream.set_nodelay(true)?;
                let mut head = Vec::with_capacity(ROOM);
                loop {
                    head.clear();
                    until_end_of_head(&mut stream, &mut head).await?;
                    stream.write_all(ANSWER).await?;
                }
                #[expect(unreachable_code, reason = "says what the block's errors are")]
                io::Result::Ok(())
            }));
        }
    }));
    Ok(address)
}

/// Reads until a head is whole; how long it is.
async fn until_end_of_head(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<usize> {
    loop {
        more(stream, read).await?;
        if let Some(at) = memchr::memmem::find(read, END_OF_HEAD) {
            return Ok(at + END_OF_HEAD.len());
        }
    }
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> io::Result<()> {
    match stream.read_buf(read).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
