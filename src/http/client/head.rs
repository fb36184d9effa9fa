//! The head of a request as it is written, and the head of an answer as it is read (RFC 9112).
//!
//! Owns where the body of an answer ends. Must not know sockets.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use httparse::Status;
use hyper::ext::ReasonPhrase;
use std::mem::MaybeUninit;

use super::Error;

/// Most fields of an answer, as hyper has it.
pub(super) const FIELDS: usize = 100;

/// What has been read of an answer's head. Lengths in bytes.
#[derive(Debug)]
pub(super) enum Parsed {
    Partial,
    /// An informational one: another one follows.
    Interim(usize),
    Final(Response<()>, Framing, usize),
}

/// Where an answer ends, and whether another one may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) length: Length,
    pub(super) keep_alive: bool,
}

/// See [`Framing`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Bytes(u64),
    Chunked,
    UntilClose,
}

/// Writes the head of a request that has no body.
pub(super) fn write<B>(request: &Request<B>, out: &mut Vec<u8>) {
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
    if !target.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        // There is nothing that it could be the framing of.
        if name != TRANSFER_ENCODING {
            write_field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn write_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Whether an empty line may have come behind the first `looked` bytes. An endpoint that sends its head
/// byte by byte does not make us parse it as often.
pub(super) fn may_be_complete(bytes: &[u8], looked: usize) -> bool {
    if looked == 0 {
        return !bytes.is_empty();
    }
    let new = bytes.get(looked.saturating_sub(3)..).unwrap_or_default();
    memchr::memmem::find(new, b"\n\r\n").is_some() || memchr::memmem::find(new, b"\n\n").is_some()
}

/// Reads the head of an answer to `method`. Its fields are slices of `bytes`.
///
/// # Errors
/// When it is none.
pub(super) fn parse(bytes: &Bytes, method: &Method) -> Result<Parsed, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut head, bytes, &mut fields)
        .map_err(|error| Error::Unreadable(reason(error)))?;
    let Status::Complete(len) = parsed else {
        return Ok(Parsed::Partial);
    };
    let status = head.code.and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Error::Unreadable("the status is no number of three digits"))?;
    if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Parsed::Interim(len));
    }
    let mut response = Response::new(());
    *response.status_mut() = status;
    if head.version == Some(0) {
        *response.version_mut() = Version::HTTP_10;
    }
    if let Some(phrase) = head.reason
        && Some(phrase) != status.canonical_reason()
        && let Ok(phrase) = ReasonPhrase::try_from(phrase.as_bytes())
    {
        response.extensions_mut().insert(phrase);
    }
    *response.headers_mut() = headers(bytes, head.headers)?;
    let framing = framing(&response, method)?;
    Ok(Parsed::Final(response, framing, len))
}

/// Fields as slices of what they were read from.
pub(super) fn headers(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Error> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let name = name.map_err(|_| Error::Unreadable("the name of a field"))?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        let value = value.map_err(|_| Error::Unreadable("the value of a field"))?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// RFC 9112, 6.3.
fn framing(response: &Response<()>, method: &Method) -> Result<Framing, Error> {
    let headers = response.headers();
    let old = response.version() == Version::HTTP_10;
    let bodiless = matches!(
        response.status(),
        StatusCode::SWITCHING_PROTOCOLS | StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    );
    let length = if bodiless || *method == Method::HEAD {
        Length::Bytes(0)
    } else if headers.contains_key(TRANSFER_ENCODING) {
        if old {
            return Err(Error::Unreadable("HTTP/1.0 has no Transfer-Encoding"));
        }
        if is_chunked(headers) {
            Length::Chunked
        } else {
            Length::UntilClose
        }
    } else if headers.contains_key(CONTENT_LENGTH) {
        let length = content_length(headers);
        Length::Bytes(length.ok_or(Error::Unreadable("the Content-Length"))?)
    } else {
        Length::UntilClose
    };
    // HTTP/1.0 knows connections that are kept only as an extension, which we do not ask for.
    let closes = old
        || response.status() == StatusCode::SWITCHING_PROTOCOLS
        || length == Length::UntilClose
        || headers.get_all(CONNECTION).iter().any(|value| {
            let options = value.as_bytes().split(|byte| *byte == b',');
            options
                .map(<[u8]>::trim_ascii)
                .any(|option| option.eq_ignore_ascii_case(b"close"))
        });
    Ok(Framing {
        length,
        keep_alive: !closes,
    })
}

/// Whether the last coding is `chunked`.
fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(TRANSFER_ENCODING).iter().next_back();
    let last = last.and_then(|value| value.as_bytes().rsplit(|byte| *byte == b',').next());
    last.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// The one number that all of them say.
fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut one = None;
    for value in headers.get_all(CONTENT_LENGTH) {
        for digits in value.to_str().ok()?.split(',').map(str::trim) {
            // `u64` takes a sign.
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = digits.parse().ok().filter(|_| plain)?;
            if *one.get_or_insert(number) != number {
                return None;
            }
        }
    }
    one
}

fn reason(error: httparse::Error) -> &'static str {
    match error {
        httparse::Error::HeaderName => "the name of a field",
        httparse::Error::HeaderValue => "the value of a field",
        httparse::Error::NewLine => "the end of a line",
        httparse::Error::Status => "the status line",
        httparse::Error::Token => "a token",
        httparse::Error::TooManyHeaders => "too many fields",
        httparse::Error::Version => "the version",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(head: &str, method: Method) -> Result<Parsed, Error> {
        parse(&Bytes::copy_from_slice(head.as_bytes()), &method)
    }

    #[test]
    fn where_an_answer_ends() {
        use Length::{Bytes, Chunked, UntilClose};
        for (method, head, length, keep_alive) in [
            ("GET", "1.1 200 OK\r\nContent-Length: 5\r\n", Bytes(5), true),
            (
                "GET",
                "1.1 200 OK\r\nContent-Length: 5, 5\r\n",
                Bytes(5),
                true,
            ),
            (
                "GET",
                "1.1 200 OK\r\nContent-Length: 0\r\nConnection: x, Close\r\n",
                Bytes(0),
                false,
            ),
            (
                "GET",
                "1.0 200 OK\r\nContent-Length: 5\r\n",
                Bytes(5),
                false,
            ),
            (
                "GET",
                "1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n",
                Chunked,
                true,
            ),
            (
                "GET",
                "1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n",
                Chunked,
                true,
            ),
            (
                "GET",
                "1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n",
                UntilClose,
                false,
            ),
            (
                "GET",
                "1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n",
                Chunked,
                true,
            ),
            ("GET", "1.1 200 OK\r\n", UntilClose, false),
            (
                "HEAD",
                "1.1 200 OK\r\nContent-Length: 5\r\n",
                Bytes(0),
                true,
            ),
            ("HEAD", "1.1 200 OK\r\n", Bytes(0), true),
            (
                "GET",
                "1.1 204 No Content\r\nContent-Length: 5\r\n",
                Bytes(0),
                true,
            ),
            (
                "GET",
                "1.1 304 Not Modified\r\nContent-Length: 5\r\n",
                Bytes(0),
                true,
            ),
            ("GET", "1.1 101 Switching Protocols\r\n", Bytes(0), false),
        ] {
            let method = method.parse().unwrap();
            let Parsed::Final(_, framing, len) =
                parsed(&format!("HTTP/{head}\r\nrest"), method).unwrap()
            else {
                panic!("{head}");
            };
            assert_eq!(framing, Framing { length, keep_alive }, "{head}");
            assert_eq!(len, "HTTP/".len() + head.len() + 2, "{head}");
        }
    }

    #[test]
    fn what_is_no_answer() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "HTTP/1.1 099 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n folded: 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: 1\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\na : 1\r\n\r\n",
            "HTTP/1.1 200 OK\r\na: \0\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n",
        ] {
            let refused = parsed(head, Method::GET);
            assert!(
                matches!(refused, Err(Error::Unreadable(_))),
                "{head:?}: {refused:?}"
            );
        }
        let many = "a: 1\r\n".repeat(FIELDS + 1);
        assert!(parsed(&format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Method::GET).is_err());
    }

    #[test]
    fn fields_and_phrases_are_kept() {
        let head = "HTTP/1.1 200 Fine\r\nB: 1\r\na: \u{e9}\r\nb: 2\r\n\r\n";
        let Ok(Parsed::Final(response, ..)) = parsed(head, Method::GET) else {
            panic!("it is one");
        };
        let phrase = response.extensions().get::<ReasonPhrase>().unwrap();
        assert_eq!(phrase.as_bytes(), b"Fine");
        let all: Vec<_> = response.headers().get_all("b").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(response.headers()["a"].as_bytes(), "\u{e9}".as_bytes());
    }

    #[test]
    fn a_head_in_pieces() {
        let head =
            b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        let first = head.windows(4).position(|it| it == b"\r\n\r\n").unwrap() + 4;
        for cut in 0..first {
            let piece = Bytes::copy_from_slice(&head[..cut]);
            assert!(
                matches!(parse(&piece, &Method::GET), Ok(Parsed::Partial)),
                "{cut}"
            );
            assert!(may_be_complete(&head[..first], cut), "{cut}");
            assert!(
                cut < 2 || !may_be_complete(&head[..first - 1], cut),
                "{cut}"
            );
        }
        let whole = Bytes::from_static(head);
        assert!(matches!(parse(&whole, &Method::GET), Ok(Parsed::Interim(len)) if len == first));
    }

    #[test]
    fn a_request_as_it_is_written() {
        for (uri, target) in [
            ("/a?b", "/a?b"),
            ("*", "*"),
            ("http://x?y", "/?y"),
            ("http://x", "/"),
        ] {
            let request = Request::builder()
                .method("PURGE")
                .uri(uri)
                .header("host", "x")
                .header("transfer-encoding", "chunked")
                .header("a", "1")
                .header("a", "2")
                .body(())
                .unwrap();
            let mut out = Vec::new();
            write(&request, &mut out);
            let written = String::from_utf8(out).unwrap();
            let expected = format!("PURGE {target} HTTP/1.1\r\nhost: x\r\na: 1\r\na: 2\r\n\r\n");
            assert_eq!(written, expected);
        }
    }
}
