//! A body of HTTP/1 as it is taken out of what has come: so many bytes, chunks, or until the end
//! (RFC 9112, 6.3 and 7.1).
//!
//! Owns what is missing, how strictly chunks are read, and how much is read at a time. Must not know
//! whose body it is.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use httparse::Status;
use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::io::poll_read_buf;

use super::fields;

/// What is read at a time until a message turns out to be large. One for all connections of a thread,
/// so that those that wait hold none.
pub(super) const PIECE: usize = 16 * 1024;
/// What is read at a time of a message that has turned out to be large.
const LARGE_PIECE: usize = 64 * 1024;
/// Most bytes of a chunk's line, and of all extensions of a body: nobody reads them.
const EXTENSIONS: usize = 16 * 1024;
/// The end of a chunk, and of the body.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

thread_local! {
    /// See [`PIECE`].
    pub(super) static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// What came is no body. With what of it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// What trailers may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Trailers {
    pub(super) bytes: u16,
    pub(super) fields: u8,
}

impl Trailers {
    /// The most that anybody may send.
    pub(super) const MOST: Self = Self {
        bytes: 16 * 1024,
        fields: 100,
    };
}

/// What is missing of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    Nothing,
    /// So many bytes, at least one.
    Bytes(u64),
    UntilClose,
    /// The line before a chunk. With the bytes of extensions so far.
    Chunk(u32),
    /// So much of a chunk, at least one byte.
    Data(u64, u32),
    /// The end of a chunk's last line.
    ChunkEnd(u32),
    Trailers,
}

impl Left {
    /// Of a body whose length is told.
    pub(super) fn of(length: u64) -> Self {
        match length {
            0 => Self::Nothing,
            _ => Self::Bytes(length),
        }
    }

    /// Of a body in chunks.
    pub(crate) const CHUNKED: Self = Self::Chunk(0);

    /// What is known of the size.
    pub(super) fn size_hint(self) -> SizeHint {
        match self {
            Self::Nothing => SizeHint::with_exact(0),
            Self::Bytes(left) => SizeHint::with_exact(left),
            _ => SizeHint::default(),
        }
    }

    /// Takes the next piece out of what has come; `None` where more must come first, or nothing is
    /// missing.
    ///
    /// # Errors
    /// Where it is none. What comes next is the middle of something.
    pub(super) fn next(
        &mut self,
        received: &mut Bytes,
        trailers: Trailers,
    ) -> Result<Option<Frame<Bytes>>, Malformed> {
        loop {
            match *self {
                Self::Nothing => return Ok(None),
                Self::Bytes(_) | Self::UntilClose | Self::Data(..) => {
                    return Ok(self.next_data(received));
                }
                Self::Chunk(extensions) => {
                    let Some(end) = memchr::memchr(b'\n', received) else {
                        return incomplete(received, EXTENSIONS);
                    };
                    let line = received.split_to(end + 1);
                    let (size, more) = chunk(&line).ok_or(Malformed("a chunk's size"))?;
                    let sum = extensions as usize + more;
                    if sum > EXTENSIONS {
                        return Err(Malformed("the extensions of its chunks are too long"));
                    }
                    *self = match size {
                        0 => Self::Trailers,
                        _ => Self::Data(size, u32::try_from(sum).unwrap_or(u32::MAX)),
                    };
                }
                Self::ChunkEnd(extensions) => {
                    let Some(end) = received.get(..2) else {
                        return Ok(None);
                    };
                    if end != b"\r\n" {
                        return Err(Malformed("the end of a chunk"));
                    }
                    received.advance(2);
                    *self = Self::Chunk(extensions);
                }
                Self::Trailers => return self.next_trailers(received, trailers),
            }
        }
    }

    fn next_data(&mut self, received: &mut Bytes) -> Option<Frame<Bytes>> {
        if received.is_empty() {
            return None;
        }
        let (Self::Bytes(left) | Self::Data(left, _)) = *self else {
            return Some(Frame::data(mem::take(received)));
        };
        let count = usize::try_from(left).map_or(received.len(), |it| it.min(received.len()));
        let data = received.split_to(count);
        let left = left - count as u64;
        *self = match *self {
            // Mostly the rest is there, and then this piece is known to be the last one.
            Self::Data(..) if left == 0 && received.starts_with(LAST_CHUNK) => {
                received.advance(LAST_CHUNK.len());
                Self::Nothing
            }
            Self::Data(_, extensions) if left == 0 => Self::ChunkEnd(extensions),
            Self::Data(_, extensions) => Self::Data(left, extensions),
            _ => Self::of(left),
        };
        Some(Frame::data(data))
    }

    fn next_trailers(
        &mut self,
        received: &mut Bytes,
        limits: Trailers,
    ) -> Result<Option<Frame<Bytes>>, Malformed> {
        let end = if received.starts_with(b"\r\n") {
            2
        } else if let Some(last) = memchr::memmem::find(received, b"\r\n\r\n") {
            last + 4
        } else {
            return incomplete(received, limits.bytes.into());
        };
        if end > limits.bytes.into() {
            return Err(TOO_LONG);
        }
        let section = received.split_to(end);
        let trailers =
            read_trailers(&section, limits.fields.into()).ok_or(Malformed("the trailers"))?;
        *self = Self::Nothing;
        Ok((!trailers.is_empty()).then(|| Frame::trailers(trailers)))
    }
}

const TOO_LONG: Malformed = Malformed("a line of its body is too long");

fn incomplete(received: &Bytes, limit: usize) -> Result<Option<Frame<Bytes>>, Malformed> {
    if received.len() > limit {
        return Err(TOO_LONG);
    }
    // Not waited for what could not make it good.
    if is_torn(received) {
        return Err(Malformed("the end of a line"));
    }
    Ok(None)
}

/// Whether a CR or an LF stands alone. Others may think that a line, or the message, ends there.
fn is_torn(bytes: &[u8]) -> bool {
    memchr::memchr2_iter(b'\r', b'\n', bytes).any(|at| {
        let (before, rest) = bytes.split_at(at);
        match rest {
            [b'\r', next, ..] => *next != b'\n',
            [b'\n', ..] => before.last() != Some(&b'\r'),
            _ => false,
        }
    })
}

/// Trailers up to their empty line, as slices of it.
fn read_trailers(section: &Bytes, most: usize) -> Option<HeaderMap> {
    let mut parsed = [httparse::EMPTY_HEADER; Trailers::MOST.fields as usize];
    let room = parsed.get_mut(..most).unwrap_or_default();
    let Ok(Status::Complete((len, parsed))) = httparse::parse_headers(section, room) else {
        return None;
    };
    if len != section.len() || is_torn(section) {
        return None;
    }
    let mut trailers = HeaderMap::new();
    for field in parsed {
        let (name, value) = fields::read(section, field).ok()?;
        trailers.append(name, value);
    }
    Some(trailers)
}

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

/// What has come, and is not passed on yet. Small, as each connection that waits has one.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) bytes: Bytes,
    /// Where the next piece of a large message goes.
    large: Option<Box<BytesMut>>,
}

impl Received {
    /// Bytes that have come already.
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes, large: None }
    }

    /// Reads more, behind an unfinished line; how many bytes, none at the end. What is large is not
    /// copied.
    pub(super) fn poll_more<T: AsyncRead>(
        &mut self,
        stream: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(buffer) = &mut self.large else {
            let count = ready!(self.poll_small(stream, cx))?;
            if count >= PIECE {
                self.large = Some(Box::default());
            }
            return Poll::Ready(Ok(count));
        };
        buffer.extend_from_slice(&mem::take(&mut self.bytes));
        buffer.reserve(LARGE_PIECE);
        let count = ready!(poll_read_buf(stream, cx, &mut **buffer))?;
        self.bytes = buffer.split().freeze();
        if count < PIECE {
            self.large = None;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_small<T: AsyncRead>(
        &mut self,
        stream: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|piece| {
            let mut piece = ReadBuf::new(piece);
            ready!(stream.poll_read(cx, &mut piece))?;
            let came = piece.filled();
            self.bytes = if self.bytes.is_empty() {
                Bytes::copy_from_slice(came)
            } else {
                let mut all = BytesMut::from(mem::take(&mut self.bytes));
                all.extend_from_slice(came);
                all.freeze()
            };
            Poll::Ready(Ok(came.len()))
        })
    }

    /// The message is over: what has come behind it is kept, and no room for more.
    pub(super) fn end(&mut self) {
        self.large = None;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// Data, trailers, and what came behind the body.
    type Taken = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

    /// What comes out of `pieces`.
    fn taken(mut left: Left, pieces: &[&[u8]]) -> Result<Taken, Malformed> {
        let (mut data, mut trailers) = (Vec::new(), None);
        let mut received = Received::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut coming = pieces.iter();
        loop {
            while let Some(frame) = left.next(&mut received.bytes, Trailers::MOST)? {
                match frame.into_data() {
                    Ok(piece) => data.extend_from_slice(&piece),
                    Err(frame) => trailers = frame.into_trailers().ok(),
                }
            }
            let Some(mut piece) = coming.next().copied() else {
                return Ok((data, trailers, received.bytes.to_vec()));
            };
            let read = received.poll_more(Pin::new(&mut piece), &mut cx);
            assert!(matches!(read, Poll::Ready(Ok(_))));
        }
    }

    #[test]
    fn lines_of_trailers_end_with_both() {
        for (end, valid) in [
            ("0\r\n\r\n", true),
            ("0\r\na: b\r\n\r\n", true),
            ("0\r\na: b\nc: d\r\n\r\n", false),
            ("0\r\n\n\r\n\r\n", false),
            ("0\r\na: b\n\r\n\r\n", false),
            ("0\r\na: b\r\n c\r\n\r\n", false),
            ("0\r\na\r\n\r\n", false),
        ] {
            let read = taken(Left::CHUNKED, &[format!("{end}next").as_bytes()]);
            assert_eq!(read.is_ok_and(|it| it.2 == b"next"), valid, "{end:?}");
        }
    }

    /// More would not make them good.
    #[test]
    fn unfinished_lines_are_refused_early() {
        for (begun, valid) in [
            ("5", true),
            ("5;a\r", true),
            ("5\rx", false),
            ("5\r\r", false),
            ("0\r\n\r", true),
            ("0\r\n\r\r", false),
            ("0\r\na: b\r\n\r", true),
            ("0\r\na: b\rc", false),
            ("0\r\na: b\n", false),
        ] {
            let read = taken(Left::CHUNKED, &[begun.as_bytes()]);
            assert_eq!(read.is_ok(), valid, "{begun:?}");
        }
    }

    #[test]
    fn trailers_have_bounds() {
        let limits = Trailers {
            bytes: 20,
            fields: 2,
        };
        for (trailers, valid) in [
            ("a: 1\r\nb: 2\r\n\r\n", true),
            ("a: 1\r\nb: 2\r\nc:\r\n\r\n", false),
            ("a: 12345678901234\r\n\r\n", false),
            ("a: 12345678901234567890", false),
        ] {
            let mut received = Bytes::from_static(trailers.as_bytes());
            let read = Left::Trailers.next(&mut received, limits);
            assert_eq!(read.is_ok(), valid, "{trailers:?}");
        }
    }

    proptest! {
        /// However it comes, the same is read, and nothing of what follows.
        #[test]
        fn chunks_in_any_pieces(
            sizes in prop::collection::vec(1_usize..40_000, 0..4),
            extension in prop::sample::select(vec!["", ";a=b", " ;\"x\""]),
            trailer in prop::sample::select(vec!["", "x: 1\r\n"]),
            mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let mut bytes = Vec::new();
            for size in &sizes {
                bytes.extend_from_slice(format!("{size:x}{extension}\r\n").as_bytes());
                bytes.resize(bytes.len() + size, b'\n');
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(format!("0\r\n{trailer}\r\nnext").as_bytes());
            cuts.sort_by_key(|cut| cut.index(bytes.len()));
            let mut pieces = Vec::new();
            let mut from = 0;
            let ends = cuts.iter().map(|cut| cut.index(bytes.len())).chain([bytes.len()]);
            for to in ends {
                // At most as much as is read at a time.
                pieces.extend(bytes[from..to].chunks(PIECE));
                from = to;
            }
            let (data, trailers, behind) = taken(Left::CHUNKED, &pieces).unwrap();
            prop_assert_eq!(data.len(), sizes.iter().sum::<usize>());
            prop_assert_eq!(trailers.is_some(), !trailer.is_empty());
            prop_assert_eq!(behind, b"next");
        }
    }
}
