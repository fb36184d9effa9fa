//! A client's socket as hyper sees it: what comes and goes is noted on the way.
//!
//! Owns the orderly close of a socket, and what a client over a bound of HTTP/2 is told. Must not know
//! requests, nor which bound there is.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::Sleep;

use super::flood::Budget;
use super::frames::{ENHANCE_YOUR_CALM, goaway};
use super::stall::Signals;
use crate::tls::stream::Stream;

/// How much, and for how long, is still taken of what a client sends that has its last answer.
const UNREAD_BYTES: usize = 4 * 1024 * 1024;
/// See [`UNREAD_BYTES`].
const UNREAD_TIME: Duration = Duration::from_secs(1);

/// How much a client is read that was told to go.
const DISMISSED_BYTES: usize = 256 * 1024;

/// How long a client that was told to go may take to do so, before it is cut off.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The socket, noting that something has come and that a write is blocked. hyper wants it `Send` for
/// the sake of upgrades.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    signals: Arc<Signals>,
    /// Resets are looked for while nothing is read: hyper does not read behind a request when clients
    /// may half-close.
    resets: bool,
    /// Nothing is sent any more; what still comes is thrown away, until the timer ends or so many bytes.
    parting: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Watched {
    pub(super) fn new(stream: Stream, signals: Arc<Signals>, resets: bool) -> Self {
        Self {
            stream,
            signals,
            resets,
            parting: None,
        }
    }

    /// Whether the client has reset the connection. Costs a call to the kernel only when something has
    /// come since the last read; behind unread bytes or a half-close nothing can be seen.
    fn poll_reset(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let mut byte = [MaybeUninit::uninit()];
        let peeked = self
            .stream
            .tcp()
            .poll_peek(cx, &mut ReadBuf::uninit(&mut byte));
        match peeked {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if polled.is_ready() {
            self.signals.heard.store(true, Ordering::Relaxed);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.signals.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.resets {
            self.poll_reset(cx)?;
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.signals.wrote(polled)
    }

    /// Closing over unread bytes makes the kernel send a reset, which can destroy the answer on its way
    /// (RFC 9112, 9.6). A client that may still be sending is therefore read for a moment.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.parting.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if !this.signals.is_sending() {
            return Poll::Ready(Ok(()));
        }
        let (timer, left) = this
            .parting
            .get_or_insert_with(|| (Box::pin(tokio::time::sleep(UNREAD_TIME)), UNREAD_BYTES));
        let tcp = this.stream.tcp();
        let mut unread = [0; 8192];
        while *left > 0 {
            match tcp.try_read(&mut unread) {
                Ok(count @ 1..) => *left = left.saturating_sub(count),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if timer.as_mut().poll(cx).is_ready() {
                        break;
                    }
                    ready!(tcp.poll_read_ready(cx))?;
                }
                Ok(0) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.signals.wrote(polled)
    }
}

/// The socket of an HTTP/2 connection: every frame is counted, and none is read from a client that is
/// over a bound. Shared, so that it is still there when hyper has given up.
#[derive(Debug, Clone)]
pub(super) struct Framed(Rc<RefCell<Counted>>);

#[derive(Debug)]
struct Counted {
    socket: Watched,
    budget: Budget,
    clock: Rc<Cell<Instant>>,
}

impl Framed {
    pub(super) fn new(socket: Watched, budget: Budget, clock: Rc<Cell<Instant>>) -> Self {
        Self(Rc::new(RefCell::new(Counted {
            socket,
            budget,
            clock,
        })))
    }

    /// Ends the connection once hyper has let go of it: tells the client why if nobody has, and lets
    /// it read that. What it still sends is thrown away for a moment; closing at once would destroy the
    /// words with a reset.
    pub(super) async fn dismiss(self) {
        let Some(counted) = Rc::into_inner(self.0) else {
            return;
        };
        let Counted { socket, budget, .. } = counted.into_inner();
        let mut stream = socket.stream;
        let mut unread = vec![0; 8192];
        let last_words = async {
            // In the middle of a frame nothing can be said; but then the client does not read either.
            if !budget.has_said_goodbye() && budget.may_send() {
                let words = goaway(budget.newest_stream(), ENHANCE_YOUR_CALM);
                stream.write_all(&words).await?;
            }
            stream.shutdown().await?;
            for _ in 0..DISMISSED_BYTES / unread.len() {
                if stream.read(&mut unread).await? == 0 {
                    break;
                }
            }
            Ok::<_, io::Error>(())
        };
        // However it ends, it has ended.
        drop(tokio::time::timeout(LAST_WORDS, last_words).await);
    }

    /// Asks the counts.
    pub(super) fn budget<T>(&self, ask: impl FnOnce(&Budget) -> T) -> T {
        ask(&self.0.borrow().budget)
    }
}

impl Counted {
    /// hyper takes an error of the socket for its end, and says nothing more.
    fn check(&self) -> io::Result<()> {
        match self.budget.over() {
            Some(limit) => Err(io::Error::other(limit.as_str())),
            None => Ok(()),
        }
    }
}

impl AsyncRead for Framed {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut counted = self.0.borrow_mut();
        let counted = &mut *counted;
        counted.check()?;
        let before = buf.filled().len();
        ready!(Pin::new(&mut counted.socket).poll_read(cx, buf))?;
        let new = buf.filled().get(before..).unwrap_or_default();
        counted.budget.receive(new, counted.clock.get());
        let owed = counted.budget.is_owed();
        counted.socket.signals.heard.store(owed, Ordering::Relaxed);
        Poll::Ready(counted.check())
    }
}

impl AsyncWrite for Framed {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut counted = self.0.borrow_mut();
        let written = ready!(Pin::new(&mut counted.socket).poll_write(cx, buf))?;
        counted.budget.send(buf.get(..written).unwrap_or_default());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0.borrow_mut().socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().socket.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut counted = self.0.borrow_mut();
        let written = ready!(Pin::new(&mut counted.socket).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let sent = left.min(buf.len());
            counted.budget.send(&buf[..sent]);
            left -= sent;
        }
        Poll::Ready(Ok(written))
    }
}
