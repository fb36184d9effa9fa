//! Second attempts beside first ones that take too long.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, echo, raw, scripted};
use crate::support::client::{Client, get, request};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

/// Answers as late and with what the path says: `/slow`, `/late-500`; notes who hangs up meanwhile.
fn slow(left: &Arc<AtomicU64>) -> Backend {
    let left = Arc::clone(left);
    scripted(move |seen, stream| {
        let (pause, status) = if seen.head.contains("/slow") {
            (3000, 200)
        } else if seen.head.contains("/late-500") {
            (400, 500)
        } else {
            (0, 200)
        };
        if pause > 0 {
            stream
                .set_read_timeout(Some(Duration::from_millis(pause)))
                .unwrap();
            if matches!(stream.read(&mut [0]), Ok(0)) {
                left.fetch_add(1, Ordering::SeqCst);
                return false;
            }
        }
        let head = format!("HTTP/1.1 {status} X\r\nx-backend: slow\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).is_ok()
    })
}

/// One rule with these fields, whose backend has these endpoints in turn.
fn start(fields: &str, endpoints: &[SocketAddr]) -> Proxy {
    let route = format!(
        "  - {{ name: r, rules: [{{ name: all, {fields}, backendRefs: [{{ name: v1 }}] }}] }}\n"
    );
    let endpoints: Vec<_> = endpoints
        .iter()
        .map(|address| format!("{{ address: \"{address}\" }}"))
        .collect();
    let text = format!(
        "{}  - {{ name: v1, loadBalancing: {{ policy: roundRobin }}, endpoints: [{}] }}\n",
        config(&route, &[]),
        endpoints.join(", ")
    );
    Proxy::start_with(&text, &["--workers", "1"])
}

fn made(proxy: &Proxy, outcome: &str) -> f64 {
    let label = format!("outcome=\"{outcome}\"");
    proxy.metric("weir_hedges_total", &["backend=\"v1\"", &label])
}

#[track_caller]
fn hedges(proxy: &Proxy, outcome: &str, expected: f64) {
    let found = made(proxy, outcome);
    assert!((found - expected).abs() < 0.1, "{outcome}: {found}");
}

const OPEN: &str = "retry: { attempts: 1, codes: [500], backoff: 1ms, budget: { percent: 100, minRetriesPerSecond: 100 } }";

#[test]
fn the_first_answer_wins_and_the_other_attempt_is_given_up() {
    let left = Arc::default();
    let (late, fast) = (slow(&left), echo("fast"));
    let fields = "hedge: { after: 100ms }";
    let proxy = start(fields, &[late.address, fast.address]);
    let text = std::fs::read_to_string(proxy.file()).unwrap();
    let outliers = "outlierDetection: { consecutiveFailures: 1 }, endpoints";
    proxy.write_config(&text.replace("endpoints", outliers));
    proxy.wait_generation(2);
    let began = Instant::now();
    for _ in 0..4 {
        assert_eq!(get(proxy.addr("web"), "a", "/slow", &[]).who(), "fast");
    }
    assert!(began.elapsed() < Duration::from_secs(3));
    // Those that began at the slow endpoint.
    let won = made(&proxy, "won");
    assert!(won > 0.9, "{won}");
    eventually("all of them were given up", || {
        ((left.load(Ordering::SeqCst) as f64 - won).abs() < 0.1).then_some(())
    });
    // That is no failure of the endpoint, nor an attempt with an outcome.
    assert!(proxy.metric("weir_endpoint_ejections_total", &[]) < 0.1);
    let attempts = proxy.metric("weir_attempts_total", &["backend=\"v1\""]);
    assert!((attempts - 4.0).abs() < 0.1, "{attempts}");
    assert!(proxy.metric("weir_errors_total", &[]) < 0.1);
    let log = proxy.stop();
    assert_eq!(log.matches("\"attempts\":2").count() as f64, won, "{log}");
    let endpoint = format!("\"endpoint\":\"{}\"", fast.address);
    assert_eq!(log.matches(&endpoint).count(), 4, "{log}");
}

#[test]
fn only_what_may_be_processed_twice_is_sent_twice() {
    let left = Arc::default();
    let (late, fast) = (slow(&left), echo("fast"));
    for (method, body, hedged) in [
        ("GET", "", true),
        ("DELETE", "", true),
        ("POST", "", false),
        ("PUT", "hello", true),
        ("DELETE", "hello", true),
        ("POST", "hello", false),
    ] {
        let proxy = start("hedge: { after: 50ms }", &[late.address, fast.address]);
        let mut client = Client::connect(proxy.addr("web"));
        let length = body.len();
        let mut ask = || {
            client.ask(&format!(
                "{method} /slow HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
            ))
        };
        let who: Vec<_> = (0..2).map(|_| ask().who()).collect();
        assert_eq!(who.contains(&"slow".to_owned()), !hedged, "{method}{body}");
        assert_eq!(made(&proxy, "won") > 0.9, hedged, "{method}{body}");
        proxy.stop();
    }
}

#[test]
fn the_budget_and_the_endpoints_bound_it() {
    let left = Arc::default();
    let (late, fast) = (slow(&left), echo("fast"));
    let none = "hedge: { after: 50ms }, retry: { budget: { percent: 0, minRetriesPerSecond: 0 } }";
    let proxy = start(none, &[late.address, fast.address]);
    let who: Vec<_> = (0..2)
        .map(|_| get(proxy.addr("web"), "a", "/slow", &[]).who())
        .collect();
    assert!(who.contains(&"slow".to_owned()), "{who:?}");
    assert!(made(&proxy, "refused_budget") > 0.9);
    hedges(&proxy, "won", 0.0);
    proxy.stop();
    let proxy = start("hedge: { after: 50ms }", &[late.address]);
    assert_eq!(get(proxy.addr("web"), "a", "/slow", &[]).who(), "slow");
    hedges(&proxy, "refused_no_endpoint", 1.0);
    proxy.stop();
}

/// An answer that the rule would not pass on leaves the word to the other attempt.
#[test]
fn a_failure_waits_for_the_other_attempt() {
    let left = Arc::default();
    let late = slow(&left);
    let better = scripted(|_, stream| {
        std::thread::park_timeout(Duration::from_millis(700));
        let head = b"HTTP/1.1 200 OK\r\nx-backend: better\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(head).is_ok()
    });
    let fields = format!("hedge: {{ after: 100ms }}, {OPEN}");
    let proxy = start(&fields, &[late.address, better.address]);
    // One answers 500 after 400 ms, the other 200 after 700.
    for _ in 0..3 {
        let answer = get(proxy.addr("web"), "a", "/late-500", &[]);
        assert_eq!(answer.who(), "better");
    }
    let passed_on = made(&proxy, "won") + made(&proxy, "lost");
    assert!((passed_on - 3.0).abs() < 0.1, "{passed_on}");
    let log = proxy.stop();
    assert_eq!(log.matches("\"attempts\":2").count(), 3, "{log}");
    // Where both fail, the failure is the first attempt's, and the rule's repetition comes after it.
    let proxy = start(&fields, &[late.address, slow(&left).address]);
    assert_eq!(get(proxy.addr("web"), "a", "/late-500", &[]).status, 500);
    hedges(&proxy, "failed", 2.0);
    proxy.stop();
}

/// Without retries any answer is one; only what is none waits.
#[test]
fn without_retries_every_answer_is_passed_on() {
    let left = Arc::default();
    let (late, fast) = (slow(&left), scripted(|_, _| false));
    let proxy = start("hedge: { after: 100ms }", &[late.address, fast.address]);
    assert_eq!(get(proxy.addr("web"), "a", "/late-500", &[]).status, 500);
    hedges(&proxy, "lost", 1.0);
    proxy.stop();
}

#[test]
fn a_percentile_is_learnt_before_anything_is_sent_twice() {
    let left = Arc::default();
    let (late, fast) = (slow(&left), echo("fast"));
    let fields = format!("hedge: {{ percentile: 99 }}, {OPEN}");
    let proxy = start(&fields, &[late.address, fast.address]);
    let mut client = Client::connect(proxy.addr("web"));
    for _ in 0..99 {
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    hedges(&proxy, "won", 0.0);
    let mut slowest = Duration::ZERO;
    for _ in 0..4 {
        let began = Instant::now();
        request(proxy.addr("web"), "GET", "a", "/slow", &[]);
        slowest = began.elapsed();
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let won = proxy.metric("weir_hedges_total", &["outcome=\"won\""]);
    assert!(won > 0.9, "{won}");
    proxy.stop();
}

/// Hangs after the head, without reading a body; tells who hangs up.
fn hangs(left: &Arc<AtomicU64>) -> Backend {
    let left = Arc::clone(left);
    raw(move |mut stream, _| {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read(&mut byte).unwrap_or(0) == 0 {
                return;
            }
            bytes.push(byte[0]);
        }
        let mut rest = [0; 4096];
        while stream.read(&mut rest).is_ok_and(|read| read > 0) {}
        left.fetch_add(1, Ordering::SeqCst);
    })
}

/// A body goes to both endpoints in full, also where it comes in pieces after the second attempt has begun,
/// and whichever of the two is given up.
#[test]
fn a_body_reaches_both_attempts() {
    let left = Arc::default();
    let (late, fast) = (hangs(&left), echo("fast"));
    let proxy = start("hedge: { after: 50ms }", &[late.address, fast.address]);
    let mut whole = 0;
    for _ in 0..4 {
        let mut stream = std::net::TcpStream::connect(proxy.addr("web")).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let head =
            "PUT / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 9\r\n\r\nfirst";
        stream.write_all(head.as_bytes()).unwrap();
        // Nobody answers before the rest has come, so the second attempt is under way by then.
        let before = made(&proxy, "won") + made(&proxy, "lost");
        eventually("the second attempt", || {
            let requests = proxy.metric("weir_requests_in_flight", &["backend=\"v1\""]);
            (requests > 1.5).then_some(())
        });
        stream.write_all(b"rest").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        whole += usize::from(answer.ends_with("|firstrest"));
        assert!(answer.contains("x-backend: fast"), "{answer}");
        assert!(made(&proxy, "won") + made(&proxy, "lost") > before + 0.9);
    }
    assert_eq!(whole, 4);
    eventually("the others were given up", || {
        (left.load(Ordering::SeqCst) == 4).then_some(())
    });
    proxy.stop();
}

/// What may be longer than is kept of it is sent once, and that is counted.
#[test]
fn a_long_body_is_sent_once() {
    let late = || {
        scripted(|seen, stream| {
            std::thread::park_timeout(Duration::from_millis(500));
            let (head, body) = ("HTTP/1.1 200 OK\r\ncontent-length: ", &seen.body);
            let head = format!("{head}{}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), body].concat()).is_ok()
        })
    };
    let (one, two) = (late(), late());
    let fields = "hedge: { after: 150ms }, retry: { bodyBytes: 8 }";
    let proxy = start(fields, &[one.address, two.address]);
    let mut client = Client::connect(proxy.addr("web"));
    let (mut hedged, mut refused) = (0.0, 0.0);
    for (framing, sent, body, fits) in [
        ("Content-Length: 8", "12345678", "12345678", true),
        ("Content-Length: 9", "123456789", "123456789", false),
        (
            "Transfer-Encoding: chunked",
            "8\r\n12345678\r\n0\r\n\r\n",
            "12345678",
            true,
        ),
        (
            "Transfer-Encoding: chunked",
            "9\r\n123456789\r\n0\r\n\r\n",
            "123456789",
            false,
        ),
    ] {
        let head = format!("PUT / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{sent}");
        assert_eq!(client.ask(&head).body, body, "{framing}");
        *(if fits { &mut hedged } else { &mut refused }) += 1.0;
        hedges(&proxy, "refused_body", refused);
        let made = made(&proxy, "won") + made(&proxy, "lost");
        assert!((made - hedged).abs() < 0.1, "{framing} {sent}: {made}");
    }
    assert_eq!(one.requests() + two.requests(), 6);
    proxy.stop();
}
