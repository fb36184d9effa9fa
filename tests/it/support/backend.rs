//! Backends that answer with what they saw, or misbehave by script.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A running backend. Its threads end with the test's process.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    /// Requests that it has read.
    pub(crate) requests: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    panicked: Arc<AtomicBool>,
}

impl Drop for Backend {
    fn drop(&mut self) {
        let panicked = self.panicked.load(Ordering::SeqCst);
        assert!(!panicked || std::thread::panicking(), "a backend panicked");
    }
}

/// Notes that its thread panics.
struct Watch(Arc<AtomicBool>);

impl Drop for Watch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Ordering::SeqCst);
        }
    }
}

impl Backend {
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    /// Connections that it has accepted.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

/// A request as the backend read it.
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What is done with a request: write to the stream; `false` closes the connection.
pub(crate) type Script = dyn Fn(&Seen, &mut TcpStream) -> bool + Send + Sync;

/// Answers each request with its name in `x-backend` and the head that it saw as the body.
pub(crate) fn echo(name: &'static str) -> Backend {
    scripted(move |seen, stream| {
        let text = format!("{}|{}", seen.head, String::from_utf8_lossy(&seen.body));
        let head = format!(
            "HTTP/1.1 200 OK\r\nx-backend: {name}\r\ncontent-length: {}\r\n\r\n",
            text.len()
        );
        let body = if seen.head.starts_with("HEAD ") {
            String::new()
        } else {
            text
        };
        stream.write_all((head + &body).as_bytes()).is_ok()
    })
}

/// Runs a script for each request of each connection.
pub(crate) fn scripted(
    script: impl Fn(&Seen, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> Backend {
    raw(move |stream, counter| serve(stream, counter, &script))
}

/// Runs a script for each connection, which does its own reading and counting.
pub(crate) fn raw(script: impl Fn(TcpStream, &AtomicU64) + Send + Sync + 'static) -> Backend {
    on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
}

/// Runs a script for each request at one port of several loopback addresses, with the number of the address.
pub(crate) fn neighbours<const N: usize>(
    script: impl Fn(usize, &Seen, &mut TcpStream) -> bool + Send + Sync + 'static,
) -> [Backend; N] {
    let script = Arc::new(script);
    // Another address may have the port of the first one taken.
    let listeners = super::eventually("a port that all have free", || {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let at = |number: usize| {
            TcpListener::bind(SocketAddr::from(([127, 0, 0, 2 + number as u8], port))).ok()
        };
        (0..N).map(at).collect::<Option<Vec<_>>>()
    });
    let served = listeners.into_iter().enumerate().map(|(number, listener)| {
        let script = Arc::clone(&script);
        let own = move |seen: &Seen, stream: &mut TcpStream| script(number, seen, stream);
        on(listener, move |stream, counter| {
            serve(stream, counter, &own)
        })
    });
    served
        .collect::<Vec<_>>()
        .try_into()
        .unwrap_or_else(|_| unreachable!("N of them"))
}

fn on(
    listener: TcpListener,
    script: impl Fn(TcpStream, &AtomicU64) + Send + Sync + 'static,
) -> Backend {
    let address = listener.local_addr().unwrap();
    let requests = Arc::new(AtomicU64::new(0));
    let connections = Arc::new(AtomicU64::new(0));
    let panicked = Arc::new(AtomicBool::new(false));
    let (counter, flag, script) = (
        Arc::clone(&requests),
        Arc::clone(&panicked),
        Arc::new(script),
    );
    let accepted = Arc::clone(&connections);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            accepted.fetch_add(1, Ordering::SeqCst);
            let (counter, watch) = (Arc::clone(&counter), Watch(Arc::clone(&flag)));
            let script = Arc::clone(&script);
            std::thread::spawn(move || {
                let _watch = watch;
                script(stream, &counter);
            });
        }
    });
    Backend {
        address,
        requests,
        connections,
        panicked,
    }
}

fn serve(stream: TcpStream, counter: &AtomicU64, script: &Script) {
    let mut writer = stream.try_clone().unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(seen) = read(&mut reader) {
        counter.fetch_add(1, Ordering::SeqCst);
        if !script(&seen, &mut writer) {
            drop(writer.shutdown(std::net::Shutdown::Both));
            return;
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    if lower.contains("transfer-encoding: chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size];
            reader.read_exact(&mut chunk).ok()?;
            body.extend_from_slice(&chunk);
            let mut end = String::new();
            while reader.read_line(&mut end).ok()? > 2 {
                head.push_str(&end);
                end.clear();
            }
            if size == 0 {
                break;
            }
        }
    }
    Some(Seen { head, body })
}
