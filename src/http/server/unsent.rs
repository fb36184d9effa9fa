//! What is to be written and has not been taken by the socket yet.
//!
//! Small pieces are gathered, a large one is not copied. Must not know HTTP.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// A piece up to this size is copied behind what is gathered: that costs less than `writev`.
const SMALL: usize = 4096;
/// So much is gathered before it is written.
const GATHERED: usize = 16 * 1024;

thread_local! {
    /// The buffer of the last answer, for the next one.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub(super) struct Unsent {
    bytes: Vec<u8>,
    /// So many of them have been written.
    written: usize,
    /// Comes after the bytes.
    piece: Bytes,
    /// Comes after the piece.
    behind: &'static [u8],
}

impl Unsent {
    pub(super) fn new() -> Self {
        Self {
            bytes: SPARE.take(),
            written: 0,
            piece: Bytes::new(),
            behind: b"",
        }
    }

    /// Where more is added, while there is room.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Whether more should be added before the next write.
    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.behind.is_empty() && self.bytes.len() < GATHERED
    }

    /// A piece, and what comes behind it.
    pub(super) fn push(&mut self, piece: Bytes, behind: &'static [u8]) {
        if piece.len() <= SMALL {
            self.bytes.extend_from_slice(&piece);
            self.bytes.extend_from_slice(behind);
        } else {
            (self.piece, self.behind) = (piece, behind);
        }
    }

    /// Ready when all of it has been written.
    pub(super) fn poll_write<T: AsyncWrite + Unpin>(
        &mut self,
        socket: &mut T,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let bytes = self.bytes.get(self.written..).unwrap_or_default();
            let left = bytes.len() + self.piece.len() + self.behind.len();
            if left == 0 {
                self.bytes.clear();
                self.written = 0;
                return Poll::Ready(Ok(()));
            }
            let socket = Pin::new(&mut *socket);
            let count = if left == bytes.len() {
                ready!(socket.poll_write(cx, bytes))?
            } else {
                let all = [bytes, &self.piece, self.behind].map(IoSlice::new);
                ready!(socket.poll_write_vectored(cx, &all))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(count);
        }
    }

    fn advance(&mut self, count: usize) {
        let of_bytes = count.min(self.bytes.len() - self.written);
        self.written += of_bytes;
        let of_piece = (count - of_bytes).min(self.piece.len());
        self.piece.advance(of_piece);
        let of_behind = count - of_bytes - of_piece;
        self.behind = self.behind.get(of_behind..).unwrap_or_default();
    }
}

impl Drop for Unsent {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.capacity() <= 2 * GATHERED {
            bytes.clear();
            SPARE.set(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes at a time, and every other time none.
    struct Narrow {
        width: usize,
        taken: Vec<u8>,
        full: bool,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
        }

        fn poll_write_vectored(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            self.full = !self.full;
            if self.full {
                return Poll::Pending;
            }
            let all: Vec<u8> = pieces.iter().flat_map(|it| it.iter().copied()).collect();
            let count = self.width.min(all.len());
            self.taken.extend_from_slice(&all[..count]);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn everything_is_written_once_and_in_order() {
        let large = Bytes::from((0..=255).cycle().take(SMALL + 1).collect::<Vec<u8>>());
        for width in [1, 2, 7, SMALL, 3 * SMALL] {
            let mut socket = Narrow {
                width,
                taken: Vec::new(),
                full: false,
            };
            let mut unsent = Unsent::new();
            let mut expected = Vec::new();
            for piece in [Bytes::from_static(b"small"), large.clone(), Bytes::new()] {
                unsent.bytes().extend_from_slice(b"before");
                unsent.push(piece.clone(), b"behind");
                assert_eq!(unsent.has_room(), piece.len() <= SMALL);
                expected.extend([b"before", &piece[..], b"behind"].concat());
                let mut cx = Context::from_waker(std::task::Waker::noop());
                while unsent
                    .poll_write(&mut socket, &mut cx)
                    .map(Result::unwrap)
                    .is_pending()
                {}
                assert!(unsent.has_room());
            }
            assert_eq!(socket.taken, expected, "{width}");
        }
    }
}
