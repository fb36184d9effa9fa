//! The faults, and what is to be seen of each.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Seen, goaway, head_of, hint, unavailable, whole};
use crate::h2::wire::{self, CANCEL};

/// Which endpoint has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Http1,
    Http2,
    Refused,
    Deaf,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Refused => "refused",
            Self::Deaf => "deaf",
        }
    }
}

/// What an endpoint does instead of a good answer.
enum Act {
    Nothing,
    Http1(fn(&mut TcpStream)),
    /// The bytes for a stream; then the connection ends, or stays open in silence.
    Http2(fn(u32) -> Vec<u8>, bool),
}

pub(super) struct Fault {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    act: Act,
    /// 0 for an answer that is cut.
    status: u16,
    /// Empty where the endpoint's own answer is passed on.
    reason: &'static str,
    /// Of an attempt.
    outcome: &'static str,
    /// Why a rule would repeat it; empty where it does not.
    retry: &'static str,
    /// The endpoint may have acted on it.
    processed: bool,
    /// It asks for a longer pause than there is time.
    too_long: bool,
}

/// An endpoint of HTTP/1.1 that does this.
fn one(
    name: &'static str,
    sees: (u16, &'static str, &'static str),
    act: fn(&mut TcpStream),
) -> Fault {
    Fault::new(name, Kind::Http1, Act::Http1(act), sees)
}

/// One of HTTP/2 that says this, and closes.
fn two(
    name: &'static str,
    sees: (u16, &'static str, &'static str),
    act: fn(u32) -> Vec<u8>,
) -> Fault {
    Fault::new(name, Kind::Http2, Act::Http2(act, false), sees)
}

/// One of HTTP/2 that says this, and is silent.
fn silent(
    name: &'static str,
    sees: (u16, &'static str, &'static str),
    act: fn(u32) -> Vec<u8>,
) -> Fault {
    Fault::new(name, Kind::Http2, Act::Http2(act, true), sees)
}

impl Fault {
    /// `sees`: the client's status, the reason, the outcome of an attempt.
    fn new(
        name: &'static str,
        kind: Kind,
        act: Act,
        sees: (u16, &'static str, &'static str),
    ) -> Self {
        let (status, reason, outcome) = sees;
        Self {
            name,
            kind,
            act,
            status,
            reason,
            outcome,
            retry: match outcome {
                "reset" => "reset",
                "timeout" => "timeout",
                "connect_failed" => "connect_failed",
                "server_error" => "code",
                _ => "",
            },
            processed: outcome != "connect_failed",
            too_long: false,
        }
    }

    /// The endpoint has said that it has not looked at it.
    fn unprocessed(self) -> Self {
        Self {
            retry: "refused_stream",
            processed: false,
            ..self
        }
    }

    fn too_long(self) -> Self {
        Self {
            too_long: true,
            ..self
        }
    }

    pub(super) fn over_http1(&self, stream: &mut TcpStream) {
        if let Act::Http1(act) = self.act {
            act(stream);
        }
    }

    /// Whether the connection goes on.
    pub(super) fn over_http2(&self, stream: &mut TcpStream, id: u32) -> bool {
        let Act::Http2(act, silent) = self.act else {
            return false;
        };
        // The proxy may have had enough in the middle of it.
        drop(stream.write_all(&act(id)));
        silent
    }

    /// What is seen of a request that meets it so often.
    pub(super) fn expected(&self, method: &str, rule: &str, times: usize) -> Seen {
        let always = times > 2 || matches!(self.kind, Kind::Refused | Kind::Deaf);
        let may = !self.retry.is_empty() && rule == "again";
        let safe = method != "POST" || !self.processed;
        let repeated = match (may && safe && !self.too_long, always) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => 2,
        };
        let refused = match (may, safe, self.too_long) {
            (false, ..) => "",
            (true, false, _) => "method 1",
            (true, true, true) => "deadline 1",
            (true, true, false) if always => "attempts 1",
            (true, true, false) => "",
        };
        let healed = repeated == 1;
        let failed = if healed { 1 } else { repeated + 1 };
        let mut outcomes = vec![format!("{} {failed}", self.outcome)];
        if healed {
            outcomes.push("ok 1".to_owned());
        }
        outcomes.sort();
        Seen {
            status: if healed { 200 } else { self.status },
            reason: if healed { "" } else { self.reason }.to_owned(),
            attempts: repeated + 1,
            outcomes: outcomes.join(", "),
            retries: if repeated > 0 {
                format!("{} {repeated}", self.retry)
            } else {
                String::new()
            },
            refused: refused.to_owned(),
        }
    }
}

const RESET: (u16, &str, &str) = (502, "upstream_reset", "reset");
const INVALID: (u16, &str, &str) = (502, "upstream_invalid", "reset");
const LATE: (u16, &str, &str) = (504, "attempt_timeout", "timeout");
/// The head has been passed on, so that nothing can be repeated.
const CUT: (u16, &str, &str) = (0, "upstream_reset", "ok");
const CUT_LATE: (u16, &str, &str) = (0, "timeout_after_headers", "ok");
const FINE: (u16, &str, &str) = (200, "", "ok");
const BUSY: (u16, &str, &str) = (503, "", "server_error");

/// Longer than an attempt may take.
pub(super) const SILENCE: Duration = Duration::from_millis(600);

fn say(stream: &mut TcpStream, bytes: &[u8]) {
    // The proxy may have had enough.
    drop(stream.write_all(bytes));
}

/// Until the other side closes, or says nothing for long.
fn stay(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(SILENCE)).unwrap();
    drop(std::io::copy(stream, &mut std::io::sink()));
}

/// The next close is a reset.
fn linger(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
}

/// A byte every `pause`, until all are said or nobody listens.
fn drip(stream: &mut TcpStream, bytes: &[u8], pause: Duration) {
    let began = Instant::now();
    for byte in bytes {
        if stream.write_all(&[*byte]).is_err() || began.elapsed() > SILENCE {
            return;
        }
        std::thread::park_timeout(pause);
    }
}

pub(super) fn all() -> Vec<Fault> {
    [connections(), heads(), bodies(), answers(), streams()]
        .into_iter()
        .flatten()
        .collect()
}

fn connections() -> Vec<Fault> {
    let failed = (503, "connect_failed", "connect_failed");
    vec![
        Fault::new("refuses", Kind::Refused, Act::Nothing, failed),
        Fault::new("accepts, and never reads", Kind::Deaf, Act::Nothing, LATE),
        one("reads, and says nothing", LATE, stay),
        one("closes without a word", RESET, |_| {}),
        one("resets without a word", RESET, |stream| linger(stream)),
    ]
}

fn heads() -> Vec<Fault> {
    vec![
        one("half a head, then a reset", RESET, |stream| {
            say(stream, b"HTTP/1.1 20");
            linger(stream);
        }),
        one("half a head, then the end", RESET, |stream| {
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-le");
        }),
        one("half a head, then silence", LATE, |stream| {
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-le");
            stay(stream);
        }),
        one("a head that drips for too long", LATE, |stream| {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx: 0123456789\r\n\r\n";
            drip(stream, head, Duration::from_millis(25));
        }),
        one("no HTTP", INVALID, |stream| {
            say(stream, b"SSH-2.0-OpenSSH_9.2\r\n");
            stay(stream);
        }),
        one("hints without end", INVALID, |stream| {
            let hints = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(100);
            while stream.write_all(&hints).is_ok() {}
        }),
        one(
            "a switch that nobody asked for",
            (502, "upgrade_failed", "ok"),
            |stream| {
                say(stream, b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
                stay(stream);
            },
        ),
    ]
}

fn bodies() -> Vec<Fault> {
    vec![
        one("half a body, then a reset", CUT, |stream| {
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
            // Else the reset could overtake it.
            std::thread::park_timeout(Duration::from_millis(50));
            linger(stream);
        }),
        one("half a body, then the end", CUT, |stream| {
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
        }),
        one("half a body in chunks, then the end", CUT, |stream| {
            say(
                stream,
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            );
        }),
        one("half a body, then silence", CUT_LATE, |stream| {
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf");
            stay(stream);
        }),
        one("a body that drips for too long", CUT_LATE, |stream| {
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n");
            drip(stream, &[b'.'; 100], Duration::from_millis(25));
        }),
        one("a chunk of no size", CUT, |stream| {
            say(
                stream,
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
            );
            stay(stream);
        }),
        one("more than the length", FINE, |stream| {
            say(
                stream,
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n",
            );
        }),
    ]
}

fn answers() -> Vec<Fault> {
    vec![
        one("a head that drips, but in time", FINE, |stream| {
            let head = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            drip(stream, head, Duration::ZERO);
        }),
        one("three hints, then the answer", FINE, |stream| {
            say(stream, &b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(3));
            say(stream, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        }),
        one("503 at once", BUSY, |stream| {
            say(stream, b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nretry-after: 0\r\nconnection: close\r\n\r\n");
        }),
        one("503 for an hour", BUSY, |stream| {
            say(stream, b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nretry-after: 3600\r\nconnection: close\r\n\r\n");
        })
        .too_long(),
        two("503 over HTTP/2", BUSY, |id| unavailable(id, "0")),
    ]
}

fn streams() -> Vec<Fault> {
    vec![
        two(
            "a good answer on the last stream, behind GOAWAY",
            FINE,
            |id| [goaway(id, 0), whole(id)].concat(),
        ),
        two(
            "GOAWAY in the middle of the answer, then the rest",
            FINE,
            |id| [head_of(id), goaway(id, 0), wire::data(id, 1, b"ok")].concat(),
        ),
        two(
            "GOAWAY in the middle of the answer, then the end",
            CUT,
            |id| [head_of(id), wire::data(id, 0, b"half"), goaway(id, 0)].concat(),
        ),
        two("GOAWAY below the stream", RESET, |_| goaway(0, 0)).unprocessed(),
        two("GOAWAY with an error", RESET, |id| {
            goaway(id, wire::PROTOCOL)
        }),
        two("a refused stream", RESET, |id| wire::reset(id, 7)).unprocessed(),
        two("a cancelled stream", RESET, |id| wire::reset(id, CANCEL)),
        two("half a body, then a reset of the stream", CUT, |id| {
            [head_of(id), wire::data(id, 0, b"half"), wire::reset(id, 2)].concat()
        }),
        two("closes over HTTP/2 without a word", RESET, |_| vec![]),
        silent("says nothing over HTTP/2", LATE, |_| vec![]),
        silent("half a body over HTTP/2, then silence", CUT_LATE, |id| {
            [head_of(id), wire::data(id, 0, b"half")].concat()
        }),
        two("hints over HTTP/2 without end", INVALID, |id| {
            hint(id).repeat(20_000)
        }),
        two("pings without end", INVALID, |_| {
            wire::frame(wire::PING, 0, 0, &[0; 8]).repeat(20_000)
        }),
        two("no HTTP/2", INVALID, |_| {
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()
        }),
    ]
}
