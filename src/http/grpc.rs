//! Is it gRPC, and how gRPC says that something failed.
//!
//! Must not know why it failed.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

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

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

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
