//! Clients that do not take what is written for them.
//!
//! Owns what counts as no progress, for a connection and for one stream of HTTP/2. Like `serve`, it
//! sets no timer: it notes since when somebody waits, and the sweep asks. Must not know deadlines
//! but that one, nor what is written.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::{Cut, ResponseBody};

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
    streams: RefCell<Vec<Weak<Waiting>>>,
    /// Of the tunnel that the stream which is polled now is about to become.
    tunnel: RefCell<Option<Rc<Waiting>>>,
    asked: Cell<Asked>,
    /// What ends now ends because its client did not read.
    cutting: Cell<bool>,
}

/// Whether the stream that was polled last has asked for more of its body, and got it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    No,
    Given,
    NotYet,
}

/// A stream that has bytes and no window to send them in.
#[derive(Debug)]
struct Waiting {
    since: Cell<Option<Instant>>,
    late: Cell<bool>,
    waker: RefCell<Waker>,
}

impl Stall {
    pub(super) fn new(signals: Arc<Signals>, clock: Rc<Cell<Instant>>) -> Self {
        let now = clock.get();
        Self {
            signals,
            clock,
            writes: Cell::new((0, now)),
            streams: RefCell::default(),
            tunnel: RefCell::default(),
            asked: Cell::new(Asked::No),
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
            if stream.since.get().is_some_and(late) {
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

    /// The stream that is polled now becomes a tunnel. Its sending half is a task of the engine's, which
    /// goes on until the client has taken everything.
    pub(super) fn tunnel(&self) -> Sending {
        let waiting = Rc::new(Waiting {
            since: Cell::new(None),
            late: Cell::new(false),
            waker: RefCell::new(Waker::noop().clone()),
        });
        self.streams.borrow_mut().push(Rc::downgrade(&waiting));
        *self.tunnel.borrow_mut() = Some(Rc::clone(&waiting));
        Sending {
            waiting,
            clock: Rc::clone(&self.clock),
        }
    }

    /// Notes where the stream stands that has just been polled and is not done; whether it is over.
    fn note(&self, waiting: &mut Option<Rc<Waiting>>, cx: &Context<'_>) -> bool {
        let since = match self.asked.get() {
            Asked::No => None,
            Asked::NotYet => Some(None),
            Asked::Given => Some(Some(self.clock.get())),
        };
        if waiting.is_none() && matches!(since, Some(Some(_))) {
            let stream = Rc::new(Waiting {
                since: Cell::new(None),
                late: Cell::new(false),
                waker: RefCell::new(cx.waker().clone()),
            });
            self.streams.borrow_mut().push(Rc::downgrade(&stream));
            *waiting = Some(stream);
        }
        let Some(stream) = waiting else {
            return false;
        };
        if let Some(since) = since {
            stream.since.set(since);
            stream.late.set(false);
        }
        stream.waker.borrow_mut().clone_from(cx.waker());
        stream.late.get()
    }
}

/// What is still sent of a tunnel that has ended: the client may take it within the limit.
#[derive(Debug)]
pub(crate) struct Sending {
    waiting: Rc<Waiting>,
    clock: Rc<Cell<Instant>>,
}

impl Sending {
    /// The client has had its time.
    pub(crate) fn cut(&self) {
        self.waiting.late.set(true);
        self.waiting.waker.borrow().wake_by_ref();
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.waiting.since.set(Some(self.clock.get()));
    }
}

/// Runs the streams of one connection on this worker's thread. Dropping a stream that is not done
/// resets it (`CANCEL`), and nothing else on the connection.
#[derive(Debug, Clone)]
pub(super) struct Streams(pub(super) Rc<Stall>);

impl<F> Executor<F> for Streams
where
    F: Future + 'static,
{
    fn execute(&self, stream: F) {
        let stall = Rc::clone(&self.0);
        // The connection runs streams; what a stream runs is the half of a tunnel.
        let tunnel = stall.tunnel.take();
        // A task is moved several times before and after it runs.
        let mut stream = Some(Box::pin(stream));
        drop(tokio::task::spawn_local(async move {
            let mut waiting = tunnel;
            poll_fn(|cx| {
                stall.asked.set(Asked::No);
                let Some(running) = &mut stream else {
                    return Poll::Ready(());
                };
                let polled = running.as_mut().poll(cx);
                stall.tunnel.take();
                if polled.is_ready() {
                    return Poll::Ready(());
                }
                if !stall.note(&mut waiting, cx) {
                    return Poll::Pending;
                }
                let outer = stall.cutting.replace(true);
                stream = None;
                stall.cutting.set(outer);
                Poll::Ready(())
            })
            .await;
        }));
    }
}

/// Bytes that a stream must get rid of within the limit to count as moving.
const PIECE: usize = 16 * 1024;

/// A body on a stream of HTTP/2: in pieces, and noting whether there was one to give.
pub(super) struct Paced {
    body: ResponseBody,
    rest: Bytes,
    stall: Rc<Stall>,
}

impl Paced {
    pub(super) fn new(body: ResponseBody, stall: Rc<Stall>) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            stall,
        }
    }

    fn piece(&mut self, mut bytes: Bytes) -> Frame<Bytes> {
        self.rest = bytes.split_off(bytes.len().min(PIECE));
        Frame::data(bytes)
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let polled = if this.rest.is_empty() {
            Pin::new(&mut this.body).poll_frame(cx)
        } else {
            let rest = std::mem::take(&mut this.rest);
            Poll::Ready(Some(Ok(Frame::data(rest))))
        };
        this.stall.asked.set(if polled.is_ready() {
            Asked::Given
        } else {
            Asked::NotYet
        });
        polled.map(|frame| {
            frame.map(|frame| {
                frame.map(|frame| match frame.into_data() {
                    Ok(bytes) => this.piece(bytes),
                    Err(other) => other,
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.body.size_hint();
        let rest = self.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}
