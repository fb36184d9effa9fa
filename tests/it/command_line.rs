//! The verbs, their output and their exit codes.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output};

use crate::support::backend::echo;
use crate::support::proxy::{Proxy, config};

fn weir(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn the_demo_keeps_its_promise() {
    let output = weir(&[
        "demo",
        "--requests",
        "2000",
        "--weights",
        "90/10",
        "--workers",
        "2",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = text(&output);
    let row = said
        .lines()
        .find(|line| line.starts_with("candidate "))
        .unwrap()
        .to_owned();
    let numbers: Vec<f64> = row
        .split_whitespace()
        .skip(1)
        .take(4)
        .map(|n| n.parse().unwrap())
        .collect();
    assert!(
        (numbers[0] - 200.0).abs() < 4.0 && (numbers[0] - numbers[3]).abs() < 0.5,
        "{row}"
    );
    assert!(said.contains("kept"), "{said}");
}

#[test]
fn the_bench_measures_both_ways() {
    let asked = [
        "bench",
        "--duration",
        "1s",
        "--connections",
        "4",
        "--workers",
        "1",
    ];
    let output = weir(&[&asked[..], &["-o", "json"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    for load in ["saturated", "openLoop"] {
        for way in ["direct", "proxied"] {
            let figures = &found[load][way];
            assert!(
                figures["requestsPerSecond"].as_f64().unwrap() > 0.0,
                "{found}"
            );
            let at = |name: &str| figures["microseconds"][name].as_f64().unwrap();
            assert!(at("p50") > 0.0 && at("p50") <= at("p99") && at("p99") <= at("p999"));
        }
    }
    assert!(found["cpuMicroseconds"].as_f64().unwrap() > 0.0, "{found}");
    assert_eq!(found["failed"], 0);

    let said = text(&weir(&[&asked[..], &["--rate", "200"]].concat()));
    for part in [
        "REQUESTS/S",
        "added at 200 requests/s over 4 connections",
        "CPU of the proxy",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for (wrong, why) in [
        ("--duration=1ms", "from 200ms"),
        ("--rate=0", "--rate"),
        ("--workers=0", "1..=1024"),
    ] {
        let refused = weir(&["bench", wrong]);
        assert_eq!(refused.status.code(), Some(2), "{wrong}");
        assert!(text(&refused).contains(why), "{}", text(&refused));
    }
}

/// Neither its certificates nor its backends are there.
const ELSEWHERES: &str = "
version: 1
admin: { address: 192.0.2.1:80 }
listeners:
  - name: web
    address: 192.0.2.1:443
    hostname: '*.shop.example'
    tls: { certificates: [{ certificate: /nowhere/tls.crt, key: /nowhere/tls.key }] }
routes:
  - name: shop
    rules:
      - matches: [{ path: { value: /pay }, method: POST }, { path: { value: /cart } }]
        filters: [{ type: ResponseHeaderModifier, responseHeaderModifier: { set: [{ name: x-a, value: b }] } }]
        backendRefs: [{ name: v1, weight: 9 }, { name: v2 }]
      - { name: off, matches: [{ path: { value: /off } }], filters: [{ type: DirectResponse, directResponse: { status: 503 } }] }
backends:
  - { name: v1, dns: { name: v1.shop.invalid, port: 80 } }
  - { name: v2, endpoints: [{ address: 192.0.2.2:443 }], protocol: h2c, tls: {}, healthCheck: { tcp: {}, interval: 1s } }
";

#[test]
fn the_bench_measures_a_configuration_that_is_for_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, ELSEWHERES).unwrap();
    let file = file.to_str().unwrap();
    let asked = [
        "bench",
        "--duration=400ms",
        "--connections=2",
        "--config",
        file,
    ];
    for (url, shown) in [
        (None, "http://bench.shop.example/cart"),
        (
            Some("https://a.shop.example/cart/1?x=2"),
            "http://a.shop.example/cart/1?x=2",
        ),
    ] {
        let url: Vec<&str> = url.map_or(vec![], |url| vec!["--url", url]);
        let output = weir(&[&asked[..], &["-o", "json"], &url].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (found["url"].as_str(), found["config"].as_str()),
            (Some(shown), Some(file))
        );
        assert_eq!(found["failed"], 0);
        let rate = &found["saturated"]["proxied"]["requestsPerSecond"];
        assert!(rate.as_f64().unwrap() > 0.0, "{found}");
    }
    for (url, code, why) in [
        ("http://a.shop.example/off", 1, "503"),
        (
            "http://elsewhere.example/cart",
            1,
            "does not reach a backend",
        ),
        ("/cart", 2, "expected http://"),
    ] {
        let refused = weir(&[&asked[..], &["--url", url]].concat());
        let said = text(&refused);
        assert_eq!(refused.status.code(), Some(code), "{said}");
        assert!(said.contains(why), "{said}");
    }
    assert_eq!(
        weir(&["bench", "--url", "http://a/"]).status.code(),
        Some(2)
    );
}

#[test]
fn the_demo_shows_a_rollback() {
    let output = weir(&["demo", "--fail", "candidate", "--workers", "2"]);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    for line in ["the candidate breaks", "rolledBack", "by guard", "kept"] {
        assert!(said.contains(line), "{line}: {said}");
    }
}

#[test]
fn exit_codes_say_what_went_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    std::fs::write(
        &wrong,
        "version: 1\nlisteners: [{ name: web, address: nonsense }]\n",
    )
    .unwrap();
    let wrong = wrong.to_str().unwrap();
    for (arguments, code) in [
        (&["version"][..], 0),
        (&["nonsense"], 2),
        (&["demo", "--weights", "x"], 2),
        (&["demo", "--weights", "4294967295/1"], 2),
        (&["quick", "--to", "ftp://a"], 2),
        (&["check", wrong], 3),
        (&["run", "--config", wrong], 3),
        (&["explain", "--config", wrong, "GET", "http://a/"], 3),
        (&["status", "--admin", "127.0.0.1:9"], 1),
        (&["healthcheck", "--admin", "127.0.0.1:9"], 1),
    ] {
        let output = weir(arguments);
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            text(&output)
        );
    }
    let json: serde_json::Value =
        serde_json::from_slice(&weir(&["check", wrong, "--format", "json"]).stdout).unwrap();
    assert!(
        json[0]["code"].as_str().unwrap().starts_with('W') && json[0]["line"] == 2,
        "{json}"
    );
}

#[test]
fn documents_are_printed() {
    let man = text(&weir(&["man"]));
    for verb in [
        "run",
        "quick",
        "demo",
        "check",
        "explain",
        "status",
        "healthcheck",
    ] {
        assert!(
            man.contains(&format!("WEIR {}", verb.to_uppercase())),
            "{verb}"
        );
    }
    assert!(man.contains("no_route"));
    assert!(text(&weir(&["completions", "bash"])).contains("complete -F"));
    assert!(serde_json::from_slice::<serde_json::Value>(&weir(&["schema"]).stdout).is_ok());
    assert!(text(&weir(&["version"])).starts_with("weir "));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("quick.yaml");
    let quick = weir(&[
        "quick",
        "--to",
        "http://127.0.0.1:9001=95",
        "--to",
        "http://127.0.0.1:9002=5",
        "--cookie",
        "user",
        "--print-config",
    ]);
    std::fs::write(&file, &quick.stdout).unwrap();
    let check = weir(&["check", file.to_str().unwrap()]);
    assert!(
        check.status.success() && text(&check).is_empty(),
        "{}",
        text(&check)
    );
}

#[test]
fn explain_says_who_wins_and_why_others_lose() {
    let (_folder, file) = by_hand();
    let explain = |arguments: &[&str]| {
        let output = weir(&[&["explain", "--config", &file], arguments].concat());
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let one = explain(&[
        "GET",
        "https://shop.example.com/checkout/cart",
        "-H",
        "cookie: weir-user=42",
    ]);
    assert!(
        one.contains("listener  web") && one.contains("checkout/pay") && one.contains("won"),
        "{one}"
    );
    assert!(
        one.contains("higher precedence") && one.contains("chosen by key"),
        "{one}"
    );
    assert_eq!(
        one,
        explain(&[
            "GET",
            "https://shop.example.com/checkout/cart",
            "-H",
            "cookie: weir-user=42"
        ])
    );
    let forced = explain(&[
        "GET",
        "http://a/checkout",
        "-H",
        "x-weir-backend: checkout-v2",
    ]);
    assert!(
        forced.contains("checkout-v2  weight 5   5.0 %   chosen by force"),
        "{forced}"
    );
    assert!(explain(&["GET", "http://a/%zz"]).contains("400 Bad Request (bad_request)"));
    let json: serde_json::Value =
        serde_json::from_str(&explain(&["GET", "http://a/x", "-o", "json"])).unwrap();
    assert_eq!(json["rule"], "checkout/rest");
}

/// The example of a canary, moved by hand.
fn by_hand() -> (tempfile::TempDir, String) {
    let text = std::fs::read_to_string("config/canary.yaml").unwrap();
    let (text, _) = text.split_once("\nrollouts:").unwrap();
    let text = text
        .replace("weight: 100 }", "weight: 95 }")
        .replace("weight: 0 }", "weight: 5 }");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    (folder, file)
}

/// The choice by key is the one of the published vectors, whose salt is this rule's name.
#[test]
fn explain_agrees_with_the_vectors() {
    let (_folder, file) = by_hand();
    let chosen = |user: &str| {
        let cookie = format!("cookie: weir-user={user}");
        let output = weir(&[
            "explain",
            "--config",
            &file,
            "GET",
            "http://a/checkout",
            "-H",
            &cookie,
            "-n",
            "20",
            "-o",
            "json",
        ]);
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let backends = json["backends"].as_array().unwrap().clone();
        let one = backends.iter().find(|b| b["chosen"] == 20).unwrap();
        one["name"].as_str().unwrap().to_owned()
    };
    let vectors = std::fs::read_to_string("tests/vectors/sticky.tsv").unwrap();
    for user in ["user-1", "user-32", "user-63", "user-72", "user-84"] {
        let key: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
        let start = format!("checkout/pay\t{key}\tcheckout-v1=95,checkout-v2=5\t");
        let line = vectors
            .lines()
            .find(|line| line.starts_with(&start))
            .unwrap();
        assert_eq!(chosen(user), line.rsplit('\t').next().unwrap(), "{user}");
    }
}

#[test]
fn explain_counts_draws_and_tells_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("weir.yaml");
    std::fs::write(
        &file,
        "version: 1\nlisteners: [{ name: web, address: \"127.0.0.1:8080\" }]\n\
         routes:\n  - name: r\n    hostnames: [shop.example.com]\n    rules:\n\
         \x20     - backendRefs: [{ name: v1, weight: 95 }, { name: v2, weight: 5 }]\n\
         \x20     - matches: [{ path: { value: /old } }]\n\
         \x20       filters: [{ type: RequestRedirect, requestRedirect: { scheme: https } }]\n\
         backends:\n  - { name: v1, endpoints: [{ address: \"v1.invalid:80\" }] }\n\
         \x20 - { name: v2, endpoints: [{ address: \"v2.invalid:80\" }] }\n",
    )
    .unwrap();
    let explain = |arguments: &[&str]| {
        let file = file.to_str().unwrap();
        let output = weir(&[&["explain", "--config", file, "-o", "json"], arguments].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let drawn = explain(&["GET", "http://shop.example.com:8080/", "-n", "1000"]);
    assert_eq!(drawn["rule"], "r/0", "{drawn}");
    assert!(
        drawn["backends"][0]["chosen"]
            .as_u64()
            .unwrap()
            .abs_diff(950)
            < 2,
        "{drawn}"
    );
    let redirect = explain(&["GET", "https://shop.example.com/old?q"]);
    assert_eq!(
        redirect["outcome"]["answered"]["location"],
        "https://shop.example.com/old?q"
    );
    assert_eq!(redirect["listener"], "web", "{redirect}");
    for (url, status, reason) in [
        ("http://other.example:8080/", 404, "no_route"),
        ("http://shop.example.com:8080/../x", 400, "bad_request"),
    ] {
        let refused = &explain(&["GET", url])["outcome"]["refused"];
        assert_eq!(refused["status"], status, "{url}: {refused}");
        assert_eq!(refused["reason"], reason, "{url}: {refused}");
    }
    for wrong in [
        &["GET", "/x"][..],
        &["G T", "http://a/"],
        &["GET", "http://a/", "-H", "x"],
    ] {
        let output = weir(&[&["explain", "--config", "config/canary.yaml"], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

/// A slow demo too: whoever waits for its next request hears of the end at once.
#[test]
fn the_demo_ends_by_a_signal() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["demo", "--rps", "2"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The first look at the traffic comes after a second of it.
    let mut out = BufReader::new(demo.stdout.take().unwrap());
    let mut said = String::new();
    while !said.contains("failed 0") {
        assert!(out.read_line(&mut said).unwrap() > 0, "{said}");
    }
    let began = std::time::Instant::now();
    let killed = Command::new("kill")
        .args(["-INT", &demo.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    out.read_to_string(&mut said).unwrap();
    let status = demo.wait().unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(
        began.elapsed() < std::time::Duration::from_secs(5),
        "{said}"
    );
    assert!(
        said.contains(" 0 failed") && said.contains("kept"),
        "{said}"
    );
}

#[test]
fn a_running_proxy_answers_the_verbs() {
    let backend = echo("v1");
    let proxy = Proxy::start(&config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    ));
    let admin = proxy.admin().to_string();
    for (verb, word) in [
        ("status", "serving"),
        ("listeners", "web"),
        ("routes", "100.0 %"),
        ("backends", "leastRequest"),
    ] {
        let output = weir(&[verb, "--admin", &admin]);
        assert!(
            output.status.success() && text(&output).contains(word),
            "{verb}: {}",
            text(&output)
        );
        let json = weir(&[verb, "--admin", &admin, "-o", "json"]);
        assert!(
            serde_json::from_slice::<serde_json::Value>(&json.stdout).is_ok(),
            "{verb}"
        );
    }
    assert!(
        weir(&["healthcheck", "--ready", "--admin", &admin])
            .status
            .success()
    );
    proxy.stop();
}
