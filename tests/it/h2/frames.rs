//! Frames in the wrong place, of the wrong size, in the wrong order (RFC 9113, 4 to 6).
//!
//! The engine says PROTOCOL_ERROR where the RFC has a finer word (FRAME_SIZE_ERROR, STREAM_CLOSED), and
//! ends the connection over some faults of a stream; both are allowed (5.4.1 and 5.4.2).

use super::cases::{Case, Expect, PATH, case, run};
use super::wire::{
    BOTH, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, FLOW_CONTROL, FRAME_SIZE, GOAWAY,
    HEADERS, PADDED, PING, PREFACE, PRIORITY, PROTOCOL, PUSH_PROMISE, RST_STREAM, SETTINGS,
    STREAM_CLOSED, WINDOW_UPDATE, data, frame, get, headers, request, reset, settings, sized,
    window_update,
};

/// A request, and then what is wrong.
fn after(name: &str, expect: Expect, rest: &[Vec<u8>]) -> Case {
    let mut parts = vec![headers(1, BOTH, &get(PATH))];
    parts.extend_from_slice(rest);
    case(name, expect, &parts)
}

/// Half a request, and then what is wrong with it.
fn during(name: &str, expect: Expect, rest: &[Vec<u8>]) -> Case {
    let mut parts = vec![headers(1, END_HEADERS, &request("POST", PATH))];
    parts.extend_from_slice(rest);
    case(name, expect, &parts)
}

fn connections() -> Vec<Case> {
    use Expect::{Closed, Goaway, Served};
    let empty = settings(&[]);
    let whole = [PREFACE, &empty, &headers(1, BOTH, &get(PATH))].concat();
    let bare = |name: &str, expect, bytes: Vec<u8>| case(name, expect, &[bytes]).bare();
    vec![
        bare("preface, settings, request", Served, whole.clone()),
        bare(
            "a preface that is not one",
            Closed,
            [b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", &whole[24..]].concat(),
        ),
        bare(
            "a preface of another version",
            Closed,
            [b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n", &whole[24..]].concat(),
        ),
        bare(
            "no settings",
            Served,
            [PREFACE, &headers(1, BOTH, &get(PATH))].concat(),
        ),
        bare(
            "preface twice",
            Goaway(FRAME_SIZE),
            [PREFACE, PREFACE, &whole[24..]].concat(),
        ),
        bare(
            "settings first of a wrong size",
            Goaway(PROTOCOL),
            [PREFACE, &frame(SETTINGS, 0, 0, b"12345")].concat(),
        ),
        bare(
            "goaway at once",
            Closed,
            [PREFACE, &empty, &frame(GOAWAY, 0, 0, &[0; 8])].concat(),
        ),
    ]
}

fn settings_frames() -> Vec<Case> {
    use Expect::{Goaway, Served};
    let then = |name: &str, expect, bytes: Vec<u8>| {
        case(name, expect, &[bytes, headers(1, BOTH, &get(PATH))])
    };
    vec![
        then(
            "settings on a stream",
            Goaway(PROTOCOL),
            frame(SETTINGS, 0, 1, &[]),
        ),
        then(
            "acknowledgement with a payload",
            Goaway(PROTOCOL),
            frame(SETTINGS, 1, 0, &[0; 6]),
        ),
        then(
            "acknowledgement that nobody asked for",
            Goaway(PROTOCOL),
            frame(SETTINGS, 1, 0, &[]).repeat(2),
        ),
        then(
            "settings of 5 bytes",
            Goaway(PROTOCOL),
            frame(SETTINGS, 0, 0, &[0; 5]),
        ),
        then("push of 2", Goaway(PROTOCOL), settings(&[(2, 2)])),
        then("push from a client", Served, settings(&[(2, 1)])),
        then(
            "window beyond 31 bits",
            Goaway(PROTOCOL),
            settings(&[(4, 0x8000_0000)]),
        ),
        then("largest window", Served, settings(&[(4, 0x7fff_ffff)])),
        then(
            "frames below 16 kB",
            Goaway(PROTOCOL),
            settings(&[(5, 16_383)]),
        ),
        then(
            "frames above 16 MB",
            Goaway(PROTOCOL),
            settings(&[(5, 1 << 24)]),
        ),
        then("largest frames", Served, settings(&[(5, (1 << 24) - 1)])),
        then(
            "extended connect of 2",
            Goaway(PROTOCOL),
            settings(&[(8, 2)]),
        ),
        then(
            "a setting that nobody knows",
            Served,
            settings(&[(0x0a0a, 1), (99, 7)]),
        ),
        then(
            "a table of 4 GB for answers",
            Served,
            settings(&[(1, u32::MAX)]),
        ),
        then(
            "the same setting thrice",
            Served,
            settings(&[(4, 1), (4, 0), (4, 65_535)]),
        ),
        then("no streams for pushes", Served, settings(&[(3, 0)])),
        then("a list of fields of 0 bytes", Served, settings(&[(6, 0)])),
    ]
}

fn places() -> Vec<Case> {
    use Expect::{Goaway, Ignored, Reset, Served};
    let bad = Goaway(PROTOCOL);
    let alone = |name: &str, expect, bytes: Vec<u8>| case(name, expect, &[bytes]);
    vec![
        alone("data on stream 0", bad, data(0, 0, b"x")),
        alone("headers on stream 0", bad, headers(0, BOTH, &get(PATH))),
        alone("priority on stream 0", bad, frame(PRIORITY, 0, 0, &[0; 5])),
        alone("reset on stream 0", bad, reset(0, CANCEL)),
        alone(
            "push promise on stream 0",
            bad,
            frame(PUSH_PROMISE, END_HEADERS, 0, &[0, 0, 0, 2]),
        ),
        alone(
            "continuation on stream 0",
            bad,
            frame(CONTINUATION, END_HEADERS, 0, &get(PATH)),
        ),
        alone("ping on a stream", bad, frame(PING, 0, 1, &[0; 8])),
        alone("goaway on a stream", bad, frame(GOAWAY, 0, 1, &[0; 8])),
        alone(
            "headers on an even stream",
            bad,
            headers(2, BOTH, &get(PATH)),
        ),
        alone("data on an idle stream", bad, data(1, END_STREAM, b"x")),
        alone("data on an even stream", bad, data(2, END_STREAM, b"x")),
        alone("reset of an idle stream", bad, reset(1, CANCEL)),
        alone("window of an idle stream", bad, window_update(1, 1)),
        alone(
            "priority of an idle stream",
            Ignored,
            frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 9]),
        ),
        alone(
            "continuation without headers",
            bad,
            frame(CONTINUATION, END_HEADERS, 1, &get(PATH)),
        ),
        alone("an unknown frame", Ignored, frame(0xfa, 0xff, 0, b"grease")),
        alone(
            "an unknown frame on an idle stream",
            Ignored,
            frame(0xfa, 0xff, 1, b"grease"),
        ),
        alone("altsvc", Ignored, frame(0x0a, 0, 0, b"\0\0x")),
        alone("origin", Ignored, frame(0x0c, 0, 0, b"\0\0")),
        alone(
            "priority update",
            Ignored,
            frame(0x10, 0, 0, b"\0\0\0\x01u=1"),
        ),
        alone(
            "push promise on an open stream",
            bad,
            [
                headers(1, END_HEADERS, &request("POST", PATH)),
                frame(
                    PUSH_PROMISE,
                    END_HEADERS,
                    1,
                    &[&[0, 0, 0, 2], &get("/pushed")[..]].concat(),
                ),
            ]
            .concat(),
        ),
        alone(
            "a stream number that goes back",
            bad,
            [
                headers(1003, BOTH, &get("/x")),
                headers(1, BOTH, &get(PATH)),
            ]
            .concat(),
        ),
        alone(
            "headers of a stream that depends on itself",
            Reset(PROTOCOL),
            headers(
                1,
                BOTH | 0x20,
                &[&[0, 0, 0, 1, 16], &get(PATH)[..]].concat(),
            ),
        ),
        alone(
            "priority that depends on itself",
            Reset(PROTOCOL),
            frame(PRIORITY, 0, 1, &[0, 0, 0, 1, 16]),
        ),
        alone(
            "headers with a priority",
            Served,
            headers(
                1,
                BOTH | 0x20,
                &[&[0x80, 0, 0, 0, 16], &get(PATH)[..]].concat(),
            ),
        ),
        after(
            "headers twice",
            Goaway(PROTOCOL),
            &[headers(1, BOTH, &get(PATH))],
        ),
        after(
            "data behind the end",
            Goaway(PROTOCOL),
            &[data(1, END_STREAM, b"x")],
        ),
        after(
            "continuation behind the end",
            bad,
            &[frame(CONTINUATION, END_HEADERS, 1, &get(PATH))],
        ),
        during("a reset", Ignored, &[reset(1, CANCEL)]),
        during(
            "data behind a reset",
            Reset(STREAM_CLOSED),
            &[reset(1, CANCEL), data(1, END_STREAM, b"x")],
        ),
        during(
            "a reset with an unknown error",
            Ignored,
            &[reset(1, 0xdead_beef)],
        ),
        during(
            "a window behind a reset",
            Ignored,
            &[reset(1, CANCEL), window_update(1, 1)],
        ),
    ]
}

fn sizes() -> Vec<Case> {
    use Expect::{Goaway, Reset, Served};
    let bad = Goaway(FRAME_SIZE);
    vec![
        case(
            "headers of more than 16 kB",
            bad,
            &[sized(16_385, HEADERS, BOTH, 1, &vec![0; 16_385])],
        ),
        during(
            "data of more than 16 kB",
            bad,
            &[data(1, END_STREAM, &vec![0; 16_385])],
        ),
        during(
            "data of 16 kB",
            Served,
            &[data(1, END_STREAM, &vec![0; 16_384])],
        )
        .seen(|it| it.body.len() == 16_384),
        case(
            "a frame of 16 MB that never comes",
            bad,
            &[sized(0xff_ffff, DATA, 0, 1, &[])],
        ),
        case(
            "an unknown frame of 16 MB",
            bad,
            &[sized(0xff_ffff, 0xfa, 0, 0, &[])],
        ),
        case(
            "ping of 7 bytes",
            Goaway(PROTOCOL),
            &[frame(PING, 0, 0, &[0; 7])],
        ),
        case(
            "ping of 9 bytes",
            Goaway(PROTOCOL),
            &[frame(PING, 0, 0, &[0; 9])],
        ),
        case(
            "goaway of 7 bytes",
            Goaway(PROTOCOL),
            &[frame(GOAWAY, 0, 0, &[0; 7])],
        ),
        case(
            "window of 3 bytes",
            Goaway(PROTOCOL),
            &[frame(WINDOW_UPDATE, 0, 0, &[0; 3])],
        ),
        during(
            "window of a stream of 5 bytes",
            Goaway(PROTOCOL),
            &[frame(WINDOW_UPDATE, 0, 1, &[0; 5])],
        ),
        during(
            "reset of 3 bytes",
            Goaway(PROTOCOL),
            &[frame(RST_STREAM, 0, 1, &[0; 3])],
        ),
        during(
            "priority of 4 bytes",
            Goaway(PROTOCOL),
            &[frame(PRIORITY, 0, 1, &[0; 4])],
        ),
        case(
            "headers of 0 bytes",
            Reset(PROTOCOL),
            &[headers(1, BOTH, &[])],
        ),
        case(
            "padded headers of 0 bytes",
            Goaway(PROTOCOL),
            &[headers(1, BOTH | PADDED, &[])],
        ),
        case(
            "headers with padding as long as they are",
            Reset(PROTOCOL),
            &[headers(1, BOTH | PADDED, &[5, 0x82, 0x86, 0x84, 0x01, 0])],
        ),
        case(
            "headers with a priority cut short",
            Goaway(PROTOCOL),
            &[headers(1, BOTH | 0x20, &[0, 0, 0])],
        ),
        case(
            "headers with padding",
            Served,
            &[headers(
                1,
                BOTH | PADDED,
                &[&[4], &get(PATH)[..], &[0; 4]].concat(),
            )],
        ),
    ]
}

fn windows() -> Vec<Case> {
    use Expect::{Goaway, Reset, Served};
    let all = vec![b'x'; 16_384];
    let too_much: Vec<Vec<u8>> = (0..17).map(|_| data(1, 0, &all)).collect();
    vec![
        case(
            "window of the connection by 0",
            Goaway(PROTOCOL),
            &[window_update(0, 0)],
        ),
        case(
            "window of the connection beyond 31 bits",
            Goaway(FLOW_CONTROL),
            &[window_update(0, 0x7fff_ffff), window_update(0, 1)],
        ),
        during(
            "window of the stream by 0",
            Goaway(PROTOCOL),
            &[window_update(1, 0)],
        ),
        during(
            "window of the stream beyond 31 bits",
            Reset(FLOW_CONTROL),
            &[window_update(1, 0x7fff_ffff)],
        ),
        during(
            "window with the reserved bit",
            Served,
            &[window_update(1, 0x8000_0001), data(1, END_STREAM, b"x")],
        ),
        case(
            "windows that a setting makes too large",
            Goaway(FLOW_CONTROL),
            &[
                headers(1, END_HEADERS, &request("POST", PATH)),
                window_update(1, 0x7fff_0000),
                settings(&[(4, 0x7fff_ffff)]),
            ],
        ),
        during(
            "a body within the window",
            Served,
            &[
                data(1, 0, &all),
                data(1, 0, &all),
                data(1, END_STREAM, &all),
            ],
        )
        .seen(|it| it.body.len() == 3 * 16_384),
        // The backend reads, but what comes in one go is more than was granted.
        case(
            "more data than the window",
            Goaway(FLOW_CONTROL),
            &[
                headers(1, END_HEADERS, &request("POST", PATH)),
                too_much.concat(),
            ],
        ),
    ]
}

fn blocks() -> Vec<Case> {
    use Expect::{Goaway, Served};
    let bad = Goaway(PROTOCOL);
    let fields = get(PATH);
    let (first, rest) = fields.split_at(10);
    let begun = headers(1, END_STREAM, first);
    let ended = frame(CONTINUATION, END_HEADERS, 1, rest);
    let between =
        |name: &str, bytes: Vec<u8>| case(name, bad, &[begun.clone(), bytes, ended.clone()]);
    let crumbs: Vec<Vec<u8>> = rest
        .chunks(rest.len().div_ceil(4))
        .map(<[u8]>::to_vec)
        .collect();
    let mut pieces = vec![begun.clone()];
    for (n, crumb) in crumbs.iter().enumerate() {
        let flags = if n + 1 == crumbs.len() {
            END_HEADERS
        } else {
            0
        };
        pieces.push(frame(CONTINUATION, flags, 1, crumb));
    }
    vec![
        case(
            "a block in two frames",
            Served,
            &[begun.clone(), ended.clone()],
        ),
        case("a block in five frames", Served, &pieces),
        between("data within a block", data(1, 0, b"x")),
        between("ping within a block", frame(PING, 0, 0, &[0; 8])),
        between("settings within a block", settings(&[])),
        between("priority within a block", frame(PRIORITY, 0, 1, &[0; 5])),
        between("reset within a block", reset(1, CANCEL)),
        between("window within a block", window_update(0, 1)),
        between("goaway within a block", frame(GOAWAY, 0, 0, &[0; 8])),
        between("headers within a block", headers(3, BOTH, &get("/x"))),
        between(
            "an unknown frame within a block",
            frame(0xfa, 0, 0, b"grease"),
        ),
        between(
            "continuation of another stream",
            frame(CONTINUATION, END_HEADERS, 3, rest),
        ),
    ]
}

pub(crate) fn all() -> Vec<Case> {
    [
        connections(),
        settings_frames(),
        places(),
        sizes(),
        windows(),
        blocks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn frames_out_of_order_reset_a_stream_or_end_the_connection() {
    run("frames", &all());
}
