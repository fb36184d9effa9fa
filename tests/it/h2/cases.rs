//! The runner of the tables beside it: each case is a sequence of frames on a connection of its own,
//! and what must come of it.

use std::time::{Duration, Instant};

use super::recorder::Recorder;
use super::wire::{
    BOTH, DATA, GOAWAY, HEADERS, NO_ERROR, PING, RST_STREAM, Wire, frame, get, greeting, headers,
};
use crate::support::proxy::{Proxy, all_to, with_listener};

/// What comes of a case. Of the stream that it is about, number 1, or of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Served, and the backend has seen it whole.
    Served,
    /// Answered by the proxy; the backend has not seen it whole. The connection lives on.
    Status(u16),
    /// The stream is reset with this error; the backend has not seen it whole. The connection lives on.
    Reset(u32),
    /// Nothing comes of it, and the connection lives on.
    Ignored,
    /// The connection ends with this error; the backend has not seen it whole.
    Goaway(u32),
    /// The connection ends without a word.
    Closed,
    /// Nothing at all is said for long. No case wants it.
    Silence,
}

/// One sequence of frames.
pub(crate) struct Case {
    pub(crate) name: String,
    /// All bytes of the connection, behind the preface and the settings unless `bare`.
    pub(crate) bytes: Vec<u8>,
    pub(crate) bare: bool,
    pub(crate) expect: Expect,
    /// Looks at what the backend saw of it.
    pub(crate) seen: Option<fn(&super::recorder::Recorded) -> bool>,
}

/// The path that stands for the case's own in its bytes.
pub(crate) const PATH: &str = "/case-0000";

pub(crate) fn case(name: impl Into<String>, expect: Expect, parts: &[Vec<u8>]) -> Case {
    Case {
        name: name.into(),
        bytes: parts.concat(),
        bare: false,
        expect,
        seen: None,
    }
}

impl Case {
    pub(crate) fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    pub(crate) fn seen(mut self, seen: fn(&super::recorder::Recorded) -> bool) -> Self {
        self.seen = Some(seen);
        self
    }

    /// All bytes, with a path of their own.
    pub(crate) fn all(&self, number: usize) -> Vec<u8> {
        let own = path(number);
        let mut bytes = self.bytes.clone();
        let (from, to) = (PATH.as_bytes(), own.as_bytes());
        for at in 0..bytes.len().saturating_sub(from.len() - 1) {
            if bytes[at..].starts_with(from) {
                bytes[at..at + to.len()].copy_from_slice(to);
            }
        }
        if self.bare {
            bytes
        } else {
            [greeting(), bytes].concat()
        }
    }
}

fn path(number: usize) -> String {
    format!("/case-{number:04}")
}

/// The proxy that the cases meet.
pub(crate) fn proxy(recorder: &Recorder) -> Proxy {
    let fields = "limits: { headerCount: 100, targetBytes: 8KiB, bodyBytes: 1MiB, streams: 50 }";
    Proxy::start(&with_listener(&all_to(recorder.backend.address), fields))
}

/// A stream for the question whether the connection is alive, above all others.
const PROBE: u32 = 1001;

/// What the proxy made of stream 1, and whether it still serves another.
fn outcome(wire: &mut Wire, bytes: &[u8], alive: bool) -> (Expect, bool) {
    wire.send(bytes);
    if alive {
        wire.send(&frame(PING, 0, 0, b"all read"));
        wire.send(&headers(PROBE, BOTH, &get("/probe")));
    }
    let (mut found, mut probed, mut ponged) = (None, None, false);
    while found.is_none() || probed.is_none() || !ponged {
        // Whatever is not answered when the probe is, is not going to be.
        if probed.is_some() && ponged && found.is_none() {
            let late = wire.quiet();
            if late.is_none() {
                return (Expect::Ignored, probed == Some(200));
            }
            found = late.and_then(|frame| verdict(&frame));
            continue;
        }
        let Some(frame) = wire.receive() else {
            let end = if wire.silent {
                Expect::Silence
            } else {
                Expect::Closed
            };
            return (found.unwrap_or(end), false);
        };
        match frame.kind {
            HEADERS if frame.stream == PROBE => probed = Some(frame.status()),
            PING => ponged = true,
            GOAWAY if frame.error() == NO_ERROR => {}
            // It counts for more than what came before it.
            GOAWAY => found = Some(Expect::Goaway(frame.error())),
            DATA => {}
            _ if frame.stream == 1 => found = found.or(verdict(&frame)),
            _ => {}
        }
    }
    (found.unwrap_or(Expect::Ignored), probed == Some(200))
}

fn verdict(frame: &super::wire::Frame) -> Option<Expect> {
    match frame.kind {
        HEADERS if frame.stream == 1 => Some(match frame.status() {
            200 => Expect::Served,
            status => Expect::Status(status),
        }),
        RST_STREAM if frame.stream == 1 => Some(Expect::Reset(frame.error())),
        _ => None,
    }
}

/// Runs every case; all faults at once.
pub(crate) fn run(table: &str, cases: &[Case]) {
    let recorder = Recorder::start();
    let proxy = proxy(&recorder);
    let web = proxy.addr("web");
    let mut faults = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let name = &case.name;
        let (mut wire, began) = (Wire::silent(web), Instant::now());
        let alive = !matches!(case.expect, Expect::Goaway(_) | Expect::Closed);
        let (found, lives) = outcome(&mut wire, &case.all(number), alive);
        if found != case.expect {
            faults.push(format!("{name}: {found:?} instead of {:?}", case.expect));
        }
        if alive && !lives {
            faults.push(format!("{name}: the connection is gone"));
        }
        if began.elapsed() > Duration::from_secs(5) {
            faults.push(format!("{name}: it took {:?}", began.elapsed()));
        }
        let seen = recorder.whole(&path(number));
        let served = case.expect == Expect::Served;
        if seen.len() != usize::from(served) {
            faults.push(format!("{name}: the backend has seen {seen:?}"));
        }
        if let (Some(look), [one]) = (case.seen, &seen[..])
            && !look(one)
        {
            faults.push(format!("{name}: the backend has seen {one:?}"));
        }
    }
    faults.extend(recorder.faults());
    println!("{table}: {} sequences of frames", cases.len());
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
    proxy.stop();
}
