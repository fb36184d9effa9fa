//! What outlives a reload: connections, tunnels and long answers, but no routing table of theirs.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Weak;

use super::*;
use crate::listener::manager::Manager;
use crate::snapshot::Snapshot;
use crate::snapshot::compile::Compiler;
use crate::snapshot::port::{Listener, Port};
use crate::telemetry::recorder::Registry;

const DEADLINE: Duration = Duration::from_secs(10);

/// Switches protocols and echoes for `/tunnel`; begins an answer without end for `/long`; else `ok`.
fn backend() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                loop {
                    let head = head(&mut stream);
                    if head.contains("GET /tunnel ") {
                        send(
                            &mut stream,
                            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
                        );
                        drop(std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
                        return;
                    }
                    send(
                        &mut stream,
                        if head.contains("GET /long ") {
                            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"
                        } else if head.is_empty() {
                            return;
                        } else {
                            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
                        },
                    );
                }
            });
        }
    });
    address
}

fn head(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with("\r\n\r\n") && matches!(stream.read(&mut byte), Ok(1)) {
        text.push(char::from(byte[0]));
    }
    text
}

fn send(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
}

fn expect(stream: &mut TcpStream, text: &str) {
    let mut came = vec![0; text.len()];
    stream.read_exact(&mut came).unwrap();
    assert_eq!(String::from_utf8_lossy(&came), text);
}

/// A connection with the head of its first answer read.
fn open(address: SocketAddr, head_lines: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    send(&mut stream, &format!("{head_lines}\r\nHost: a\r\n\r\n"));
    assert!(head(&mut stream).starts_with("HTTP/1.1 "));
    stream
}

struct Running {
    registry: Registry,
    current: Current,
    manager: Manager,
    _workers: Workers,
}

impl Running {
    fn start(text: &str) -> Self {
        let registry = Registry::new();
        let first = Arc::new(compile(&registry, None, text));
        let current = Current::new(Arc::clone(&first));
        let workers = Workers::start(1, &current).unwrap();
        let manager = Manager::new(Arc::clone(&workers.peers().mailboxes));
        let mut running = Self {
            registry,
            current,
            manager,
            _workers: workers,
        };
        let prepared = running.manager.prepare(&first).unwrap();
        block_on(running.manager.apply(prepared, &first));
        running
    }

    /// Publishes as a reload does, up to where the listeners hear of it.
    fn publish(&self, text: &str) {
        let next = compile(&self.registry, Some(&self.current.load()), text);
        self.current.publish(Arc::new(next));
    }

    /// The rest of a reload that adds no address.
    fn apply(&mut self) {
        let snapshot = self.current.load();
        let prepared = self.manager.prepare(&snapshot).unwrap();
        block_on(self.manager.apply(prepared, &snapshot));
    }

    fn bound(&self) -> SocketAddr {
        *self.manager.bound().values().next().unwrap()
    }

    /// The one port and its one listener, which has the table.
    fn tables(&self) -> (Weak<Port>, Weak<Listener>) {
        let snapshot = self.current.load();
        let port = snapshot.ports.values().next().unwrap();
        (Arc::downgrade(port), Arc::downgrade(&port.listeners[0]))
    }
}

fn compile(registry: &Registry, earlier: Option<&Snapshot>, text: &str) -> Snapshot {
    let loaded = crate::config::parse("test.yaml", text).unwrap();
    let compiler = Compiler::to_serve(registry, 1, earlier);
    compiler.compile(loaded.document, 0).unwrap()
}

fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(future)
}

fn gone((port, listener): &(Weak<Port>, Weak<Listener>)) {
    let began = Instant::now();
    while port.strong_count() + listener.strong_count() > 0 {
        assert!(began.elapsed() < DEADLINE, "an old table is still held");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

fn config(backend: SocketAddr, address: &str) -> String {
    format!(
        "version: 1\nlisteners: [{{ name: web, address: \"{address}\" }}]\n\
         routes: [{{ name: r, rules: [{{ backendRefs: [{{ name: b }}] }}] }}]\n\
         backends: [{{ name: b, endpoints: [{{ address: \"{backend}\" }}] }}]\n"
    )
}

#[test]
fn what_lives_on_after_a_reload_keeps_no_table() {
    let text = config(backend(), "127.0.0.1:0");
    let running = Running::start(&text);
    let web = running.bound();
    let mut tunnel = open(
        web,
        "GET /tunnel HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo",
    );
    let mut long = open(web, "GET /long HTTP/1.1");
    let mut idle = open(web, "GET / HTTP/1.1");
    expect(&mut idle, "ok");
    expect(&mut long, "ok");
    let before = running.tables();
    running.publish(&text);
    // None of the three says anything: the worker lets go by itself.
    gone(&before);
    send(&mut tunnel, "still here");
    expect(&mut tunnel, "still here");
    send(&mut idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head(&mut idle).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_request_that_crosses_the_removal_of_its_listener_is_served() {
    let backend = backend();
    let mut running = Running::start(&config(backend, "127.0.0.1:0"));
    let web = running.bound();
    let mut tunnel = open(
        web,
        "GET /tunnel HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: echo",
    );
    let mut kept = open(web, "GET / HTTP/1.1");
    expect(&mut kept, "ok");
    let before = running.tables();
    // Published, but no worker has heard yet that it stops listening.
    let other = config(backend, "127.0.0.2:0");
    running.publish(&other);
    send(&mut kept, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(head(&mut kept).starts_with("HTTP/1.1 200 "));
    expect(&mut kept, "ok");
    running.apply();
    assert_eq!(kept.read(&mut [0]).unwrap(), 0, "it is asked to end");
    drop(kept);
    let began = Instant::now();
    while before
        .0
        .upgrade()
        .is_some_and(|p| p.door.metrics.open() > 0)
    {
        assert!(began.elapsed() < DEADLINE);
        std::thread::park_timeout(Duration::from_millis(5));
    }
    // The next reload finds none of its connections; a tunnel asks for nothing.
    running.publish(&other);
    gone(&before);
    drop(tunnel.write_all(b"x"));
}
