//! How much an endpoint may send before the head of an answer is complete.
//!
//! hyper bounds one head, but not how many informational ones (1xx) come before the final one. Must not
//! know what the bytes are.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::stream::Stream;

/// Well above the largest head and what hyper reads ahead of a body.
const BYTES: usize = 512 * 1024;
const NONE: usize = usize::MAX;

/// What may still come on one connection. hyper wants its socket `Send`; one thread uses it.
#[derive(Debug, Clone)]
pub(crate) struct AnswerBound(Arc<AtomicUsize>);

impl Default for AnswerBound {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(NONE)))
    }
}

impl AnswerBound {
    /// A request is sent: from now on the head of its answer is waited for.
    pub(crate) fn set(&self) {
        self.0.store(BYTES, Ordering::Relaxed);
    }

    /// The head has come; what follows has other bounds.
    pub(crate) fn lift(&self) {
        self.0.store(NONE, Ordering::Relaxed);
    }

    fn spend(&self, bytes: usize) -> io::Result<()> {
        let left = self.0.load(Ordering::Relaxed);
        if left == NONE {
            return Ok(());
        }
        self.0.store(left.saturating_sub(bytes), Ordering::Relaxed);
        if bytes < left {
            return Ok(());
        }
        let why = format!("{BYTES} bytes without the head of an answer");
        Err(io::Error::new(io::ErrorKind::InvalidData, why))
    }
}

/// The connection, counting what comes.
#[derive(Debug)]
pub(super) struct Bounded {
    inner: Stream,
    bound: AnswerBound,
}

impl Bounded {
    pub(super) fn new(inner: Stream, bound: &AnswerBound) -> Self {
        Self {
            inner,
            bound: bound.clone(),
        }
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.bound.spend(buf.filled().len() - before))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_comes_before_an_answer_counts() {
        let bound = AnswerBound::default();
        assert!(bound.spend(10 * BYTES).is_ok(), "nothing is waited for");
        bound.set();
        assert!(bound.spend(BYTES - 1).is_ok());
        assert!(bound.spend(1).is_err());
        bound.set();
        assert!(bound.spend(BYTES - 1).is_ok(), "each request has its own");
        bound.lift();
        assert!(bound.spend(BYTES).is_ok());
    }
}
