//! How many frames of each kind the other side of an HTTP/2 connection may send, a client or an endpoint.
//!
//! Owns the bounds and the counts of one connection. Must not know sockets; the clock is the caller's.
//!
//! The engine below survives floods of control frames, but does the other side's work as long as it asks
//! (CVE-2019-9511 to 9518, CVE-2023-44487, CVE-2025-8671). A flood is what costs more than it can be
//! good for: each kind has a number a second that is free, and ordinary use earns more.

use std::time::{Duration, Instant};

use super::frames::{self, Frame, Frames};
use crate::telemetry::http2::Http2Limit;

/// Frames that the other side may send. Per second unless said otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) pings: u32,
    pub(crate) settings: u32,
    pub(crate) resets: u32,
    pub(crate) provoked_resets: u32,
    pub(crate) priorities: u32,
    pub(crate) empty_data: u32,
    pub(crate) window_updates: u32,
    /// Of one header block.
    pub(crate) continuations: u32,
    pub(crate) other_frames: u32,
    /// Streams that were reset before the service saw them, at a time.
    pub(crate) pending_resets: usize,
    /// Streams that this side reset for a fault of the client, as long as the connection lives.
    pub(crate) local_resets: usize,
    /// Concurrent streams.
    pub(crate) streams: u32,
}

/// Over which time frames are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// A client that measures its bandwidth sends a PING for every answer, and no more (grpc-go). The
/// answer to a PING has 17 bytes, so a flood cannot earn what it spends.
const BYTES_A_PING: u64 = 64;
/// A client that grants what it has read, kilobyte by kilobyte, for stream and connection. A window of
/// a few bytes earns next to nothing.
const BYTES_A_WINDOW_UPDATE: u64 = 512;

/// Refused streams may be the client's haste before it has seen our settings.
const REFUSED_FOR_ONE: u32 = 10;

/// More work than this, and the other connections of the worker have their turn. Twice what ordinary
/// clients put into a packet.
pub(super) const WORK_OF_A_TURN: usize = 64;
/// So many bytes of a field block are as much work as a frame: each can stand for a whole field.
const BYTES_OF_WORK: usize = 128;

/// Heads that an endpoint may send for one request: a few hints, the answer, its trailers.
const HEADS_A_REQUEST: u32 = 8;

/// Who is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// It opens the streams.
    Client,
    /// It answers on them.
    Endpoint,
}

/// The counts of one connection.
#[derive(Debug)]
pub(crate) struct Budget {
    peer: Peer,
    limits: Limits,
    received: Frames,
    sent: Frames,
    since: Instant,
    counts: Counts,
    /// The highest stream that was opened.
    newest: u32,
    /// The same when counting last began: resets of streams up to it are not rapid.
    newest_before: u32,
    /// CONTINUATION frames of the block that came last.
    continuations: u32,
    last: Frame,
    /// SETTINGS have come: the preface is complete.
    greeted: bool,
    over: Option<Http2Limit>,
    /// The error of a GOAWAY that the engine has sent.
    farewell: Option<u32>,
}

/// What came and went since counting began.
#[derive(Debug, Default)]
struct Counts {
    pings: u32,
    settings: u32,
    rapid_resets: u32,
    late_resets: u32,
    provoked_resets: u32,
    refused: u32,
    priorities: u32,
    empty_data: u32,
    window_updates: u32,
    heads: u32,
    other_frames: u32,
    /// Streams that were opened.
    opened: u32,
    /// Bytes that were sent.
    sent: u64,
}

impl Budget {
    /// For what a client sends.
    pub(super) fn of_client(limits: Limits, now: Instant) -> Self {
        Self {
            received: Frames::of_client(),
            sent: Frames::of_server(),
            ..Self::new(Peer::Client, limits, now)
        }
    }

    /// For what an endpoint sends.
    pub(crate) fn of_endpoint(limits: Limits, now: Instant) -> Self {
        Self {
            received: Frames::of_server(),
            sent: Frames::of_client(),
            ..Self::new(Peer::Endpoint, limits, now)
        }
    }

    fn new(peer: Peer, limits: Limits, now: Instant) -> Self {
        Self {
            peer,
            limits,
            received: Frames::of_server(),
            sent: Frames::of_server(),
            since: now,
            counts: Counts::default(),
            newest: 0,
            newest_before: 0,
            continuations: 0,
            last: Frame::default(),
            greeted: false,
            over: None,
            farewell: None,
        }
    }

    /// The bound that the other side is over.
    pub(crate) fn over(&self) -> Option<Http2Limit> {
        let calmed = self.farewell == Some(frames::ENHANCE_YOUR_CALM);
        self.over.or(calmed.then_some(Http2Limit::Engine))
    }

    /// Whether the engine has told the client of an error and ends the connection.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.farewell.is_some_and(|error| error != frames::NO_ERROR)
    }

    /// The highest stream that may have been looked at.
    pub(super) fn newest_stream(&self) -> u32 {
        self.newest
    }

    /// Whether a frame can be sent: the last one is complete.
    pub(super) fn may_send(&self) -> bool {
        self.sent.is_between()
    }

    /// Whether the client owes something: the rest of its preface, or of a header block.
    pub(super) fn is_owed(&self) -> bool {
        let head = matches!(self.last.kind, frames::HEADERS | frames::CONTINUATION);
        let whole = self.last.flags & frames::END_HEADERS != 0 && self.received.has_payload();
        !self.greeted || head && !whole
    }

    /// Whether the other side has said what it allows (SETTINGS).
    pub(crate) fn is_greeted(&self) -> bool {
        let reading = self.last.kind == frames::SETTINGS && !self.received.has_payload();
        self.greeted && !reading
    }

    /// Counts what has come from the other side; the work that it is to the engine.
    pub(crate) fn receive(&mut self, bytes: &[u8], now: Instant) -> usize {
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.since = now;
            self.counts = Counts::default();
            self.newest_before = self.newest;
        }
        let mut received = std::mem::replace(&mut self.received, Frames::of_server());
        let mut work = 0;
        received.feed(bytes, |frame| {
            work += match frame.kind {
                frames::HEADERS | frames::CONTINUATION => 1 + frame.length as usize / BYTES_OF_WORK,
                // The engine bounds those that nobody has read yet, by how small they are. Read between
                // two turns they would go on for ever.
                frames::DATA => 0,
                _ => 1,
            };
            self.count(frame);
        });
        self.received = received;
        work
    }

    fn count(&mut self, frame: Frame) {
        self.last = frame;
        let (counts, limits) = (&mut self.counts, &self.limits);
        let earned = |bytes: u64| u32::try_from(counts.sent / bytes).unwrap_or(u32::MAX);
        let (spent, allowed, limit) = match frame.kind {
            frames::HEADERS => {
                self.continuations = 0;
                if self.peer == Peer::Client {
                    self.opened(frame.stream);
                    return;
                }
                // Requests of the second before may be answered in this one.
                let asked = counts.opened.saturating_add(limits.streams);
                let allowed = asked.saturating_mul(HEADS_A_REQUEST);
                (&mut counts.heads, allowed, Http2Limit::Answer)
            }
            frames::DATA if frame.length == 0 && frame.flags & frames::END_STREAM == 0 => (
                &mut counts.empty_data,
                limits.empty_data,
                Http2Limit::EmptyData,
            ),
            // What a client may not push is the engine's to refuse.
            frames::DATA | frames::PUSH_PROMISE => return,
            // Once with each request is usual where a client still uses priorities.
            frames::PRIORITY => (
                &mut counts.priorities,
                limits.priorities.max(counts.opened),
                Http2Limit::Priority,
            ),
            // An answer that does not wait for the end of its request is followed by one (RFC 9113, 8.1).
            frames::RST_STREAM if self.peer == Peer::Endpoint => (
                &mut counts.rapid_resets,
                counts.opened.saturating_add(limits.streams),
                Http2Limit::Reset,
            ),
            // Half of the requests may be hedges; of those that are older there are few.
            frames::RST_STREAM if frame.stream > self.newest_before => (
                &mut counts.rapid_resets,
                limits.resets.max(counts.opened / 2),
                Http2Limit::Reset,
            ),
            frames::RST_STREAM => (
                &mut counts.late_resets,
                limits.resets.max(limits.streams),
                Http2Limit::Reset,
            ),
            frames::SETTINGS => {
                self.greeted = true;
                (&mut counts.settings, limits.settings, Http2Limit::Settings)
            }
            frames::PING => {
                let allowed = limits.pings.saturating_add(earned(BYTES_A_PING));
                (&mut counts.pings, allowed, Http2Limit::Ping)
            }
            frames::WINDOW_UPDATE => {
                let answers = counts.opened.saturating_mul(2);
                let earned = earned(BYTES_A_WINDOW_UPDATE).saturating_add(answers);
                let allowed = limits.window_updates.saturating_add(earned);
                (
                    &mut counts.window_updates,
                    allowed,
                    Http2Limit::WindowUpdate,
                )
            }
            frames::CONTINUATION => (
                &mut self.continuations,
                limits.continuations,
                Http2Limit::Continuation,
            ),
            _ => (
                &mut counts.other_frames,
                limits.other_frames,
                Http2Limit::OtherFrame,
            ),
        };
        *spent = spent.saturating_add(1);
        if *spent > allowed {
            self.over.get_or_insert(limit);
        }
    }

    /// A stream has begun, or goes on.
    fn opened(&mut self, stream: u32) {
        if stream > self.newest {
            self.newest = stream;
            self.counts.opened = self.counts.opened.saturating_add(1);
        }
    }

    /// Counts what goes to the other side.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.counts.sent = self.counts.sent.saturating_add(bytes.len() as u64);
        let mut sent = std::mem::replace(&mut self.sent, Frames::of_server());
        if self.peer == Peer::Endpoint {
            sent.feed(bytes, |frame| {
                if frame.kind == frames::HEADERS {
                    self.opened(frame.stream);
                }
            });
            self.sent = sent;
            return;
        }
        let (counts, farewell) = (&mut self.counts, &mut self.farewell);
        sent.feed(bytes, |frame| match frame.error {
            Some(error) if frame.kind == frames::GOAWAY => *farewell = Some(error),
            Some(
                frames::PROTOCOL_ERROR
                | frames::FLOW_CONTROL_ERROR
                | frames::STREAM_CLOSED
                | frames::FRAME_SIZE_ERROR,
            ) => counts.provoked_resets = counts.provoked_resets.saturating_add(1),
            Some(frames::REFUSED_STREAM) => counts.refused = counts.refused.saturating_add(1),
            _ => {}
        });
        self.sent = sent;
        let provoked = counts
            .provoked_resets
            .saturating_add(counts.refused / REFUSED_FOR_ONE);
        if provoked > self.limits.provoked_resets {
            self.over.get_or_insert(Http2Limit::ProvokedReset);
        }
    }
}

#[cfg(test)]
mod tests;
