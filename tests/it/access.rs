//! The admin listener once more: tokens, the second address, and the shapes of its pages.

use std::process::Command;

use serde_json::Value;

use crate::support::backend::echo;
use crate::support::client::{Client, get, request};
use crate::support::proxy::{Proxy, all_to};
use crate::support::{eventually, promtool};

const EMPTY: (&str, &str) = ("content-length", "0");

#[test]
fn every_page_and_method() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let admin = proxy.admin();
    let pages = [
        "/live",
        "/ready",
        "/metrics",
        "/config",
        "/",
        "/api/v1/status",
        "/api/v1/listeners",
        "/api/v1/routes",
        "/api/v1/backends",
    ];
    for path in pages {
        for (method, status) in [
            ("GET", 200),
            ("HEAD", 200),
            ("POST", 405),
            ("PUT", 405),
            ("DELETE", 405),
        ] {
            let response = request(admin, method, "localhost", path, &[EMPTY]);
            assert_eq!(response.status, status, "{method} {path}");
            assert_eq!(
                response.header("allow").is_some(),
                status == 405,
                "{method} {path}"
            );
            assert_eq!(
                response.header("x-content-type-options"),
                Some("nosniff"),
                "{path}"
            );
        }
    }
    for path in ["/api/v1/reload", "/api/v1/drain", "/api/v1/log-level"] {
        for method in ["GET", "HEAD", "PUT"] {
            let response = request(admin, method, "localhost", path, &[EMPTY]);
            assert_eq!(response.status, 405, "{method} {path}");
        }
        // A form of another site is posted without asking (CSRF).
        for field in [
            ("origin", "https://evil.example"),
            ("sec-fetch-site", "cross-site"),
        ] {
            let response = request(admin, "POST", "localhost", path, &[EMPTY, field]);
            assert_eq!(response.status, 403, "{field:?} {path}");
        }
    }
    assert_eq!(
        request(admin, "POST", "localhost", "/api/v1/none", &[EMPTY]).status,
        404
    );
    proxy.stop();
}

/// DNS rebinding and pages of other sites. Probes are answered by whatever name.
#[test]
fn foreign_hosts_and_origins() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let admin = proxy.admin();
    let own = admin.to_string();
    let origin = format!("http://{own}");
    for (host, path, headers, status) in [
        (&*own, "/config", &[][..], 200),
        ("localhost", "/config", &[], 200),
        ("[::1]:80", "/config", &[], 200),
        ("evil.example", "/config", &[], 403),
        ("localhost.evil.example", "/api/v1/status", &[], 403),
        ("127.0.0.1.evil.example", "/", &[], 403),
        (&own, "/config", &[("origin", "null")], 403),
        (&own, "/config", &[("origin", "https://evil.example")], 403),
        (&own, "/config", &[("origin", &*origin)], 200),
        (&own, "/config", &[("host", "localhost")], 403),
        (&own, "/", &[("sec-fetch-site", "none")], 200),
        (&own, "/", &[("sec-fetch-site", "cross-site")], 403),
        (
            &own,
            "/api/v1/status",
            &[("sec-fetch-site", "same-site")],
            403,
        ),
        ("probe.example", "/live", &[], 200),
        ("probe.example", "/metrics", &[], 200),
    ] {
        assert_eq!(
            get(admin, host, path, headers).status,
            status,
            "{host} {path} {headers:?}"
        );
    }
    proxy.stop();
}

#[test]
fn changes_need_the_token_and_nothing_shows_it() {
    let backend = echo("v1");
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret-t0ken\n").unwrap();
    let text = all_to(backend.address).replace(
        "version: 1\n",
        &format!("version: 1\nadmin: {{ tokenFile: {} }}\n", token.display()),
    );
    let proxy = Proxy::start(&text);
    let admin = proxy.admin();
    for (value, status) in [
        ("", 401),
        ("Bearer wrong", 401),
        ("Bearer s3cret-t0ke", 401),
        ("Bearer s3cret-t0kenx", 401),
        ("Basic s3cret-t0ken", 401),
        ("Bearer s3cret-t0ken", 200),
    ] {
        let response = request(
            admin,
            "POST",
            "localhost",
            "/api/v1/reload",
            &[("authorization", value), EMPTY],
        );
        assert_eq!(response.status, status, "{value}: {response:?}");
    }
    for path in ["/config", "/metrics", "/api/v1/status"] {
        let page = proxy.ask(path);
        assert!(
            page.status == 200 && !page.body.contains("s3cret"),
            "{path}"
        );
    }
    assert!(!proxy.program_log().contains("s3cret"));
    proxy.stop();
    // An empty token must not mean an open door.
    std::fs::write(&token, "\n").unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, &text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["run", "--admin", "127.0.0.1:0", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_metrics_address_serves_three_pages() {
    let backend = echo("v1");
    let text = all_to(backend.address).replace(
        "version: 1\n",
        "version: 1\nadmin: { metricsAddress: \"127.0.0.2:0\" }\n",
    );
    let proxy = Proxy::start(&text);
    let address = eventually("the address", || {
        let log = proxy.program_log();
        let line = log
            .lines()
            .find(|line| line.contains("probes and metrics listening"))?;
        let event: Value = serde_json::from_str(line).ok()?;
        event["address"].as_str()?.parse().ok()
    });
    for (path, status) in [
        ("/live", 200),
        ("/ready", 200),
        ("/metrics", 200),
        ("/", 404),
        ("/config", 404),
        ("/api/v1/status", 404),
    ] {
        assert_eq!(
            get(address, "localhost", path, &[]).status,
            status,
            "{path}"
        );
    }
    let reload = request(address, "POST", "localhost", "/api/v1/reload", &[EMPTY]);
    assert!(matches!(reload.status, 403 | 404), "{reload:?}");
    proxy.stop();
}

#[test]
fn shapes_of_the_pages() {
    let backend = echo("v1");
    let text = all_to(backend.address).replace(
        "{ name: v1, endpoints",
        "{ name: v1, labels: { tier: web }, endpoints",
    );
    let proxy = Proxy::start(&text);
    for _ in 0..5 {
        assert_eq!(get(proxy.addr("web"), "a", "/", &[]).status, 200);
    }
    eventually("the numbers", || {
        (proxy.json("/api/v1/routes")[0]["backends"][0]["requests"] == 5).then_some(())
    });
    for (page, path, kind) in [
        ("/api/v1/status", "/version", "string"),
        ("/api/v1/status", "/phase", "\"serving\""),
        ("/api/v1/status", "/uptimeSeconds", "number"),
        ("/api/v1/status", "/generation", "1"),
        ("/api/v1/status", "/configHash", "string"),
        ("/api/v1/status", "/workers", "2"),
        ("/api/v1/status", "/connections/1", "number"),
        ("/api/v1/status", "/residentBytes", "number"),
        ("/api/v1/status", "/reload/lastSuccessful", "true"),
        ("/api/v1/status", "/reload/error", "null"),
        ("/api/v1/listeners", "/0/name", "\"web\""),
        ("/api/v1/listeners", "/0/address", "\"127.0.0.1:0\""),
        ("/api/v1/listeners", "/0/bound", "string"),
        ("/api/v1/routes", "/0/route", "\"r\""),
        ("/api/v1/routes", "/0/rule", "\"all\""),
        ("/api/v1/routes", "/0/key", "null"),
        ("/api/v1/routes", "/0/onUnavailable", "\"shift\""),
        ("/api/v1/routes", "/0/backends/0/weight", "1"),
        ("/api/v1/routes", "/0/backends/0/share", "1.0"),
        ("/api/v1/routes", "/0/backends/0/p99Seconds", "number"),
        ("/api/v1/backends", "/0/name", "\"v1\""),
        ("/api/v1/backends", "/0/protocol", "\"http1\""),
        ("/api/v1/backends", "/0/usable", "true"),
        ("/api/v1/backends", "/0/labels/tier", "\"web\""),
        ("/api/v1/backends", "/0/endpoints/0/address", "string"),
        ("/config", "/document/listeners/0/limits/headerCount", "100"),
    ] {
        let value = proxy
            .json(page)
            .pointer(path)
            .cloned()
            .unwrap_or(Value::String("absent".to_owned()));
        let fits = match kind {
            "string" => value.as_str().is_some_and(|text| text != "absent"),
            "number" => value.is_number(),
            exact => {
                let text = value.to_string();
                text == exact
            }
        };
        assert!(fits, "{page} {path}: {value}");
    }
    proxy.stop();
}

/// After every kind of traffic, and again after a reload.
#[test]
fn promtool_likes_what_busy_proxies_say() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let web = proxy.addr("web");
    for path in ["/", "/%00", "/x?y"] {
        get(web, "a", path, &[]);
        request(web, "POST", "a", path, &[EMPTY]);
    }
    drop(Client::connect(web));
    proxy.write_config(&all_to(backend.address).replace("name: all", "name: other"));
    proxy.wait_generation(2);
    get(web, "a", "/", &[]);
    let text = proxy.ask("/metrics").body;
    promtool(&text);
    for secret in ["127.0.0.1:", "host=", "path=\""] {
        assert!(
            !text.contains(secret),
            "labels come from the configuration only: {secret}"
        );
    }
    proxy.stop();
}

#[test]
fn the_log_level_changes_while_it_runs() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    let mut client = Client::connect(proxy.admin());
    let post = |client: &mut Client, body: &str| {
        client.ask(&format!("POST /api/v1/log-level HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    };
    let said = |word: &str| proxy.program_log().contains(word);
    get(proxy.addr("web"), "a b", "/", &[]);
    assert!(!said("answered by the proxy"));
    assert_eq!(post(&mut client, "debug").status, 200);
    get(proxy.addr("web"), "a b", "/", &[]);
    eventually("a debug line", || {
        said("answered by the proxy").then_some(())
    });
    assert_eq!(post(&mut client, "weir=nonsense").status, 400);
    assert_eq!(post(&mut client, &"x".repeat(5000)).status, 400);
    proxy.stop();
}

/// A drain by the API is one by signal.
#[test]
fn the_api_drains() {
    let backend = echo("v1");
    let text = all_to(backend.address).replace("delay: 0s", "delay: 500ms");
    let proxy = Proxy::start(&text);
    let web = proxy.addr("web");
    let drain = request(
        proxy.admin(),
        "POST",
        "localhost",
        "/api/v1/drain",
        &[EMPTY],
    );
    assert_eq!(drain.status, 202);
    eventually("not ready", || {
        (proxy.ask("/ready").status == 503).then_some(())
    });
    assert_eq!(proxy.ask("/live").status, 200);
    assert!(
        proxy
            .ask("/ready?verbose")
            .body
            .contains("[-] not draining")
    );
    assert_eq!(proxy.json("/api/v1/status")["phase"], "draining");
    let during = get(web, "a", "/", &[]);
    assert_eq!(
        (during.status, during.header("connection")),
        (200, Some("close"))
    );
    proxy.wait();
}

#[test]
fn whoever_may_open_the_socket_may_change_things() {
    use std::os::unix::fs::PermissionsExt;

    let backend = echo("v1");
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let text = all_to(backend.address) + &format!("admin: {{ socket: {} }}\n", socket.display());
    let proxy = Proxy::start(&text);
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let weir = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(arguments)
            .arg("--admin")
            .arg(format!("unix:{}", socket.display()))
            .output()
            .unwrap()
    };
    let output = weir(&["status", "-o", "json"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"generation\": 1"));
    assert!(weir(&["healthcheck", "--ready"]).status.success());
    let curl = Command::new("curl")
        .args([
            "--silent",
            "--max-time",
            "10",
            "--request",
            "POST",
            "--unix-socket",
        ])
        .arg(&socket)
        .arg("http://localhost/api/v1/reload")
        .output()
        .expect("install the Debian package curl");
    let said = String::from_utf8_lossy(&curl.stdout).into_owned();
    assert!(said.contains("\"result\": \"applied\""), "{said}");
    proxy.stop();
    assert!(!socket.exists());
    assert!(weir(&["status"]).status.code() == Some(1));
}
