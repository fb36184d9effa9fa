//! What becomes of the fields of requests and responses between two hops.

use std::net::IpAddr;

use http::{HeaderMap, HeaderValue, Version};
use ipnet::IpNet;

use super::lines::{fields as parse, values};
use crate::http::headers::{
    Hop, client_address, forward, is_last_hop, is_loop, join_cookies, strip_forged, strip_own,
    strip_request, strip_response,
};
use crate::http::kinds::Kinds;

/// Fields of one connection (RFC 9110, 7.6.1 and what browsers and HTTP/1.0 proxies made up).
const HOP: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
];

/// Fields that `connection` must not take from the next hop.
const PROTECTED: [&str; 14] = [
    "host",
    "content-length",
    "transfer-encoding",
    "authorization",
    "cookie",
    "te",
    "x-forwarded-for",
    "x-forwarded-proto",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-real-ip",
    "x-forwarded-client-cert",
    "forwarded",
    "x-request-id",
];

/// What only a trusted peer may say: the last of the list above, in either spelling.
fn is_forgeable(name: &str) -> bool {
    PROTECTED[6..].contains(&&*name.replace('_', "-"))
}

fn is_own(name: &str) -> bool {
    name.replace('_', "-").starts_with("x-weir-")
}

/// Each line is a field. Nothing of the hop and nothing that `connection` names goes on, everything else
/// does, a stranger's word about itself does not, and ours arrives whatever was sent.
pub fn fields(data: &[u8]) {
    let sent = parse(data.split(|byte| *byte == b'\n'));
    request(&sent, true);
    request(&sent, false);
    response(&sent);
    address(&sent);
    hops(sent);
}

/// Nothing but the count changes, and what was counted down is one line.
fn hops(sent: HeaderMap) {
    assert!(!is_loop(&HeaderMap::new()));
    let (mut before, mut counted) = (sent.clone(), sent);
    let last = is_last_hop(&mut counted);
    assert!(!last || counted == before);
    let lines = values(&counted, "max-forwards").len();
    assert!(lines == 1 || counted == before);
    before.remove("max-forwards");
    counted.remove("max-forwards");
    assert_eq!(counted, before);
}

fn request(sent: &HeaderMap, trusted: bool) {
    let peer = HeaderValue::from_static("192.0.2.7");
    let authority = HeaderValue::from_static("a.example:8080");
    let certificate = HeaderValue::from_static("Hash=0;URI=spiffe://a/b");
    let (mut headers, mut kinds) = (sent.clone(), Kinds::of(sent));
    // In the order of the request path.
    if !trusted {
        strip_forged(&mut headers, &mut kinds);
        assert!(!headers.keys().any(|name| is_forgeable(name.as_str())));
        strip_own(&mut headers, kinds);
        assert!(!headers.keys().any(|name| is_own(name.as_str())));
    }
    strip_request(&mut headers, kinds);
    let stripped = headers.clone();
    join_cookies(&mut headers);
    assert!(values(&headers, "cookie").len() <= 1);
    let hop = Hop {
        peer: &peer,
        scheme: "https",
        authority: &authority,
        certificate: Some(&certificate),
        version: Version::HTTP_11,
    };
    forward(&mut headers, kinds, &hop);

    let named = nominated(sent);
    let removed = |name: &str| {
        let stranger = !trusted && (is_forgeable(name) || is_own(name));
        stranger || HOP.contains(&name) || is_named(&named, name)
    };
    for name in stripped.keys().map(|name| name.as_str()) {
        assert!(!removed(name), "{name} goes on");
    }
    for name in sent.keys().map(|name| name.as_str()) {
        let (before, after) = (values(sent, name), values(&stripped, name));
        match name {
            "te" => {
                let elements = before.iter().flat_map(|line| line.split(|b| *b == b','));
                let mut words = elements.map(<[u8]>::trim_ascii);
                let trailers = words.any(|word| word.eq_ignore_ascii_case(b"trailers"));
                assert_eq!(after == [b"trailers"], trailers, "{before:?}");
                assert!(trailers || after.is_empty());
            }
            name if removed(name) => assert!(after.is_empty()),
            name => assert_eq!(before, after, "{name} does not go on as it came"),
        }
    }

    for (name, own) in [
        ("x-forwarded-for", &peer),
        ("x-forwarded-client-cert", &certificate),
    ] {
        let [list] = values(&headers, name)[..] else {
            panic!("{name} is not one line");
        };
        assert!(list.ends_with(own.as_bytes()));
        assert!(trusted || list == own.as_bytes(), "{name} is forged");
    }
    assert!(trusted || values(&headers, "x-forwarded-proto") == [b"https"]);
    assert!(trusted || values(&headers, "x-forwarded-host") == [authority.as_bytes()]);
    assert_eq!(values(&headers, "via").last(), Some(&&b"1.1 weir"[..]));
}

fn response(sent: &HeaderMap) {
    let mut headers = sent.clone();
    strip_response(&mut headers, Kinds::of(sent));
    let named = nominated(sent);
    let chunked = sent.contains_key("transfer-encoding");
    for name in sent.keys().map(|name| name.as_str()) {
        let left = values(&headers, name);
        let removed = HOP[..5].contains(&name)
            || name == "te"
            || is_named(&named, name)
            || chunked && name == "content-length";
        assert_eq!(left.is_empty(), removed, "{name}");
        assert!(removed || left == values(sent, name));
    }
}

/// What `connection` names, in lower case.
fn nominated(sent: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = values(sent, "connection");
    let elements = lines.iter().flat_map(|line| line.split(|b| *b == b','));
    elements
        .map(|name| name.trim_ascii().to_ascii_lowercase())
        .collect()
}

fn is_named(named: &[Vec<u8>], name: &str) -> bool {
    !PROTECTED.contains(&name) && named.iter().any(|it| it == name.as_bytes())
}

fn address(sent: &HeaderMap) {
    let nets: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"]
        .iter()
        .filter_map(|net| net.parse().ok())
        .collect();
    let stranger = IpAddr::from([192, 0, 2, 7]);
    assert_eq!(client_address(sent, stranger, &nets), stranger);
    let trusted = IpAddr::from([10, 0, 0, 1]);
    let client = client_address(sent, trusted, &nets);
    let list = values(sent, "x-forwarded-for").join(&b","[..]);
    let list = String::from_utf8_lossy(&list);
    let mut addresses = list.split(',').filter_map(|it| it.trim().parse().ok());
    assert!(client == trusted || addresses.any(|it: IpAddr| it == client));
}
