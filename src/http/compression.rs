//! Compressing answers on their way to clients that ask for it (RFC 9110, 8.4 and 12.5.3).
//!
//! Owns which answers, with what, and what their head says then. Must not know rules.

use std::fmt;

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE,
    CONTENT_TYPE, ETAG, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, response};
use tower::{Layer as _, ServiceExt as _};
use tower_http::CompressionLevel;
use tower_http::compression::{CompressionBody, CompressionLayer};

use super::body::UpstreamBody;

/// An algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Zstd,
    Br,
    Gzip,
}

/// What is compressed, compiled.
#[derive(Debug)]
pub(crate) struct Compression {
    /// The most liked first.
    pub(crate) algorithms: Box<[Algorithm]>,
    pub(crate) types: Box<[TypePattern]>,
    pub(crate) min_bytes: u64,
    /// Streams of events too.
    pub(crate) events: bool,
    pub(crate) level: CompressionLevel,
}

/// A media type, where one star stands for anything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TypePattern {
    before: Box<str>,
    after: Option<Box<str>>,
}

/// A compressed body.
pub(crate) type Compressed = CompressionBody<UpstreamBody>;

/// Digests of what is sent are wrong once it is compressed (RFC 9530).
const DIGESTS: [HeaderName; 4] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-md5"),
];

impl Algorithm {
    /// Its name in `content-encoding`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

impl TypePattern {
    /// `text/*`, `application/*+json`, `image/svg+xml`.
    pub(crate) fn new(text: &str) -> Self {
        let text = text.to_ascii_lowercase();
        match text.split_once('*') {
            None => Self {
                before: text.into(),
                after: None,
            },
            Some((before, after)) => Self {
                before: before.into(),
                after: Some(after.into()),
            },
        }
    }

    fn matches(&self, kind: &str) -> bool {
        match &self.after {
            None => kind == &*self.before,
            Some(after) => kind
                .strip_prefix(&*self.before)
                .is_some_and(|rest| rest.ends_with(&**after)),
        }
    }
}

impl Compression {
    /// What the client takes: the best of its own order, then of ours.
    pub(crate) fn agreed(&self, request: &HeaderMap) -> Option<Algorithm> {
        let said = request.get_all(ACCEPT_ENCODING).iter();
        let said: Vec<_> = said
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .map(weighted)
            .collect();
        let quality = |algorithm: Algorithm| {
            let named = |name: &str| {
                said.iter()
                    .find(|(coding, _)| coding.eq_ignore_ascii_case(name))
            };
            let alias = || named("x-gzip").filter(|_| algorithm == Algorithm::Gzip);
            let found = named(algorithm.as_str()).or_else(alias);
            found
                .or_else(|| named("*"))
                .map_or(0, |(_, quality)| *quality)
        };
        let mut best = None;
        for algorithm in &self.algorithms {
            let quality = quality(*algorithm);
            if quality > 0 && best.is_none_or(|(_, most)| quality > most) {
                best = Some((*algorithm, quality));
            }
        }
        best.map(|(algorithm, _)| algorithm)
    }

    /// Whether the answer is one that may be compressed, for whoever asks for it.
    pub(crate) fn fits(&self, answer: &response::Parts) -> bool {
        let (headers, status) = (&answer.headers, answer.status);
        let whole = !status.is_informational()
            && !matches!(
                status,
                StatusCode::NO_CONTENT | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
            )
            && !headers.contains_key(CONTENT_RANGE);
        let plain = !headers.contains_key(CONTENT_ENCODING);
        let length = headers.get(CONTENT_LENGTH);
        let length = length.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        whole
            && plain
            && !self.algorithms.is_empty()
            && length.is_none_or(|bytes| bytes >= self.min_bytes)
            && !must_not_change(headers)
            && self.suits(headers)
    }

    fn suits(&self, headers: &HeaderMap) -> bool {
        let Some(kind) = headers.get(CONTENT_TYPE).and_then(|it| it.to_str().ok()) else {
            return false;
        };
        let kind = kind.split(';').next().unwrap_or_default().trim();
        let kind = kind.to_ascii_lowercase();
        // Lengths before messages: the framing of gRPC is not to be touched.
        let other =
            kind.starts_with("application/grpc") || (kind == "text/event-stream" && !self.events);
        !other && self.types.iter().any(|pattern| pattern.matches(&kind))
    }

    /// The body, compressed. Its head is [`encoded`]'s.
    pub(crate) async fn encode(&self, algorithm: Algorithm, body: UpstreamBody) -> Compressed {
        let layer = CompressionLayer::new().quality(self.level);
        let always = |_: StatusCode, _: http::Version, _: &HeaderMap, _: &http::Extensions| true;
        let mut body = Some(body);
        // Always ready, and asked once.
        let answer = tower::service_fn(move |_: Request<()>| {
            std::future::ready(body.take().map(Response::new).ok_or(()))
        });
        let mut request = Request::new(());
        let value = HeaderValue::from_static(algorithm.as_str());
        request.headers_mut().insert(ACCEPT_ENCODING, value);
        let service = layer.compress_when(always).layer(answer);
        let response = service.oneshot(request).await;
        response
            .expect("the service above has the body, and is called once")
            .into_body()
    }
}

/// Notes in the head of an answer that may be compressed that it depends on what the client takes.
pub(crate) fn vary(headers: &mut HeaderMap) {
    let told = headers.get_all(VARY).iter().any(|value| {
        let names = value.as_bytes().split(|byte| *byte == b',');
        names
            .map(<[u8]>::trim_ascii)
            .any(|name| name == b"*" || name.eq_ignore_ascii_case(b"accept-encoding"))
    });
    if !told {
        let value = HeaderValue::from_static("accept-encoding");
        headers.try_append(VARY, value).unwrap_or_default();
    }
}

/// What the head of an answer says once its body is compressed.
pub(crate) fn encoded(headers: &mut HeaderMap, algorithm: Algorithm) {
    for name in DIGESTS.iter().chain([&CONTENT_LENGTH, &ACCEPT_RANGES]) {
        headers.remove(name);
    }
    let value = HeaderValue::from_static(algorithm.as_str());
    headers
        .try_insert(CONTENT_ENCODING, value)
        .unwrap_or_default();
    // Two encodings of one thing are equal only weakly (RFC 9110, 8.8.1).
    if let Some(etag) = headers
        .get(ETAG)
        .filter(|it| it.as_bytes().starts_with(b"\""))
    {
        match HeaderValue::from_bytes(&[b"W/", etag.as_bytes()].concat()) {
            Ok(weak) => headers.insert(ETAG, weak),
            Err(_) => headers.remove(ETAG),
        };
    }
}

fn must_not_change(headers: &HeaderMap) -> bool {
    headers.get_all(CACHE_CONTROL).iter().any(|value| {
        let directives = value.as_bytes().split(|byte| *byte == b',');
        directives
            .map(<[u8]>::trim_ascii)
            .any(|it| it.eq_ignore_ascii_case(b"no-transform"))
    })
}

/// A coding and its quality in thousandths; what is no quality is none.
fn weighted(element: &str) -> (&str, u32) {
    let mut parts = element.split(';').map(str::trim);
    let coding = parts.next().unwrap_or_default();
    let quality = parts.find_map(|it| {
        let (name, value) = it.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("q")
            .then_some(value.trim())
    });
    let thousandths = |text: &str| {
        let value = text
            .parse::<f64>()
            .ok()
            .filter(|it| (0.0..=1.0).contains(it));
        value.map_or(0, |value| (value * 1000.0).round() as u32)
    };
    (coding, quality.map_or(1000, thousandths))
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.algorithms.iter().map(|it| it.as_str()).collect();
        match &names[..] {
            [] => f.write_str("compression: none"),
            names => write!(
                f,
                "compression: {} from {} bytes",
                names.join(", "),
                self.min_bytes
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compression() -> Compression {
        Compression {
            algorithms: [Algorithm::Zstd, Algorithm::Br, Algorithm::Gzip].into(),
            types: ["text/*", "application/*+json", "application/json"]
                .map(TypePattern::new)
                .into(),
            min_bytes: 100,
            events: false,
            level: CompressionLevel::Default,
        }
    }

    #[test]
    fn the_clients_order_comes_first_and_then_ours() {
        for (said, expected) in [
            ("gzip, deflate, br, zstd", Some(Algorithm::Zstd)),
            ("gzip, br", Some(Algorithm::Br)),
            ("gzip;q=1.0, br;q=0.5", Some(Algorithm::Gzip)),
            ("gzip;q=0.4, br;q=0.5, zstd;q=0", Some(Algorithm::Br)),
            ("*", Some(Algorithm::Zstd)),
            ("*;q=0.1, gzip", Some(Algorithm::Gzip)),
            ("x-gzip", Some(Algorithm::Gzip)),
            ("GZIP ; Q=0.3", Some(Algorithm::Gzip)),
            ("gzip;q=0", None),
            ("gzip;q=2", None),
            ("gzip;q=x", None),
            ("identity", None),
            ("deflate", None),
            ("", None),
            ("*;q=0", None),
        ] {
            let mut request = HeaderMap::new();
            request.insert(ACCEPT_ENCODING, HeaderValue::from_static(said));
            assert_eq!(compression().agreed(&request), expected, "{said}");
        }
        assert_eq!(compression().agreed(&HeaderMap::new()), None);
    }

    #[test]
    fn some_answers_are_left_as_they_are() {
        let fits = |status: u16, fields: &[(&'static str, &'static str)]| {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in fields {
                let value = HeaderValue::from_static(value);
                response.headers_mut().append(*name, value);
            }
            compression().fits(&response.into_parts().0)
        };
        let json = ("content-type", "application/json");
        for (status, fields, expected) in [
            (200, &[json][..], true),
            (404, &[json], true),
            (200, &[("content-type", "Text/HTML; charset=utf-8")], true),
            (200, &[("content-type", "application/problem+json")], true),
            (200, &[("content-type", "image/png")], false),
            (200, &[("content-type", "text/event-stream")], false),
            (200, &[("content-type", "application/grpc+json")], false),
            (200, &[], false),
            (200, &[json, ("content-length", "99")], false),
            (200, &[json, ("content-length", "100")], true),
            (200, &[json, ("content-encoding", "gzip")], false),
            (200, &[json, ("content-encoding", "identity")], false),
            (
                200,
                &[json, ("cache-control", "no-store, No-Transform")],
                false,
            ),
            (200, &[json, ("content-range", "bytes 0-1/2")], false),
            (206, &[json], false),
            (204, &[json], false),
            (304, &[json], false),
        ] {
            assert_eq!(fits(status, fields), expected, "{status} {fields:?}");
        }
    }

    #[test]
    fn the_head_says_what_was_done() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-length", "5000"),
            ("accept-ranges", "bytes"),
            ("etag", "\"abc\""),
            ("repr-digest", "sha-256=:x:"),
            ("vary", "origin"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        vary(&mut headers);
        vary(&mut headers);
        encoded(&mut headers, Algorithm::Br);
        assert_eq!(headers["etag"], "W/\"abc\"");
        assert_eq!(headers["content-encoding"], "br");
        let said: Vec<_> = headers.get_all(VARY).iter().collect();
        assert_eq!(said, ["origin", "accept-encoding"]);
        assert_eq!(headers.len(), 4);
        encoded(&mut headers, Algorithm::Br);
        assert_eq!(headers["etag"], "W/\"abc\"");
    }
}
