//! Is it gRPC, and how gRPC says that something failed.
//!
//! Must not know why it failed.

use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, Entry};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, response};

/// Whether the request is a gRPC call: `application/grpc`, or that with a suffix such as `+proto`.
/// gRPC-Web has its own content types and is plain HTTP here.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// The gRPC status for an answer of our own: UNIMPLEMENTED where no route matches, as the Gateway
/// API asks; else the mapping of gRPC's `http-grpc-status-mapping`.
pub(crate) fn status(status: StatusCode) -> u8 {
    match status.as_u16() {
        404 => 12,
        400 | 413 | 414 | 431 => 13,
        401 => 16,
        403 => 7,
        504 | 408 => 4,
        429 | 500 | 502 | 503 => 14,
        _ => 2,
    }
}

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// How long the client waits for the call: up to eight digits and a unit (gRPC over HTTP/2,
/// `Timeout`). What is not one is no deadline.
pub(crate) fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// Tells the next hop how long it has, where the client has said how long it waits.
pub(crate) fn shorten_timeout(headers: &mut HeaderMap, until: Instant) {
    let Entry::Occupied(mut entry) = headers.entry(TIMEOUT) else {
        return;
    };
    let left = until.saturating_duration_since(Instant::now());
    // The finest unit whose number has at most eight digits.
    let units = [
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (left.as_secs().into(), 'S'),
    ];
    let fits = units.iter().find(|(number, _)| *number < 100_000_000);
    let text = match fits {
        Some((number, unit)) => format!("{number}{unit}"),
        // Three years; the client has said what is longer.
        None => return,
    };
    if let Ok(value) = HeaderValue::try_from(text) {
        entry.insert(value);
    }
}

/// The status of a call that failed before any message: it is in the head then ("trailers-only").
pub(crate) fn failed_at_once(head: &response::Parts) -> Option<u8> {
    failed(&head.headers)
}

/// The status of a call that failed, where head or trailers say so.
fn failed(fields: &HeaderMap) -> Option<u8> {
    let status = fields.get(STATUS)?.to_str().ok()?.parse().ok()?;
    (status != 0).then_some(status)
}

/// The end of a call that goes on elsewhere: UNAVAILABLE, which clients take as "try again".
pub(crate) fn unavailable(why: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (STATUS, HeaderValue::from_static("14")),
        (MESSAGE, HeaderValue::from_static(why)),
    ])
}

/// Whether it is the server's fault: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE,
/// DATA_LOSS.
pub(crate) fn is_fault(status: u8) -> bool {
    matches!(status, 2 | 4 | 12..=15)
}

/// Whether the call failed by the server's fault.
pub(crate) fn is_failure(fields: &HeaderMap) -> bool {
    failed(fields).is_some_and(is_fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_have_a_unit_and_at_most_eight_digits() {
        for (text, expected) in [
            ("100m", Some(Duration::from_millis(100))),
            ("1H", Some(Duration::from_secs(3600))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("7u", Some(Duration::from_micros(7))),
            ("7n", Some(Duration::from_nanos(7))),
            ("0S", Some(Duration::ZERO)),
            ("100000000S", None),
            ("S", None),
            ("", None),
            ("-1S", None),
            ("1s", None),
            ("1", None),
            ("1 S", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TIMEOUT, HeaderValue::from_str(text).unwrap());
            assert_eq!(timeout(&headers), expected, "{text}");
        }
    }

    #[test]
    fn only_what_was_said_is_shortened() {
        let mut headers = HeaderMap::new();
        let until = Instant::now() + Duration::from_secs(2);
        shorten_timeout(&mut headers, until);
        assert!(headers.is_empty());
        headers.insert(TIMEOUT, HeaderValue::from_static("1H"));
        shorten_timeout(&mut headers, until);
        let left = timeout(&headers).unwrap();
        assert!(
            left <= Duration::from_secs(2) && left > Duration::from_secs(1),
            "{left:?}"
        );
        headers.insert(TIMEOUT, HeaderValue::from_static("1H"));
        shorten_timeout(
            &mut headers,
            Instant::now() + Duration::from_secs(1_000_000),
        );
        assert!(headers[TIMEOUT].to_str().unwrap().ends_with('S'));
    }

    #[test]
    fn only_grpc_is_grpc() {
        for (value, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc; charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            assert_eq!(is_grpc(&headers), expected, "{value}");
        }
    }
}
