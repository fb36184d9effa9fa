//! The body of an answer, read from its connection as it is asked for.
//!
//! Owns the pieces, chunked coding (RFC 9112, 7.1) and when the connection is free again. Must not know
//! what the pieces are for.

use std::fmt;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use httparse::Status;

use super::head::{FIELDS, Framing, Length, trailers};
use super::{Connection, Error, PIECE, State};

/// What is read at a time of an answer that has turned out to be large.
const LARGE_PIECE: usize = 64 * 1024;
/// Most bytes of a chunk's line, and of all extensions of a body: nobody reads them.
const EXTENSIONS: usize = 16 * 1024;
/// Most bytes of trailers.
const TRAILERS: usize = 16 * 1024;

/// See the module.
pub(crate) struct Body {
    /// None once nothing more is to be read.
    connection: Option<Rc<Connection>>,
    left: Left,
    keep_alive: bool,
    /// What has come, and is not passed on yet.
    received: Bytes,
    /// Where the next piece goes.
    buffer: BytesMut,
    large: bool,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Nothing,
    /// So many bytes.
    Bytes(u64),
    UntilClose,
    /// The line before a chunk. With the bytes of extensions so far.
    Chunk(usize),
    /// So much of a chunk.
    Data(u64, usize),
    /// The end of a chunk's last line.
    ChunkEnd(usize),
    Trailers,
}

impl Body {
    /// `received` has come behind the head.
    pub(super) fn new(connection: &Rc<Connection>, framing: Framing, received: Bytes) -> Self {
        let mut body = Self {
            connection: Some(Rc::clone(connection)),
            left: match framing.length {
                Length::Bytes(0) => Left::Nothing,
                Length::Bytes(count) => Left::Bytes(count),
                Length::Chunked => Left::Chunk(0),
                Length::UntilClose => Left::UntilClose,
            },
            keep_alive: framing.keep_alive,
            received,
            buffer: BytesMut::new(),
            large: false,
        };
        if body.left == Left::Nothing {
            body.end();
        }
        body
    }

    /// The answer has been read to its end. What follows it was not asked for.
    fn end(&mut self) {
        self.left = Left::Nothing;
        if let Some(connection) = self.connection.take() {
            let ready = self.keep_alive && self.received.is_empty();
            connection
                .state
                .set(if ready { State::Ready } else { State::Over });
        }
    }

    /// The next piece of what has come.
    fn next(&mut self) -> Result<Option<Frame<Bytes>>, Error> {
        loop {
            match self.left {
                Left::Nothing => return Ok(None),
                Left::Bytes(_) | Left::UntilClose | Left::Data(..) => {
                    return Ok(self.next_data());
                }
                Left::Chunk(extensions) => {
                    let Some(end) = memchr::memchr(b'\n', &self.received) else {
                        return self.incomplete(EXTENSIONS);
                    };
                    let line = self.received.split_to(end + 1);
                    let (size, more) = chunk(&line).ok_or(Error::Unreadable("a chunk's size"))?;
                    let extensions = extensions + more;
                    if extensions > EXTENSIONS {
                        return Err(Error::Unreadable(
                            "the extensions of its chunks are too long",
                        ));
                    }
                    self.left = match size {
                        0 => Left::Trailers,
                        _ => Left::Data(size, extensions),
                    };
                }
                Left::ChunkEnd(extensions) => {
                    let Some(end) = self.received.get(..2) else {
                        return Ok(None);
                    };
                    if end != b"\r\n" {
                        return Err(Error::Unreadable("the end of a chunk"));
                    }
                    self.received.advance(2);
                    self.left = Left::Chunk(extensions);
                }
                Left::Trailers => return self.next_trailers(),
            }
        }
    }

    fn next_data(&mut self) -> Option<Frame<Bytes>> {
        if self.received.is_empty() {
            return None;
        }
        let (Left::Bytes(left) | Left::Data(left, _)) = self.left else {
            return Some(Frame::data(mem::take(&mut self.received)));
        };
        let count =
            usize::try_from(left).map_or(self.received.len(), |it| it.min(self.received.len()));
        let data = self.received.split_to(count);
        let left = left - count as u64;
        match self.left {
            Left::Data(_, extensions) if left == 0 => {
                self.left = Left::ChunkEnd(extensions);
                // Mostly the rest is there, and then this piece is known to be the last one.
                if self.received.starts_with(LAST_CHUNK) {
                    self.received.advance(LAST_CHUNK.len());
                    self.end();
                }
            }
            Left::Data(_, extensions) => self.left = Left::Data(left, extensions),
            _ if left == 0 => {
                self.left = Left::Nothing;
                self.end();
            }
            _ => self.left = Left::Bytes(left),
        }
        Some(Frame::data(data))
    }

    fn next_trailers(&mut self) -> Result<Option<Frame<Bytes>>, Error> {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let received = self.received.clone();
        let parsed = httparse::parse_headers(&received, &mut fields);
        let parsed = parsed.map_err(|_| Error::Unreadable("the trailers"))?;
        let Status::Complete((len, fields)) = parsed else {
            return self.incomplete(TRAILERS);
        };
        let trailers = trailers(&received, fields)?;
        self.received.advance(len);
        self.end();
        Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)))
    }

    fn incomplete(&self, limit: usize) -> Result<Option<Frame<Bytes>>, Error> {
        if self.received.len() > limit {
            return Err(Error::Unreadable("a line of its body is too long"));
        }
        Ok(None)
    }

    /// Reads more, behind an unfinished line; how many bytes, none at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let Some(connection) = &self.connection else {
            return Poll::Ready(Ok(0));
        };
        if !self.received.is_empty() {
            self.buffer
                .extend_from_slice(&mem::take(&mut self.received));
        }
        let count = if self.large {
            self.buffer.reserve(LARGE_PIECE);
            ready!(connection.poll_receive_large(cx, &mut self.buffer))?
        } else {
            ready!(connection.poll_receive(cx, &mut self.buffer))?
        };
        self.received = if self.large {
            self.buffer.split().freeze()
        } else {
            mem::take(&mut self.buffer).freeze()
        };
        self.large = count >= PIECE;
        Poll::Ready(Ok(count))
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            if let Some(frame) = self.next()? {
                return Poll::Ready(Some(Ok(frame)));
            }
            if self.left == Left::Nothing {
                return Poll::Ready(None);
            }
            if ready!(self.poll_fill(cx))? == 0 {
                if self.left != Left::UntilClose {
                    return Poll::Ready(Some(Err(Error::Closed)));
                }
                self.end();
            }
        }
    }
}

/// The end of a chunk, and of the body.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// The size that a chunk's line tells, and how many bytes of extensions.
fn chunk(line: &[u8]) -> Option<(u64, usize)> {
    let line = line.strip_suffix(b"\r\n")?;
    let digits = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (size, rest) = line.split_at_checked(digits)?;
    let size = u64::from_str_radix(str::from_utf8(size).ok()?, 16).ok()?;
    let blanks = rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    let extension = rest.get(blanks..).unwrap_or_default();
    // Some end a line at a CR alone.
    let valid = extension.is_empty() || (extension[0] == b';' && !extension.contains(&b'\r'));
    valid.then_some((size, rest.len()))
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = ready!(this.poll_next(cx));
        if let Some(Err(_)) = &polled {
            // What comes next would be the middle of something.
            (this.left, this.connection) = (Left::Nothing, None);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.left == Left::Nothing
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Left::Nothing => SizeHint::with_exact(0),
            Left::Bytes(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = &self.left;
        f.debug_struct("Body")
            .field("left", left)
            .finish_non_exhaustive()
    }
}
