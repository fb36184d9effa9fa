//! One line a request: its formats, its files, its reasons.

use std::fs;

use serde_json::Value;

use crate::support::backend::{echo, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, all_to, with_listener};

fn with_log(backend: std::net::SocketAddr, log: &str) -> String {
    all_to(backend).replace(
        "accessLog: { format: json }",
        &format!("accessLog: {{ {log} }}"),
    )
}

fn lines(log: &str) -> Vec<Value> {
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn json_has_the_words_of_this_program() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_log(backend.address, "format: json"));
    let web = proxy.addr("web");
    let fields = [
        ("User-Agent", "test \"1\" \u{e9}"),
        ("Referer", "http://r/"),
        ("Content-Length", "0"),
    ];
    let ask = |path: &str| get(web, "Shop.Example:80", path, &fields[..2]);
    assert_eq!(ask("/a%20b?q=1&r=%22").status, 200);
    assert_eq!(ask("/%00").status, 400);
    let log = lines(&proxy.stop());
    assert_eq!(log.len(), 2, "{log:?}");
    for (name, value) in [
        ("method", "GET"),
        ("scheme", "http"),
        ("host", "shop.example:80"),
        ("path", "/a%20b"),
        ("query", "q=1&r=%22"),
        ("protocol", "HTTP/1.1"),
        ("client_ip", "127.0.0.1"),
        ("listener", "web"),
        ("route", "r"),
        ("rule", "all"),
        ("backend", "v1"),
        ("choice", "single"),
        ("referer", "http://r/"),
    ] {
        assert_eq!(log[0][name], value, "{name} in {}", log[0]);
    }
    assert_eq!(log[0]["endpoint"], backend.address.to_string());
    for (name, least) in [
        ("status", 200.0),
        ("attempts", 1.0),
        ("generation", 1.0),
        ("response_bytes", 1.0),
        ("request_bytes", 0.0),
        ("duration_seconds", 0.0),
        ("first_byte_seconds", 0.0),
        ("client_port", 1.0),
    ] {
        assert!(
            log[0][name].as_f64().is_some_and(|n| n >= least),
            "{name} in {}",
            log[0]
        );
    }
    assert_eq!(log[0]["request_id"].as_str().map(str::len), Some(32));
    assert!(
        log[0]["user_agent"]
            .as_str()
            .unwrap()
            .starts_with("test \"1\"")
    );
    assert!(log[0].get("reason").is_none() && log[0]["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(
        (&log[1]["status"], &log[1]["reason"]),
        (&400.into(), &"bad_request".into())
    );
    assert!(log[1].get("backend").is_none(), "{}", log[1]);
}

#[test]
fn ecs_has_the_names_of_the_schema() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_log(backend.address, "format: ecs"));
    let web = proxy.addr("web");
    assert_eq!(
        get(web, "shop.example:8080", "/x?q=1", &[("User-Agent", "t")]).status,
        200
    );
    assert_eq!(get(web, "a b", "/", &[]).status, 400);
    let log = lines(&proxy.stop());
    let at = |line: usize, path: &str| log[line].pointer(path).cloned().unwrap_or_default();
    for (path, value) in [
        ("/event/outcome", Value::from("success")),
        ("/event/dataset", "weir.access".into()),
        ("/http/request/method", "GET".into()),
        ("/http/response/status_code", 200.into()),
        ("/http/version", "1.1".into()),
        ("/url/domain", "shop.example".into()),
        ("/url/port", 8080.into()),
        ("/url/path", "/x".into()),
        ("/url/query", "q=1".into()),
        ("/client/ip", "127.0.0.1".into()),
        ("/user_agent/original", "t".into()),
        ("/weir/backend", "v1".into()),
    ] {
        assert_eq!(at(0, path), value, "{path} in {}", log[0]);
    }
    assert!(
        at(0, "/event/duration").is_u64()
            && at(0, "/ecs/version").as_str().unwrap().starts_with('9')
    );
    assert_eq!(
        (at(1, "/event/outcome"), at(1, "/event/reason")),
        ("failure".into(), "bad_request".into())
    );
}

#[test]
fn combined_is_what_other_tools_read() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_log(backend.address, "format: combined"));
    let response = get(
        proxy.addr("web"),
        "a",
        "/x?q=%22",
        &[("User-Agent", "t \"q\""), ("Referer", "http://r/")],
    );
    let log = proxy.stop();
    assert_eq!(log.lines().count(), 1, "{log}");
    assert!(log.starts_with("127.0.0.1 - - ["), "{log}");
    let end = format!(
        "] \"GET /x?q=%22 HTTP/1.1\" 200 {} \"http://r/\" \"t \\x22q\\x22\"\n",
        response.body.len()
    );
    let other = end.replace("\\x22", "\\\"");
    assert!(log.ends_with(&end) || log.ends_with(&other), "{log}");
}

#[test]
fn off_is_silent() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_log(backend.address, "format: \"off\""));
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 200);
    assert_eq!(proxy.stop(), "");
}

/// HUP opens the file anew, as log rotation expects.
#[test]
fn a_file_is_appended_to_and_reopened() {
    let backend = echo("v1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    fs::write(&path, "before\n").unwrap();
    let proxy = Proxy::start(&with_log(
        backend.address,
        &format!("path: {}", path.display()),
    ));
    let web = proxy.addr("web");
    let has = |path: &std::path::Path, word: &str| {
        eventually(word, || {
            fs::read_to_string(path).ok()?.contains(word).then_some(())
        });
    };
    get(web, "a", "/first", &[]);
    has(&path, "/first");
    assert!(fs::read_to_string(&path).unwrap().starts_with("before\n"));
    let rotated = folder.path().join("access.log.1");
    fs::rename(&path, &rotated).unwrap();
    get(web, "a", "/second", &[]);
    has(&rotated, "/second");
    proxy.signal("HUP");
    proxy.wait_generation(2);
    get(web, "a", "/third", &[]);
    has(&path, "/third");
    assert_eq!(proxy.stop(), "");
    let text = fs::read_to_string(&rotated).unwrap() + &fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
}

/// A reload gives way to requests; what it starts must not, or lines are lost on a busy core.
#[test]
fn a_log_that_a_reload_opens_is_written_with_the_priority_of_the_workers() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_log(backend.address, "format: \"off\""));
    proxy.write_config(&with_log(backend.address, "format: ecs"));
    proxy.wait_generation(2);
    let niceness = |name: &str| {
        let mut tasks = fs::read_dir(format!("/proc/{}/task", proxy.pid())).unwrap();
        tasks.find_map(|task| {
            let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
            // Fields from the third on; `nice` is the 19th (proc_pid_stat(5)).
            let (head, fields) = stat.rsplit_once(") ")?;
            let nice = fields.split(' ').nth(16)?.to_owned();
            head.ends_with(&format!("({name}")).then_some(nice)
        })
    };
    let worker = niceness("weir-worker-0");
    assert!(worker.is_some());
    // It names itself once it runs.
    let writer = eventually("the writer", || niceness("access-log"));
    assert_eq!(Some(writer), worker);
}

#[test]
fn a_log_that_cannot_be_opened_changes_nothing_and_says_what_to_do() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_log(backend.address, "format: \"off\""));
    proxy.write_config(&with_log(
        backend.address,
        "format: json, path: /nonexistent/access.log",
    ));
    eventually("a refusal", || {
        (proxy.metric("weir_config_reloads_total", &["result=\"failure\""]) > 0.5).then_some(())
    });
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 200);
    let said = proxy.program_log();
    for part in ["/nonexistent/access.log", "folder that exists"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    proxy.stop();
}

#[test]
fn samples_keep_errors_and_slow_ones() {
    let backend = scripted(|seen, stream| {
        use std::io::Write;
        if seen.head.contains("/slow") {
            std::thread::park_timeout(std::time::Duration::from_millis(300));
        }
        let status = if seen.head.contains("/broken") {
            500
        } else {
            200
        };
        stream
            .write_all(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").as_bytes())
            .is_ok()
    });
    let proxy = Proxy::start(&with_log(
        backend.address,
        "samplePercent: 0, slowerThan: 200ms, redactQuery: true",
    ));
    let mut client = Client::connect(proxy.addr("web"));
    for path in ["/fine", "/broken?token=secret", "/slow", "/fine", "/%00"] {
        client.send(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        client.receive(false).unwrap();
    }
    let text = proxy.stop();
    let paths: Vec<_> = lines(&text)
        .into_iter()
        .map(|line| line["path"].clone())
        .collect();
    assert_eq!(paths, ["/broken", "/slow", "/%00"], "{text}");
    assert!(!text.contains("secret"), "{text}");
}

/// Every line once, on every worker and connection.
#[test]
fn one_line_for_each_request() {
    let backend = echo("v1");
    let proxy = Proxy::start(&with_log(backend.address, "format: json"));
    let web = proxy.addr("web");
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                let mut client = Client::connect(web);
                for n in 0..250 {
                    client.ask(&format!("GET /{thread}-{n} HTTP/1.1\r\nHost: a\r\n\r\n"));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let log = lines(&proxy.stop());
    let paths: std::collections::BTreeSet<_> =
        log.iter().map(|line| line["path"].to_string()).collect();
    assert_eq!((log.len(), paths.len()), (1000, 1000));
}

/// A client that leaves before its answer. With `halfClose` its leaving is seen only when the answer is
/// written: a closed sending side is not a wish to go.
#[test]
fn a_client_that_leaves_is_499() {
    let backend = scripted(|_, _| {
        std::thread::park_timeout(std::time::Duration::from_secs(2));
        false
    });
    let text = with_listener(&all_to(backend.address), "halfClose: false");
    let proxy = Proxy::start(&text);
    let mut client = Client::connect(proxy.addr("web"));
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request", || (backend.requests() == 1).then_some(()));
    client.reset();
    eventually("the record", || {
        (proxy.metric("weir_errors_total", &["reason=\"client_closed\""]) > 0.5).then_some(())
    });
    let log = lines(&proxy.stop());
    assert_eq!(
        (&log[0]["status"], &log[0]["reason"]),
        (&499.into(), &"client_closed".into())
    );
}

/// Of a valid trace context both fields go on and the ids are logged; of a faulty one, nothing.
#[test]
fn the_trace_of_a_request_is_logged_and_goes_on() {
    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";
    let backend = echo("v1");
    let valid = format!("00-{ID}-{SPAN}-01");
    let later = format!("cc-{ID}-{SPAN}-01-more");
    let ask = |proxy: &Proxy, parents: &[&str]| {
        let parents = parents.iter().map(|parent| ("Traceparent", *parent));
        let fields: Vec<_> = parents.chain([("Tracestate", "congo=t61")]).collect();
        let response = get(proxy.addr("web"), "a", "/", &fields);
        (response.seen("traceparent"), response.seen("tracestate"))
    };

    let json = Proxy::start(&with_log(backend.address, "format: json"));
    let state = Some("congo=t61".to_owned());
    for parent in [&*valid, &later, "cc-unknown"] {
        let sent_on = (Some(parent.to_owned()), state.clone());
        assert_eq!(ask(&json, &[parent]), sent_on);
    }
    assert_eq!(ask(&json, &["00-unknown"]), (None, None));
    assert_eq!(ask(&json, &[&valid, &valid]), (None, None));
    assert_eq!(ask(&json, &[]), (None, state));
    let refused = [("Traceparent", &*valid)];
    assert_eq!(get(json.addr("web"), "a b", "/", &refused).status, 400);
    let logged: Vec<_> = lines(&json.stop())
        .iter()
        .map(|line| line.get("trace_id").is_some() && line["span_id"] == SPAN)
        .collect();
    assert_eq!(logged, [true, true, false, false, false, false, true]);

    let ecs = Proxy::start(&with_log(backend.address, "format: ecs"));
    assert!(ask(&ecs, &[&valid]).0.is_some());
    assert_eq!(ask(&ecs, &["00-unknown"]), (None, None));
    let log = lines(&ecs.stop());
    assert_eq!(
        (&log[0]["trace"]["id"], &log[0]["span"]["id"]),
        (&ID.into(), &SPAN.into())
    );
    assert!(log[1].get("trace").is_none() && log[1].get("span").is_none());
}

/// A full disk and a pipe that nobody reads cost lines, which are counted, and no request waits for them.
#[test]
fn a_full_disk_and_a_blocked_pipe_cost_lines_and_no_request() {
    let backend = echo("v1");
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    // The pipe and the queue before it hold 16.1 MiB; the disk holds nothing.
    for (path, requests) in [("/dev/full", 50), (pipe.to_str().unwrap(), 620)] {
        let log = format!("format: json, path: {path}");
        let config = with_listener(
            &with_log(backend.address, &log),
            "limits: { targetBytes: 32KiB }",
        );
        let proxy = Proxy::start(&config);
        let query = "q".repeat(30_000);
        let ask = format!("GET /?{query} HTTP/1.1\r\nHost: a\r\n\r\n");
        let mut client = Client::connect(proxy.addr("web"));
        for _ in 0..requests {
            assert_eq!(client.ask(&ask).status, 200);
        }
        eventually("lines that were dropped", || {
            (proxy.metric("weir_access_log_dropped_total", &[]) > 9.5).then_some(())
        });
        // A reload opens nothing anew that would wait.
        proxy.write_config(&format!("{config}\n"));
        proxy.wait_generation(2);
        assert_eq!(client.ask(&ask).status, 200);
        proxy.stop();
    }
}
