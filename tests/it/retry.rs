//! Requests that are sent again: which, how often, where, and at what cost.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::support::backend::{Backend, Seen, echo, scripted};
use crate::support::client::{Response, get, request};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

/// Answers with the status that `statuses` has for the number of the request; the last one for ever.
fn statuses(statuses: &'static [u16]) -> Backend {
    let count = AtomicU64::new(0);
    scripted(move |seen, stream| {
        let at = usize::try_from(count.fetch_add(1, Ordering::SeqCst)).unwrap();
        let status = statuses[at.min(statuses.len() - 1)];
        answer(status, "", seen, stream)
    })
}

fn answer(status: u16, fields: &str, seen: &Seen, stream: &mut std::net::TcpStream) -> bool {
    let text = format!("{}|{}", seen.head, String::from_utf8_lossy(&seen.body));
    let head = format!(
        "HTTP/1.1 {status} X\r\n{fields}content-length: {}\r\n\r\n",
        text.len()
    );
    stream.write_all((head + &text).as_bytes()).is_ok()
}

/// A rule with these fields in front of the backend `v1`.
fn start(fields: &str, v1: SocketAddr) -> Proxy {
    let route = format!(
        "  - {{ name: r, rules: [{{ name: all, {fields}, backendRefs: [{{ name: v1 }}] }}] }}\n"
    );
    Proxy::start(&config(&route, &[("v1", v1)]))
}

fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn retries(proxy: &Proxy, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    proxy.metric("weir_retries_total", &["backend=\"v1\"", &label])
}

fn refused(proxy: &Proxy, reason: &str) -> f64 {
    let label = format!("reason=\"{reason}\"");
    proxy.metric("weir_retries_refused_total", &["backend=\"v1\"", &label])
}

#[track_caller]
fn count(found: f64, expected: f64) {
    assert!((found - expected).abs() < 0.1, "{found}, not {expected}");
}

#[test]
fn httproute_retry() {
    const RETRY: &str = "retry: { attempts: 3, codes: [500, 502, 504], backoff: 1ms }";
    for (answers, status, sent) in [
        (&[500, 500, 200][..], 200, 3),
        (&[500, 500, 500, 500, 200], 500, 4),
        (&[503, 200], 503, 1),
        (&[200], 200, 1),
    ] {
        let backend = statuses(answers);
        let proxy = start(RETRY, backend.address);
        let response = get(proxy.addr("web"), "a", "/", &[]);
        assert_eq!(
            (response.status, backend.requests()),
            (status, sent),
            "{answers:?}"
        );
        count(retries(&proxy, "code"), (sent - 1) as f64);
        let log = proxy.stop();
        assert!(log.contains(&format!("\"attempts\":{sent},")), "{log}");
    }
}

#[test]
fn httproute_retry_connection_error() {
    let proxy = start("retry: { attempts: 2, backoff: 1ms }", nobody());
    let response = request(
        proxy.addr("web"),
        "POST",
        "a",
        "/",
        &[("content-length", "0")],
    );
    assert_eq!(response.status, 503);
    count(retries(&proxy, "connect_failed"), 2.0);
    count(refused(&proxy, "attempts"), 1.0);
    proxy.stop();
}

#[test]
fn httproute_retry_with_timeouts() {
    let slow = |slow_ones: u64| {
        let count = AtomicU64::new(0);
        scripted(move |seen, stream| {
            if count.fetch_add(1, Ordering::SeqCst) < slow_ones {
                std::thread::park_timeout(Duration::from_millis(600));
            }
            answer(200, "", seen, stream)
        })
    };
    for (timeouts, slow_ones, status, reason) in [
        ("{ backendRequest: 200ms }", 2, 200, None),
        ("{ backendRequest: 200ms }", 3, 504, Some("attempt_timeout")),
        (
            "{ backendRequest: 200ms, request: 400ms }",
            9,
            504,
            Some("request_timeout"),
        ),
        ("{ firstByte: 200ms }", 2, 200, None),
    ] {
        let backend = slow(slow_ones);
        let fields = format!("timeouts: {timeouts}, retry: {{ attempts: 2, backoff: 1ms }}");
        let proxy = start(&fields, backend.address);
        let response = get(proxy.addr("web"), "a", "/", &[]);
        assert_eq!(response.status, status, "{timeouts} {slow_ones}");
        if let Some(reason) = reason {
            let said = response.header("proxy-status").unwrap();
            assert!(said.contains(reason), "{timeouts}: {said}");
        }
        proxy.stop();
    }
}

#[test]
fn what_may_have_been_processed_is_not_sent_again_unless_allowed() {
    for (method, allowed, sent) in [
        ("GET", false, 2),
        ("PUT", false, 2),
        ("POST", false, 1),
        ("PATCH", false, 1),
        ("POST", true, 2),
    ] {
        let backend = statuses(&[503, 200]);
        let fields = format!("retry: {{ codes: [503], backoff: 1ms, nonIdempotent: {allowed} }}");
        let proxy = start(&fields, backend.address);
        let response = request(
            proxy.addr("web"),
            method,
            "a",
            "/",
            &[("content-length", "0")],
        );
        assert_eq!(backend.requests(), sent, "{method} {allowed}");
        assert_eq!(response.status, if sent == 1 { 503 } else { 200 });
        count(refused(&proxy, "method"), (2 - sent) as f64);
        proxy.stop();
    }
}

#[test]
fn a_body_is_sent_again_as_long_as_all_of_it_is_kept() {
    for (length, sent) in [(10_000, 2), (100_000, 1)] {
        let backend = statuses(&[503, 200]);
        let proxy = start(
            "retry: { codes: [503], backoff: 1ms, bodyBytes: 50kB }",
            backend.address,
        );
        let body = "x".repeat(length);
        let mut client = crate::support::client::Client::connect(proxy.addr("web"));
        let response = client.ask(&format!(
            "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        assert_eq!(backend.requests(), sent, "{length}");
        // Also the answer that is passed on because nothing can be repeated is to the whole body.
        assert!(
            response.body.ends_with(&format!("|{body}")),
            "{length}: {}",
            response.status
        );
        count(refused(&proxy, "body"), (2 - sent) as f64);
        proxy.stop();
    }
}

#[test]
fn chunks_and_trailers_are_sent_again_too() {
    let backend = statuses(&[503, 200]);
    let proxy = start("retry: { codes: [503], backoff: 1ms }", backend.address);
    let mut client = crate::support::client::Client::connect(proxy.addr("web"));
    let response = client.ask(
        "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         5\r\nhello\r\n6\r\n world\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    assert_eq!((response.status, backend.requests()), (200, 2));
    assert!(response.body.ends_with("|hello world"), "{}", response.body);
    proxy.stop();
}

#[test]
fn a_repetition_goes_to_another_endpoint() {
    let (good, bad) = (echo("good"), scripted(|_, _| false));
    let text = format!(
        "{}{}",
        config(
            "  - { name: r, rules: [{ retry: { backoff: 1ms }, backendRefs: [{ name: v1 }] }] }\n",
            &[]
        ),
        format_args!(
            "  - {{ name: v1, loadBalancing: {{ policy: roundRobin }}, endpoints: [{{ address: \"{}\" }}, {{ address: \"{}\" }}] }}\n",
            good.address, bad.address
        )
    );
    let proxy = Proxy::start(&text);
    for _ in 0..10 {
        assert_eq!(get(proxy.addr("web"), "a", "/", &[]).who(), "good");
    }
    assert!(bad.requests() >= 4, "{}", bad.requests());
    proxy.stop();
}

/// Stable and candidate, each with a filter of its own; the candidate gets all of the traffic.
fn shielded(candidate: SocketAddr, stable: SocketAddr, budget: &str) -> Proxy {
    let filter = |name: &str| {
        format!(
            "filters: [{{ type: RequestHeaderModifier, requestHeaderModifier: {{ add: [{{ name: x-for, value: {name} }}] }} }}, {{ type: URLRewrite, urlRewrite: {{ path: {{ type: ReplaceFullPath, replaceFullPath: /{name} }} }} }}]"
        )
    };
    let route = format!(
        "  - name: r\n    rules:\n      - name: all\n        retry: {{ codes: [500], backoff: 1s, fallback: v0, budget: {budget} }}\n        backendRefs:\n          - {{ name: v0, weight: 0, {} }}\n          - {{ name: v1, weight: 1, {} }}\n",
        filter("v0"),
        filter("v1")
    );
    Proxy::start(&config(&route, &[("v0", stable), ("v1", candidate)]))
}

#[test]
fn the_fallback_answers_for_a_failed_candidate_and_sees_none_of_its_changes() {
    let (candidate, stable) = (statuses(&[500]), echo("v0"));
    let proxy = shielded(candidate.address, stable.address, "{}");
    let began = Instant::now();
    let response = get(proxy.addr("web"), "a", "/page", &[]);
    assert_eq!(response.who(), "v0");
    assert_eq!(response.seen("x-for").as_deref(), Some("v0"));
    assert_eq!(response.seen_target(), "/v0");
    // The pause is for the same backend.
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    count(
        proxy.metric("weir_shielded_total", &["backend=\"v1\"", "outcome=\"ok\""]),
        1.0,
    );
    count(
        proxy.metric("weir_requests_total", &["backend=\"v0\"", "code=\"200\""]),
        1.0,
    );
    let attempts =
        |backend: &str, outcome: &str| proxy.metric("weir_attempts_total", &[backend, outcome]);
    count(attempts("backend=\"v1\"", "outcome=\"server_error\""), 1.0);
    count(attempts("backend=\"v0\"", "outcome=\"ok\""), 1.0);
    let log = proxy.stop();
    assert!(
        log.contains("\"choice\":\"shield\"") && log.contains("\"attempts\":2"),
        "{log}"
    );
}

#[test]
fn a_storm_stays_within_the_budget() {
    let (candidate, stable) = (statuses(&[500]), echo("v0"));
    let budget = "{ percent: 20, minRetriesPerSecond: 0 }";
    let proxy = shielded(candidate.address, stable.address, budget);
    let answers: Vec<Response> = (0..100)
        .map(|_| get(proxy.addr("web"), "a", "/", &[]))
        .collect();
    let saved = answers.iter().filter(|answer| answer.who() == "v0").count();
    assert_eq!(saved, 20);
    // What would have been repeated (GEP-3388).
    let over: Vec<_> = answers.iter().filter(|it| it.status == 503).collect();
    assert_eq!(over.len(), 80);
    for answer in over {
        assert!(
            answer
                .header("proxy-status")
                .unwrap()
                .contains("retry_budget")
        );
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    count(refused(&proxy, "budget"), 80.0);
    // A reload that leaves the budget as it is does not fill it up.
    let text = std::fs::read_to_string(proxy.file()).unwrap();
    proxy.write_config(&text.replace("backoff: 1s", "backoff: 2s"));
    proxy.wait_generation(2);
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 503);
    let errors = proxy.metric("weir_errors_total", &["reason=\"retry_budget\""]);
    count(errors, 81.0);
    proxy.stop();
}

/// Endpoints can tell a repetition from a request; clients cannot make one up.
#[test]
fn endpoints_are_told_which_attempt_it_is() {
    let count = AtomicU64::new(0);
    let backend = scripted(move |seen, stream| {
        let status = if count.fetch_add(1, Ordering::SeqCst) % 3 == 2 {
            200
        } else {
            503
        };
        answer(status, "", seen, stream)
    });
    let proxy = start(
        "retry: { attempts: 2, codes: [503], backoff: 1ms }",
        backend.address,
    );
    let response = get(proxy.addr("web"), "a", "/", &[("x-weir-attempt", "9")]);
    assert_eq!(response.seen("x-weir-attempt").as_deref(), Some("3"));
    proxy.stop();
    let once = echo("v1");
    let proxy = Proxy::start(&crate::support::proxy::all_to(once.address));
    let response = get(proxy.addr("web"), "a", "/", &[("x-weir-attempt", "9")]);
    assert_eq!(response.seen("x-weir-attempt"), None);
    proxy.stop();
}

#[test]
fn an_endpoint_that_asks_to_wait_is_given_the_time_or_the_answer_is_passed_on() {
    for (wait, status) in [("1", 200), ("60", 503)] {
        let count = AtomicU64::new(0);
        let backend = scripted(move |seen, stream| {
            if count.fetch_add(1, Ordering::SeqCst) == 0 {
                answer(503, &format!("retry-after: {wait}\r\n"), seen, stream)
            } else {
                answer(200, "", seen, stream)
            }
        });
        let proxy = start("retry: { codes: [503], backoff: 1ms }", backend.address);
        let began = Instant::now();
        let response = get(proxy.addr("web"), "a", "/", &[]);
        assert_eq!(response.status, status);
        let waited = began.elapsed() >= Duration::from_secs(1);
        assert_eq!(waited, status == 200, "{:?}", began.elapsed());
        proxy.stop();
    }
}

#[test]
fn grpc_calls_that_fail_before_a_message_are_sent_again() {
    for (code, sent) in [("14", 2), ("5", 1)] {
        let count = AtomicU64::new(0);
        let backend = scripted(move |seen, stream| {
            let status = if count.fetch_add(1, Ordering::SeqCst) == 0 {
                code
            } else {
                "0"
            };
            let fields = format!("content-type: application/grpc\r\ngrpc-status: {status}\r\n");
            answer(200, &fields, seen, stream)
        });
        let fields = "retry: { grpcCodes: [unavailable], backoff: 1ms, nonIdempotent: true }";
        let proxy = start(fields, backend.address);
        let headers = [
            ("content-type", "application/grpc"),
            ("content-length", "0"),
        ];
        request(proxy.addr("web"), "POST", "a", "/s/m", &headers);
        assert_eq!(backend.requests(), sent, "{code}");
        proxy.stop();
    }
}

#[test]
fn the_clients_own_deadline_ends_a_call_and_is_passed_on_shorter() {
    let backend = scripted(|seen, stream| {
        if seen.head.contains("/slow") {
            std::thread::park_timeout(Duration::from_secs(5));
        }
        answer(200, "", seen, stream)
    });
    let proxy = start("timeouts: { request: 10s }", backend.address);
    let call = |path: &str, timeout: &str| {
        let fields = [
            ("content-type", "application/grpc"),
            ("content-length", "0"),
            ("grpc-timeout", timeout),
        ];
        request(proxy.addr("web"), "POST", "a", path, &fields)
    };
    let late = call("/slow/m", "200m");
    assert_eq!(late.header("grpc-status"), Some("4"), "{late:?}");
    let seen = call("/s/m", "2S").seen("grpc-timeout").unwrap();
    let left: u64 = seen.strip_suffix('u').unwrap().parse().unwrap();
    assert!((1_000_000..2_000_000).contains(&left), "{seen}");
    // The rule's bound is the smaller one.
    let seen = call("/s/m", "1H").seen("grpc-timeout").unwrap();
    let left: u64 = seen.strip_suffix('u').unwrap().parse().unwrap();
    assert!((9_000_000..10_000_000).contains(&left), "{seen}");
    proxy.stop();
}

#[test]
fn a_body_that_stops_is_cut_and_one_that_is_slow_is_not() {
    let backend = scripted(|seen, stream| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        let mut pieces = std::iter::once(head).chain(["h", "e", "l", "l", "o"]);
        pieces.all(|piece| {
            let stop = seen.head.contains("/stop") && piece == "l";
            let pause = if stop { 5000 } else { 150 };
            std::thread::park_timeout(Duration::from_millis(pause));
            stream.write_all(piece.as_bytes()).is_ok()
        })
    });
    let proxy = start("timeouts: { idle: 400ms }", backend.address);
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).body, "hello");
    let mut client = crate::support::client::Client::connect(proxy.addr("web"));
    client.send("GET /stop HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.try_receive(false).is_err());
    eventually("the cut", || {
        let cut = proxy.metric("weir_errors_total", &["reason=\"timeout_after_headers\""]);
        (cut > 0.5).then_some(())
    });
    proxy.stop();
}

/// Two of three endpoints fail: with two repetitions every request succeeds, whatever the policy, and no
/// endpoint gets one twice.
#[test]
fn every_attempt_goes_to_another_endpoint() {
    const REQUESTS: u64 = 60;
    for policy in [
        "{ policy: roundRobin }",
        "{ policy: leastRequest }",
        "{ policy: peakEwma }",
        "{ policy: random }",
        "{ policy: consistentHash, key: { header: x-key } }",
    ] {
        let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let endpoint = |number: usize, status: u16| {
            let seen = std::sync::Arc::clone(&seen);
            scripted(move |request, stream| {
                let key = request.head.lines().find(|line| line.starts_with("x-key"));
                seen.lock()
                    .unwrap()
                    .push((number, key.unwrap_or_default().to_owned()));
                answer(status, "", request, stream)
            })
        };
        let all = [endpoint(0, 503), endpoint(1, 200), endpoint(2, 503)];
        let addresses: Vec<_> = all
            .iter()
            .map(|one| format!("{{ address: \"{}\" }}", one.address))
            .collect();
        let retry = "attempts: 2, codes: [503], backoff: 1ms, budget: { percent: 100, minRetriesPerSecond: 1000 }";
        let route = format!(
            "  - {{ name: r, rules: [{{ name: all, retry: {{ {retry} }}, backendRefs: [{{ name: v1 }}] }}] }}\n"
        );
        let text = config(&route, &[]);
        let text = format!(
            "{text}  - {{ name: v1, loadBalancing: {policy}, endpoints: [{}] }}\n",
            addresses.join(", ")
        );
        let proxy = Proxy::start(&text);
        for number in 0..REQUESTS {
            let key = number.to_string();
            let response = get(proxy.addr("web"), "a", "/", &[("x-key", &key)]);
            assert_eq!(response.status, 200, "{policy}");
        }
        let mut seen = seen.lock().unwrap().clone();
        let sent = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(
            seen.len(),
            sent,
            "{policy}: an endpoint got a request twice"
        );
        assert!(sent as u64 > REQUESTS, "{policy}: {sent}");
        count(retries(&proxy, "code"), (sent as u64 - REQUESTS) as f64);
        proxy.stop();
    }
}
