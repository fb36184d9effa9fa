//! Answers of our own: the only place where an error becomes a response.
//!
//! Must not know what led to it beyond its verdict.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

use super::error::ProxyError;
use crate::http::body::ResponseBody;
use crate::http::message::ResponseMessage;
use crate::telemetry::reason::Reason;

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The answer for an error: text for people, `proxy-status` (RFC 9209) for programs; trailers-only
/// for gRPC, whose clients do not look at HTTP's status.
pub(crate) fn error(error: &ProxyError, is_grpc: bool) -> ResponseMessage<ResponseBody> {
    let (status, reason) = error.verdict();
    let mut response = if is_grpc {
        grpc_error(error)
    } else {
        plain_error(status, error)
    };
    let headers = &mut response.head.headers;
    headers.insert(PROXY_STATUS, proxy_status(reason));
    if let Some(seconds) = error.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if error.closes() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn plain_error(status: StatusCode, error: &ProxyError) -> ResponseMessage<ResponseBody> {
    let mut response = text(status, Bytes::from(format!("{status}: {error}\n")));
    response
        .head
        .headers
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn grpc_error(error: &ProxyError) -> ResponseMessage<ResponseBody> {
    let mut response = ResponseMessage::new(StatusCode::OK, ResponseBody::empty());
    let headers = &mut response.head.headers;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(
        GRPC_STATUS,
        HeaderValue::from(u16::from(error.grpc_status())),
    );
    // Our texts are printable ASCII without a percent sign, so they need no escaping.
    if let Ok(message) = HeaderValue::from_str(&error.to_string()) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// A response with a text.
pub(crate) fn text(status: StatusCode, body: Bytes) -> ResponseMessage<ResponseBody> {
    let mut response = ResponseMessage::new(status, ResponseBody::own(body));
    response.head.headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn proxy_status(reason: Reason) -> HeaderValue {
    let value = format!(
        "weir; error={}; details=\"{reason}\"",
        reason.proxy_status()
    );
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("weir"))
}
