//! Where the key of a split comes from.

use std::net::IpAddr;

use http::header::COOKIE;
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::lines::{fields, values};
use crate::http::headers::{cookie, join_cookies};
use crate::snapshot::rule::{Asking, KeyCookie, KeySource};

/// The first line names the cookie, field or parameter, the second is the query, the others are fields. A
/// key is never empty and stands in the request; it is the same over HTTP/2, which may split cookies, as
/// over HTTP/1; and a client that sends back what it was given keeps its key.
pub fn keys(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let Some(name) = lines.next().and_then(|name| std::str::from_utf8(name).ok()) else {
        return;
    };
    let query = lines
        .next()
        .and_then(|query| std::str::from_utf8(query).ok());
    let headers = fields(lines);
    // What `check` accepts as the name of a cookie (RFC 6265, 4.1.1) is a token.
    if let Ok(token) = HeaderName::try_from(name) {
        by_cookie(name, &headers);
        by_field(token, &headers);
    }
    if !name.is_empty() {
        by_query(name, query, &headers);
    }
}

fn key(source: &KeySource, query: Option<&str>, headers: &HeaderMap) -> Option<Vec<u8>> {
    let key = source.read(&Asking {
        headers,
        query,
        client: IpAddr::from([10, 0, 0, 1]),
        worker: 0,
    });
    assert_ne!(
        key.as_deref(),
        Some(&b""[..]),
        "everybody without a key has the same"
    );
    key
}

fn by_cookie(name: &str, headers: &HeaderMap) {
    let source = KeySource::Cookie(KeyCookie {
        name: name.into(),
        issue: true,
        attributes: "; Path=/; HttpOnly".into(),
    });
    let found = key(&source, None, headers);
    if let Some(found) = &found {
        let pair = [name.as_bytes(), b"=", found].concat();
        let lines = values(headers, "cookie");
        let mut pairs = lines
            .iter()
            .flat_map(|line| line.split(|byte| *byte == b';'));
        assert!(pairs.any(|sent| sent.trim_ascii() == pair.trim_ascii_end()));
    }
    let mut joined = headers.clone();
    join_cookies(&mut joined);
    assert_eq!(
        key(&source, None, &joined),
        found,
        "HTTP/2 and HTTP/1 differ"
    );

    // Another cookie before it changes nothing.
    let mut longer = HeaderMap::new();
    let other = format!("{name}2=x; x{name}=y; {name}");
    longer.insert(
        COOKIE,
        HeaderValue::try_from(other).expect("tokens are values"),
    );
    for value in headers.get_all(COOKIE) {
        longer.append(COOKIE, value.clone());
    }
    assert_eq!(key(&source, None, &longer), found);

    let KeySource::Cookie(cookie_of) = &source else {
        return;
    };
    if let Some(made) = source.issue(&mut SmallRng::seed_from_u64(1)) {
        let set = cookie_of.set_cookie(&made, true);
        let mut back = HeaderMap::new();
        let sent = set.split(';').next().unwrap_or_default();
        back.insert(
            COOKIE,
            HeaderValue::try_from(sent).expect("it was sent in a field"),
        );
        assert_eq!(cookie(&back, name), Some(made.as_bytes()));
    }
}

fn by_field(name: HeaderName, headers: &HeaderMap) {
    let first = headers.get(&name).map(|value| value.as_bytes().to_vec());
    let found = key(&KeySource::Header(name), None, headers);
    assert_eq!(found, first.filter(|value| !value.is_empty()));
}

fn by_query(name: &str, query: Option<&str>, headers: &HeaderMap) {
    let source = KeySource::QueryParam(name.into());
    let found = key(&source, query, headers);
    if let (Some(found), Some(query)) = (&found, query) {
        let pair = [name.as_bytes(), b"=", found].concat();
        assert!(query.split('&').any(|sent| sent.as_bytes() == pair));
    }
    let longer = format!("x{name}=1&{name}2=1&{}", query.unwrap_or_default());
    // A name with these characters is never found, since they end names.
    if !name.contains(['&', '=']) {
        assert_eq!(key(&source, Some(&longer), headers), found);
    }
}
