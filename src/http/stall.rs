//! Clients that do not take what is written for them.
//!
//! Owns what counts as no progress, for a connection and for one stream of HTTP/2. Like `serve`, it
//! sets no timer: it notes since when somebody waits, and the sweep asks. Must not know deadlines
//! but that one, nor what is written.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a socket says of itself. hyper wants the socket `Send`, so it is atomic; one thread uses it.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Something has come since the connection became idle: a head has begun.
    pub(super) heard: AtomicBool,
    /// A request was answered before it was read to its end.
    pub(super) unread: AtomicBool,
    /// Odd while a write is blocked; another number after each write that was.
    writes: AtomicU32,
}

impl Signals {
    /// Whether the client may be in the middle of a request.
    pub(super) fn is_sending(&self) -> bool {
        self.heard.load(Ordering::Relaxed) || self.unread.load(Ordering::Relaxed)
    }

    /// Whether the client does not take what is written for it.
    pub(super) fn is_blocked(&self) -> bool {
        self.writes.load(Ordering::Relaxed) % 2 == 1
    }

    /// Notes how a write went.
    pub(super) fn wrote<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let writes = self.writes.load(Ordering::Relaxed);
        if (writes % 2 == 1) == polled.is_ready() {
            self.writes.store(writes.wrapping_add(1), Ordering::Relaxed);
        }
        polled
    }
}

/// The client's side of a tunnel, noting how writes go. What the connection notes below it is of all
/// its streams, where it has several.
#[derive(Debug)]
pub(super) struct Noted<T> {
    client: T,
    signals: Arc<Signals>,
    carried: Rc<Carried>,
}

/// Bytes of a tunnel.
#[derive(Debug, Default)]
pub(super) struct Carried {
    pub(super) from_client: Cell<u64>,
    pub(super) to_client: Cell<u64>,
}

impl<T> Noted<T> {
    pub(super) fn new(client: T, signals: Arc<Signals>, carried: Rc<Carried>) -> Self {
        Self {
            client,
            signals,
            carried,
        }
    }
}

fn add(count: &Cell<u64>, bytes: usize) {
    count.set(count.get().saturating_add(bytes as u64));
}

impl<T: AsyncRead + Unpin> AsyncRead for Noted<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.client).poll_read(cx, buf);
        add(&self.carried.from_client, buf.filled().len() - before);
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Noted<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.client).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = polled {
            add(&self.carried.to_client, written);
        }
        self.signals.wrote(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.client).poll_flush(cx);
        self.signals.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.client).poll_shutdown(cx)
    }
}

/// What a connection waits for its client to take.
#[derive(Debug)]
pub(super) struct Stall {
    signals: Arc<Signals>,
    clock: Rc<Cell<Instant>>,
    /// The number of writes at the last sweep, and since when it is that.
    writes: Cell<(u32, Instant)>,
    streams: RefCell<Vec<Weak<Place>>>,
    /// What ends now ends because its client did not read.
    cutting: Cell<bool>,
}

/// A stream of HTTP/2, as far as it waits for its client.
#[derive(Debug, Default)]
pub(super) struct Waiting(Option<Rc<Place>>);

/// Of a stream that has had bytes and no window to send them in.
#[derive(Debug)]
struct Place {
    /// Which piece of its body it wants to send, and since when.
    piece: Cell<Option<(u32, Instant)>>,
    late: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Waiting {
    /// It has nothing to send, or may send it.
    pub(super) fn goes_on(&self) {
        if let Some(place) = &self.0 {
            place.piece.set(None);
            place.late.set(false);
        }
    }
}

impl Stall {
    pub(super) fn new(signals: Arc<Signals>, clock: Rc<Cell<Instant>>) -> Self {
        let now = clock.get();
        Self {
            signals,
            clock,
            writes: Cell::new((0, now)),
            streams: RefCell::default(),
            cutting: Cell::new(false),
        }
    }

    /// Whether what ends now ends because its client did not read.
    pub(super) fn is_cutting(&self) -> bool {
        self.cutting.get()
    }

    /// Cuts the streams that have waited longer than `limit`; whether the connection as a whole has.
    pub(super) fn sweep(&self, now: Instant, limit: Duration) -> bool {
        let writes = self.signals.writes.load(Ordering::Relaxed);
        if writes != self.writes.get().0 {
            self.writes.set((writes, now));
        }
        let late = |since| !limit.is_zero() && now.saturating_duration_since(since) > limit;
        self.streams.borrow_mut().retain(|stream| {
            let Some(stream) = stream.upgrade() else {
                return false;
            };
            if stream.piece.get().is_some_and(|(_, since)| late(since)) {
                stream.late.set(true);
                stream.waker.borrow().wake_by_ref();
            }
            true
        });
        let stalled = writes % 2 == 1 && late(self.writes.get().1);
        if stalled {
            self.cutting.set(true);
        }
        stalled
    }

    /// Notes that a stream has no room for this piece of its body; whether it has waited too long.
    pub(super) fn waits(&self, waiting: &mut Waiting, piece: u32, cx: &Context<'_>) -> bool {
        let place = waiting.0.get_or_insert_with(|| {
            let place = Rc::new(Place {
                piece: Cell::new(None),
                late: Cell::new(false),
                waker: RefCell::new(cx.waker().clone()),
            });
            self.streams.borrow_mut().push(Rc::downgrade(&place));
            place
        });
        if place.piece.get().is_none_or(|(before, _)| before != piece) {
            place.piece.set(Some((piece, self.clock.get())));
            place.late.set(false);
        }
        place.waker.borrow_mut().clone_from(cx.waker());
        place.late.get()
    }

    /// Ends what its client has not taken in time.
    pub(super) fn cut<T>(&self, untaken: T) {
        let outer = self.cutting.replace(true);
        drop(untaken);
        self.cutting.set(outer);
    }
}
