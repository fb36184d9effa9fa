//! One canonical form of a request's target, or none.

use http::header::{CONTENT_LENGTH, HOST};
use http::{Method, Request, Uri, Version, request};

use super::lines::fields;
use crate::config::values::HostPattern;
use crate::http::authority::{Target, canonical};
use crate::http::kinds::Kinds;
use crate::http::path::normalize;
use crate::route::{Match, MatchedPath, PathPattern, RequestView, TableBuilder};

const TARGET_BYTES: u64 = 8192;
const FIELDS: usize = 64;

/// The first line is method, target and version (`2` is HTTP/2), the others are fields. What is accepted has
/// one host and one path that nobody reads differently; it is its own canonical form; and rules that are
/// written for it find it.
pub fn head(data: &[u8]) {
    let Some(mut parts) = parse(data) else {
        return;
    };
    let kinds = Kinds::of(&parts.headers);
    let Ok(target) = canonical(&mut parts, kinds, TARGET_BYTES, FIELDS) else {
        return;
    };
    authority(&target, &parts);
    path(parts.uri.path());
    let sent = parts.uri.path_and_query().expect("it has a path").as_str();
    assert_eq!(sent, parts.uri.to_string(), "HTTP/2 sends what is there");
    let is_star = parts.uri.path() == "*";
    assert!(!is_star || parts.method == Method::OPTIONS);
    let lengths = parts.headers.get_all(CONTENT_LENGTH).iter();
    let lengths: Vec<_> = lengths
        .filter_map(|value| value.to_str().ok()?.parse::<u64>().ok())
        .collect();
    assert_eq!(
        lengths.len(),
        parts.headers.get_all(CONTENT_LENGTH).iter().count()
    );
    assert!(lengths.len() < 2);

    again(&target, &parts);
    rules(&target, &parts);
}

/// A head as hyper hands it over: a valid method, a valid target, valid fields.
fn parse(data: &[u8]) -> Option<request::Parts> {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri = Uri::try_from(words.next()?).ok()?;
    let version = match words.next() {
        Some(b"2") => Version::HTTP_2,
        Some(b"1.0") => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = method;
    parts.uri = uri;
    parts.version = version;
    parts.headers = fields(lines);
    Some(parts)
}

fn authority(target: &Target, parts: &request::Parts) {
    assert!(parts.uri.scheme().is_none() && parts.uri.authority().is_none());
    assert!(!parts.headers.contains_key(HOST), "the target has it");
    let text = target.authority.to_str().expect("it is visible ASCII");
    let port = text
        .strip_prefix(target.host())
        .expect("it begins with the host");
    assert!(port.is_empty() || port.starts_with(':'));
    let digits = port.get(1..).unwrap_or_default();
    assert!(digits.is_empty() || digits.parse::<u16>().is_ok());
    assert!(digits.bytes().all(|digit| digit.is_ascii_digit()));
    let odd = |byte: u8| {
        matches!(
            byte,
            0..=b' ' | b'@' | b'/' | b'?' | b'#' | b',' | b'%' | b'\\'
        )
    };
    assert!(
        !text
            .bytes()
            .any(|byte| odd(byte) || byte.is_ascii_uppercase())
    );
    assert!(!target.host().ends_with('.'));
    assert!(!target.host().is_empty() || text.is_empty());
    // What can be written in a configuration is written as requests have it.
    if let Ok(HostPattern::Exact(written)) = target.host().parse() {
        assert_eq!(written, target.host());
    }
}

fn path(path: &str) {
    assert!(path.starts_with('/') || path == "*");
    let decoded = decode(path);
    let dots = |segment: &[u8]| segment == b"." || segment == b"..";
    // `%2F` and `/` alike, as a backend may read it.
    assert!(!decoded.split(|byte| *byte == b'/').any(dots), "{path}");
    assert!(
        !decoded
            .iter()
            .any(|byte| matches!(byte, 0 | b'\r' | b'\n' | b'\\')),
        "{path}"
    );
    // RFC 3986, 3.3: other bytes are always escaped, so that no path has two forms.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
    assert!(path.bytes().all(plain), "{path}");
    for escape in path.split('%').skip(1) {
        let digits = escape.get(..2).expect("an escape has two digits");
        assert_eq!(digits, digits.to_ascii_uppercase());
        let byte = u8::from_str_radix(digits, 16).expect("they are hexadecimal");
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        assert!(!unreserved, "{path}");
    }
}

fn decode(path: &str) -> Vec<u8> {
    let mut parts = path.split('%');
    let mut out = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).expect("an escape has two digits");
        out.push(u8::from_str_radix(digits, 16).expect("they are hexadecimal"));
        out.extend_from_slice(rest.as_bytes());
    }
    out
}

/// The next hop, if it is one of ours, changes nothing.
fn again(target: &Target, parts: &request::Parts) {
    let mut next = parts.clone();
    next.version = Version::HTTP_11;
    next.headers.insert(HOST, target.authority.clone());
    if next.headers.len() > FIELDS || target.authority.is_empty() {
        return;
    }
    let kinds = Kinds::of(&next.headers);
    let once_more = canonical(&mut next, kinds, TARGET_BYTES * 3, FIELDS);
    let once_more = once_more.expect("a canonical head is accepted");
    assert_eq!(once_more.authority, target.authority);
    assert_eq!(once_more.host(), target.host());
    assert_eq!(next.uri, parts.uri);
}

/// The exact path, every prefix that ends at a slash, and nothing else of a longer or shorter name.
fn rules(target: &Target, parts: &request::Parts) {
    let path = parts.uri.path();
    let written = normalize(path);
    assert_eq!(
        written.as_deref(),
        Ok(path),
        "a rule for it is another path"
    );
    let view = RequestView {
        host: target.host(),
        path,
        query: parts.uri.query(),
        method: &parts.method,
        headers: &parts.headers,
        identity: None,
    };
    let find = |patterns: &[PathPattern]| {
        let mut builder = TableBuilder::new();
        for (index, pattern) in patterns.iter().enumerate() {
            let criteria = Match::new(pattern.clone(), None, Vec::new(), Vec::new());
            builder.add(&[], vec![criteria], index);
        }
        let table = builder.build();
        let found = table.find(&view).map(|found| (*found.value, found.path));
        let any = patterns.iter().any(|pattern| pattern.matches(path));
        assert_eq!(found.is_some(), any, "the table and its patterns differ");
        found
    };
    let exact = PathPattern::exact(path);
    let longer = format!("{path}x");
    assert_eq!(
        find(&[PathPattern::prefix("/"), exact]),
        Some((1, MatchedPath::Exact))
    );
    assert_eq!(
        find(&[PathPattern::prefix(&longer), PathPattern::exact(&longer)]),
        None
    );
    if path == "*" {
        return;
    }
    for (slash, _) in path.match_indices('/').skip(1).take(8) {
        let prefix = PathPattern::prefix(&path[..slash]);
        let matched = MatchedPath::Prefix(path[..slash].strip_suffix('/').map_or(slash, str::len));
        assert_eq!(
            find(&[PathPattern::prefix("/"), prefix]).map(|it| it.1),
            Some(matched)
        );
    }
}
