//! gRPC-Web, the form of gRPC that browsers can speak: trailers are a frame of the body, and everything
//! may be base64.
//!
//! Owns the translation of heads, bodies and trailers. Inside of the proxy such a call is gRPC, so that
//! routes, retries and deadlines need not know of it. Must not know routes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, TE, TRAILER};
use http::{HeaderMap, HeaderValue};
use http_body::Frame;

const BINARY: &[u8] = b"application/grpc-web";
const TEXT: &[u8] = b"application/grpc-web-text";
const GRPC: &[u8] = b"application/grpc";

/// The bit that tells trailers from a message (`PROTOCOL-WEB.md`, trailers).
const TRAILERS: u8 = 0x80;

/// How a client speaks it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dialect {
    /// Its request is base64.
    pub(crate) text_request: bool,
    /// It wants its answer so.
    text_answer: bool,
}

impl Dialect {
    /// Makes gRPC of the request's head where it is gRPC-Web. Its length stays, for who compares it with
    /// the body.
    pub(crate) fn take(headers: &mut HeaderMap) -> Option<Self> {
        let kind = headers.get(CONTENT_TYPE)?.as_bytes();
        let (text_request, rest) = match (suffix(kind, TEXT), suffix(kind, BINARY)) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let wanted = headers.get(ACCEPT).map(HeaderValue::as_bytes);
        let wants = |kind| wanted.is_some_and(|wanted| suffix(wanted, kind).is_some());
        let text_answer = wants(TEXT) || text_request && !wants(BINARY);
        let grpc = HeaderValue::from_bytes(&[GRPC, rest].concat()).ok()?;
        headers.insert(CONTENT_TYPE, grpc);
        // gRPC's endpoints take its absence for a proxy that loses trailers.
        headers.insert(TE, HeaderValue::from_static("trailers"));
        Some(Self {
            text_request,
            text_answer,
        })
    }

    /// Makes gRPC-Web of the head of an answer. What is no gRPC passes as it is. A call that failed at
    /// once has its status in the head, where clients look for it, too.
    pub(crate) fn answer(self, headers: &mut HeaderMap) -> bool {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let Some(rest) = kind.and_then(|kind| suffix(kind, GRPC)) else {
            return false;
        };
        let kind = if self.text_answer { TEXT } else { BINARY };
        let Ok(kind) = HeaderValue::from_bytes(&[kind, rest].concat()) else {
            return false;
        };
        headers.insert(CONTENT_TYPE, kind);
        headers.remove(CONTENT_LENGTH);
        headers.remove(TRAILER);
        true
    }

    /// A piece of an answer's body as the client gets it.
    pub(super) fn encode(self, frame: Frame<Bytes>) -> Frame<Bytes> {
        let bytes = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => of_trailers(&trailers),
                Err(other) => return other,
            },
        };
        // Each piece is padded by itself: holding bytes back for the next one would hold back the end of
        // a message.
        Frame::data(if self.text_answer && !bytes.is_empty() {
            Bytes::from(STANDARD.encode(bytes))
        } else {
            bytes
        })
    }
}

/// What follows a media type: nothing, `+proto`, parameters.
fn suffix<'a>(value: &'a [u8], kind: &[u8]) -> Option<&'a [u8]> {
    let rest = value.strip_prefix(kind)?;
    matches!(rest.first(), None | Some(b'+' | b';')).then_some(rest)
}

/// A frame with the fields as lines of HTTP/1.
fn of_trailers(trailers: &HeaderMap) -> Bytes {
    let mut bytes = BytesMut::from(&[TRAILERS, 0, 0, 0, 0][..]);
    for (name, value) in trailers {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            bytes.put_slice(part);
        }
    }
    let length = u32::try_from(bytes.len() - 5).unwrap_or(u32::MAX);
    bytes[1..5].copy_from_slice(&length.to_be_bytes());
    bytes.freeze()
}

/// Takes base64 off a body in pieces of any size. Clients may pad each message by itself.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    /// Fewer than four characters that came last.
    rest: Vec<u8>,
}

/// What came is not base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotBase64;

impl Decoder {
    pub(super) fn decode(&mut self, piece: &Bytes) -> Result<Bytes, NotBase64> {
        let joined;
        let text = if self.rest.is_empty() {
            &piece[..]
        } else {
            joined = [&self.rest[..], piece].concat();
            &joined[..]
        };
        let (mut whole, rest) = text.split_at(text.len() - text.len() % 4);
        let rest = rest.to_vec();
        let mut bytes = Vec::with_capacity(whole.len() / 4 * 3);
        while !whole.is_empty() {
            let padding = memchr::memchr(b'=', whole);
            let (part, after) = whole.split_at(padding.map_or(whole.len(), |at| (at / 4 + 1) * 4));
            STANDARD
                .decode_vec(part, &mut bytes)
                .map_err(|_| NotBase64)?;
            whole = after;
        }
        self.rest = rest;
        Ok(bytes.into())
    }

    /// Whether the body may end here.
    pub(super) fn is_between(&self) -> bool {
        self.rest.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(kind: &str, accept: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_str(kind).unwrap());
        if let Some(accept) = accept {
            headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        }
        headers
    }

    #[test]
    fn heads_there_and_back() {
        let web = "application/grpc-web";
        for (kind, accept, grpc, back) in [
            (web, None, "application/grpc", "application/grpc-web"),
            (
                "application/grpc-web+proto",
                Some("*/*"),
                "application/grpc+proto",
                "application/grpc-web+proto",
            ),
            (
                "application/grpc-web-text",
                None,
                "application/grpc",
                "application/grpc-web-text",
            ),
            (
                "application/grpc-web-text+proto",
                Some("application/grpc-web-text+proto"),
                "application/grpc+proto",
                "application/grpc-web-text+proto",
            ),
            (
                web,
                Some("application/grpc-web-text"),
                "application/grpc",
                "application/grpc-web-text",
            ),
            (
                "application/grpc-web-text; charset=utf-8",
                Some(web),
                "application/grpc; charset=utf-8",
                "application/grpc-web; charset=utf-8",
            ),
        ] {
            let mut headers = head(kind, accept);
            let dialect = Dialect::take(&mut headers).unwrap();
            assert_eq!(headers[CONTENT_TYPE], grpc, "{kind}");
            assert_eq!(headers[TE], "trailers", "{kind}");
            assert_eq!(dialect.text_request, kind.contains("-text"), "{kind}");
            let mut answer = HeaderMap::new();
            answer.insert(CONTENT_TYPE, headers[CONTENT_TYPE].clone());
            answer.insert(CONTENT_LENGTH, HeaderValue::from_static("5"));
            assert!(dialect.answer(&mut answer));
            assert_eq!(answer[CONTENT_TYPE], back, "{kind}");
            assert_eq!(answer.get(CONTENT_LENGTH), None);
        }
        for other in [
            "application/grpc",
            "application/grpc-website",
            "application/json",
            "text/html",
        ] {
            let mut headers = head(other, Some("application/grpc-web"));
            assert_eq!(Dialect::take(&mut headers), None, "{other}");
            assert_eq!(headers.len(), 2, "{other}");
        }
        let mut page = head("text/html", None);
        let dialect = Dialect::take(&mut head(web, None)).unwrap();
        assert!(!dialect.answer(&mut page));
        assert_eq!(page[CONTENT_TYPE], "text/html");
    }

    #[test]
    fn trailers_are_a_frame() {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.append("x-a", HeaderValue::from_static("1"));
        trailers.append("x-a", HeaderValue::from_static("2"));
        let bytes = of_trailers(&trailers);
        assert_eq!(
            &bytes[..],
            b"\x80\0\0\0\x20grpc-status: 0\r\nx-a: 1\r\nx-a: 2\r\n"
        );
        assert_eq!(&of_trailers(&HeaderMap::new())[..], b"\x80\0\0\0\0");
    }

    #[test]
    fn what_is_no_base64_is_refused() {
        for text in ["????", "AAA=AAA=====", "A===", "AA\r\n"] {
            let mut decoder = Decoder::default();
            assert_eq!(
                decoder.decode(&Bytes::from_static(text.as_bytes())),
                Err(NotBase64),
                "{text}"
            );
        }
        let mut decoder = Decoder::default();
        assert_eq!(
            decoder.decode(&Bytes::from_static(b"AAA")),
            Ok(Bytes::new())
        );
        assert!(!decoder.is_between());
        assert_eq!(
            decoder.decode(&Bytes::from_static(b"=")),
            Ok(Bytes::from_static(&[0, 0]))
        );
        assert!(decoder.is_between());
    }

    proptest! {
        /// However messages are padded and the text is cut, the same bytes come out.
        #[test]
        fn text_in_pieces(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            pieces in prop::collection::vec(1..20usize, 1..10),
        ) {
            let text: String = messages.iter().map(|message| STANDARD.encode(message)).collect();
            let (mut decoder, mut found) = (Decoder::default(), Vec::new());
            let mut rest = text.as_bytes();
            for size in pieces.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*size).min(rest.len()));
                found.extend(decoder.decode(&Bytes::copy_from_slice(piece)).unwrap());
                rest = after;
            }
            prop_assert!(decoder.is_between());
            prop_assert_eq!(found, messages.concat());
        }

        #[test]
        fn any_text_is_decoded_or_refused(pieces in prop::collection::vec("[A-Za-z0-9+/=?]{0,9}", 0..6)) {
            let mut decoder = Decoder::default();
            for piece in pieces {
                if decoder.decode(&Bytes::from(piece)).is_err() {
                    break;
                }
            }
        }
    }
}
