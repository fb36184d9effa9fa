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
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        pings: 10,
        settings: 5,
        resets: 10,
        provoked_resets: 10,
        priorities: 10,
        empty_data: 10,
        window_updates: 10,
        continuations: 4,
        other_frames: 10,
        pending_resets: 20,
        local_resets: 1024,
        streams: 16,
    };

    struct Fed {
        budget: Budget,
        now: Instant,
        stream: u32,
    }

    fn fresh() -> Fed {
        let now = Instant::now();
        let mut budget = Budget::of_client(LIMITS, now);
        budget.receive(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", now);
        Fed {
            budget,
            now,
            stream: 1,
        }
    }

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags];
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }

    impl Fed {
        fn receive(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> &mut Self {
            let bytes = frame(kind, flags, stream, payload);
            self.budget.receive(&bytes, self.now);
            self
        }

        /// A request, and what is done to it.
        fn request(&mut self, reset: bool) -> &mut Self {
            let stream = self.stream;
            self.stream += 2;
            self.receive(frames::HEADERS, frames::END_HEADERS, stream, &[0x82]);
            if reset {
                self.receive(frames::RST_STREAM, 0, stream, &[0, 0, 0, 8]);
            }
            self
        }

        fn wait(&mut self) -> &mut Self {
            self.now += WINDOW;
            self
        }
    }

    /// What a worker may have to do at once is seen from frames and the bytes of fields; data is what it
    /// is there for.
    #[test]
    fn frames_and_fields_are_work() {
        let mut fed = fresh();
        let mut work = |bytes: &[u8]| fed.budget.receive(bytes, fed.now);
        assert_eq!(work(&frame(frames::HEADERS, 5, 1, &[0x82; 20])), 1);
        assert_eq!(
            work(&frame(frames::HEADERS, 5, 3, &[0xbe; 255]).repeat(2)),
            4
        );
        assert_eq!(
            work(&frame(frames::RST_STREAM, 0, 1, &[0; 4]).repeat(70)),
            70
        );
        assert_eq!(work(&frame(frames::DATA, 0, 3, &[0; 9]).repeat(70)), 0);
        assert_eq!(work(&frame(frames::PING, 0, 0, &[0; 8])[..5]), 0);
    }

    /// As many as the bound are fine, one more is not, and a second later it begins anew.
    #[test]
    fn each_kind_has_its_bound() {
        for (kind, stream, payload, bound, limit) in [
            (frames::PING, 0, &[0; 8][..], 10, Http2Limit::Ping),
            (frames::SETTINGS, 0, &[], 5, Http2Limit::Settings),
            (frames::PRIORITY, 1, &[0; 5], 10, Http2Limit::Priority),
            (frames::DATA, 1, &[], 10, Http2Limit::EmptyData),
            (
                frames::WINDOW_UPDATE,
                1,
                &[0, 0, 0, 1],
                10,
                Http2Limit::WindowUpdate,
            ),
            (0xfa, 0, b"grease", 10, Http2Limit::OtherFrame),
            (frames::GOAWAY, 0, &[0; 8], 10, Http2Limit::OtherFrame),
            (frames::RST_STREAM, 1, &[0, 0, 0, 8], 10, Http2Limit::Reset),
        ] {
            let mut fed = fresh();
            for _ in 0..3 {
                for _ in 0..bound {
                    fed.receive(kind, 0, stream, payload);
                }
                assert_eq!(fed.budget.over(), None, "{limit:?}");
                fed.wait();
            }
            for _ in 0..bound {
                fed.receive(kind, 0, stream, payload);
            }
            assert_eq!(fed.budget.over(), None, "{limit:?}");
            fed.receive(kind, 0, stream, payload);
            assert_eq!(fed.budget.over(), Some(limit));
        }
    }

    #[test]
    fn ordinary_use_earns_more() {
        let mut fed = fresh();
        for _ in 0..1000 {
            fed.request(false);
            fed.receive(frames::PRIORITY, 0, 1, &[0; 5]);
            fed.budget
                .send(&frame(frames::DATA, 0, 1, &[0; 200]).repeat(6));
            fed.receive(frames::PING, 0, 0, &[0; 8]);
            for stream in [0, 1] {
                fed.receive(frames::WINDOW_UPDATE, 0, stream, &[0, 0, 4, 0]);
            }
        }
        assert_eq!(fed.budget.over(), None);
    }

    /// Neither answers to PINGs nor bytes let out one by one earn the next.
    #[test]
    fn a_flood_does_not_pay_for_itself() {
        let mut fed = fresh();
        for _ in 0..20 {
            fed.receive(frames::PING, 0, 0, &[0; 8]);
            fed.budget.send(&frame(frames::PING, 1, 0, &[0; 8]));
        }
        assert_eq!(fed.budget.over(), Some(Http2Limit::Ping));
        let mut fed = fresh();
        for _ in 0..20 {
            fed.receive(frames::WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]);
            fed.budget.send(&frame(frames::DATA, 0, 1, b"x"));
        }
        assert_eq!(fed.budget.over(), Some(Http2Limit::WindowUpdate));
    }

    #[test]
    fn only_rapid_resets_are_a_flood() {
        let mut hedging = fresh();
        for n in 0..1000 {
            hedging.request(n % 2 == 1);
        }
        assert_eq!(hedging.budget.over(), None);

        let mut late = fresh();
        for _ in 0..16 {
            late.request(false);
        }
        late.wait();
        for n in 0..16 {
            late.receive(frames::RST_STREAM, 0, 2 * n + 1, &[0, 0, 0, 8]);
        }
        assert_eq!(late.budget.over(), None);
        late.receive(frames::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        assert_eq!(late.budget.over(), Some(Http2Limit::Reset));

        let mut rapid = fresh();
        for _ in 0..11 {
            rapid.request(true);
        }
        assert_eq!(rapid.budget.over(), Some(Http2Limit::Reset));
    }

    #[test]
    fn resets_that_the_client_provokes_are_counted_as_they_are_sent() {
        let reset = |error: u32| frame(frames::RST_STREAM, 0, 1, &error.to_be_bytes());
        for (error, bound) in [(1, 10), (3, 10), (5, 10), (6, 10), (7, 109)] {
            let mut fed = fresh();
            fed.budget.send(&reset(error).repeat(bound));
            assert_eq!(fed.budget.over(), None, "{error}");
            fed.budget.send(&reset(error));
            assert_eq!(
                fed.budget.over(),
                Some(Http2Limit::ProvokedReset),
                "{error}"
            );
        }
        // Ours: an answer before the end of the request, an endpoint that broke off, a deadline.
        let mut fed = fresh();
        for error in [0, 2, 8] {
            fed.budget.send(&reset(error).repeat(1000));
        }
        assert_eq!(fed.budget.over(), None);
    }

    #[test]
    fn a_header_block_has_a_bound_of_its_own() {
        let mut fed = fresh();
        for stream in 0..10 {
            fed.receive(frames::HEADERS, 0, 2 * stream + 1, b"x");
            for _ in 0..4 {
                fed.receive(frames::CONTINUATION, 0, 2 * stream + 1, b"x");
            }
        }
        assert_eq!(fed.budget.over(), None);
        fed.receive(frames::CONTINUATION, 0, 19, b"x");
        assert_eq!(fed.budget.over(), Some(Http2Limit::Continuation));
    }

    #[test]
    fn the_engine_has_bounds_too() {
        let mut fed = fresh();
        fed.budget.send(&frames::goaway(5, frames::NO_ERROR));
        assert_eq!(
            (fed.budget.over(), fed.budget.has_said_goodbye()),
            (None, false)
        );
        fed.budget.send(&frames::goaway(5, frames::PROTOCOL_ERROR));
        assert_eq!(
            (fed.budget.over(), fed.budget.has_said_goodbye()),
            (None, true)
        );
        fed.budget
            .send(&frames::goaway(5, frames::ENHANCE_YOUR_CALM));
        assert_eq!(fed.budget.over(), Some(Http2Limit::Engine));
    }

    /// The deadline of a head counts from its first byte to its last, and for the preface.
    #[test]
    fn a_client_owes_what_it_has_begun() {
        let now = Instant::now();
        let mut budget = Budget::of_client(LIMITS, now);
        let mut owed = |bytes: &[u8]| {
            budget.receive(bytes, now);
            budget.is_owed()
        };
        assert!(owed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n"));
        assert!(owed(b"\r\n"));
        assert!(!owed(&frame(frames::SETTINGS, 0, 0, &[])));
        assert!(!owed(&frame(frames::PING, 0, 0, &[0; 8])));
        assert!(owed(&frame(frames::HEADERS, 0, 1, b"x")));
        let last = frame(frames::CONTINUATION, frames::END_HEADERS, 1, b"xyz");
        assert!(owed(&last[..10]));
        assert!(!owed(&last[10..]));
        assert!(!owed(&frame(frames::WINDOW_UPDATE, 0, 0, &[0, 0, 1, 0])));
    }

    /// An endpoint may reset whatever it was asked for, and not much more.
    #[test]
    fn an_endpoint_resets_what_it_was_asked_for() {
        let now = Instant::now();
        let mut budget = Budget::of_endpoint(LIMITS, now);
        budget.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        for stream in (1..2000).step_by(2) {
            budget.send(&frame(
                frames::HEADERS,
                frames::END_HEADERS,
                stream,
                &[0x82],
            ));
            budget.receive(&frame(frames::RST_STREAM, 0, stream, &[0; 4]), now);
        }
        assert_eq!(budget.over(), None);
        for _ in 0..=LIMITS.streams {
            budget.receive(&frame(frames::RST_STREAM, 0, 1, &[0; 4]), now);
        }
        assert_eq!(budget.over(), Some(Http2Limit::Reset));
    }
}
