//! Endpoints that speak HTTP/2 badly, or not at all: the client gets its answer, and soon.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::wire::{
    BOTH, CALM, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING,
    PROTOCOL, PUSH_PROMISE, SETTINGS, block, data, field, frame, headers, indexed_later, reset,
    settings, sized, window_update,
};
use crate::support::backend::{Backend, raw};
use crate::support::client::{Client, get};
use crate::support::proxy::{Proxy, all_to};

/// What an endpoint does once it has read the head of a request on a stream.
type Doing = fn(u32) -> Vec<u8>;

struct Case {
    name: &'static str,
    /// Status, and a word of `proxy-status`; 0 for an answer that is cut.
    expect: (u16, &'static str),
    /// What it says of itself instead of empty settings.
    greeting: Option<Vec<u8>>,
    doing: Doing,
    /// The connection stays open behind it.
    stays: bool,
}

fn case(name: &'static str, expect: (u16, &'static str), doing: Doing) -> Case {
    Case {
        name,
        expect,
        greeting: None,
        doing,
        stays: false,
    }
}

impl Case {
    fn stays(mut self) -> Self {
        self.stays = true;
        self
    }

    fn greets(mut self, bytes: Vec<u8>) -> Self {
        self.greeting = Some(bytes);
        self
    }
}

fn goaway(last: u32, error: u32) -> Vec<u8> {
    frame(
        GOAWAY,
        0,
        0,
        &[last.to_be_bytes(), error.to_be_bytes()].concat(),
    )
}

fn ok(stream: u32) -> Vec<u8> {
    [
        headers(stream, END_HEADERS, &[0x88]),
        data(stream, END_STREAM, b"ok"),
    ]
    .concat()
}

fn head(stream: u32, fields: &[(&str, &str)]) -> Vec<u8> {
    headers(stream, BOTH, &block(fields))
}

const RESET: (u16, &str) = (502, "upstream_reset");
const INVALID: (u16, &str) = (502, "upstream_invalid");
const LATE: (u16, &str) = (504, "request_timeout");
const FINE: (u16, &str) = (200, "");
const CUT: (u16, &str) = (0, "");

fn cases() -> Vec<Case> {
    vec![
        case("a good answer", FINE, ok).stays(),
        case("reset before the head", RESET, |s| reset(s, CANCEL)),
        case("reset before the head, and it stays", RESET, |s| {
            reset(s, 2)
        })
        .stays(),
        case("refused", RESET, |s| reset(s, 7)).stays(),
        case("goaway below the stream", RESET, |_| goaway(0, 0)),
        case("goaway below the stream, and it stays", RESET, |_| {
            goaway(0, 0)
        })
        .stays(),
        case("goaway with an error", RESET, |s| goaway(s, PROTOCOL)),
        case("goaway at the stream, then the answer", FINE, |s| {
            [goaway(s, 0), ok(s)].concat()
        }),
        case(
            "goaway in the middle of the answer, then the rest",
            FINE,
            |s| {
                [
                    headers(s, END_HEADERS, &[0x88]),
                    goaway(s, 0),
                    data(s, END_STREAM, b"ok"),
                ]
                .concat()
            },
        ),
        case("goaway at the stream, then nothing", RESET, |s| {
            goaway(s, 0)
        }),
        case("calm", RESET, |_| goaway(0, CALM)),
        case("closed before the answer", RESET, |_| vec![]),
        case("silence", LATE, |_| vec![]).stays(),
        case("a head and silence", CUT, |s| {
            headers(s, END_HEADERS, &[0x88])
        })
        .stays(),
        case("a head and the end of the connection", CUT, |s| {
            headers(s, END_HEADERS, &[0x88])
        }),
        case("reset in the middle of the body", CUT, |s| {
            [
                headers(s, END_HEADERS, &[0x88]),
                data(s, 0, b"half"),
                reset(s, 2),
            ]
            .concat()
        }),
        case("HTTP/1 instead", INVALID, |_| vec![])
            .greets(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n".to_vec()),
        case("settings of a wrong size", INVALID, |_| vec![])
            .greets(frame(SETTINGS, 0, 0, &[0; 5])),
        case("settings of a wrong value", INVALID, |_| vec![]).greets(settings(&[(5, 1)])),
        case("no settings", FINE, ok).greets(vec![]),
        case("data before the head", INVALID, |s| {
            data(s, END_STREAM, b"x")
        }),
        case("data on a stream that nobody opened", INVALID, |s| {
            data(s + 2, END_STREAM, b"x")
        }),
        case("an answer on stream 0", INVALID, |_| {
            headers(0, BOTH, &[0x88])
        }),
        case("an answer on a stream of its own", INVALID, |_| {
            headers(2, BOTH, &[0x88])
        }),
        case("a push", INVALID, |s| {
            let promise = [&[0, 0, 0, 2][..], &[0x82, 0x86, 0x84, 0x41, 1, b'a']].concat();
            frame(PUSH_PROMISE, END_HEADERS, s, &promise)
        }),
        case("a frame of 16 MB", INVALID, |s| {
            sized(0xff_ffff, DATA, 0, s, &[])
        }),
        case("a ping of 7 bytes", INVALID, |_| frame(PING, 0, 0, &[0; 7])),
        case("a window by 0", INVALID, |_| window_update(0, 0)),
        case("no status", INVALID, |s| head(s, &[("x", "y")])),
        case("status abc", INVALID, |s| head(s, &[(":status", "abc")])),
        case("status 99", INVALID, |s| head(s, &[(":status", "99")])),
        case("two statuses", INVALID, |s| {
            head(s, &[(":status", "200"), (":status", "204")])
        }),
        case("status behind a field", INVALID, |s| {
            head(s, &[("x", "y"), (":status", "200")])
        }),
        case("a name with capitals", INVALID, |s| {
            head(s, &[(":status", "200"), ("X-A", "y")])
        }),
        case("CR LF in a value", INVALID, |s| {
            head(s, &[(":status", "200"), ("x", "y\r\nset-cookie: a=b")])
        }),
        case("connection", INVALID, |s| {
            head(s, &[(":status", "200"), ("connection", "close")])
        }),
        case("transfer-encoding", INVALID, |s| {
            head(s, &[(":status", "200"), ("transfer-encoding", "chunked")])
        }),
        case("a switch of protocols", INVALID, |s| {
            head(s, &[(":status", "101")])
        }),
        case("two lengths", INVALID, |s| {
            head(
                s,
                &[
                    (":status", "200"),
                    ("content-length", "0"),
                    ("content-length", "1"),
                ],
            )
        }),
        case("a body shorter than its length", CUT, |s| {
            [
                headers(
                    s,
                    END_HEADERS,
                    &block(&[(":status", "200"), ("content-length", "9")]),
                ),
                data(s, END_STREAM, b"half"),
            ]
            .concat()
        }),
        case("a body longer than its length", CUT, |s| {
            [
                headers(
                    s,
                    END_HEADERS,
                    &block(&[(":status", "200"), ("content-length", "2")]),
                ),
                data(s, END_STREAM, b"too much"),
            ]
            .concat()
        }),
        case("half a header block", INVALID, |s| {
            [headers(s, 0, &[0x88]), frame(PING, 0, 0, &[0; 8])].concat()
        }),
        case("a block that is no HPACK", INVALID, |s| {
            headers(s, BOTH, &[0x80])
        }),
        case("continuations without end", INVALID, |s| {
            let more = frame(CONTINUATION, 0, s, &[]);
            [headers(s, 0, &[0x88]), more.repeat(10_000)].concat()
        }),
        case("a bomb", INVALID, |s| {
            let first = indexed_later("x", &[b'y'; 4000]);
            headers(s, BOTH, &[vec![0x88], first, vec![0xbe; 10_000]].concat())
        }),
        case("twenty hints, then the answer", FINE, |s| {
            let hint = headers(s, END_HEADERS, &block(&[(":status", "103")]));
            [hint.repeat(20), ok(s)].concat()
        })
        .stays(),
        case("a hint that ends the stream", INVALID, |s| {
            head(s, &[(":status", "103")])
        }),
        case("trailers with a status", FINE, |s| {
            [
                headers(s, END_HEADERS, &[0x88]),
                data(s, 0, b"ok"),
                head(s, &[(":status", "500")]),
            ]
            .concat()
        })
        .stays(),
        case("trailers that do not end", CUT, |s| {
            [
                headers(s, END_HEADERS, &[0x88]),
                data(s, 0, b"ok"),
                headers(s, END_HEADERS, &field("x", "y")),
            ]
            .concat()
        })
        .stays(),
        case("more data than the window", CUT, |s| {
            let piece = data(s, 0, &[b'x'; 16_384]);
            [headers(s, END_HEADERS, &[0x88]), piece.repeat(2000)].concat()
        }),
        case("pings without end", INVALID, |_| {
            frame(PING, 0, 0, &[0; 8]).repeat(20_000)
        }),
        case("settings without end", INVALID, |_| {
            settings(&[]).repeat(20_000)
        }),
        case("windows without end", INVALID, |s| {
            window_update(s, 1).repeat(20_000)
        }),
        case("frames of no known kind without end", INVALID, |s| {
            frame(0xfa, 0, s, b"grease").repeat(20_000)
        }),
        case("hints without end", INVALID, |s| {
            headers(s, END_HEADERS, &block(&[(":status", "103")])).repeat(20_000)
        }),
        case("a window that stays shut", FINE, ok).greets(settings(&[(4, 0)])),
    ]
}

fn read_frame(stream: &mut TcpStream) -> Option<(u8, u32)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).ok()?;
    Some((head[3], u32::from_be_bytes(head[5..].try_into().unwrap())))
}

/// Plays the case whose number is set.
fn player(cases: Arc<Vec<Case>>, now: Arc<AtomicUsize>) -> Backend {
    raw(move |mut stream, counter| {
        let case = &cases[now.load(Ordering::SeqCst)];
        let mut preface = [0; 24];
        if stream.read_exact(&mut preface).is_err() {
            return;
        }
        let greeting = case.greeting.clone().unwrap_or_else(|| settings(&[]));
        drop(stream.write_all(&greeting));
        while let Some((kind, number)) = read_frame(&mut stream) {
            if kind != HEADERS {
                continue;
            }
            counter.fetch_add(1, Ordering::SeqCst);
            let case = &cases[now.load(Ordering::SeqCst)];
            // The proxy may have had enough in the middle of it.
            drop(stream.write_all(&(case.doing)(number)));
            if !case.stays {
                // Unread bytes would turn the close into a reset.
                drop(stream.shutdown(std::net::Shutdown::Write));
                drop(std::io::copy(&mut stream, &mut std::io::sink()));
                return;
            }
        }
    })
}

#[test]
fn hostile_endpoints_cost_their_own_request_only() {
    let (cases, now) = (Arc::new(cases()), Arc::new(AtomicUsize::new(0)));
    let backend = player(Arc::clone(&cases), Arc::clone(&now));
    let config = all_to(backend.address)
        .replace(
            "{ name: v1, endpoints",
            "{ name: v1, protocol: h2c, endpoints",
        )
        .replace("{ name: all,", "{ name: all, timeouts: { request: 1s },");
    let proxy = Proxy::start(&config);
    let web = proxy.addr("web");
    let faults = Mutex::new(Vec::new());
    for (number, case) in cases.iter().enumerate() {
        now.store(number, Ordering::SeqCst);
        let began = Instant::now();
        let mut client = Client::connect(web);
        client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let answer = match client.receive_final(false) {
            Ok(Some(answer)) => answer,
            Ok(None) | Err(_) => Default::default(),
        };
        let said = answer.header("proxy-status").unwrap_or_default();
        let (status, word) = case.expect;
        if answer.status != status || !said.contains(word) {
            let mut faults = faults.lock().unwrap();
            let body = &answer.body[..answer.body.len().min(60)];
            faults.push(format!(
                "{}: {} {said:?} {body:?} instead of {:?}",
                case.name, answer.status, case.expect
            ));
        }
        let took = began.elapsed();
        if took > Duration::from_secs(4) {
            let mut faults = faults.lock().unwrap();
            faults.push(format!("{}: it took {took:?}", case.name));
        }
    }
    now.store(0, Ordering::SeqCst);
    assert_eq!(get(web, "a", "/", &[]).status, 200);
    for kind in ["ping", "settings", "window_update", "other_frame", "answer"] {
        let labels = ["backend=\"v1\"", &format!("kind=\"{kind}\"")];
        let counted = proxy.metric("weir_upstream_http2_limit_exceeded_total", &labels);
        assert!(counted > 0.5, "{kind}: {counted}");
    }
    let faults = faults.into_inner().unwrap();
    println!("endpoints: {} ways to misbehave", cases.len());
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    proxy.stop();
}

/// A body waits for a window that is never opened; the request's deadline ends it.
#[test]
fn a_window_that_is_never_opened_ends_with_the_deadline() {
    let backend = raw(|mut stream, _| {
        drop(stream.write_all(&settings(&[(4, 0)])));
        drop(std::io::copy(&mut stream, &mut std::io::sink()));
    });
    let config = all_to(backend.address)
        .replace(
            "{ name: v1, endpoints",
            "{ name: v1, protocol: h2c, endpoints",
        )
        .replace("{ name: all,", "{ name: all, timeouts: { request: 1s },");
    let proxy = Proxy::start(&config);
    let mut client = Client::connect(proxy.addr("web"));
    let body = "x".repeat(200_000);
    client.try_send(&format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{body}"
    ));
    let answer = client.receive(false).unwrap();
    assert_eq!(answer.status, 504);
    proxy.stop();
}

/// What a kept connection refuses has not been looked at: it is sent again, whatever its method.
#[test]
fn what_an_endpoint_has_not_looked_at_is_sent_again() {
    for refusal in [
        |s| reset(s, 7),
        |s: u32| [goaway(s.saturating_sub(2), 0)].concat(),
    ] {
        let backend = raw(move |mut stream, counter| {
            let mut preface = [0; 24];
            if stream.read_exact(&mut preface).is_err() {
                return;
            }
            drop(stream.write_all(&settings(&[])));
            while let Some((kind, number)) = read_frame(&mut stream) {
                if kind != HEADERS {
                    continue;
                }
                counter.fetch_add(1, Ordering::SeqCst);
                // Its first request is served, its second is not.
                let said = if number == 1 {
                    ok(number)
                } else {
                    refusal(number)
                };
                drop(stream.write_all(&said));
            }
        });
        let config = all_to(backend.address).replace(
            "{ name: v1, endpoints",
            "{ name: v1, protocol: h2c, endpoints",
        );
        let proxy = Proxy::start_with(&config, &["--workers", "1"]);
        let web = proxy.addr("web");
        for method in ["GET", "GET", "POST", "POST", "GET"] {
            let mut client = Client::connect(web);
            let answer = client.ask(&format!(
                "{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            ));
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (200, "ok"),
                "{method}"
            );
        }
        assert!(backend.requests() > 5, "{}", backend.requests());
        assert!(proxy.metric("weir_errors_total", &[]) < 0.5);
        proxy.stop();
    }
}

/// RFC 9113, 8.1: who answers before the end of a request tells so by a reset without an error. However
/// many do, the connection is a good one.
#[test]
fn answers_before_the_end_of_requests_cost_no_connection() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let backend = raw(move |mut stream, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        let mut preface = [0; 24];
        if stream.read_exact(&mut preface).is_err() {
            return;
        }
        drop(stream.write_all(&settings(&[])));
        while let Some((kind, number)) = read_frame(&mut stream) {
            if kind == HEADERS {
                let early = [ok(number), reset(number, 0)].concat();
                drop(stream.write_all(&early));
            }
        }
    });
    let config = all_to(backend.address).replace(
        "{ name: v1, endpoints",
        "{ name: v1, protocol: h2c, endpoints",
    );
    let proxy = Proxy::start_with(&config, &["--workers", "1"]);
    let mut client = Client::connect(proxy.addr("web"));
    for number in 0..400 {
        let answer = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx");
        let answer = (answer.status, answer.body.as_str());
        assert_eq!(answer, (200, "ok"), "{number}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    proxy.stop();
}
