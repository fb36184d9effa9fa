//! Clients that send the cases: every request that reaches the backend is canonical, or the client is
//! refused, its connection closed, and nothing whole gets through.

use std::net::SocketAddr;

use super::canonical::Message;
use super::cases::{Case, read};
use super::client::RawClient;
use super::recorder::Recorder;
use crate::support::proxy::{Proxy, config, with_listener};

/// Every table of requests.
pub(crate) fn all() -> Vec<Case> {
    let tables = [
        ("framing.txt", include_str!("cases/framing.txt")),
        ("chunks.txt", include_str!("cases/chunks.txt")),
        ("heads.txt", include_str!("cases/heads.txt")),
        ("targets.txt", include_str!("cases/targets.txt")),
        ("fields.txt", include_str!("cases/fields.txt")),
        ("pipelines.txt", include_str!("cases/pipelines.txt")),
    ];
    tables
        .into_iter()
        .flat_map(|(file, text)| read(file, text))
        .collect()
}

/// A proxy of one worker in front of the recorder. `/none` has no backend.
pub(crate) fn start(recorder: &Recorder, fields: &str) -> Proxy {
    let routes = "  - name: r\n    rules:\n      - { name: none, matches: [{ path: { value: /none } }], backendRefs: [] }\n      - { name: all, backendRefs: [{ name: v1 }] }\n";
    let text = config(routes, &[("v1", recorder.backend.address)]);
    let listener = format!("limits: {{ bodyBytes: 64KiB }}{fields}");
    Proxy::start_with(&with_listener(&text, &listener), &["--workers", "1"])
}

/// Which engine of the proxy reads the case: the one that plain requests begin with, or the one that a
/// connection stays with once a request had a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Plain,
    WithABody,
}

/// Makes the proxy read what follows with the other engine.
const WITH_A_BODY: &[u8] = b"POST /begun HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn every_request_is_canonical_or_refused() {
    every_case(Begun::Plain);
}

#[test]
fn behind_a_request_with_a_body_it_is_the_same() {
    every_case(Begun::WithABody);
}

fn every_case(begun: Begun) {
    let recorder = Recorder::start();
    let proxy = start(&recorder, "");
    let web = proxy.addr("web");
    let cases = all();
    assert!(cases.len() > 500, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let ran = run(web, case, begun);
        let (mut seen, faults) = recorder.take();
        seen.retain(|message| message.target() != "/begun");
        let judged = ran.and_then(|answers| judge(case, &answers, &seen));
        let start: String = String::from_utf8_lossy(&case.bytes)
            .chars()
            .take(200)
            .collect();
        let all = judged.err().into_iter().chain(faults);
        wrong.extend(all.map(|why| format!("{}: {why}\n    {start:?}", case.place)));
    }
    println!("{} cases of requests", cases.len());
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    proxy.stop();
}

/// A connection whose next request is read by the engine that is wanted.
pub(crate) fn connect(web: SocketAddr, begun: Begun) -> Result<RawClient, String> {
    let mut client = RawClient::connect(web);
    if begun == Begun::WithABody {
        client.send(WITH_A_BODY);
        let answer = client.receive(false)?;
        if answer.is_none_or(|answer| answer.status() != 200) {
            return Err("what came before was not answered".to_owned());
        }
    }
    Ok(client)
}

/// Sends a case; the answers that it expects, in order.
fn run(web: SocketAddr, case: &Case, begun: Begun) -> Result<Vec<Message>, String> {
    let mut client = connect(web, begun)?;
    client.send(&case.bytes);
    if case.has("finish") {
        client.finish();
    }
    let (mut answers, mut last) = (Vec::new(), 0);
    for expected in &case.statuses {
        let bodiless = answers.is_empty() && case.bytes.starts_with(b"HEAD ");
        let answer = client.receive(bodiless)?;
        let status = answer.as_ref().map_or(0, Message::status);
        if !expected.contains(&status) {
            return Err(format!("answered {status}, not {expected:?}"));
        }
        answers.extend(answer);
        last = status;
    }
    let ends = !case.has("open") && !(101..400).contains(&last) || case.has("close");
    if ends {
        client.closes()?;
    } else {
        // The connection is in step: the next request on it gets its own answer.
        client.send(b"GET /probe HTTP/1.1\r\nHost: a\r\n\r\n");
        match client.receive(false)? {
            Some(answer) if answer.status() == 200 => {}
            other => return Err(format!("a probe after it got {other:?}")),
        }
    }
    Ok(answers)
}

fn judge(case: &Case, answers: &[Message], seen: &[Message]) -> Result<(), String> {
    let lines: Vec<_> = seen.iter().map(|message| message.line.as_str()).collect();
    let by_backend = |answer: &&Message| matches!(answer.status(), 101..400);
    let served = answers.iter().filter(by_backend).count();
    let expected = if case.has("own") { 0 } else { served };
    let whole = lines
        .iter()
        .filter(|line| !line.starts_with("GET /probe "))
        .count();
    if whole != expected {
        return Err(format!("the backend saw {lines:?}"));
    }
    let Some(first) = seen.first().filter(|_| expected > 0) else {
        return Ok(());
    };
    for (word, value) in &case.words {
        let (name, content) = value.split_once(':').unwrap_or((value, ""));
        let body = String::from_utf8_lossy(&first.body);
        let has =
            |fields: &[(String, String)]| fields.iter().any(|(n, v)| n == name && v == content);
        let fine = match word.as_str() {
            "target" => first.target() == value,
            "host" => first.values("host").next() == Some(value),
            "body" => body == *value,
            "has" => has(&first.fields),
            "trailer" => has(&first.trailers),
            "no" | "no2" => first.values(value).next().is_none(),
            "open" | "close" | "finish" | "own" => true,
            other => return Err(format!("no such word: {other}")),
        };
        if !fine {
            return Err(format!("{word}={value:?} of {first:?}"));
        }
    }
    Ok(())
}
