//! An answer as it is written (RFC 9112): its head, and the framing of its body.
//!
//! Writes what hyper would, byte by byte. Must not know sockets.

use std::io::Write;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRAILER, TRANSFER_ENCODING};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body::Body;
use hyper::ext::ReasonPhrase;

use super::head::{Asked, lists};
use crate::http::framing::decimal;
use crate::http::interim;
use crate::http::message::ResponseMessage;
use crate::http::{date, fields};

/// There is no way to write it, or no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an answer and its length differ")]
pub(super) struct Unwritable;

/// What is still owed to the client of an answer whose head is written.
#[derive(Debug)]
pub(super) struct Owed {
    length: Length,
    /// No other answer follows on this connection.
    pub(super) last: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Length {
    /// So many bytes.
    Bytes(u64),
    /// Chunks until the end, and then the trailers of these names.
    Chunked(Vec<HeaderName>),
}

/// What the body knows of its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    NoBody,
    Known(u64),
    Unknown,
}

/// Writes the head of an answer. `keep_alive`: we would take another request.
///
/// # Errors
/// When the lengths that its fields tell are none, or differ. Nothing may be sent then.
pub(super) fn write_head<B: Body>(
    response: &mut ResponseMessage<B>,
    asked: Asked,
    keep_alive: bool,
    out: &mut Vec<u8>,
) -> Result<Owed, Unwritable> {
    let size = size(&response.body);
    let head = &mut response.head;
    if head.status.is_informational() {
        return Ok(write_no_answer(out));
    }
    let is_close = |value: &HeaderValue| lists(value, "close");
    let mut last = !keep_alive;
    if last && !head.headers.get_all(CONNECTION).iter().any(is_close) {
        let close = HeaderValue::from_static("close");
        head.headers.append(CONNECTION, close);
    }
    let status = head.status;
    write_status(status, &head.extensions, out);
    let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let unsent = bodiless || asked.head_only;
    let headers = &head.headers;
    let (mut length, mut announced, mut is_dated) = (None, Vec::new(), false);
    for (name, value) in headers {
        match *name {
            CONTENT_LENGTH => {
                let told = match size {
                    Size::Known(known) => known,
                    Size::Unknown => decimal(value).ok_or(Unwritable)?,
                    Size::NoBody if asked.head_only => 0,
                    Size::NoBody => continue,
                };
                match length {
                    None => length = Some(told),
                    Some(other) if other == told => continue,
                    Some(_) => return Err(Unwritable),
                }
            }
            // It is ours to say.
            TRANSFER_ENCODING => continue,
            CONNECTION => {
                last |= is_close(value);
                write_joined(headers, name, value, out);
                continue;
            }
            TRAILER => {
                if !unsent {
                    announced.extend(names(value));
                    write_joined(headers, name, value, out);
                }
                continue;
            }
            DATE => is_dated = true,
            _ => {}
        }
        fields::write(name, value, out);
    }
    let length = match (length, size) {
        (Some(told), _) => Length::Bytes(told),
        (None, Size::Unknown) if !unsent => {
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
            Length::Chunked(announced)
        }
        (None, Size::NoBody | Size::Known(0)) => {
            if !unsent {
                out.extend_from_slice(b"content-length: 0\r\n");
            }
            Length::Bytes(0)
        }
        (None, Size::Known(known)) => {
            if !bodiless {
                fields::write(&CONTENT_LENGTH, &HeaderValue::from(known), out);
            }
            Length::Bytes(known)
        }
        (None, Size::Unknown) => Length::Bytes(0),
    };
    if is_dated {
        out.extend_from_slice(b"\r\n");
    } else {
        write_date(out);
    }
    let length = if unsent { Length::Bytes(0) } else { length };
    Ok(Owed { length, last })
}

/// Writes informational answers, until too many of them wait.
#[cold]
pub(super) fn write_interims(interims: Vec<Response<()>>, out: &mut Vec<u8>) {
    for interim in interims {
        if out.len() >= interim::BYTES {
            return;
        }
        write_status(interim.status(), interim.extensions(), out);
        for (name, value) in interim.headers() {
            fields::write(name, value, out);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// A service that gives an informational answer gives no final one, and the client would wait for that.
fn write_no_answer(out: &mut Vec<u8>) -> Owed {
    out.extend_from_slice(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n");
    write_date(out);
    Owed {
        length: Length::Bytes(0),
        last: true,
    }
}

impl Owed {
    /// Whether nothing is owed.
    pub(super) fn is_nothing(&self) -> bool {
        self.length == Length::Bytes(0)
    }

    /// The next piece: what goes out before it is written, and what goes out behind it is returned. Of
    /// more than is owed the rest is taken away. `is_end`: nothing follows.
    pub(super) fn pay(
        &mut self,
        piece: &mut Bytes,
        is_end: bool,
        out: &mut Vec<u8>,
    ) -> &'static [u8] {
        match &mut self.length {
            Length::Bytes(left) => {
                piece.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= piece.len() as u64;
                // The client is to see that something is missing.
                self.last |= is_end && *left > 0;
                b""
            }
            Length::Chunked(_) => {
                write_size(piece.len(), out);
                if !is_end {
                    return b"\r\n";
                }
                self.length = Length::Bytes(0);
                b"\r\n0\r\n\r\n"
            }
        }
    }

    /// The end, with the trailers that were announced, where the client takes any.
    ///
    /// # Errors
    /// When bytes are missing.
    pub(super) fn end(
        &mut self,
        trailers: Option<&HeaderMap>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unwritable> {
        match std::mem::replace(&mut self.length, Length::Bytes(0)) {
            Length::Bytes(0) => Ok(()),
            Length::Bytes(_) => Err(Unwritable),
            Length::Chunked(announced) => {
                out.extend_from_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if announced.contains(name) && !is_of_the_head(name) {
                        fields::write(name, value, out);
                    }
                }
                out.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

fn size<B: Body>(body: &B) -> Size {
    if body.is_end_stream() {
        return Size::NoBody;
    }
    body.size_hint().exact().map_or(Size::Unknown, Size::Known)
}

fn write_status(status: StatusCode, extensions: &Extensions, out: &mut Vec<u8>) {
    let phrase = extensions.get::<ReasonPhrase>();
    if status == StatusCode::OK && phrase.is_none() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // Many parsers expect one.
    let canonical = || status.canonical_reason().unwrap_or("<none>").as_bytes();
    out.extend_from_slice(phrase.map_or_else(canonical, ReasonPhrase::as_bytes));
    out.extend_from_slice(b"\r\n");
}

/// All values of a field in one line, where the first of them stands.
fn write_joined(headers: &HeaderMap, name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    if !headers
        .get(name)
        .is_some_and(|first| std::ptr::eq(first, value))
    {
        return;
    }
    out.extend_from_slice(name.as_str().as_bytes());
    for (index, value) in headers.get_all(name).iter().enumerate() {
        out.extend_from_slice(if index == 0 { b": " } else { b", " });
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// A chunk's size, and the end of its line.
fn write_size(size: usize, out: &mut Vec<u8>) {
    // To write into memory does not fail.
    let _written = write!(out, "{size:X}\r\n");
}

/// The names that a list of them has.
fn names(list: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    let list = list.to_str().unwrap_or_default().split(',');
    list.filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
}

/// Fields that mean nothing behind a body, or something dangerous (RFC 9110, 6.5.1).
fn is_of_the_head(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::AUTHORIZATION
            | header::CACHE_CONTROL
            | header::CONTENT_ENCODING
            | CONTENT_LENGTH
            | header::CONTENT_RANGE
            | header::CONTENT_TYPE
            | header::HOST
            | header::MAX_FORWARDS
            | header::SET_COOKIE
            | TRAILER
            | TRANSFER_ENCODING
            | header::TE
    )
}

/// Writes the time (RFC 9110, 6.6.1), and the end of the head.
fn write_date(out: &mut Vec<u8>) {
    out.extend_from_slice(b"date: ");
    out.extend_from_slice(date::now().as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}
