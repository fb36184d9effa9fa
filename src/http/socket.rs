//! A client's socket as an engine sees it: what comes and goes is noted on the way.
//!
//! Owns the orderly close of a socket, and what a client over a bound of HTTP/2 is told. Must not know
//! requests, nor which bound there is.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::flood::{Budget, WORK_OF_A_TURN};
use super::frames::{ENHANCE_YOUR_CALM, goaway};
use super::stall::Signals;
use crate::tls::stream::Stream;

/// A client that may still be sending, and gets no more than it has, is read at most this much at a time.
/// Enough to let it find its answer in time, and too slow to be worth sending to: reading as fast as it
/// sends would be work that anybody can ask for.
const UNREAD_BYTES: usize = 64 * 1024;
/// The same of all such clients of a worker: 100 MB a second, a few percent of a core.
const UNREAD_BYTES_OF_ALL: usize = 1024 * 1024;
/// The time between two reads.
const UNREAD_PAUSE: Duration = Duration::from_millis(10);
/// How often, before it is cut off.
const UNREAD_TURNS: u32 = 100;
/// Such clients of a worker at a time, as each still has its buffers. More are cut off at once.
const UNREAD_CLIENTS: usize = 128;

/// How long a client that is told to go may take to read that.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What a client over the frames of one turn is read at a time: some 40 requests.
const READ_OF_BUSY: usize = 1024;

/// The socket, noting that something has come and that a write is blocked. hyper wants it `Send` for
/// the sake of upgrades.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    /// What another engine has read of the next request.
    begun: Option<Box<Bytes>>,
    signals: Arc<Signals>,
    /// Resets are looked for while nothing is read: hyper does not read behind a request when clients
    /// may half-close.
    resets: bool,
    /// Somebody waits for bytes, and sees a reset as well. Who looked for one would be woken in their place.
    is_read: bool,
    /// Nothing is sent any more.
    parting: Option<Box<Parting>>,
}

/// What still comes is thrown away for a while: closing over unread bytes makes the kernel send a reset,
/// which can destroy the answer on its way (RFC 9112, 9.6).
#[derive(Debug)]
struct Parting {
    pause: Pin<Box<Sleep>>,
    turns: u32,
}

/// What all parting clients of this worker cost.
#[derive(Debug)]
struct Partings {
    clients: Cell<usize>,
    /// Bytes since then.
    bytes: Cell<(usize, Option<Instant>)>,
}

thread_local! {
    static PARTINGS: Partings = const {
        Partings { clients: Cell::new(0), bytes: Cell::new((0, None)) }
    };
}

impl Parting {
    fn new() -> Self {
        let others = PARTINGS.with(|all| all.clients.replace(all.clients.get() + 1));
        Self {
            pause: Box::pin(tokio::time::sleep(Duration::ZERO)),
            turns: if others < UNREAD_CLIENTS {
                UNREAD_TURNS
            } else {
                0
            },
        }
    }

    /// Ready when the client is done, or its time is over.
    fn poll(&mut self, tcp: &TcpStream, cx: &mut Context<'_>) -> Poll<()> {
        let mut unread = [0; 8192];
        while self.turns > 0 {
            ready!(self.pause.as_mut().poll(cx));
            self.turns -= 1;
            let mut left = PARTINGS.with(Partings::allowance).min(UNREAD_BYTES);
            while left > 0 {
                match tcp.try_read(&mut unread) {
                    Ok(count @ 1..) => {
                        PARTINGS.with(|all| all.spend(count));
                        left = left.saturating_sub(count);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok(0) | Err(_) => return Poll::Ready(()),
                }
            }
            self.pause.set(tokio::time::sleep(UNREAD_PAUSE));
        }
        Poll::Ready(())
    }
}

impl Drop for Parting {
    fn drop(&mut self) {
        PARTINGS.with(|all| all.clients.set(all.clients.get().saturating_sub(1)));
    }
}

impl Partings {
    /// Bytes that may still be read before the next pause is over.
    fn allowance(&self) -> usize {
        let now = Instant::now();
        match self.bytes.get() {
            (spent, Some(since)) if now.duration_since(since) < UNREAD_PAUSE => {
                UNREAD_BYTES_OF_ALL.saturating_sub(spent)
            }
            _ => {
                self.bytes.set((0, Some(now)));
                UNREAD_BYTES_OF_ALL
            }
        }
    }

    fn spend(&self, count: usize) {
        let (spent, since) = self.bytes.get();
        self.bytes.set((spent + count, since));
    }
}

impl Watched {
    pub(super) fn new(stream: Stream, signals: Arc<Signals>, resets: bool) -> Self {
        Self {
            stream,
            begun: None,
            signals,
            resets,
            is_read: false,
            parting: None,
        }
    }

    /// Puts back what has been read and not been served: it is read again.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.begun = (!bytes.is_empty()).then(|| Box::new(bytes));
    }

    /// Whether somebody waits for bytes who is not the one that writes.
    pub(super) fn waits_for_bytes(&mut self, waits: bool) {
        self.is_read = waits;
    }

    /// To be called while nothing is written: sees a reset, and writes what TLS says by itself, an alert
    /// or new keys. Whether answers are blocked is not its business.
    pub(super) fn tend(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.resets && !self.is_read {
            self.poll_reset(cx)?;
        }
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
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
        if let Some(begun) = &mut self.begun {
            let count = buf.remaining().min(begun.len());
            buf.put_slice(&begun.split_to(count));
            if begun.is_empty() {
                self.begun = None;
            }
            self.signals.heard.store(true, Ordering::Relaxed);
            return Poll::Ready(Ok(()));
        }
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
        if self.resets && !self.is_read {
            self.poll_reset(cx)?;
        }
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.signals.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.parting.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        if !this.signals.is_sending() {
            return Poll::Ready(Ok(()));
        }
        let parting = this.parting.get_or_insert_with(|| Box::new(Parting::new()));
        parting.poll(this.stream.tcp(), cx).map(Ok)
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
/// over a bound. Shared, so that it is still there when the engine has given up.
#[derive(Debug, Clone)]
pub(super) struct Framed(Rc<RefCell<Counted>>);

#[derive(Debug)]
struct Counted {
    socket: Watched,
    budget: Budget,
    clock: Rc<Cell<Instant>>,
    turn: Turn,
}

/// How much a connection may ask of its worker before the others have theirs. The engine would work on
/// as long as something comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// As much as the engine has room for.
    Long,
    /// The last read was full of frames.
    Over,
    /// The others have had their turn. See [`READ_OF_BUSY`].
    Short,
}

impl Framed {
    pub(super) fn new(socket: Watched, budget: Budget, clock: Rc<Cell<Instant>>) -> Self {
        Self(Rc::new(RefCell::new(Counted {
            socket,
            budget,
            clock,
            turn: Turn::Long,
        })))
    }

    /// Ends the connection once the engine has let go of it: tells the client why if nobody has, and lets
    /// it read that. One that was over a bound is held for a moment before it sees the end, as it would
    /// be back at once.
    pub(super) async fn dismiss(self) {
        let Some(counted) = Rc::into_inner(self.0) else {
            return;
        };
        let Counted { socket, budget, .. } = counted.into_inner();
        let mut stream = socket.stream;
        let held = budget.over().is_some();
        let last_words = async {
            // In the middle of a frame nothing can be said; but then the client does not read either.
            if !budget.has_said_goodbye() && budget.may_send() {
                let words = goaway(budget.newest_stream(), ENHANCE_YOUR_CALM);
                stream.write_all(&words).await?;
                stream.flush().await?;
            }
            if !held {
                stream.shutdown().await?;
            }
            Ok::<_, io::Error>(())
        };
        if let Ok(Ok(())) = tokio::time::timeout(LAST_WORDS, last_words).await {
            let mut parting = Parting::new();
            poll_fn(|cx| parting.poll(stream.tcp(), cx)).await;
        }
    }

    /// Asks the counts.
    pub(super) fn budget<T>(&self, ask: impl FnOnce(&Budget) -> T) -> T {
        ask(&self.0.borrow().budget)
    }
}

impl Counted {
    /// The engine takes an error of the socket for its end, and says nothing more.
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
        if counted.turn == Turn::Over {
            counted.turn = Turn::Short;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        if counted.turn == Turn::Short {
            let room = buf.remaining().min(READ_OF_BUSY);
            let mut short = ReadBuf::new(buf.initialize_unfilled_to(room));
            ready!(Pin::new(&mut counted.socket).poll_read(cx, &mut short))?;
            let came = short.filled().len();
            buf.advance(came);
        } else {
            ready!(Pin::new(&mut counted.socket).poll_read(cx, buf))?;
        }
        let new = buf.filled().get(before..).unwrap_or_default();
        let busy = counted.budget.receive(new, counted.clock.get()) > WORK_OF_A_TURN;
        counted.turn = if busy { Turn::Over } else { Turn::Long };
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

    /// Where a bound was passed the end comes later, see [`Framed::dismiss`].
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut counted = self.0.borrow_mut();
        if counted.budget.over().is_some() {
            return Pin::new(&mut counted.socket).poll_flush(cx);
        }
        Pin::new(&mut counted.socket).poll_shutdown(cx)
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
