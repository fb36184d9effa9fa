//! Every way in which a configuration changes, and what a change must not touch.

use std::fs;
use std::time::{Duration, Instant};

use crate::support::backend::echo;
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, all_to, config};

/// How long the old configuration serves after the new file is there.
#[test]
fn a_changed_weight_takes_effect_soon() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let named = [("v1", v1.address), ("v2", v2.address)];
    let text = |one: u32, two: u32| {
        config(
            &format!(
                "  - {{ name: r, rules: [{{ backendRefs: [{{ name: v1, weight: {one} }}, {{ name: v2, weight: {two} }}] }}] }}\n"
            ),
            &named,
        )
    };
    let proxy = Proxy::start(&text(90, 10));
    let mut client = Client::connect(proxy.addr("web"));
    let mut took = Vec::new();
    for round in 0_u64..20 {
        // Its effect is there with the first of twenty answers in a row by the one that gets all.
        let (mut in_a_row, mut first) = (0, Duration::ZERO);
        let began = Instant::now();
        proxy.write_config(&text(0, 100));
        while in_a_row < 20 {
            let who = client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").who();
            assert!(["v1", "v2"].contains(&who.as_str()), "{who}");
            if in_a_row == 0 {
                first = began.elapsed();
            }
            in_a_row = if who == "v2" { in_a_row + 1 } else { 0 };
        }
        took.push(first);
        proxy.write_config(&text(90, 10));
        proxy.wait_generation(2 * round + 3);
    }
    took.sort_unstable();
    println!(
        "from write to effect, of 20 changes from 90/10 to 0/100: median {:?}, 90th percentile {:?}, slowest {:?}",
        took[9], took[17], took[19]
    );
    assert!(took[19].as_secs() < 2, "{took:?}");
    // It is counted a moment after it is seen.
    eventually("the last reload to be counted", || {
        let counted = proxy.metric("weir_config_reloads_total", &["result=\"success\""]);
        (counted as u64 == 40).then_some(())
    });
    proxy.stop();
}

/// Whatever a tool does to the file: the new content within two seconds, or the old one serves on.
#[test]
fn every_way_of_replacing_a_file() {
    let backends = [echo("v1"), echo("v2")];
    let to = |n: usize| {
        all_to(backends[n].address).replace(
            "accessLog: { format: json }\n",
            &format!("accessLog: {{ format: json }}\n# {n}\n"),
        )
    };
    let proxy = Proxy::start(&to(0));
    let web = proxy.addr("web");
    let file = proxy.file().to_owned();
    let serves = |name: &str, how: &str| {
        let began = Instant::now();
        eventually(how, || {
            (get(web, "a", "/", &[]).who() == name).then_some(())
        });
        assert!(
            began.elapsed().as_secs() < 3,
            "{how}: {:?}",
            began.elapsed()
        );
    };
    proxy.write_config(&to(1));
    serves("v2", "rename");
    fs::write(&file, to(0)).unwrap();
    serves("v1", "truncate and write");
    fs::remove_file(&file).unwrap();
    fs::write(&file, to(1)).unwrap();
    serves("v2", "remove and create");
    let backup = file.with_extension("bak");
    fs::rename(&file, &backup).unwrap();
    fs::write(&file, to(0)).unwrap();
    serves("v1", "move away and create");
    fs::write(file.with_extension("real"), to(1)).unwrap();
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("weir.real", &file).unwrap();
    serves("v2", "symlink");
    // Gone, empty or half-written: the last good one serves, and says so.
    for (broken, how) in [
        (None, "removed"),
        (Some(""), "empty"),
        (Some("version: 1\nlisteners:\n  - { na"), "half"),
    ] {
        fs::remove_file(&file).unwrap_or_default();
        if let Some(text) = broken {
            fs::write(&file, text).unwrap();
        }
        eventually(how, || {
            (proxy.metric("weir_config_last_reload_successful", &[]) < 0.5).then_some(())
        });
        assert_eq!(get(web, "a", "/", &[]).who(), "v2", "{how}");
        assert!(
            proxy.json("/api/v1/status")["reload"]["error"].is_string(),
            "{how}"
        );
        proxy.write_config(&to(1));
        eventually("recovery", || {
            (proxy.metric("weir_config_last_reload_successful", &[]) > 0.5).then_some(())
        });
    }
    proxy.stop();
}

/// 100 quick rewrites: the last content wins, and no request fails on the way.
#[test]
fn a_flood_of_rewrites_ends_with_the_last_content() {
    let backends = [echo("v1"), echo("v2")];
    let last = echo("v3");
    let proxy = Proxy::start(&all_to(backends[0].address));
    let web = proxy.addr("web");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&stop);
    let traffic = std::thread::spawn(move || {
        let mut client = Client::connect(web);
        let mut sent = 0_u64;
        while !flag.load(std::sync::atomic::Ordering::SeqCst) {
            assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
            sent += 1;
        }
        sent
    });
    for round in 0..100 {
        proxy.write_config(&all_to(backends[round % 2].address));
        if round % 10 == 0 {
            proxy.signal("HUP");
        }
    }
    // What none of the others has: it cannot be taken for one of them.
    proxy.write_config(&all_to(last.address));
    eventually("the last content", || {
        (get(web, "a", "/", &[]).who() == "v3").then_some(())
    });
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(traffic.join().unwrap() > 0);
    for _ in 0..20 {
        assert_eq!(get(web, "a", "/", &[]).who(), "v3");
    }
    proxy.stop();
}

/// A listener that cannot be bound refuses the whole change.
#[test]
fn an_address_in_use_refuses_the_reload() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::start(&all_to(v1.address));
    let bad = all_to(v2.address).replace(
        "routes:",
        &format!(
            "  - {{ name: more, address: \"{}\" }}\nroutes:",
            taken.local_addr().unwrap()
        ),
    );
    proxy.write_config(&bad);
    eventually("the refusal", || {
        (proxy.metric("weir_config_reloads_total", &["result=\"failure\""]) > 0.5).then_some(())
    });
    assert_eq!(get(proxy.addr("web"), "a", "/", &[]).who(), "v1");
    let status = proxy.json("/api/v1/status");
    assert!(
        status["reload"]["error"].as_str().unwrap().contains("more"),
        "{status}"
    );
    assert_eq!(status["generation"], 1);
    drop(taken);
    let mut client = Client::connect(proxy.admin());
    let reload =
        client.ask("POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reload.status, 200, "{reload:?}");
    assert_eq!(get(proxy.addr("more"), "a", "/", &[]).who(), "v2");
    proxy.stop();
}

/// A broken file over the API says what is wrong with it.
#[test]
fn the_api_tells_why_it_refuses() {
    let backend = echo("v1");
    let proxy = Proxy::start(&all_to(backend.address));
    proxy.write_config(
        &all_to(backend.address)
            .replace("backendRefs: [{ name: v1 }]", "backendRefs: [{ name: v7 }]"),
    );
    let mut client = Client::connect(proxy.admin());
    let reload =
        client.ask("POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reload.status, 422, "{reload:?}");
    assert!(
        reload.body.contains("v7") && reload.body.contains("weir.yaml:"),
        "{}",
        reload.body
    );
    proxy.stop();
}

/// Requests, pools and numbers of a backend live on over a reload that leaves it as it is.
#[test]
fn unchanged_backends_keep_their_connections() {
    let backend = echo("v1");
    let text = all_to(backend.address);
    let proxy = Proxy::start_with(&text, &["--workers", "1"]);
    let mut client = Client::connect(proxy.addr("web"));
    client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    for generation in 2..6 {
        proxy.write_config(&text.replace("name: all", &format!("name: all{generation}")));
        proxy.wait_generation(generation);
        assert_eq!(client.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    }
    let made = proxy.metric("weir_upstream_connections_total", &["backend=\"v1\""]);
    assert!(
        (made - 1.0).abs() < 0.5,
        "{made} connections for five requests of one client"
    );
    assert!((proxy.metric("weir_requests_total", &["rule=\"all5\""]) - 1.0).abs() < 0.5);
    proxy.stop();
}

/// A folder of files is one configuration.
#[test]
fn a_folder_is_joined_in_file_name_order() {
    let backend = echo("v1");
    let folder = tempfile::tempdir().unwrap();
    let routes = |path: &str| {
        format!(
            "version: 1\nroutes:\n  - {{ name: r{path}, rules: [{{ matches: [{{ path: {{ value: /{path} }} }}], backendRefs: [{{ name: v1 }}] }}] }}\n"
        )
    };
    let base = config("", &[("v1", backend.address)]).replace("routes:\n\n", "");
    assert!(!base.contains("routes"), "{base}");
    fs::write(folder.path().join("10-base.yaml"), base).unwrap();
    fs::write(folder.path().join("20-a.yaml"), routes("a")).unwrap();
    let proxy = Proxy::start_path(folder.path(), &["--workers", "1"]);
    let web = proxy.addr("web");
    assert_eq!(
        (
            get(web, "x", "/a", &[]).status,
            get(web, "x", "/b", &[]).status
        ),
        (200, 404)
    );
    fs::write(folder.path().join("30-b.yaml"), routes("b")).unwrap();
    eventually("the second file", || {
        (get(web, "x", "/b", &[]).status == 200).then_some(())
    });
    fs::remove_file(folder.path().join("20-a.yaml")).unwrap();
    eventually("the first gone", || {
        (get(web, "x", "/a", &[]).status == 404).then_some(())
    });
    proxy.stop();
}
