//! What honest peers may send, and what is too much.

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
