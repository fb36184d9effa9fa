//! Failures that a rule makes on purpose.

use std::time::{Duration, Instant};

use http::Request;

use crate::support::backend::echo;
use crate::support::client::{Client, get, request};
use crate::support::http2::{self, ask, block_on, connect};
use crate::support::proxy::{Proxy, config};

/// A rule with the fault in front of `v1`.
fn start(fault: &str, backend: std::net::SocketAddr) -> Proxy {
    let route = format!(
        "  - {{ name: r, rules: [{{ name: all, timeouts: {{ request: 2s }}, filters: [{{ type: FaultInjection, faultInjection: {{ {fault} }} }}], backendRefs: [{{ name: v1 }}] }}] }}\n"
    );
    Proxy::start(&config(&route, &[("v1", backend)]))
}

fn injected(proxy: &Proxy, fault: &str) -> f64 {
    let label = format!("fault=\"{fault}\"");
    proxy.metric("weir_faults_total", &["rule=\"all\"", &label])
}

#[test]
fn an_abort_is_an_answer_that_reaches_no_endpoint() {
    let backend = echo("v1");
    let fault = "matches: [{ headers: [{ name: x-chaos, value: yes }] }], abort: { status: 418 }";
    let proxy = start(fault, backend.address);
    let web = proxy.addr("web");
    let failed = get(web, "a", "/", &[("x-chaos", "yes")]);
    assert_eq!(failed.status, 418);
    let said = failed.header("proxy-status").unwrap();
    assert!(said.contains("fault_abort"), "{said}");
    assert_eq!(backend.requests(), 0);
    assert_eq!(get(web, "a", "/", &[]).who(), "v1");
    assert!((injected(&proxy, "abort") - 1.0).abs() < 0.1);
    let errors = proxy.metric("weir_errors_total", &["reason=\"fault_abort\""]);
    assert!((errors - 1.0).abs() < 0.1);
    let log = proxy.stop();
    assert!(log.contains("\"reason\":\"fault_abort\""), "{log}");
}

#[test]
fn a_part_of_the_requests_fails() {
    let backend = echo("v1");
    let fault = "abort: { status: 500, fraction: { numerator: 1, denominator: 4 } }";
    let proxy = start(fault, backend.address);
    let mut client = Client::connect(proxy.addr("web"));
    let failed = (0..1000)
        .filter(|_| client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status == 500)
        .count();
    // 5 deviations of 13.7.
    assert!((182..=318).contains(&failed), "{failed}");
    assert!((injected(&proxy, "abort") - failed as f64).abs() < 0.1);
    proxy.stop();
}

#[test]
fn a_delay_counts_towards_the_request_and_shows_in_the_log_only() {
    let backend = echo("v1");
    let proxy = start("delay: { duration: 300ms }", backend.address);
    let began = Instant::now();
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).who(), "v1");
    assert!(began.elapsed() >= Duration::from_millis(300));
    assert!((injected(&proxy, "delay") - 1.0).abs() < 0.1);
    assert!(proxy.metric("weir_errors_total", &[]) < 0.1);
    let log = proxy.stop();
    assert!(log.contains("\"reason\":\"fault_delay\""), "{log}");

    let proxy = start("delay: { duration: 60s }", backend.address);
    let began = Instant::now();
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 504);
    assert!(began.elapsed() < Duration::from_secs(10));
    proxy.stop();
}

#[test]
fn a_reset_is_no_answer() {
    let backend = echo("v1");
    let fault = "matches: [{ path: { value: /broken } }], abort: { reset: true }";
    let proxy = start(fault, backend.address);
    let web = proxy.addr("web");
    let mut client = Client::connect(web);
    client.send("GET /broken HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(client.receive(false).is_none());
    block_on(async {
        let mut sender = connect(web).await;
        let uri = |path: &str| {
            let request = Request::builder().uri(format!("http://a{path}"));
            request.body(http2::empty()).unwrap()
        };
        let error = ask(&mut sender, uri("/broken")).await.unwrap_err();
        let source = std::error::Error::source(&error).unwrap();
        let reset = source.downcast_ref::<h2::Error>().unwrap();
        assert!(reset.is_reset(), "{reset:?}");
        // The other streams of the connection go on.
        let answer = ask(&mut sender, uri("/")).await.unwrap();
        assert_eq!(answer.headers["x-backend"], "v1");
    });
    assert!((injected(&proxy, "reset") - 2.0).abs() < 0.1);
    let log = proxy.stop();
    assert_eq!(
        log.matches("\"reason\":\"fault_abort\"").count(),
        2,
        "{log}"
    );
}

#[test]
fn a_grpc_call_fails_with_the_status_that_is_written() {
    let backend = echo("v1");
    let call = |proxy: &Proxy, kind: &str| {
        let fields = [("content-type", kind), ("content-length", "0")];
        request(proxy.addr("web"), "POST", "a", "/s/m", &fields)
    };
    for (abort, status, grpc) in [
        ("grpcStatus: resourceExhausted", 200, Some("8")),
        ("status: 404, grpcStatus: dataLoss", 404, Some("15")),
        ("status: 503", 503, Some("14")),
    ] {
        let proxy = start(&format!("abort: {{ {abort} }}"), backend.address);
        let answer = call(&proxy, "application/grpc");
        assert_eq!(answer.status, 200, "{abort}");
        assert_eq!(answer.header("grpc-status"), grpc, "{abort}");
        assert_eq!(call(&proxy, "text/plain").status, status, "{abort}");
        proxy.stop();
    }
}

/// On a backendRef it is for those that get it, and an endpoint is not blamed for it.
#[test]
fn a_fault_of_one_version_ejects_none_of_its_endpoints() {
    let backend = echo("v1");
    let fault = "filters: [{ type: FaultInjection, faultInjection: { abort: { status: 500 } } }]";
    let route = format!(
        "  - {{ name: r, rules: [{{ name: all, split: {{ force: {{ header: x-to }} }}, backendRefs: [{{ name: v1 }}, {{ name: v2, weight: 0, {fault} }}] }}] }}\n"
    );
    let outliers = format!(
        "  - {{ name: v2, outlierDetection: {{ consecutiveFailures: 1 }}, endpoints: [{{ address: \"{0}\" }}, {{ address: \"127.0.0.1:1\" }}] }}\n",
        backend.address
    );
    let proxy = Proxy::start(&(config(&route, &[("v1", backend.address)]) + &outliers));
    for _ in 0..20 {
        let to = |name| get(proxy.addr("web"), "a", "/", &[("x-to", name)]);
        assert_eq!((to("v1").status, to("v2").status), (200, 500));
    }
    assert!(proxy.metric("weir_endpoint_ejections_total", &[]) < 0.1);
    assert!(proxy.metric("weir_attempts_total", &["backend=\"v2\""]) < 0.1);
    let counted = proxy.metric("weir_faults_total", &["backend=\"v2\"", "fault=\"abort\""]);
    assert!((counted - 20.0).abs() < 0.1);
    proxy.stop();
}
