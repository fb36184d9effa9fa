//! WebSocket's handshake in the two forms that HTTP has for it: an upgrade in HTTP/1.1 (RFC 6455, 4),
//! an extended CONNECT in HTTP/2 (RFC 8441).
//!
//! Owns the translation. Inside of the proxy every handshake has the form of HTTP/1.1, so that routes,
//! filters and retries need not know of the other. Must not know routes, nor how bytes flow afterwards.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, request, response};

/// The token of the upgrade, and `:protocol`.
pub(crate) const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// What is appended to a key (RFC 6455, 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether the client asks for a WebSocket by an extended CONNECT. Other protocols have none here, and
/// get 501 as any CONNECT does.
pub(crate) fn is_connect(parts: &request::Parts) -> bool {
    let protocol = parts.extensions.get::<Protocol>();
    parts.version == Version::HTTP_2
        && parts.method == Method::CONNECT
        && protocol.is_some_and(|it| it.as_str().eq_ignore_ascii_case("websocket"))
}

/// Brings an extended CONNECT into the form of HTTP/1.1, but for the fields of the hop, which
/// [`super::upgrade::ask`] sets. `random` becomes the key, of which HTTP/2 has none (RFC 8441, 5).
pub(crate) fn from_connect(parts: &mut request::Parts, random: [u8; 16]) -> HeaderValue {
    parts.method = Method::GET;
    parts.extensions.remove::<Protocol>();
    // Base64 is visible ASCII.
    let key = HeaderValue::try_from(STANDARD.encode(random));
    let key = key.unwrap_or_else(|_| HeaderValue::from_static("AAAAAAAAAAAAAAAAAAAAAA=="));
    parts.headers.insert(SEC_WEBSOCKET_KEY, key.clone());
    key
}

/// Makes an extended CONNECT of a handshake of HTTP/1.1; its key. `None` for what has none: another
/// protocol than WebSocket.
pub(crate) fn to_connect(head: &mut request::Parts) -> Option<HeaderValue> {
    let asked = head.headers.get(UPGRADE)?;
    if !asked.as_bytes().eq_ignore_ascii_case(WEBSOCKET.as_bytes()) {
        return None;
    }
    let key = head.headers.remove(SEC_WEBSOCKET_KEY)?;
    for name in [UPGRADE, CONNECTION] {
        head.headers.remove(name);
    }
    head.method = Method::CONNECT;
    let protocol = Protocol::from_static("websocket");
    head.extensions.insert(protocol);
    Some(key)
}

/// Brings the answer to an extended CONNECT into the form of HTTP/1.1, where it agrees.
pub(crate) fn from_connected(head: &mut response::Parts, key: &HeaderValue) {
    if head.status != StatusCode::OK {
        return;
    }
    head.status = StatusCode::SWITCHING_PROTOCOLS;
    let headers = &mut head.headers;
    super::upgrade::ask(headers, &WEBSOCKET);
    if let Ok(accept) = HeaderValue::try_from(accept(key)) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
}

/// Whether the endpoint has answered to this key (RFC 6455, 4.1).
pub(crate) fn is_accepted(key: &HeaderValue, answer: &HeaderMap) -> bool {
    answer
        .get(SEC_WEBSOCKET_ACCEPT)
        .is_some_and(|got| got.as_bytes() == accept(key).as_bytes())
}

/// Brings an agreed handshake into the form that the client of an extended CONNECT gets.
pub(crate) fn to_connected(head: &mut response::Parts) {
    head.status = StatusCode::OK;
    for name in [UPGRADE, CONNECTION, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
}

fn accept(key: &HeaderValue) -> String {
    let text = [key.as_bytes(), GUID].concat();
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, &text))
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    /// The example of RFC 6455, 1.3.
    #[test]
    fn keys_are_answered() {
        let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let mut answer = HeaderMap::new();
        assert!(!is_accepted(&key, &answer));
        answer.insert(
            SEC_WEBSOCKET_ACCEPT,
            HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        );
        assert!(is_accepted(&key, &answer));
    }

    #[test]
    fn only_a_websocket_in_http2_is_one() {
        for (version, method, protocol, expected) in [
            (Version::HTTP_2, Method::CONNECT, Some("websocket"), true),
            (Version::HTTP_2, Method::CONNECT, Some("WebSocket"), true),
            (Version::HTTP_2, Method::CONNECT, Some("connect-udp"), false),
            (Version::HTTP_2, Method::CONNECT, None, false),
            (Version::HTTP_2, Method::GET, Some("websocket"), false),
            (Version::HTTP_11, Method::CONNECT, Some("websocket"), false),
        ] {
            let mut request = Request::new(());
            (*request.version_mut(), *request.method_mut()) = (version, method.clone());
            if let Some(protocol) = protocol {
                request
                    .extensions_mut()
                    .insert(Protocol::from_static(protocol));
            }
            let (parts, ()) = request.into_parts();
            assert_eq!(
                is_connect(&parts),
                expected,
                "{version:?} {method} {protocol:?}"
            );
        }
    }

    /// Through both translations a handshake is what it was.
    #[test]
    fn there_and_back() {
        let (mut parts, ()) = Request::new(()).into_parts();
        (parts.version, parts.method) = (Version::HTTP_2, Method::CONNECT);
        parts.extensions.insert(Protocol::from_static("websocket"));
        let key = from_connect(&mut parts, [7; 16]);
        assert_eq!(parts.method, Method::GET);
        super::super::upgrade::ask(&mut parts.headers, &WEBSOCKET);
        assert_eq!(to_connect(&mut parts), Some(key.clone()));
        assert_eq!(parts.method, Method::CONNECT);
        assert!(parts.headers.is_empty(), "{:?}", parts.headers);
        assert_eq!(to_connect(&mut parts), None, "it is one already");

        let (mut answer, ()) = Response::new(()).into_parts();
        from_connected(&mut answer, &key);
        assert_eq!(answer.status, 101);
        assert!(is_accepted(&key, &answer.headers));
        to_connected(&mut answer);
        assert!(answer.status == 200 && answer.headers.is_empty());

        let (mut refused, ()) = Response::new(()).into_parts();
        refused.status = StatusCode::FORBIDDEN;
        from_connected(&mut refused, &key);
        assert!(refused.status == 403 && refused.headers.is_empty());
    }
}
