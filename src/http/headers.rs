//! Fields that belong to one hop, and fields that tell the next hop about this one.
//!
//! Owns RFC 9110, 7.6 (forwarding) and the `x-forwarded-*` habit. Must not know routes.
//! Removal always comes before our own fields are set, so that no `Connection` line of a client can
//! strip them.

use std::net::IpAddr;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderName, MAX_FORWARDS, SET_COOKIE,
    TE, TRAILER, TRANSFER_ENCODING, VARY, VIA,
};
use http::{HeaderMap, HeaderValue, Version};
use ipnet::IpNet;

use super::kinds::Kinds;

/// How long a hop keeps the connection; of that hop alone.
pub(crate) const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// The id that ties the logs of all hops together.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// How often a request may have passed a proxy of this name. Several are usual (sidecar, ingress,
/// sidecar); more than this is a loop (RFC 9110, 7.6.3).
const MOST_HOPS: usize = 10;
const PSEUDONYM: &[u8] = b"weir";

/// Removes what belongs to the client's hop (RFC 9110, 7.6.1).
pub(crate) fn strip_request(headers: &mut HeaderMap, kinds: Kinds) {
    strip_nominated(headers, kinds);
    // `Trailer` stays: it is end to end (RFC 9110, 6.6.2) and hyper sends only announced trailers.
    let hop = Kinds::HOP.or(Kinds::REQUEST_HOP);
    strip(headers, kinds, hop.or(Kinds::TRANSFER_ENCODING));
    if kinds.has(Kinds::TE) {
        settle_codings(headers);
    }
}

/// Leaves of `TE` that trailers are welcome, where it says so.
fn settle_codings(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(TE).iter();
    // As in every gRPC call.
    if lines.next().is_some_and(|line| line == "trailers") && lines.next().is_none() {
        return;
    }
    let welcome = elements(headers, &TE).any(|it| it.eq_ignore_ascii_case(b"trailers"));
    headers.remove(TE);
    if welcome {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Removes what belongs to the endpoint's hop. Where the response has both lengths, the chunked one
/// counts (RFC 9112, 6.3).
pub(crate) fn strip_response(headers: &mut HeaderMap, kinds: Kinds) {
    strip_nominated(headers, kinds);
    if kinds.has(Kinds::TRANSFER_ENCODING) && headers.remove(TRANSFER_ENCODING).is_some() {
        headers.remove(CONTENT_LENGTH);
    }
    strip(headers, kinds, Kinds::HOP.or(Kinds::TE));
}

/// Removes `Connection` and what it names, except what no client may take away from the next hop.
fn strip_nominated(headers: &mut HeaderMap, kinds: Kinds) {
    if !kinds.has(Kinds::CONNECTION) {
        return;
    }
    let Some(first) = headers.get(CONNECTION) else {
        return;
    };
    // The two usual values name nothing that is not removed anyway.
    let ordinary = [&b"keep-alive"[..], b"close"]
        .iter()
        .any(|word| first.as_bytes().eq_ignore_ascii_case(word));
    if ordinary && headers.get_all(CONNECTION).iter().nth(1).is_none() {
        headers.remove(CONNECTION);
        return;
    }
    let nominated: Vec<HeaderName> = elements(headers, &CONNECTION)
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| !is_protected(name))
        .collect();
    headers.remove(CONNECTION);
    for name in nominated {
        headers.remove(name);
    }
}

/// The elements of a list field, over all its lines. As bytes: one byte above ASCII must not hide the rest.
fn elements<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

fn is_protected(name: &HeaderName) -> bool {
    [
        HOST,
        CONTENT_LENGTH,
        TRANSFER_ENCODING,
        AUTHORIZATION,
        COOKIE,
        TE,
    ]
    .contains(name)
        || Kinds::of_name(name).has(Kinds::FORGEABLE)
}

/// Removes what only a trusted peer may say, and aliases of it. Before anything is decided by a field.
pub(crate) fn strip_forged(headers: &mut HeaderMap, kinds: &mut Kinds) {
    strip(headers, *kinds, Kinds::FORGEABLE.or(Kinds::ALIAS));
    *kinds = kinds.without(FORGED);
}

/// What is not there once [`strip_forged`] has removed it.
const FORGED: Kinds = Kinds::FORGEABLE
    .or(Kinds::ALIAS)
    .or(Kinds::REQUEST_ID)
    .or(Kinds::FORWARDED_FOR)
    .or(Kinds::FORWARDED_PROTO)
    .or(Kinds::FORWARDED_HOST);

/// Removes our own names in either spelling. After the decisions: a rule may let testers name a
/// backend in such a field, but only trusted peers have it passed on.
pub(crate) fn strip_own(headers: &mut HeaderMap, kinds: Kinds) {
    strip(headers, kinds, Kinds::OWN);
}

/// Removes from trailers what would change the meaning of the head, should a recipient merge them (RFC
/// 9110, 6.5.1): framing, routing, credentials, and what peers must not forge.
pub(crate) fn strip_trailers(trailers: &mut HeaderMap) {
    strip_where(trailers, |name| {
        let heads_only = [TRAILER, MAX_FORWARDS, SET_COOKIE];
        let kinds = Kinds::CONNECTION.or(Kinds::HOP).or(Kinds::EXPECT);
        let kinds = kinds.or(Kinds::ALIAS).or(Kinds::OWN);
        is_protected(name) || heads_only.contains(name) || Kinds::of_name(name).has(kinds)
    });
}

/// Removes the fields of these kinds from a head.
fn strip(headers: &mut HeaderMap, of_head: Kinds, unwanted: Kinds) {
    if of_head.has(unwanted) {
        strip_where(headers, |name| Kinds::of_name(name).has(unwanted));
    }
}

fn strip_where(headers: &mut HeaderMap, unwanted: impl Fn(&HeaderName) -> bool) {
    let found: Vec<HeaderName> = headers
        .keys()
        .filter(|name| unwanted(name))
        .cloned()
        .collect();
    for name in found {
        headers.remove(name);
    }
}

/// What the next hop is told about the client.
#[derive(Debug)]
pub(crate) struct Hop<'a> {
    /// The client's address as a field value, made once a connection.
    pub(crate) peer: &'a HeaderValue,
    /// `http` or `https`.
    pub(crate) scheme: &'static str,
    /// Host and port that the client asked for.
    pub(crate) authority: &'a HeaderValue,
    /// Who the client is by its certificate, as an element of `x-forwarded-client-cert`.
    pub(crate) certificate: Option<&'a HeaderValue>,
    /// The version that the client spoke.
    pub(crate) version: Version,
}

/// Sets `x-forwarded-*` and `via`. Earlier values are there only if a trusted peer sent them: the
/// address is then added to the list, protocol and host stay what that peer said.
pub(crate) fn forward(headers: &mut HeaderMap, kinds: Kinds, hop: &Hop<'_>) {
    if kinds.has(Kinds::FORWARDED_FOR) {
        extend(headers, X_FORWARDED_FOR, hop.peer);
    } else {
        headers.append(X_FORWARDED_FOR, hop.peer.clone());
    }
    if let Some(certificate) = hop.certificate {
        extend(headers, X_FORWARDED_CLIENT_CERT, certificate);
    }
    if !(kinds.has(Kinds::FORWARDED_PROTO) && headers.contains_key(X_FORWARDED_PROTO)) {
        headers.append(X_FORWARDED_PROTO, HeaderValue::from_static(hop.scheme));
    }
    if !(kinds.has(Kinds::FORWARDED_HOST) && headers.contains_key(X_FORWARDED_HOST)) {
        headers.append(X_FORWARDED_HOST, hop.authority.clone());
    }
    let via = match hop.version {
        Version::HTTP_2 => HeaderValue::from_static("2.0 weir"),
        Version::HTTP_10 => HeaderValue::from_static("1.0 weir"),
        _ => HeaderValue::from_static("1.1 weir"),
    };
    headers.append(VIA, via);
}

/// Adds an element at the end of a list.
fn extend(headers: &mut HeaderMap, name: HeaderName, element: &HeaderValue) {
    let list = match joined(headers, &name) {
        Some(mut earlier) => {
            earlier.extend_from_slice(b", ");
            earlier.extend_from_slice(element.as_bytes());
            HeaderValue::from_bytes(&earlier).unwrap_or_else(|_| element.clone())
        }
        None => element.clone(),
    };
    headers.insert(name, list);
}

/// All lines of a field as one list, or `None` when there is none.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Option<Vec<u8>> {
    let mut lines = headers.get_all(name).iter();
    let mut list = lines.next()?.as_bytes().to_vec();
    for line in lines {
        list.extend_from_slice(b", ");
        list.extend_from_slice(line.as_bytes());
    }
    Some(list)
}

/// The client's address behind trusted proxies: from the right of `x-forwarded-for`, the first
/// address that is not trusted itself; the peer's own where there is none.
pub(crate) fn client_address(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    if !is_trusted(peer, trusted) {
        return peer;
    }
    let Some(list) = joined(headers, &X_FORWARDED_FOR) else {
        return peer;
    };
    let mut client = peer;
    for entry in String::from_utf8_lossy(&list).rsplit(',') {
        let Ok(address) = entry.trim().parse::<IpAddr>() else {
            break;
        };
        client = address;
        if !is_trusted(address, trusted) {
            break;
        }
    }
    client
}

/// Whether a peer's word about the client counts.
pub(crate) fn is_trusted(peer: IpAddr, trusted: &[IpNet]) -> bool {
    !trusted.is_empty() && {
        let peer = peer.to_canonical();
        trusted.iter().any(|net| net.contains(&peer))
    }
}

/// Whether the request has passed proxies of this name too often.
pub(crate) fn is_loop(headers: &HeaderMap) -> bool {
    let hops = elements(headers, &VIA)
        .filter(|hop| hop.ends_with(PSEUDONYM))
        .count();
    hops > MOST_HOPS
}

/// RFC 9110, 7.6.2: whether this hop is the last one that an OPTIONS request may reach. Counts down
/// where it is not; of several lines the first one counts, and goes on alone.
pub(crate) fn is_last_hop(headers: &mut HeaderMap) -> bool {
    let Some(left) = headers
        .get(MAX_FORWARDS)
        .and_then(|v| v.to_str().ok()?.parse::<u32>().ok())
    else {
        return false;
    };
    match left.checked_sub(1) {
        Some(rest) => {
            headers.insert(MAX_FORWARDS, HeaderValue::from(rest));
            false
        }
        None => true,
    }
}

/// Sets fields of our own on an answer. `Vary` is a list that others have their part in.
pub(crate) fn add_fields(headers: &mut HeaderMap, fields: HeaderMap) {
    let mut last = None;
    for (name, value) in fields {
        let first = name.is_some();
        last = name.or(last);
        let Some(name) = &last else { continue };
        if first && *name != VARY {
            headers.remove(name);
        }
        // An answer with as many fields as there can be goes without it.
        headers.try_append(name, value).unwrap_or_default();
    }
}

/// RFC 9113, 8.2.3: HTTP/2 may split `Cookie`; HTTP/1 wants one line.
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let all: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if let Ok(one) = HeaderValue::from_bytes(&all.join(&b"; "[..])) {
        headers.insert(COOKIE, one);
    }
}

/// The value of a cookie of the request, as it stands there (RFC 6265, 5.4).
pub(crate) fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|b| *b == b';'))
        .find_map(|pair| {
            let (key, value) = pair.trim_ascii().split_once_byte(b'=')?;
            (key == name.as_bytes()).then_some(value)
        })
}

trait SplitOnce {
    fn split_once_byte(&self, byte: u8) -> Option<(&[u8], &[u8])>;
}

impl SplitOnce for [u8] {
    fn split_once_byte(&self, byte: u8) -> Option<(&[u8], &[u8])> {
        let at = memchr::memchr(byte, self)?;
        Some((&self[..at], &self[at + 1..]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_go() {
        let mut headers = map(&[
            ("connection", "close, X-Secret"),
            (
                "connection",
                "authorization, cookie, x-forwarded-for, x-other",
            ),
            ("x-secret", "1"),
            ("x-other", "1"),
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "gzip, Trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAARAAAAAAAIAAAAA"),
            ("accept", "*/*"),
        ]);
        let kinds = Kinds::of(&headers);
        strip_request(&mut headers, kinds);
        assert_eq!(
            names(&headers),
            ["accept", "authorization", "cookie", "te", "trailer"]
        );
        assert_eq!(headers[TE], "trailers");
    }

    #[test]
    fn of_te_only_trailers_pass_whatever_else_there_is() {
        for (lines, passes) in [
            (&["trailers"][..], true),
            (&["Trailers"], true),
            (&["trailers", "trailers"], true),
            (&["trailers, deflate;q=0.5"], true),
            (&["gzip", "trailers"], true),
            (&["trailers;q=0.5"], false),
            (&["gzip"], false),
            (&[""], false),
        ] {
            let mut headers = map(&[("keep-alive", "timeout=5"), ("accept", "*/*")]);
            for line in lines {
                headers.append(TE, HeaderValue::from_static(line));
            }
            let kinds = Kinds::of(&headers);
            strip_request(&mut headers, kinds);
            let left: Vec<_> = headers.get_all(TE).iter().collect();
            let expected: &[&str] = if passes { &["trailers"] } else { &[] };
            assert_eq!(left, expected, "{lines:?}");
            assert_eq!(headers.len(), 1 + expected.len(), "{lines:?}");
        }
    }

    #[test]
    fn a_byte_above_ascii_hides_nothing() {
        let mut headers = map(&[("x-secret", "1"), ("te", "gzip"), ("te", "trailers")]);
        let hidden = HeaderValue::from_bytes(b"x-secret, \xff").unwrap();
        headers.insert(CONNECTION, hidden);
        headers.append(TE, HeaderValue::from_bytes(b"\xff").unwrap());
        let kinds = Kinds::of(&headers);
        strip_request(&mut headers, kinds);
        assert_eq!(names(&headers), ["te"]);
        assert_eq!(headers[TE], "trailers");
    }

    #[test]
    fn chunked_wins_over_length_in_a_response() {
        let mut headers = map(&[
            ("transfer-encoding", "chunked"),
            ("content-length", "5"),
            ("connection", "Keep-Alive"),
        ]);
        let kinds = Kinds::of(&headers);
        strip_response(&mut headers, kinds);
        assert!(headers.is_empty());
    }

    #[test]
    fn strangers_cannot_forge() {
        let mut headers = map(&[
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x-weir-shadow", "1"),
            ("x_weir_shadow", "1"),
            ("x-weir_shadow", "1"),
            ("x_weir-shadow", "1"),
            ("x-forwarded-client-cert", "URI=spiffe://x"),
            ("forwarded", "for=1.2.3.4"),
            ("x-request-id", "a"),
            ("x_other", "stays"),
        ]);
        let mut kinds = Kinds::of(&headers);
        strip_forged(&mut headers, &mut kinds);
        strip_own(&mut headers, kinds);
        assert_eq!(names(&headers), ["x_other"]);
    }

    #[test]
    fn trailers_cannot_change_the_head() {
        let mut trailers = map(&[
            ("x-sum", "7"),
            ("grpc-status", "0"),
            ("authorization", "Bearer x"),
            ("content-length", "5"),
            ("cookie", "a=b"),
            ("set-cookie", "a=b"),
            ("x-forwarded-for", "1.2.3.4"),
            ("x_real_ip", "1.2.3.4"),
            ("x-weir_backend", "v2"),
        ]);
        strip_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["grpc-status", "x-sum"]);
    }

    #[test]
    fn forwarding_appends_the_peer_and_keeps_what_a_trusted_one_said() {
        let peer = HeaderValue::from_static("10.0.0.9");
        let authority = HeaderValue::from_static("a.example:8080");
        let hop = Hop {
            peer: &peer,
            scheme: "http",
            authority: &authority,
            certificate: None,
            version: Version::HTTP_11,
        };
        let mut fresh = HeaderMap::new();
        forward(&mut fresh, Kinds::NONE, &hop);
        assert_eq!(fresh["x-forwarded-for"], "10.0.0.9");
        assert_eq!(fresh["x-forwarded-proto"], "http");
        assert_eq!(fresh["x-forwarded-host"], "a.example:8080");
        assert_eq!(fresh["via"], "1.1 weir");

        let mut told = map(&[
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-for", "2.2.2.2"),
            ("x-forwarded-proto", "https"),
        ]);
        let kinds = Kinds::of(&told);
        forward(&mut told, kinds, &hop);
        assert_eq!(told.get_all("x-forwarded-for").iter().count(), 1);
        assert_eq!(told["x-forwarded-for"], "1.1.1.1, 2.2.2.2, 10.0.0.9");
        assert_eq!(told["x-forwarded-proto"], "https");
    }

    #[test]
    fn client_is_the_first_untrusted_from_the_right() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let headers = map(&[("x-forwarded-for", "6.6.6.6, 9.9.9.9, 10.1.1.1")]);
        let of = |peer: &str| client_address(&headers, peer.parse().unwrap(), &trusted).to_string();
        assert_eq!(of("10.0.0.1"), "9.9.9.9");
        assert_eq!(of("::ffff:10.0.0.1"), "9.9.9.9");
        assert_eq!(of("8.8.8.8"), "8.8.8.8", "a stranger's list is not read");
    }

    #[test]
    fn cookies_are_found_and_joined() {
        let mut headers = map(&[("cookie", "a=1; user=42"), ("cookie", "b=2;user=43; c")]);
        assert_eq!(cookie(&headers, "user"), Some(&b"42"[..]));
        assert_eq!(cookie(&headers, "b"), Some(&b"2"[..]));
        assert_eq!(cookie(&headers, "use"), None);
        join_cookies(&mut headers);
        assert_eq!(headers["cookie"], "a=1; user=42; b=2;user=43; c");
    }

    #[test]
    fn loops_and_last_hops_are_seen() {
        let mut headers = HeaderMap::new();
        for _ in 0..10 {
            headers.append(VIA, HeaderValue::from_static("1.1 weir"));
        }
        assert!(!is_loop(&headers));
        headers.append(VIA, HeaderValue::from_static("2.0 other, 1.1 weir"));
        assert!(is_loop(&headers));

        let mut headers = map(&[("max-forwards", "1")]);
        assert!(!is_last_hop(&mut headers));
        assert_eq!(headers[MAX_FORWARDS], "0");
        assert!(is_last_hop(&mut headers));
        assert!(!is_last_hop(&mut HeaderMap::new()));

        let mut headers = map(&[("max-forwards", "2"), ("max-forwards", "9")]);
        assert!(!is_last_hop(&mut headers));
        let left: Vec<_> = headers.get_all(MAX_FORWARDS).iter().collect();
        assert_eq!(left, ["1"]);
    }
}
