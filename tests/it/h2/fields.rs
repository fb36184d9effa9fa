//! Heads: pseudo-fields, names, values, and what becomes of them in HTTP/1 (RFC 9113, 8.2 and 8.3).

use super::cases::{Case, Expect, PATH, case, run};
use super::wire::{
    BOTH, CALM, END_HEADERS, PROTOCOL, block, field, get, headers, indexed_later, request,
};

const AUTHORITY: (&str, &str) = (":authority", "a.example");
const METHOD: (&str, &str) = (":method", "GET");
const SCHEME: (&str, &str) = (":scheme", "http");
const TARGET: (&str, &str) = (":path", PATH);

/// A request with these fields and no others.
fn only(name: &str, expect: Expect, fields: &[(&str, &str)]) -> Case {
    case(name, expect, &[headers(1, BOTH, &block(fields))])
}

/// A GET with a field more.
fn with(
    name: impl Into<String>,
    expect: Expect,
    key: impl AsRef<[u8]>,
    value: impl AsRef<[u8]>,
) -> Case {
    let fields = [get(PATH), field(key, value)].concat();
    case(name, expect, &[headers(1, BOTH, &fields)])
}

fn pseudo_fields() -> Vec<Case> {
    use Expect::{Goaway, Reset, Served, Status};
    let all = [METHOD, SCHEME, AUTHORITY, TARGET];
    let replaced = |name: &str, expect, key: &'static str, value: &str| {
        let fields = all.map(|(k, v)| if k == key { (k, value) } else { (k, v) });
        only(name, expect, &fields)
    };
    let bad = Reset(PROTOCOL);
    // Such bytes are no HPACK to the engine, which is more than the RFC asks for.
    let broken = Goaway(PROTOCOL);
    vec![
        only("a plain GET", Served, &all)
            .seen(|it| it.lines[0].starts_with("GET /case-") && it.values("host") == ["a.example"]),
        only(
            "in another order",
            Served,
            &[TARGET, AUTHORITY, SCHEME, METHOD],
        ),
        only("no :method", bad, &[SCHEME, AUTHORITY, TARGET]),
        only("no :scheme", bad, &[METHOD, AUTHORITY, TARGET]),
        only("no :path", bad, &[METHOD, SCHEME, AUTHORITY]),
        only(
            "no :authority and no host",
            Status(400),
            &[METHOD, SCHEME, TARGET],
        ),
        only(
            "host instead of :authority",
            Served,
            &[METHOD, SCHEME, TARGET, ("host", "b.example")],
        )
        .seen(|it| it.values("host") == ["b.example"]),
        only("nothing at all", bad, &[]),
        only(
            ":method twice",
            bad,
            &[METHOD, METHOD, SCHEME, AUTHORITY, TARGET],
        ),
        only(
            ":scheme twice",
            bad,
            &[METHOD, SCHEME, SCHEME, AUTHORITY, TARGET],
        ),
        only(
            ":path twice",
            bad,
            &[METHOD, SCHEME, AUTHORITY, TARGET, (":path", "/other")],
        ),
        only(
            ":authority twice",
            bad,
            &[METHOD, SCHEME, AUTHORITY, (":authority", "b"), TARGET],
        ),
        only(
            "unknown pseudo-field",
            broken,
            &[METHOD, SCHEME, AUTHORITY, TARGET, (":evil", "1")],
        ),
        only(
            ":status in a request",
            bad,
            &[METHOD, SCHEME, AUTHORITY, TARGET, (":status", "200")],
        ),
        only(
            "pseudo after regular",
            bad,
            &[METHOD, SCHEME, TARGET, ("x", "y"), AUTHORITY],
        ),
        only(
            ":path after regular",
            bad,
            &[METHOD, SCHEME, AUTHORITY, ("x", "y"), TARGET],
        ),
        only(
            "upper case in a pseudo-field",
            broken,
            &[(":Method", "GET"), SCHEME, AUTHORITY, TARGET],
        ),
        replaced("empty :method", broken, ":method", ""),
        replaced("empty :path", bad, ":path", ""),
        replaced("empty :scheme", Status(400), ":scheme", ""),
        replaced("empty :authority", bad, ":authority", ""),
        replaced(":scheme ftp", Status(400), ":scheme", "ftp"),
        replaced(":scheme https in the clear", Served, ":scheme", "https"),
        replaced(":scheme with a path", bad, ":scheme", "http://evil/"),
        replaced(":scheme with a colon", bad, ":scheme", "http:"),
        replaced(
            ":method with a space",
            broken,
            ":method",
            "GET /evil HTTP/1.1",
        ),
        replaced(
            ":method with CR LF",
            broken,
            ":method",
            "GET / HTTP/1.1\r\nx: y\r\n\r\nGET",
        ),
        replaced(":method with NUL", broken, ":method", "GE\0T"),
        replaced(":method with a colon", broken, ":method", "GE:T"),
        replaced(
            "lower case method is another method",
            Served,
            ":method",
            "get",
        ),
        replaced("a method of the client's own", Served, ":method", "PURGE"),
        replaced("a long method", Status(400), ":method", &"A".repeat(33)),
        replaced("TRACE", Status(501), ":method", "TRACE"),
        replaced("CONNECT with :path", bad, ":method", "CONNECT"),
        only("CONNECT", Status(501), &[(":method", "CONNECT"), AUTHORITY]),
        only(
            "extended CONNECT for another protocol than WebSocket",
            Status(501),
            &[
                (":method", "CONNECT"),
                (":protocol", "connect-udp"),
                SCHEME,
                AUTHORITY,
                TARGET,
            ],
        ),
        only(
            ":protocol without CONNECT",
            bad,
            &[
                METHOD,
                (":protocol", "websocket"),
                SCHEME,
                AUTHORITY,
                TARGET,
            ],
        ),
        replaced(":path without slash", bad, ":path", "case-0000"),
        replaced(
            ":path is a URL",
            bad,
            ":path",
            "http://evil.example/case-0000",
        ),
        replaced(":path * with GET", Status(400), ":path", "*"),
        only(
            "OPTIONS *",
            Served,
            &[
                (":method", "OPTIONS"),
                SCHEME,
                AUTHORITY,
                (":path", "*"),
                ("x-case", PATH),
            ],
        ),
        replaced(":path with a space", bad, ":path", "/case-0000 HTTP/1.1"),
        replaced(
            ":path with CR LF",
            bad,
            ":path",
            "/case-0000 HTTP/1.1\r\nx: y",
        ),
        replaced(":path with LF", bad, ":path", "/case-0000\nx: y"),
        replaced(":path with NUL", bad, ":path", "/case-0000\0"),
        replaced(":path with TAB", bad, ":path", "/case-0000\t"),
        replaced(":path with DEL", bad, ":path", "/case-0000\x7f"),
        replaced(
            ":path without its fragment",
            Served,
            ":path",
            "/case-0000#x",
        )
        .seen(|it| !it.target().contains('#')),
        replaced(
            ":path with a backslash",
            Status(400),
            ":path",
            "/case-0000\\..\\x",
        ),
        replaced(":path with %00", Status(400), ":path", "/case-0000%00"),
        replaced(
            ":path with %0d%0a",
            Status(400),
            ":path",
            "/case-0000%0d%0ax:%20y",
        ),
        replaced(
            ":path with a bad escape",
            Status(400),
            ":path",
            "/case-0000%zz",
        ),
        replaced(":path with dots", Served, ":path", "/x/../case-0000")
            .seen(|it| it.target().starts_with("/case-")),
        replaced(
            ":path above the root",
            Status(400),
            ":path",
            "/../../case-0000",
        )
        .seen(|it| it.target().starts_with("/case-")),
        replaced(":path with a query", Served, ":path", "/case-0000?a=b&c")
            .seen(|it| it.target().ends_with("?a=b&c")),
        replaced(
            "a long :path",
            Status(414),
            ":path",
            &format!("/{}", "x".repeat(9_000)),
        ),
        replaced(
            ":authority with user information",
            Status(400),
            ":authority",
            "user@a.example",
        ),
        replaced(":authority with CR LF", bad, ":authority", "a\r\nx: y"),
        replaced(":authority with a space", bad, ":authority", "a b"),
        replaced(":authority with NUL", bad, ":authority", "a\0"),
        replaced(":authority with a slash", bad, ":authority", "a/evil"),
        replaced(":authority with a comma", Status(400), ":authority", "a,b"),
        replaced(
            ":authority with a bad port",
            Status(400),
            ":authority",
            "a:x",
        ),
        replaced(
            ":authority with a huge port",
            Status(400),
            ":authority",
            "a:65536",
        ),
        replaced(":authority with two ports", bad, ":authority", "a:80:80"),
        replaced(":authority with a half bracket", bad, ":authority", "[::1"),
        replaced(
            ":authority in capitals",
            Served,
            ":authority",
            "A.EXAMPLE:80",
        )
        .seen(|it| it.values("host") == ["a.example:80"]),
        replaced(":authority is IPv6", Served, ":authority", "[::1]:80")
            .seen(|it| it.values("host") == ["[::1]:80"]),
    ]
}

fn hosts_and_hops() -> Vec<Case> {
    use Expect::{Reset, Served, Status};
    let bad = Reset(PROTOCOL);
    let two = |name: &str, expect, a: (&str, &str), b: (&str, &str)| {
        let fields = [get(PATH), block(&[a, b])].concat();
        case(name, expect, &[headers(1, BOTH, &fields)])
    };
    vec![
        with("host equal to :authority", Served, "host", "a.example")
            .seen(|it| it.values("host") == ["a.example"]),
        with("host in capitals", Served, "host", "A.EXAMPLE")
            .seen(|it| it.values("host") == ["a.example"]),
        with("host not :authority", Status(400), "host", "evil.example"),
        with(
            "host not :authority, by a port",
            Status(400),
            "host",
            "a.example:81",
        ),
        with("empty host", Status(400), "host", ""),
        two(
            "two hosts",
            Status(400),
            ("host", "a.example"),
            ("host", "a.example"),
        ),
        two(
            "two other hosts",
            Status(400),
            ("host", "a.example"),
            ("host", "evil.example"),
        ),
        with("connection", bad, "connection", "close"),
        with(
            "connection names a field",
            bad,
            "connection",
            "x-forwarded-for",
        ),
        with("keep-alive", bad, "keep-alive", "timeout=5"),
        with("proxy-connection", bad, "proxy-connection", "keep-alive"),
        with("upgrade", bad, "upgrade", "websocket"),
        with("upgrade to h2c", bad, "upgrade", "h2c"),
        with(
            "transfer-encoding chunked",
            bad,
            "transfer-encoding",
            "chunked",
        ),
        with(
            "transfer-encoding identity",
            bad,
            "transfer-encoding",
            "identity",
        ),
        with("transfer-encoding empty", bad, "transfer-encoding", ""),
        with("http2-settings", Served, "http2-settings", "AAMAAABk")
            .seen(|it| it.values("http2-settings").is_empty()),
        with("te trailers", Served, "te", "trailers").seen(|it| it.values("te") == ["trailers"]),
        with("te gzip", bad, "te", "gzip"),
        with("te trailers and more", bad, "te", "trailers, gzip"),
        with("te twice removed", bad, "te", "trailers;q=0.5"),
        with("expect something", Status(417), "expect", "the-unexpected"),
        with("forged addresses", Served, "x-forwarded-for", "6.6.6.6")
            .seen(|it| it.values("x-forwarded-for") == ["127.0.0.1"]),
        with("forged alias", Served, "x_forwarded_for", "6.6.6.6")
            .seen(|it| it.values("x_forwarded_for").is_empty()),
        with(
            "forged certificate",
            Served,
            "x-forwarded-client-cert",
            "URI=spiffe://evil",
        )
        .seen(|it| it.values("x-forwarded-client-cert").is_empty()),
        two(
            "cookies in pieces",
            Served,
            ("cookie", "a=1"),
            ("cookie", "b=2"),
        )
        .seen(|it| it.values("cookie") == ["a=1; b=2"]),
        with("an empty cookie", Served, "cookie", "").seen(|it| it.values("cookie") == [""]),
        two("the same field twice", Served, ("x-a", "1"), ("x-a", "2"))
            .seen(|it| it.values("x-a") == ["1", "2"]),
    ]
}

fn names_and_values() -> Vec<Case> {
    use Expect::{Goaway, Served, Status};
    // Such bytes are no HPACK to the engine, which is more than the RFC asks for.
    let broken = Goaway(PROTOCOL);
    let mut cases = vec![
        with("upper case name", broken, "X-Upper", "1"),
        with("one upper case letter", broken, "x-uppeR", "1"),
        with("name with a quote", Status(400), "x-\"y", "1"),
        with("empty name", broken, "", "1"),
        with("empty value", Served, "x-empty", "")
            .seen(|it| it.lines.iter().any(|l| l.starts_with("x-empty:"))),
        with("value with TAB inside", Served, "x", "a\tb"),
        with("value of bytes above 127", Served, "x", [0xc3, 0xa4]),
        with("value with leading space", Status(400), "x", " a"),
        with("value with trailing space", Status(400), "x", "a "),
        with("value with leading TAB", Status(400), "x", "\ta"),
        with(
            "smuggled request in a value",
            broken,
            "x",
            "a\r\n\r\nGET /evil HTTP/1.1\r\nhost: a\r\n\r\n",
        ),
        with(
            "smuggled framing in a value",
            broken,
            "x",
            "a\r\ntransfer-encoding: chunked",
        ),
        with("smuggled field in a name", broken, "x: y\r\nevil", "1"),
        with("name with a colon", broken, "x:y", "1"),
        with(
            "name with a colon at its end",
            broken,
            "transfer-encoding:",
            "chunked",
        ),
        with("name with a space", broken, "content-length ", "5"),
        with("name with a leading space", broken, " content-length", "5"),
        with("99 fields more than allowed", Status(431), "x", "y"),
    ];
    let many: Vec<u8> = (0..199).flat_map(|_| field("x", "y")).collect();
    if let Some(last) = cases.last_mut() {
        last.bytes = headers(1, BOTH, &[get(PATH), many].concat());
    }
    for byte in [
        b'(', b')', b',', b'/', b';', b'<', b'=', b'>', b'?', b'@', b'[', b'\\', b']', b'{', b'}',
        0x7f, 0x80, 0xff,
    ] {
        let name = [b"x-", &[byte][..], b"y"].concat();
        cases.push(with(format!("name with {byte:#04x}"), broken, name, "1"));
    }
    for byte in (0..0x20).filter(|byte| *byte != b'\t').chain([0x7f]) {
        let value = [b'a', byte, b'b'];
        cases.push(with(format!("value with {byte:#04x}"), broken, "x", value));
        let name = [b'x', byte, b'y'];
        cases.push(with(format!("name with {byte:#04x}"), broken, name, "1"));
    }
    cases
}

/// Header blocks that are not what they seem (RFC 7541).
fn blocks() -> Vec<Case> {
    use Expect::{Goaway, Served, Status};
    // Not COMPRESSION_ERROR, which the RFC has for it.
    let bad = Goaway(PROTOCOL);
    let raw = |name: &str, expect, bytes: &[u8]| {
        case(
            name,
            expect,
            &[headers(1, BOTH, &[get(PATH), bytes.to_vec()].concat())],
        )
    };
    // One field of 4,000 bytes, then a byte for each time that it is meant again.
    let bomb = |times| {
        let first = indexed_later("x", &[b'y'; 4000]);
        [first, vec![0xbe; times]].concat()
    };
    vec![
        raw("index 0", bad, &[0x80]),
        raw("index beyond the tables", bad, &[0xff, 0x7f]),
        raw("name index beyond the tables", bad, &[0x7f, 0x7f, 1, b'x']),
        raw(
            "an integer without end",
            bad,
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f],
        ),
        raw("a name longer than the block", bad, &[0, 0x7f, 0x10, b'x']),
        raw(
            "a value longer than the block",
            bad,
            &[0, 1, b'x', 0x7f, 0x10],
        ),
        raw("half a field", bad, &[0, 1]),
        raw(
            "padding of Huffman longer than a byte",
            bad,
            &[0, 1, b'x', 0x82, 0xff, 0xff],
        ),
        raw(
            "EOS in Huffman",
            bad,
            &[0, 1, b'x', 0x84, 0xff, 0xff, 0xff, 0xff],
        ),
        raw("table larger than allowed", bad, &[0x3f, 0xe1, 0x7f]),
        raw("table size behind a field", bad, &[0x20]),
        case(
            "table size first",
            Served,
            &[headers(1, BOTH, &[vec![0x20], get(PATH)].concat())],
        ),
        case(
            "table size twice",
            Served,
            &[headers(
                1,
                BOTH,
                &[vec![0x20, 0x3f, 0x01], get(PATH)].concat(),
            )],
        ),
        raw("never indexed", Served, &[0x10, 1, b'x', 1, b'y']),
        raw(
            "a field from the table",
            Served,
            &[indexed_later("x", b"y"), vec![0xbe]].concat(),
        ),
        raw("a bomb of 100 kB", Status(431), &bomb(25)),
        raw("a bomb of 40 MB", Goaway(CALM), &bomb(10_000)),
        case(
            "a bomb of cookies",
            Goaway(CALM),
            &[headers(
                1,
                BOTH,
                &[
                    get(PATH),
                    indexed_later("cookie", &[b'y'; 4000]),
                    vec![0xbe; 10_000],
                ]
                .concat(),
            )],
        ),
        case(
            "a field of 70 kB",
            Status(431),
            &[
                headers(
                    1,
                    1,
                    &[get(PATH), field("x", vec![b'y'; 70_000])].concat()[..16_000],
                ),
                super::wire::frame(9, 0, 1, &vec![b'y'; 16_000]),
                super::wire::frame(9, 0, 1, &vec![b'y'; 16_000]),
                super::wire::frame(9, 0, 1, &vec![b'y'; 16_000]),
                super::wire::frame(
                    9,
                    END_HEADERS,
                    1,
                    &vec![
                        b'y';
                        [get(PATH), field("x", vec![b'y'; 70_000])].concat().len() - 64_000
                    ],
                ),
            ],
        ),
        case(
            "a POST without a body",
            Served,
            &[headers(1, BOTH, &request("POST", PATH))],
        )
        .seen(|it| it.body.is_empty()),
    ]
}

pub(crate) fn all() -> Vec<Case> {
    [
        pseudo_fields(),
        hosts_and_hops(),
        names_and_values(),
        blocks(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[test]
fn heads_are_canonical_or_refused() {
    run("heads", &all());
}
