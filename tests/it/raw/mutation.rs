//! Variants of the cases that nobody wrote down: a few bytes changed, from a fixed seed.
//!
//! No variant has an expectation of its own. Whatever reaches the backend is canonical, every answer is,
//! and the backend is never asked more often than the client is answered.

use std::net::SocketAddr;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::recorder::Recorder;
use super::requests::{Begun, all, connect, start};
use crate::support::client::get;

const SEED: u64 = 20_260_801;
const VARIANTS: usize = 4000;
/// Longer cases are about limits; most of their bytes mean nothing.
const LONGEST: usize = 1000;

/// What is put in, besides single bytes: what framing and heads are made of.
const PIECES: [&[u8]; 24] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b"\0",
    b":",
    b",",
    b";",
    b"0",
    b"0\r\n\r\n",
    b"\x0b",
    b"\xff",
    b"%2e",
    b"..",
    b"//",
    b"Content-Length: 5\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x-forwarded-for\r\n",
    b"Host: b\r\n",
    b"Expect: 100-continue\r\n",
    b"X-Forwarded-For: 6.6.6.6\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
];

#[test]
fn variants_of_the_cases_are_canonical_or_refused() {
    let recorder = Recorder::start();
    let proxy = start(&recorder, ", halfClose: true");
    let web = proxy.addr("web");
    let cases = all();
    let short: Vec<_> = cases
        .iter()
        .filter(|case| case.bytes.len() < LONGEST)
        .collect();
    let served: Vec<_> = short
        .iter()
        .copied()
        .filter(|case| case.statuses[0] == [200])
        .collect();
    let mut rng = SmallRng::seed_from_u64(SEED);
    let (mut wrong, mut passed) = (Vec::new(), 0);
    for number in 0..VARIANTS {
        let from = if number % 2 == 0 { &short } else { &served };
        let case = from[rng.random_range(0..from.len())];
        let mut bytes = case.bytes.clone();
        for _ in 0..rng.random_range(1..4) {
            mutate(&mut bytes, &mut rng);
        }
        let begun = [Begun::Plain, Begun::WithABody][number / 2 % 2];
        let answered = run(web, &bytes, begun);
        let (mut seen, mut faults) = recorder.take();
        seen.retain(|message| message.target() != "/begun");
        passed += seen.len();
        match answered {
            Ok(answered) if seen.len() <= answered => {}
            Ok(answered) => faults.push(format!("{} seen, {answered} answered", seen.len())),
            Err(why) => faults.push(why),
        }
        let text = String::from_utf8_lossy(&bytes);
        wrong.extend(
            faults
                .iter()
                .map(|why| format!("{number}, of {}: {why}\n    {text:?}", case.place)),
        );
    }
    println!("{VARIANTS} variants, {passed} requests reached the backend");
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        passed > VARIANTS / 10,
        "only {passed}: the variants are too wild to show anything"
    );
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    proxy.stop();
}

fn mutate(bytes: &mut Vec<u8>, rng: &mut SmallRng) {
    let at = rng.random_range(0..=bytes.len());
    let until = (at + rng.random_range(1..8)).min(bytes.len());
    match rng.random_range(0..6) {
        0 if at < bytes.len() => bytes[at] = rng.random(),
        1 if at < bytes.len() => bytes[at] ^= 1 << rng.random_range(0..8),
        2 => drop(bytes.drain(at..until)),
        // What is there comes twice.
        3 => {
            let twice = bytes[at..until].to_vec();
            bytes.splice(at..at, twice);
        }
        // The case's end is lost.
        4 if at > bytes.len() / 2 => bytes.truncate(at),
        _ => {
            let piece = PIECES[rng.random_range(0..PIECES.len())];
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}

/// Sends a variant and nothing more; how many answers came before the connection ended. Of a last one
/// that breaks off, the proxy need not have the rest.
fn run(web: SocketAddr, bytes: &[u8], begun: Begun) -> Result<usize, String> {
    let mut client = connect(web, begun)?;
    client.send(bytes);
    client.finish();
    let mut answered = 0;
    loop {
        match client.receive(false) {
            Ok(Some(answer)) if answer.status() == 101 => return Ok(answered + 1),
            Ok(Some(_)) => answered += 1,
            Ok(None) => return Ok(answered),
            // Of HEAD a variant may have made, or left, anything.
            Err(why) if why.ends_with("\\r\\n\\r\\n\"") => return Ok(answered + 1),
            Err(why) => return Err(why),
        }
    }
}
