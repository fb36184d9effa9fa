//! What is to be written to a connection: small pieces are gathered in one buffer, large ones go out as they
//! are, all in their order.
//!
//! Must not know what the pieces are.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use super::{Connection, WRITE};

/// What is gathered at a time. To copy so much costs less than a larger number of pieces does.
const GATHERED: usize = 16 * 1024;
/// The largest buffer that is kept for the next request of the thread.
const KEPT: usize = 4 * GATHERED;
/// Pieces that are written at a time.
const SLICES: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The thread's, while there is something in it.
    small: Vec<u8>,
    /// How much of `small` has been written.
    written: usize,
    /// Large pieces, each behind so many bytes of `small`.
    large: VecDeque<(usize, Bytes)>,
    /// Bytes of `small` behind the last large piece.
    behind: usize,
    /// What is left of all.
    left: usize,
    /// Something has been written.
    pub(super) begun: bool,
}

impl Outbox {
    /// How many bytes are yet to be written.
    pub(super) fn len(&self) -> usize {
        self.left
    }

    /// Whether a failure before anything was written means that nothing has left: what TLS would put in
    /// several records may have, in part.
    pub(super) fn is_one(&self) -> bool {
        self.large.is_empty() && self.small.len() <= GATHERED
    }

    /// Adds what `write` writes.
    pub(super) fn gather(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.small.capacity() == 0 {
            self.small = WRITE.take();
        }
        let before = self.small.len();
        write(&mut self.small);
        let more = self.small.len() - before;
        self.behind += more;
        self.left += more;
    }

    /// Adds a piece.
    pub(super) fn push(&mut self, piece: Bytes) {
        if self.small.len() + piece.len() <= GATHERED {
            return self.gather(|small| small.extend_from_slice(&piece));
        }
        self.left += piece.len();
        let before = std::mem::take(&mut self.behind);
        self.large.push_back((before, piece));
    }

    /// Writes all that is there. Whoever waits for more holds no buffer.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
    ) -> Poll<io::Result<()>> {
        while self.left > 0 {
            let count = ready!(connection.with_stream(|stream| self.poll_piece(cx, stream)))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.begun = true;
            self.advance(count);
        }
        self.give();
        Poll::Ready(Ok(()))
    }

    fn poll_piece(
        &self,
        cx: &mut Context<'_>,
        stream: Pin<&mut impl AsyncWrite>,
    ) -> Poll<io::Result<usize>> {
        let mut small = self.small.get(self.written..).unwrap_or_default();
        if self.large.is_empty() {
            return stream.poll_write(cx, small);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut pieces = self.large.iter().flat_map(|(before, large)| {
            let (gathered, rest) = small.split_at_checked(*before).unwrap_or_default();
            small = rest;
            [gathered, large]
        });
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces.by_ref()) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        drop(pieces);
        if let Some(last) = slices.get_mut(count) {
            *last = IoSlice::new(small);
            count += 1;
        }
        stream.poll_write_vectored(cx, slices.get(..count).unwrap_or_default())
    }

    fn advance(&mut self, mut count: usize) {
        self.left = self.left.saturating_sub(count);
        while let Some((before, large)) = self.large.front_mut() {
            let gathered = count.min(*before);
            *before -= gathered;
            self.written += gathered;
            count -= gathered;
            let part = count.min(large.len());
            large.advance(part);
            count -= part;
            if *before > 0 || !large.is_empty() {
                return;
            }
            self.large.pop_front();
        }
        self.written += count;
        self.behind = self.behind.saturating_sub(count);
    }

    fn give(&mut self) {
        (self.written, self.behind) = (0, 0);
        let mut small = std::mem::take(&mut self.small);
        if (1..=KEPT).contains(&small.capacity()) {
            small.clear();
            WRITE.set(small);
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.give();
    }
}
