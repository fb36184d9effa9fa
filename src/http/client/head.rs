//! The head of a request as it is written, and the head of an answer as it is read (RFC 9112).
//!
//! Owns where the body of an answer ends. Must not know sockets.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Response, StatusCode, Version, request, response};
use http_body::Body;
use httparse::Status;
use hyper::ext::ReasonPhrase;
use std::io::Write as _;
use std::mem::MaybeUninit;

use super::Error;
use crate::http::framing::decimal;
use crate::http::message::RequestMessage;
use crate::http::transfer::Left;
use crate::http::{fields, spare};

/// Most fields of an answer, as hyper has it.
const FIELDS: usize = 100;

/// What has been read of an answer's head. Lengths in bytes.
#[derive(Debug)]
pub(super) enum Parsed {
    Partial,
    /// An informational one: another one follows.
    Interim(Response<()>, usize),
    Final(Box<response::Parts>, Framing, usize),
}

/// Where an answer ends, and whether another one may follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Framing {
    pub(super) left: Left,
    pub(super) keep_alive: bool,
}

/// How a request tells where its body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// So many bytes are yet to be taken of it.
    Length(u64),
    Chunked,
}

impl Coding {
    /// What the fields say, else what is known of the body.
    ///
    /// # Errors
    /// When they say no number.
    pub(super) fn of<B: Body>(request: &RequestMessage<B>) -> Result<Self, Error> {
        let (headers, body) = (&request.head.headers, &request.body);
        if !body.is_end_stream() && headers.contains_key(TRANSFER_ENCODING) {
            return Ok(Self::Chunked);
        }
        if let Some(length) = headers.get(CONTENT_LENGTH) {
            return decimal(length).map(Self::Length).ok_or(Error::Request);
        }
        let known = if body.is_end_stream() {
            Some(0)
        } else {
            body.size_hint().exact()
        };
        Ok(known.map_or(Self::Chunked, Self::Length))
    }
}

/// Writes the head of a request.
pub(super) fn write(head: &request::Parts, coding: Coding, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
    if !target.starts_with(['/', '*']) {
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let mut told = coding == Coding::Length(0);
    for (name, value) in &head.headers {
        if name == TRANSFER_ENCODING {
            continue;
        }
        if name == CONTENT_LENGTH {
            if coding == Coding::Chunked {
                continue;
            }
            told = true;
        }
        fields::write(name, value, out);
    }
    match coding {
        Coding::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Coding::Length(length) if !told => fields::write(&CONTENT_LENGTH, &length.into(), out),
        Coding::Length(_) => {}
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes the line before a chunk.
pub(super) fn write_size(size: usize, out: &mut Vec<u8>) {
    // A `Vec` takes everything.
    let _written = write!(out, "{size:x}\r\n");
}

/// Whether an empty line may have come behind the first `looked` bytes. An endpoint that sends its head
/// byte by byte does not make us parse it as often.
pub(crate) fn may_be_complete(bytes: &[u8], looked: usize) -> bool {
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
        let mut interim = Response::new(());
        *interim.status_mut() = status;
        interim_fields_of(bytes, head.headers, interim.headers_mut())?;
        return Ok(Parsed::Interim(interim, len));
    }
    let mut read = spare::take_answer(head.headers.len());
    read.status = status;
    if head.version == Some(0) {
        read.version = Version::HTTP_10;
    }
    if let Some(phrase) = head.reason
        && Some(phrase) != status.canonical_reason()
        && let Ok(phrase) = ReasonPhrase::try_from(phrase.as_bytes())
    {
        read.extensions.insert(phrase);
    }
    let old = head.version == Some(0);
    let fields = fields_of(bytes, head.headers, &mut read.headers)?;
    let framing = fields.framing(old, status, method)?;
    Ok(Parsed::Final(read, framing, len))
}

/// What the fields of an answer say of its end.
#[derive(Debug, Default)]
struct Fields {
    chunked: bool,
    length: Option<u64>,
    closes: bool,
    keeps: bool,
}

/// Fields as slices of what they were read from, with one framing at most: what [`framing::settle`] does
/// to an answer that hyper has read.
///
/// [`framing::settle`]: crate::http::framing::settle
fn fields_of(
    bytes: &Bytes,
    fields: &[httparse::Header<'_>],
    headers: &mut HeaderMap,
) -> Result<Fields, Error> {
    let mut told = Fields::default();
    for field in fields {
        let (name, mut value) = fields::read(bytes, field).map_err(Error::Unreadable)?;
        if name == CONTENT_LENGTH {
            let length = decimal(&value).ok_or(CONTENT_LENGTH_IS)?;
            match told.length.replace(length) {
                Some(other) if other != length => return Err(CONTENT_LENGTH_IS),
                Some(_) => continue,
                // Some read leading zeros as octal.
                None if value.len() > 1 && value.as_bytes()[0] == b'0' => value = length.into(),
                None => {}
            }
        } else if name == TRANSFER_ENCODING {
            let chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            if !chunked || told.chunked {
                return Err(Error::Unreadable(
                    "Transfer-Encoding must be exactly `chunked`",
                ));
            }
            told.chunked = true;
        } else if name == CONNECTION {
            // The usual ones are for us alone, and name no other field.
            if value.as_bytes().eq_ignore_ascii_case(b"keep-alive") {
                told.keeps = true;
                continue;
            }
            if value.as_bytes().eq_ignore_ascii_case(b"close") {
                told.closes = true;
                continue;
            }
            for option in value.as_bytes().split(|byte| *byte == b',') {
                let option = option.trim_ascii();
                told.closes |= option.eq_ignore_ascii_case(b"close");
                told.keeps |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        headers.append(name, value);
    }
    Ok(told)
}

/// Those of an informational answer, which say nothing of its end: it has no body.
#[cold]
fn interim_fields_of(
    bytes: &Bytes,
    fields: &[httparse::Header<'_>],
    headers: &mut HeaderMap,
) -> Result<(), Error> {
    for field in fields {
        let (name, value) = fields::read(bytes, field).map_err(Error::Unreadable)?;
        headers.append(name, value);
    }
    Ok(())
}

const CONTENT_LENGTH_IS: Error = Error::Unreadable("Content-Length must be one decimal number");

impl Fields {
    /// RFC 9112, 6.3. `old` is HTTP/1.0.
    fn framing(&self, old: bool, status: StatusCode, method: &Method) -> Result<Framing, Error> {
        let switched = status == StatusCode::SWITCHING_PROTOCOLS;
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let left = match self.length {
            _ if bodiless || switched || *method == Method::HEAD => Left::Nothing,
            _ if self.chunked && old => {
                return Err(Error::Unreadable("HTTP/1.0 has no Transfer-Encoding"));
            }
            _ if self.chunked => Left::CHUNKED,
            Some(length) => Left::of(length),
            None => Left::UntilClose,
        };
        // RFC 9112, 9.3.
        let closes = self.closes || old && !self.keeps || switched || left == Left::UntilClose;
        Ok(Framing {
            left,
            keep_alive: !closes,
        })
    }
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
    use http::Request;
    use http_body::Frame;
    use http_body_util::{BodyExt as _, Empty, Full, StreamBody};
    use std::convert::Infallible;

    fn parsed(head: &str, method: Method) -> Result<Parsed, Error> {
        parse(&Bytes::copy_from_slice(head.as_bytes()), &method)
    }

    #[test]
    fn where_an_answer_ends() {
        use Left::{Bytes, Nothing, UntilClose};
        for (method, line, fields, left, keep_alive) in [
            ("GET", "1.1 200 OK", "Content-Length: 5", Bytes(5), true),
            (
                "GET",
                "1.1 200 OK",
                "Content-Length: 05\r\ncontent-length: 5",
                Bytes(5),
                true,
            ),
            (
                "GET",
                "1.1 200 OK",
                "Content-Length: 0\r\nConnection: x, Close",
                Nothing,
                false,
            ),
            ("GET", "1.0 200 OK", "Content-Length: 5", Bytes(5), false),
            (
                "GET",
                "1.1 200 OK",
                "Transfer-Encoding: Chunked",
                Left::CHUNKED,
                true,
            ),
            (
                "GET",
                "1.1 200 OK",
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                Left::CHUNKED,
                true,
            ),
            ("GET", "1.1 200 OK", "Server: x", UntilClose, false),
            ("HEAD", "1.1 200 OK", "Content-Length: 5", Nothing, true),
            ("HEAD", "1.1 200 OK", "Server: x", Nothing, true),
            (
                "GET",
                "1.1 204 No Content",
                "Content-Length: 5",
                Nothing,
                true,
            ),
            (
                "GET",
                "1.1 304 Not Modified",
                "Content-Length: 5",
                Nothing,
                true,
            ),
            (
                "GET",
                "1.1 101 Switching Protocols",
                "Upgrade: x",
                Nothing,
                false,
            ),
        ] {
            let head = format!("HTTP/{line}\r\n{fields}\r\n\r\n");
            let answer = parsed(&format!("{head}rest"), method.parse().unwrap());
            let Ok(Parsed::Final(read, framing, len)) = answer else {
                panic!("{head}");
            };
            assert_eq!(framing, Framing { left, keep_alive }, "{head}");
            assert_eq!(len, head.len());
            let lengths: Vec<_> = read.headers.get_all(CONTENT_LENGTH).iter().collect();
            assert!(
                lengths.len() <= 1 && lengths.iter().all(|it| !it.as_bytes().starts_with(b"00"))
            );
        }
    }

    /// RFC 9112, 9.3.
    #[test]
    fn which_connections_are_kept() {
        for (version, connection, kept) in [
            ("1.0", "", false),
            ("1.0", "keep-alive", true),
            ("1.0", "Close", false),
            ("1.0", "x, Keep-Alive", true),
            ("1.0", "keep-alive, close", false),
            ("1.0", "keep-alive\r\nConnection: close", false),
            ("1.1", "", true),
            ("1.1", "keep-alive", true),
            ("1.1", "keep-alive, Close", false),
        ] {
            let known = "content-length: 5\r\n";
            for (method, length, is_known) in
                [("GET", known, true), ("HEAD", "", true), ("GET", "", false)]
            {
                let head =
                    format!("HTTP/{version} 200 OK\r\nConnection: {connection}\r\n{length}\r\n");
                let Ok(Parsed::Final(_, framing, _)) = parsed(&head, method.parse().unwrap())
                else {
                    panic!("{head}");
                };
                assert_eq!(framing.keep_alive, kept && is_known, "{method} {head}");
            }
        }
    }

    #[test]
    fn what_is_no_answer() {
        for head in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n",
            "HTTP/1.1 204 No\r\nContent-Length: x\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
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
        let phrase = response.extensions.get::<ReasonPhrase>().unwrap();
        assert_eq!(phrase.as_bytes(), b"Fine");
        let all: Vec<_> = response.headers.get_all("b").iter().collect();
        assert_eq!(all, ["1", "2"]);
        assert_eq!(response.headers["a"].as_bytes(), "\u{e9}".as_bytes());
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
        let Ok(Parsed::Interim(interim, len)) = parse(&whole, &Method::GET) else {
            panic!("it is one");
        };
        assert_eq!((interim.status().as_u16(), len), (103, first));
        assert_eq!(interim.headers()["link"], "x");
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
                .body(Empty::<Bytes>::new())
                .unwrap();
            let expected = format!("PURGE {target} HTTP/1.1\r\nhost: x\r\na: 1\r\na: 2\r\n\r\n");
            assert_eq!(written(request), expected);
        }
    }

    fn written<B: Body>(request: Request<B>) -> String {
        let (request, mut out) = (RequestMessage::from(request), Vec::new());
        let coding = Coding::of(&request).unwrap();
        write(&request.head, coding, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn one_framing() {
        let (length, chunked) = (("content-length", "5"), ("transfer-encoding", "chunked"));
        let (length_line, chunked_line) =
            ("content-length: 5\r\n", "transfer-encoding: chunked\r\n");
        for (fields, known, framing) in [
            (&[][..], true, length_line),
            (&[], false, chunked_line),
            (&[length], true, length_line),
            (&[length], false, length_line),
            (&[chunked], true, chunked_line),
            (&[chunked], false, chunked_line),
            (&[length, chunked], true, chunked_line),
        ] {
            let mut request = Request::post("/");
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let hello = Bytes::from_static(b"hello");
            let body = if known {
                Full::new(hello).boxed_unsync()
            } else {
                let frames = [Ok::<_, Infallible>(Frame::data(hello))];
                StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()
            };
            let request = request.body(body).unwrap();
            let expected = format!("POST / HTTP/1.1\r\n{framing}\r\n");
            assert_eq!(written(request), expected, "{fields:?} {known}");
        }
        let signed = Request::post("/").header("content-length", "+5");
        let signed = signed.body(Empty::<Bytes>::new()).unwrap();
        assert!(Coding::of(&signed.into()).is_err());
    }
}
