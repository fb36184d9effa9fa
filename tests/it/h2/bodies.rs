//! Bodies, lengths and trailers (RFC 9113, 8.1 and 8.1.1).

use super::cases::{Case, Expect, PATH, case, run};
use super::wire::{
    BOTH, DATA, END_HEADERS, END_STREAM, PADDED, PROTOCOL, block, data, field, frame, get, headers,
    request,
};

/// A POST with fields more, and what follows.
fn post(name: &str, expect: Expect, fields: &[(&str, &str)], rest: &[Vec<u8>]) -> Case {
    let head = [request("POST", PATH), block(fields)].concat();
    let mut parts = vec![headers(1, END_HEADERS, &head)];
    parts.extend_from_slice(rest);
    case(name, expect, &parts)
}

fn length(name: &str, expect: Expect, values: &[&str], rest: &[Vec<u8>]) -> Case {
    let fields: Vec<_> = values.iter().map(|v| ("content-length", *v)).collect();
    post(name, expect, &fields, rest)
}

pub(crate) fn all() -> Vec<Case> {
    use Expect::{Goaway, Reset, Served, Status};
    let bad = Reset(PROTOCOL);
    let end = |bytes: &[u8]| data(1, END_STREAM, bytes);
    let more = |bytes: &[u8]| data(1, 0, bytes);
    let trailers = |fields: &[(&str, &str)]| headers(1, BOTH, &block(fields));
    let padded = |bytes: &[u8]| frame(DATA, PADDED | END_STREAM, 1, bytes);
    vec![
        post(
            "a body of unknown length",
            Served,
            &[],
            &[more(b"ab"), end(b"cd")],
        )
        .seen(|it| it.body == b"abcd" && it.values("transfer-encoding") == ["chunked"]),
        post("a body that is empty in the end", Served, &[], &[end(b"")])
            .seen(|it| it.body.is_empty()),
        length(
            "a length that is true",
            Served,
            &["4"],
            &[more(b"ab"), end(b"cd")],
        )
        .seen(|it| it.body == b"abcd" && it.values("content-length") == ["4"]),
        length(
            "the same length twice",
            Served,
            &["4", "4"],
            &[end(b"abcd")],
        )
        .seen(|it| it.values("content-length") == ["4"]),
        length("two lengths", bad, &["4", "5"], &[end(b"abcd")]),
        length(
            "a body shorter than its length",
            bad,
            &["5"],
            &[end(b"abcd")],
        ),
        length(
            "a body longer than its length",
            bad,
            &["3"],
            &[end(b"abcd")],
        ),
        length(
            "a body longer than its length, in pieces",
            bad,
            &["3"],
            &[more(b"ab"), end(b"cd")],
        ),
        length("a body longer than none", bad, &["0"], &[end(b"a")]),
        length("a length and no body", bad, &["5"], &[end(b"")]),
        length("length +4", bad, &["+4"], &[end(b"abcd")]),
        length("length -4", bad, &["-4"], &[end(b"abcd")]),
        length("length 0x4", bad, &["0x4"], &[end(b"abcd")]),
        length("length 4,4", bad, &["4,4"], &[end(b"abcd")]),
        length("empty length", bad, &[""], &[end(b"abcd")]),
        length("length with a space", bad, &["4 "], &[end(b"abcd")]),
        length("length with junk", bad, &["4a"], &[end(b"abcd")]),
        length(
            "length beyond 64 bits",
            bad,
            &["18446744073709551620"],
            &[end(b"abcd")],
        ),
        length("length over the limit", Status(413), &["2000000"], &[]),
        length("length 04", Served, &["04"], &[end(b"abcd")]),
        case(
            "length with the head's end",
            bad,
            &[headers(
                1,
                BOTH,
                &[request("POST", PATH), field("content-length", "4")].concat(),
            )],
        ),
        case(
            "length on a GET with the head's end",
            bad,
            &[headers(
                1,
                BOTH,
                &[get(PATH), field("content-length", "4")].concat(),
            )],
        ),
        case(
            "length 0 with the head's end",
            Served,
            &[headers(
                1,
                BOTH,
                &[get(PATH), field("content-length", "0")].concat(),
            )],
        ),
        case(
            "a GET with a body",
            Served,
            &[headers(1, END_HEADERS, &get(PATH)), end(b"abcd")],
        )
        .seen(|it| it.body == b"abcd"),
        case(
            "a DELETE with a body",
            Served,
            &[
                headers(1, END_HEADERS, &request("DELETE", PATH)),
                end(b"abcd"),
            ],
        )
        .seen(|it| it.body == b"abcd"),
        post(
            "a body that looks like chunks",
            Served,
            &[],
            &[more(b"0\r\n\r\n"), end(b"GET /evil HTTP/1.1\r\n\r\n")],
        )
        .seen(|it| it.body == b"0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"),
        length(
            "a body that looks like a request",
            Served,
            &["26"],
            &[end(b"GET /evil HTTP/1.1\r\nx: y\r\n")],
        )
        .seen(|it| it.body.len() == 26),
        post("padding", Served, &[], &[padded(b"\x03abcd\0\0\0")]).seen(|it| it.body == b"abcd"),
        post(
            "padding and nothing else",
            Served,
            &[],
            &[padded(b"\x03\0\0\0")],
        )
        .seen(|it| it.body.is_empty()),
        length(
            "padding does not count",
            Served,
            &["4"],
            &[padded(b"\x03abcd\0\0\0")],
        ),
        post(
            "padding as long as the frame",
            Goaway(PROTOCOL),
            &[],
            &[padded(b"\x05abcd")],
        ),
        post(
            "padding longer than the frame",
            Goaway(PROTOCOL),
            &[],
            &[padded(b"\xffabcd")],
        ),
        post("padded and empty", Goaway(PROTOCOL), &[], &[padded(b"")]),
        post(
            "padding that is not zero",
            Served,
            &[],
            &[padded(b"\x03abcdxyz")],
        )
        .seen(|it| it.body == b"abcd"),
        post(
            "trailers",
            Served,
            &[("te", "trailers"), ("trailer", "x-sum")],
            &[more(b"abcd"), trailers(&[("x-sum", "7")])],
        )
        .seen(|it| it.trailers == ["x-sum: 7"]),
        post(
            "trailers that were not announced",
            Served,
            &[],
            &[more(b"abcd"), trailers(&[("x-sum", "7")])],
        )
        .seen(|it| it.trailers.is_empty() && it.body == b"abcd"),
        post(
            "trailers and no body",
            Served,
            &[],
            &[trailers(&[("x-sum", "7")])],
        )
        .seen(|it| it.body.is_empty()),
        post(
            "empty trailers",
            Served,
            &[],
            &[more(b"abcd"), trailers(&[])],
        ),
        post(
            "trailers that do not end",
            bad,
            &[],
            &[
                more(b"abcd"),
                headers(1, END_HEADERS, &block(&[("x", "y")])),
            ],
        ),
        // Malformed, and the engine only drops them: nobody can see them afterwards.
        post(
            "trailers with :path",
            Served,
            &[],
            &[more(b"abcd"), trailers(&[(":path", "/evil")])],
        ),
        post(
            "trailers with :method",
            Served,
            &[],
            &[more(b"abcd"), trailers(&[(":method", "GET")])],
        ),
        post(
            "trailers with :status",
            Served,
            &[],
            &[more(b"abcd"), trailers(&[(":status", "200")])],
        ),
        post(
            "trailers with upper case",
            Goaway(PROTOCOL),
            &[],
            &[more(b"abcd"), trailers(&[("X-Sum", "7")])],
        ),
        post(
            "trailers with connection",
            bad,
            &[],
            &[more(b"abcd"), trailers(&[("connection", "close")])],
        ),
        post(
            "trailers with transfer-encoding",
            bad,
            &[],
            &[more(b"abcd"), trailers(&[("transfer-encoding", "chunked")])],
        ),
        post(
            "trailers with CR LF",
            Goaway(PROTOCOL),
            &[],
            &[more(b"abcd"), trailers(&[("x", "y\r\nz: 1")])],
        ),
        post(
            "trailers with a length",
            Served,
            &[("trailer", "content-length")],
            &[more(b"abcd"), trailers(&[("content-length", "99")])],
        )
        .seen(|it| it.trailers.is_empty()),
        post(
            "trailers with a host",
            Served,
            &[("trailer", "host")],
            &[more(b"abcd"), trailers(&[("host", "evil")])],
        )
        .seen(|it| it.trailers.is_empty()),
        post(
            "trailers with an authorization",
            Served,
            &[("trailer", "authorization")],
            &[more(b"abcd"), trailers(&[("authorization", "evil")])],
        )
        .seen(|it| it.trailers.is_empty()),
        length(
            "trailers behind a body that is too short",
            bad,
            &["9"],
            &[more(b"abcd"), trailers(&[("x", "y")])],
        ),
    ]
}

#[test]
fn bodies_have_one_length() {
    run("bodies", &all());
}
