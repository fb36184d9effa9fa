//! Endpoints that answer with the cases: what the client gets is canonical or a 502 with its reason, and
//! nothing of a bad answer ever becomes part of another.

use std::io::Write;
use std::net::SocketAddr;

use super::cases::{Case, read};
use super::client::RawClient;
use crate::support::backend::scripted;
use crate::support::proxy::{Proxy, all_to};

const FINE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine";

#[test]
fn every_response_is_canonical_or_a_502() {
    let cases = read("responses.txt", include_str!("cases/responses.txt"));
    assert!(cases.len() > 100, "{} cases", cases.len());
    let script = cases.clone();
    let backend = scripted(move |seen, stream| {
        let number = seen.head.split(['/', ' ']).nth(2).unwrap_or_default();
        let case = number
            .parse()
            .ok()
            .and_then(|number: usize| script.get(number));
        let bytes = case.map_or(FINE, |case| &case.bytes);
        // The proxy may close in the middle of what it does not want.
        stream.write_all(bytes).is_ok() && !case.is_some_and(|case| case.has("shut"))
    });
    let proxy = Proxy::start_with(&all_to(backend.address), &["--workers", "1"]);
    let web = proxy.addr("web");
    let mut wrong = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        // On a kept connection to the endpoint, and on a new one.
        for warm in [true, false] {
            if let Err(why) = run(web, number, case, warm) {
                let start: String = String::from_utf8_lossy(&case.bytes)
                    .chars()
                    .take(120)
                    .collect();
                wrong.push(format!("{}, warm {warm}: {why}\n    {start:?}", case.place));
            }
        }
    }
    println!("{} cases of responses", cases.len());
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    proxy.stop();
}

fn run(web: SocketAddr, number: usize, case: &Case, warm: bool) -> Result<(), String> {
    let mut client = RawClient::connect(web);
    if warm {
        fine(&mut client).map_err(|why| format!("before it: {why}"))?;
    }
    let method = if case.has("head") { "HEAD" } else { "GET" };
    let version = if case.has("old") { "1.0" } else { "1.1" };
    let fields = if case.has("upgrade") {
        "Connection: upgrade\r\nUpgrade: websocket\r\n"
    } else {
        "TE: trailers\r\nConnection: te\r\n"
    };
    client.send(format!("{method} /{number} HTTP/{version}\r\nHost: a\r\n{fields}\r\n").as_bytes());
    let answer = match client.receive(case.has("head")) {
        Err(why) if case.has("cut") && why.starts_with("half an answer") => {
            return after(web, None);
        }
        Err(why) => return Err(why),
        // Nothing at all is not whole either.
        Ok(None) if case.has("cut") => return after(web, None),
        Ok(_) if case.has("cut") => return Err("it looks whole".to_owned()),
        Ok(None) => return Err("no answer".to_owned()),
        Ok(Some(answer)) => answer,
    };
    if !case.statuses[0].contains(&answer.status()) {
        return Err(format!("answered {}", answer.line));
    }
    for (word, value) in &case.words {
        let (name, content) = value.split_once(':').unwrap_or((value, ""));
        let has =
            |fields: &[(String, String)]| fields.iter().any(|(n, v)| n == name && v == content);
        let fine = match word.as_str() {
            "body" if answer.status() == 502 => true,
            "body" => answer.body == value.as_bytes(),
            "has" => has(&answer.fields),
            "trailer" => has(&answer.trailers),
            "no" => answer.values(value).next().is_none(),
            "reason" => answer
                .values("proxy-status")
                .any(|status| status.contains(value)),
            "shut" | "head" | "old" | "upgrade" => true,
            other => return Err(format!("no such word: {other}")),
        };
        if !fine {
            return Err(format!("{word}={value:?} of {answer:?}"));
        }
    }
    let kept = answer.status() != 101 && !case.has("old");
    after(web, kept.then_some(client))
}

/// The next answers are the next ones, on the same connection and on another.
fn after(web: SocketAddr, same: Option<RawClient>) -> Result<(), String> {
    for client in same.into_iter().chain([RawClient::connect(web)]) {
        let mut client = client;
        for _ in 0..2 {
            fine(&mut client).map_err(|why| format!("after it: {why}"))?;
        }
    }
    Ok(())
}

fn fine(client: &mut RawClient) -> Result<(), String> {
    client.send(b"GET /fine HTTP/1.1\r\nHost: a\r\n\r\n");
    match client.receive(false)? {
        Some(answer) if answer.status() == 200 && answer.body == b"fine" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
