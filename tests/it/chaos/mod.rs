//! Endpoints that break in every way, over real sockets: for each what the client gets, the reason in
//! metrics and log, the attempts and retries; and that nothing is left behind when all is over. What
//! they may say wrong is in `raw` and `h2`; here it is what they do.
//!
//! With `--no-capture` the table is printed.

mod faults;
mod leaks;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use self::faults::{Fault, Kind};
use crate::h2::wire::{self, BOTH, END_HEADERS, END_STREAM};
use crate::support::backend::{Backend, raw};
use crate::support::client::Client;
use crate::support::eventually;
use crate::support::proxy::Proxy;

/// Of every `POST`.
const BODY: &str = "hello";

/// What the endpoints do with the next requests.
#[derive(Debug, Default)]
struct Script {
    fault: usize,
    /// How often the fault shows before an answer is good.
    times: usize,
    /// Each of its kind in turn, for ever.
    all: bool,
}

/// See [`Script`].
type Scripted = Arc<Mutex<Script>>;

/// The fault that shows now.
fn next<'a>(faults: &'a [Fault], script: &Scripted, kind: Kind) -> Option<&'a Fault> {
    let mut script = script.lock().unwrap();
    if script.all {
        let turn = std::iter::repeat_with(|| {
            script.fault = (script.fault + 1) % faults.len();
            &faults[script.fault]
        });
        return turn.take(faults.len()).find(|fault| fault.kind == kind);
    }
    let shows = script.times > 0;
    script.times = script.times.saturating_sub(1);
    shows.then(|| &faults[script.fault])
}

/// An endpoint of HTTP/1.1. It serves one request a connection, so that every attempt has its own.
fn http1(faults: &Arc<Vec<Fault>>, script: &Scripted) -> Backend {
    let (faults, script) = (Arc::clone(faults), Arc::clone(script));
    raw(move |mut stream, _| {
        if !read_request(&mut stream) {
            return;
        }
        match next(&faults, &script, Kind::Http1) {
            Some(fault) => fault.over_http1(&mut stream),
            None => {
                drop(stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
                ))
            }
        }
    })
}

/// Reads a request with its body; whether there is one. What is left unread makes a reset of the end, which
/// may overtake what was said before it.
fn read_request(stream: &mut TcpStream) -> bool {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return false;
        }
        head.push(byte[0]);
    }
    let body = if head.starts_with(b"POST ") { BODY } else { "" };
    stream.read_exact(&mut vec![0; body.len()]).is_ok()
}

/// An endpoint of HTTP/2, which closes behind a good answer, and as its fault says.
fn http2(faults: &Arc<Vec<Fault>>, script: &Scripted) -> Backend {
    let (faults, script) = (Arc::clone(faults), Arc::clone(script));
    raw(move |mut stream, _| {
        // Silence on both sides ends the connection.
        stream.set_read_timeout(Some(faults::SILENCE)).unwrap();
        if stream.read_exact(&mut [0; 24]).is_err() {
            return;
        }
        drop(stream.write_all(&wire::settings(&[])));
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).is_err() {
                return;
            }
            let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
            if stream.read_exact(&mut payload).is_err() {
                return;
            }
            if head[3] != wire::HEADERS {
                continue;
            }
            let id = u32::from_be_bytes(head[5..].try_into().unwrap());
            match next(&faults, &script, Kind::Http2) {
                Some(fault) if fault.over_http2(&mut stream, id) => continue,
                Some(_) => {}
                None => {
                    let head = wire::headers(id, END_HEADERS, &[0x88]);
                    let answer = [head, wire::data(id, END_STREAM, b"ok")].concat();
                    drop(stream.write_all(&answer));
                }
            }
            // Closing over unread bytes would be a reset.
            drop(stream.shutdown(std::net::Shutdown::Write));
            drop(std::io::copy(&mut stream, &mut std::io::sink()));
            return;
        }
    })
}

/// Nobody listens there, and nobody else will.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Everything that a run needs.
struct Chaos {
    proxy: Proxy,
    web: SocketAddr,
    faults: Arc<Vec<Fault>>,
    script: Scripted,
    _held: (socket2::Socket, Backend, Backend, TcpListener),
}

fn chaos() -> Chaos {
    let faults = Arc::new(faults::all());
    let script = Scripted::default();
    let (one, two) = (http1(&faults, &script), http2(&faults, &script));
    let (nobody, refused) = refusing();
    // The kernel accepts, and nobody ever reads.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let rule = |kind: &str, name: &str, fields: &str| {
        format!(
            "      - {{ name: {kind}-{name}, matches: [{{ path: {{ value: /{kind}/{name} }} }}], \
             timeouts: {{ request: 2s, backendRequest: 250ms }}, {fields}backendRefs: [{{ name: {kind} }}] }}\n"
        )
    };
    let mut text = "version: 1\naccessLog: { format: json }\ndrain: { delay: 0s, timeout: 5s }\n\
         listeners:\n  - { name: web, address: \"127.0.0.1:0\" }\nroutes:\n  - name: r\n    rules:\n"
        .to_owned();
    let mut backends = String::new();
    for (kind, address, fields) in [
        ("http1", one.address, ""),
        ("http2", two.address, "protocol: h2c, "),
        ("refused", refused, ""),
        ("deaf", deaf.local_addr().unwrap(), ""),
    ] {
        text += &rule(kind, "plain", "");
        let budget = "budget: { percent: 100, minRetriesPerSecond: 1000 }";
        let retry = format!("retry: {{ attempts: 2, codes: [503], backoff: 1ms, {budget} }}, ");
        text += &rule(kind, "again", &retry);
        backends +=
            &format!("  - {{ name: {kind}, {fields}endpoints: [{{ address: \"{address}\" }}] }}\n");
    }
    let proxy = Proxy::start_with(&format!("{text}backends:\n{backends}"), &["--workers", "1"]);
    Chaos {
        web: proxy.addr("web"),
        proxy,
        faults,
        script,
        _held: (nobody, one, two, deaf),
    }
}

/// What a request did, seen from everywhere.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// 0 for an answer that was cut.
    status: u16,
    /// In `weir_errors_total`, and in the access log.
    reason: String,
    attempts: u64,
    /// `weir_attempts_total`, `weir_retries_total`, `weir_retries_refused_total`.
    outcomes: String,
    retries: String,
    refused: String,
}

/// The series of a metric that have grown between two scrapes, by the label: `ok 1, reset 2`.
fn grown(before: &str, after: &str, metric: &str, label: &str) -> String {
    let values = |text: &str| -> HashMap<String, f64> {
        let lines = text
            .lines()
            .filter(|line| line.starts_with(&format!("{metric}{{")));
        lines
            .filter_map(|line| {
                let (series, value) = line.rsplit_once(' ')?;
                Some((series.to_owned(), value.parse().ok()?))
            })
            .collect()
    };
    let (before, mut grown) = (values(before), Vec::new());
    for (series, value) in values(after) {
        let more = value - before.get(&series).unwrap_or(&0.0);
        if more > 0.5 {
            let at = series.find(&format!("{label}=\"")).unwrap() + label.len() + 2;
            let word = series[at..].split('"').next().unwrap().to_owned();
            grown.push(format!("{word} {more}"));
        }
    }
    grown.sort();
    grown.join(", ")
}

impl Chaos {
    fn scrape(&self) -> String {
        self.proxy.ask("/metrics").body
    }

    /// Sends a request, and waits until everything about it is known.
    fn ask(&self, method: &str, path: &str) -> Seen {
        let before = self.scrape();
        let status = ask(self.web, method, path);
        eventually("the end of the request", || {
            let idle = self.proxy.metric("weir_requests_in_flight", &[]) < 0.5;
            let recorded =
                !grown(&before, &self.scrape(), "weir_requests_total", "code").is_empty();
            (idle && recorded).then_some(())
        });
        // The next one must not find this one's connection.
        eventually("the end of its connections", || {
            (self.proxy.metric("weir_upstream_connections", &[]) < 0.5).then_some(())
        });
        let after = self.scrape();
        let of = |metric, label| grown(&before, &after, metric, label);
        Seen {
            status,
            reason: of("weir_errors_total", "reason")
                .trim_end_matches(" 1")
                .to_owned(),
            attempts: 0,
            outcomes: of("weir_attempts_total", "outcome"),
            retries: of("weir_retries_total", "reason"),
            refused: of("weir_retries_refused_total", "reason"),
        }
    }
}

/// The status of the answer; 0 when it is cut.
fn ask(web: SocketAddr, method: &str, path: &str) -> u16 {
    let mut client = Client::connect(web);
    let body = if method == "POST" { BODY } else { "" };
    client.send(&format!(
        "{method} {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    match client.receive_final(false) {
        Ok(Some(answer)) => answer.status,
        Ok(None) | Err(_) => 0,
    }
}

/// The ways in which each fault is met.
const WAYS: [(&str, &str, usize); 4] = [
    ("GET", "plain", 99),
    ("GET", "again", 1),
    ("GET", "again", 99),
    ("POST", "again", 1),
];

/// So many proxies at a time, as most of the table is waiting.
const SHARDS: usize = 4;

#[test]
fn every_fault_has_its_answer_reason_and_attempts() {
    let shard = |number| std::thread::spawn(move || play(number));
    let shards: Vec<_> = (0..SHARDS).map(shard).collect();
    let shards = shards.into_iter().map(|shard| shard.join().unwrap());
    let wrong: Vec<_> = shards.flatten().collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// One part of the table; what was wrong.
fn play(shard: usize) -> Vec<String> {
    let chaos = chaos();
    let (mut expected, mut wrong) = (HashMap::new(), Vec::new());
    let faults = chaos.faults.iter().enumerate();
    for (at, fault) in faults.filter(|(at, _)| at % SHARDS == shard) {
        for (number, (method, rule, times)) in WAYS.into_iter().enumerate() {
            let path = format!("/{}/{rule}/{at}/{number}", fault.kind.word());
            let should = fault.expected(method, rule, times);
            *chaos.script.lock().unwrap() = Script {
                fault: at,
                times,
                all: false,
            };
            let mut seen = chaos.ask(method, &path);
            // From the access log, below.
            seen.attempts = should.attempts;
            println!("{} | {method} {rule} {times} | {seen:?}", fault.name);
            if seen != should {
                let way = format!("{}, {method} {rule} {times}", fault.name);
                wrong.push(format!("{way}:\n  {seen:?}\n  {should:?}"));
            }
            expected.insert(path, should);
        }
    }
    let log = chaos.proxy.stop();
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let path = line["path"].as_str().unwrap();
        let Some(should) = expected.remove(path) else {
            wrong.push(format!("{path}: twice in the log"));
            continue;
        };
        let reason = line["reason"].as_str().unwrap_or_default();
        let said = (reason, line["attempts"].as_u64().unwrap());
        if said != (&should.reason, should.attempts) {
            wrong.push(format!("{path}: {said:?} in the log instead of {should:?}"));
        }
    }
    wrong.extend(
        expected
            .keys()
            .map(|path| format!("{path}: not in the log")),
    );
    wrong
}

/// An endpoint that takes a second request on a kept connection, and dies.
#[test]
fn a_dead_kept_connection_costs_an_attempt_and_no_request() {
    let dead = raw(|mut stream, counter| {
        if !read_request(&mut stream) {
            return;
        }
        counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"));
        // It reads the next one, and never answers.
        read_request(&mut stream);
    });
    let proxy = Proxy::start_with(
        &crate::support::proxy::all_to(dead.address),
        &["--workers", "1"],
    );
    let web = proxy.addr("web");
    for _ in 0..10 {
        assert_eq!(ask(web, "GET", "/"), 200);
    }
    let retried = proxy.metric("weir_retries_total", &["reason=\"stale_connection\""]);
    assert!((retried - 9.0).abs() < 0.1, "{retried}");
    let ok = proxy.metric("weir_attempts_total", &["outcome=\"ok\""]);
    assert!((ok - 10.0).abs() < 0.1, "{ok}");
    let log = proxy.stop();
    assert_eq!(log.matches("\"attempts\":2").count(), 9, "{log}");
}

/// A head of an answer on a stream, for faults that stop behind it.
fn head_of(stream: u32) -> Vec<u8> {
    wire::headers(stream, END_HEADERS, &[0x88])
}

fn whole(stream: u32) -> Vec<u8> {
    [head_of(stream), wire::data(stream, END_STREAM, b"ok")].concat()
}

fn hint(stream: u32) -> Vec<u8> {
    wire::headers(stream, END_HEADERS, &wire::block(&[(":status", "103")]))
}

fn unavailable(stream: u32, retry_after: &str) -> Vec<u8> {
    let fields = [(":status", "503"), ("retry-after", retry_after)];
    wire::headers(stream, BOTH, &wire::block(&fields))
}

fn goaway(last: u32, error: u32) -> Vec<u8> {
    let numbers = [last.to_be_bytes(), error.to_be_bytes()];
    wire::frame(wire::GOAWAY, 0, 0, &numbers.concat())
}
