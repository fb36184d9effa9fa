//! Reload and drain: nothing that works is disturbed.

use std::io::{Read, Write};
use std::time::Instant;

use crate::support::backend::{echo, scripted};
use crate::support::client::{Client, get};
use crate::support::eventually;
use crate::support::proxy::{Proxy, config};

fn weights(a: u32, b: u32) -> String {
    format!(
        "  - {{ name: r, rules: [{{ backendRefs: [{{ name: v1, weight: {a} }}, {{ name: v2, weight: {b} }}] }}] }}\n"
    )
}

#[test]
fn a_weight_takes_effect_and_a_broken_file_changes_nothing() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let backends = [("v1", v1.address), ("v2", v2.address)];
    let proxy = Proxy::start(&config(&weights(90, 10), &backends));
    let mut client = Client::connect(proxy.addr("web"));
    let mut ask = || {
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        client
            .receive(false)
            .unwrap()
            .header("x-backend")
            .unwrap()
            .to_owned()
    };
    ask();
    let began = Instant::now();
    proxy.write_config(&config(&weights(0, 100), &backends));
    proxy.wait_generation(2);
    println!("from write to effect: {:?}", began.elapsed());
    assert!(
        (0..50).all(|_| ask() == "v2"),
        "every request after the publish"
    );

    proxy.write_config("version: 1\nlisteners: [{ name: web, adress: x }]\n");
    eventually("the refusal", || {
        (proxy.metric("weir_config_last_reload_successful", &[]) < 0.5).then_some(())
    });
    assert_eq!(ask(), "v2");
    let status = proxy.json("/api/v1/status");
    let error = status["reload"]["error"].as_str().unwrap();
    assert!(
        error.contains("did you mean `address`") && error.contains("weir.yaml:2"),
        "{error}"
    );
    proxy.write_config(&config(&weights(100, 0), &backends));
    proxy.wait_generation(3);
    assert!((0..20).all(|_| ask() == "v1"));
    assert!(proxy.metric("weir_config_last_reload_successful", &[]) > 0.5);
    proxy.stop();
}

#[test]
fn listeners_come_and_go_while_connections_and_tunnels_live_on() {
    let backend = scripted(|seen, stream| {
        if !seen.head.contains("upgrade: websocket") {
            return stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                .is_ok();
        }
        stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").unwrap();
        let mut bytes = [0; 4];
        while stream.read_exact(&mut bytes).is_ok() {
            stream.write_all(&bytes).unwrap();
        }
        false
    });
    let one = config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    );
    let two = one.replace(
        "routes:",
        "  - { name: more, address: \"127.0.0.2:0\" }\nroutes:",
    );
    let proxy = Proxy::start(&one);
    let mut kept = Client::connect(proxy.addr("web"));
    let mut tunnel = Client::connect(proxy.addr("web"));
    tunnel.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(tunnel.receive(false).unwrap().status, 101);
    for round in 0..10 {
        proxy.write_config(if round % 2 == 0 { &two } else { &one });
        proxy.wait_generation(round + 2);
        if round % 2 == 0 {
            assert_eq!(get(proxy.addr("more"), "a", "/", &[]).status, 200);
        }
        kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(kept.receive(false).unwrap().status, 200);
        tunnel.send("ping");
        assert_eq!(tunnel.read_exactly(4), b"ping");
    }
    drop(tunnel);
    proxy.stop();
}

#[test]
fn hup_and_the_api_reload_and_a_symlink_swap_is_seen() {
    let (v1, v2) = (echo("v1"), echo("v2"));
    let backends = [("v1", v1.address), ("v2", v2.address)];
    let proxy = Proxy::start(&config(&weights(1, 0), &backends));
    proxy.signal("HUP");
    proxy.wait_generation(2);
    let mut client = Client::connect(proxy.admin());
    client.send("POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
    assert!(client.receive(false).unwrap().body.contains("\"applied\""));
    proxy.wait_generation(3);
    // As the kubelet does it: a folder for each version, and `..data` swapped to the newest.
    let folder = proxy.file().parent().unwrap();
    for (version, text) in [
        ("..1", config(&weights(1, 0), &backends)),
        ("..2", config(&weights(0, 1), &backends)),
    ] {
        std::fs::create_dir(folder.join(version)).unwrap();
        std::fs::write(folder.join(version).join("weir.yaml"), text).unwrap();
        std::os::unix::fs::symlink(version, folder.join("..data_tmp")).unwrap();
        std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
        if version == "..1" {
            std::fs::remove_file(proxy.file()).unwrap();
            std::os::unix::fs::symlink("..data/weir.yaml", proxy.file()).unwrap();
        }
    }
    let web = proxy.addr("web");
    eventually("the second version", || {
        (get(web, "a", "/", &[]).header("x-backend") == Some("v2")).then_some(())
    });
    proxy.stop();
}

#[test]
fn a_drain_answers_what_is_in_flight_and_refuses_what_is_new() {
    let backend = scripted(|seen, stream| {
        if seen.head.contains("/slow") {
            std::thread::park_timeout(std::time::Duration::from_millis(1500));
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
            .is_ok()
    });
    let text = config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    );
    let proxy = Proxy::start(&text.replace("delay: 0s", "delay: 700ms"));
    let web = proxy.addr("web");
    let mut slow = Client::connect(web);
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the slow request", || {
        (backend.requests() == 1).then_some(())
    });
    proxy.signal("TERM");
    eventually("not ready", || {
        (proxy.ask("/ready").status == 503).then_some(())
    });
    let during = get(web, "a", "/", &[]);
    assert_eq!(
        (during.status, during.header("connection")),
        (200, Some("close")),
        "still accepting"
    );
    eventually("nothing new", || {
        std::net::TcpStream::connect(web).is_err().then_some(())
    });
    assert_eq!(
        slow.receive(false).unwrap().status,
        200,
        "what was in flight is answered"
    );
    proxy.wait();
}

#[test]
fn a_second_signal_stops_at_once() {
    let backend = scripted(|_, _| {
        std::thread::park_timeout(std::time::Duration::from_secs(20));
        false
    });
    let text = config(
        "  - { name: r, rules: [{ backendRefs: [{ name: v1 }] }] }\n",
        &[("v1", backend.address)],
    );
    let proxy = Proxy::start(&text.replace("timeout: 5s", "timeout: 60s"));
    let mut stuck = Client::connect(proxy.addr("web"));
    stuck.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually("the request", || (backend.requests() == 1).then_some(()));
    proxy.signal("TERM");
    eventually("not ready", || {
        (proxy.ask("/ready").status == 503).then_some(())
    });
    proxy.signal("TERM");
    assert!(proxy.wait().contains("\"reason\":\"drained\""));
}
