//! The head of a request as it is read (RFC 9112).
//!
//! Owns which requests are served here; hyper is asked about all others. Must not know sockets.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderValue, Method, Uri, request};
use httparse::Status;

use crate::http::framing::decimal;
use crate::http::transfer::Left;
use crate::http::{fields, spare};

/// Most fields of a request that is served here, as hyper has it where it is told nothing.
pub(crate) const FIELDS: usize = 100;
/// Most bytes of a target, as hyper has it.
const TARGET: usize = u16::MAX as usize - 1;

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of a head.
    pub(crate) bytes: usize,
    /// Fields of a head.
    pub(crate) fields: usize,
}

/// What has been read of a head.
#[derive(Debug)]
pub(crate) enum Parsed {
    Partial,
    /// One that is served here, the body that follows it, and its own length in bytes.
    Plain(Box<request::Parts>, Asked, Left, usize),
    /// A request that asks for more than an answer, an old one, one with an odd framing, or none at all.
    Other,
}

/// What the form of the answer depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    /// It is HEAD: the answer has no body.
    pub(crate) head_only: bool,
    /// The client takes trailers.
    pub(crate) trailers: bool,
    /// Another request may follow.
    pub(crate) keep_alive: bool,
}

/// Reads the head of a request. Its target and its values are slices of `bytes`.
pub(crate) fn parse(bytes: &Bytes, limits: Limits) -> Parsed {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS];
    let count = limits.fields.min(FIELDS);
    let mut head = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut head,
        bytes,
        &mut fields[..count],
    );
    match parsed {
        Ok(Status::Partial) if bytes.len() < limits.bytes => Parsed::Partial,
        Ok(Status::Complete(len)) if len <= limits.bytes => plain(bytes, &head)
            .map_or(Parsed::Other, |(head, asked, body)| {
                Parsed::Plain(head, asked, body, len)
            }),
        Ok(_) | Err(_) => Parsed::Other,
    }
}

/// The request, if there is nothing about it that hyper should be asked.
fn plain(
    bytes: &Bytes,
    head: &httparse::Request<'_, '_>,
) -> Option<(Box<request::Parts>, Asked, Left)> {
    if head.version != Some(1) {
        return None;
    }
    let method = Method::from_bytes(head.method?.as_bytes()).ok()?;
    let target = head.path.filter(|target| target.len() <= TARGET)?;
    let target = Uri::from_maybe_shared(bytes.slice_ref(target.as_bytes())).ok()?;
    if method == Method::CONNECT {
        return None;
    }
    let mut asked = Asked {
        head_only: method == Method::HEAD,
        trailers: false,
        keep_alive: true,
    };
    let mut body = None;
    let mut read = spare::take_head(head.headers.len());
    for field in head.headers.iter() {
        let name = fields::read_name(field.name.as_bytes())?;
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value)).ok()?;
        match name {
            UPGRADE | EXPECT => return None,
            // One framing, in its one form.
            TRANSFER_ENCODING | CONTENT_LENGTH if body.is_some() => return None,
            TRANSFER_ENCODING => body = Some(chunked(&value)?),
            CONTENT_LENGTH => body = Some(Left::of(length(&value)?)),
            CONNECTION => asked.keep_alive &= !lists(&value, "close"),
            TE => asked.trailers |= lists(&value, "trailers"),
            _ => {}
        }
        read.headers.append(name, value);
    }
    (read.method, read.uri) = (method, target);
    Some((read, asked, body.unwrap_or(Left::Nothing)))
}

fn chunked(coding: &HeaderValue) -> Option<Left> {
    let chunked = coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    chunked.then_some(Left::CHUNKED)
}

/// A number as we would write it, and not close to the largest that there is.
fn length(value: &HeaderValue) -> Option<u64> {
    let padded = value.len() > 1 && value.as_bytes().first() == Some(&b'0');
    let sane = !padded && (1..=18).contains(&value.len());
    sane.then(|| decimal(value))?
}

/// Whether a word is an element of the list.
pub(super) fn lists(value: &HeaderValue, word: &str) -> bool {
    value.to_str().is_ok_and(|list| {
        list.split(',')
            .any(|it| it.trim().eq_ignore_ascii_case(word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 300,
        fields: 5,
    };

    fn parsed(head: &str) -> Parsed {
        parse(&Bytes::copy_from_slice(head.as_bytes()), LIMITS)
    }

    #[test]
    fn which_requests_are_served_here() {
        for head in [
            "GET / HTTP/1.1\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "PURGE /x?y HTTP/1.1\r\nHost: a\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\n",
            "OPTIONS * HTTP/1.1\r\nConnection: x, keep-alive\r\n",
            "GET http://a/ HTTP/1.1\nHost: a\n",
        ] {
            let ended = format!("{head}\r\nrest");
            let Parsed::Plain(_, asked, body, len) = parsed(&ended) else {
                panic!("{head:?}");
            };
            assert_eq!(body, Left::Nothing, "{head:?}");
            assert!(asked.keep_alive && !asked.trailers, "{head:?}");
            assert_eq!(len, ended.len() - "rest".len(), "{head:?}");
            for cut in 0..len - 1 {
                assert!(matches!(parsed(&ended[..cut]), Parsed::Partial), "{cut}");
            }
        }
        let long = format!("GET / HTTP/1.1\r\na: {}\r\n", "x".repeat(300));
        for head in [
            "GET / HTTP/1.0\r\n",
            "GET / HTTP/2.0\r\n",
            "PRI * HTTP/2.0\r\n",
            "CONNECT a:80 HTTP/1.1\r\n",
            "GET  / HTTP/1.1\r\n",
            "GET /\0 HTTP/1.1\r\n",
            "G(T / HTTP/1.1\r\n",
            "GET a:b:c HTTP/1.1\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 01\r\n",
            "POST / HTTP/1.1\r\nContent-Length: +1\r\n",
            "POST / HTTP/1.1\r\nContent-Length:\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1234567890123456789\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nExpect: 100-continue\r\n",
            "POST / HTTP/1.0\r\nContent-Length: 1\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 00\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0, 0\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 0\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked,\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nUpgrade: x\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding:\r\n",
            "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
            "GET / HTTP/1.1\r\nExpect: 100-continue\r\n",
            "GET / HTTP/1.1\r\na : b\r\n",
            "GET / HTTP/1.1\r\na: b\r\n c\r\n",
            "GET / HTTP/1.1\r\na: \0\r\n",
            "GET / HTTP/1.1\r\na: 1\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\nf: 1\r\n",
            &long,
        ] {
            let other = parsed(&format!("{head}\r\n"));
            assert!(matches!(other, Parsed::Other), "{head:?}: {other:?}");
        }
        // No end is in sight.
        assert!(matches!(parsed(&long), Parsed::Other));
    }

    #[test]
    fn bodies_that_are_read_here() {
        for (fields, expected) in [
            ("Content-Length: 1", Left::Bytes(1)),
            (
                "content-length:  123456789012345678 ",
                Left::Bytes(123_456_789_012_345_678),
            ),
            ("Transfer-Encoding: chunked", Left::CHUNKED),
            ("transfer-encoding: \t Chunked ", Left::CHUNKED),
        ] {
            for method in ["POST", "GET", "HEAD", "PROPFIND"] {
                let head = format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
                let Parsed::Plain(request, asked, body, len) = parsed(&format!("{head}body"))
                else {
                    panic!("{head:?}");
                };
                assert_eq!(body, expected, "{head:?}");
                assert!(asked.keep_alive);
                assert_eq!((request.headers.len(), len), (2, head.len()));
            }
        }
    }

    #[test]
    fn what_the_answer_depends_on() {
        for (head, head_only, trailers, keep_alive) in [
            ("GET / HTTP/1.1\r\nTE: trailers\r\n", false, true, true),
            (
                "GET / HTTP/1.1\r\nTE: x\r\nTE: a, Trailers\r\n",
                false,
                true,
                true,
            ),
            ("HEAD / HTTP/1.1\r\nTE: deflate\r\n", true, false, true),
            (
                "GET / HTTP/1.1\r\nConnection: a, Close\r\n",
                false,
                false,
                false,
            ),
            (
                "GET / HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n",
                false,
                false,
                false,
            ),
        ] {
            let Parsed::Plain(_, asked, ..) = parsed(&format!("{head}\r\n")) else {
                panic!("{head:?}");
            };
            let expected = Asked {
                head_only,
                trailers,
                keep_alive,
            };
            assert_eq!(asked, expected, "{head:?}");
        }
    }

    #[test]
    fn the_parts_are_as_they_came() {
        let head = "PoST /%7e?a=b HTTP/1.1\r\nHOST: A\r\nx: 1\r\nX:  \u{e9} \r\ny:\r\n\r\n";
        let Parsed::Plain(request, ..) = parsed(head) else {
            panic!("it is one");
        };
        assert_eq!(request.method.as_str(), "PoST");
        assert_eq!(request.uri, "/%7e?a=b");
        assert_eq!(request.headers["host"], "A");
        let all: Vec<_> = request.headers.get_all("x").iter().collect();
        assert_eq!(all[0], "1");
        assert_eq!(all[1].as_bytes(), "\u{e9}".as_bytes());
        assert_eq!(request.headers["y"], "");
    }
}
