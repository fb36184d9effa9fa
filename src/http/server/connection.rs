//! A client's connection as it is shared: by the loop that serves it, and by the body of the request that
//! is served, which is read by whoever has it, in whatever task.
//!
//! Owns whose turn it is to read, and that nobody waits in vain. Must not know heads nor answers.

use std::cell::RefCell;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, ReadBuf};

use crate::http::socket::Watched;
use crate::http::transfer::{Left, Malformed, READ, Received, Trailers};

/// What is allocated for heads at a time. A request that is still there keeps it all, so it is small.
const HEADS_BYTES: usize = 4 * 1024;

thread_local! {
    /// Heads share what is allocated for several of them.
    static HEADS: RefCell<BytesMut> = RefCell::default();
}

/// The body of a request, read from its connection as it is asked for.
#[derive(Debug)]
pub(crate) struct Body {
    /// None once nothing more is to be read.
    connection: Option<Rc<Connection>>,
}

/// Why there is no more of a body.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was closed before the end of the body.
    #[error("the connection was closed before the message was complete")]
    Closed,
    /// What came is no body.
    #[error("not HTTP/1: {0}")]
    Unreadable(&'static str),
}

/// What the loop and a body share. Nothing but the socket is called while it is borrowed.
#[derive(Debug)]
pub(super) struct Connection(RefCell<Wire>);

#[derive(Debug)]
struct Wire {
    /// None while another engine has it, and once it is closed.
    socket: Option<Watched>,
    received: Received,
    reading: Reading,
    trailers: Trailers,
    /// Who waits for more of the body. The socket wakes the last one that has read from it, so no other
    /// may read meanwhile.
    reader: Option<Waker>,
    /// The loop, where it waits for the end of the body.
    server: Option<Waker>,
}

/// What is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// A head, by the loop.
    Head,
    /// The rest of a body, by whoever has it.
    Body(Left),
    /// The rest of a body that nobody wants.
    Unwanted(Left),
    /// Nothing: it is not known, or will not be, where the next request begins.
    Over,
}

/// See [`Connection::poll_turn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// The next head may be read.
    Head,
    /// No other request is read from this connection.
    Over,
}

impl Connection {
    pub(super) fn new(socket: Watched, trailers: Trailers) -> Rc<Self> {
        Rc::new(Self(RefCell::new(Wire {
            socket: Some(socket),
            received: Received::default(),
            reading: Reading::Head,
            trailers,
            reader: None,
            server: None,
        })))
    }

    /// For another engine, which reads again what has come and is not served.
    pub(super) fn take(&self) -> Option<Watched> {
        let mut wire = self.0.borrow_mut();
        let begun = mem::take(&mut wire.received).bytes;
        let mut socket = wire.socket.take()?;
        socket.put_back(begun);
        Some(socket)
    }

    /// From another engine, between two requests.
    pub(super) fn put(&self, socket: Watched) {
        self.0.borrow_mut().socket = Some(socket);
    }

    /// Nothing more is read: a body that is not over breaks off. Whether there is one.
    pub(super) fn stop_reading(&self) -> bool {
        let mut wire = self.0.borrow_mut();
        let unread = mem::replace(&mut wire.reading, Reading::Over) != Reading::Head;
        let reader = wire.let_go();
        drop(wire);
        if let Some(reader) = reader {
            reader.wake();
        }
        unread
    }

    /// Closes the socket, whoever still has a body of it.
    pub(super) fn close(&self) {
        self.stop_reading();
        drop(self.0.borrow_mut().socket.take());
    }

    /// A body that comes next.
    pub(super) fn begin_body(self: &Rc<Self>, left: Left) -> Body {
        self.0.borrow_mut().reading = Reading::Body(left);
        let connection = Some(Rc::clone(self));
        Body { connection }
    }

    /// What has come and is not served yet.
    pub(super) fn received<T>(&self, look: impl FnOnce(&mut Bytes) -> T) -> T {
        look(&mut self.0.borrow_mut().received.bytes)
    }

    /// Reads more of a head; how many bytes, none at the end.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_head(cx)
    }

    /// Ready when nobody waits for the answer any more. What is read meanwhile is the next request; behind
    /// one that has come nothing is read. `half_close`: a client that has closed its sending side still
    /// gets its answer.
    pub(super) fn poll_gone(&self, cx: &mut Context<'_>, half_close: bool) -> Poll<()> {
        let mut wire = self.0.borrow_mut();
        wire.drain(cx);
        if wire.reading == Reading::Head && !half_close {
            if !wire.received.bytes.is_empty() {
                return Poll::Pending;
            }
            return match ready!(wire.poll_head(cx)) {
                Ok(1..) => Poll::Pending,
                Ok(0) | Err(_) => Poll::Ready(()),
            };
        }
        wire.poll_wait(cx)
    }

    /// Ready when the body of the request is over, or the connection is.
    pub(super) fn poll_turn(&self, cx: &mut Context<'_>) -> Poll<Turn> {
        let mut wire = self.0.borrow_mut();
        wire.drain(cx);
        match wire.reading {
            Reading::Head => Poll::Ready(Turn::Head),
            Reading::Over | Reading::Unwanted(_) => Poll::Ready(Turn::Over),
            Reading::Body(_) => wire.poll_wait(cx).map(|()| Turn::Over),
        }
    }

    /// Whether another request can still be read. A body that nobody wants is, if the rest of it is there.
    pub(super) fn may_go_on(&self, cx: &mut Context<'_>) -> bool {
        let mut wire = self.0.borrow_mut();
        wire.drain(cx);
        wire.reading != Reading::Over
    }

    /// Uses the socket, but not to read.
    pub(super) fn poll_socket<T>(
        &self,
        poll: impl FnOnce(&mut Watched) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.0.borrow_mut().socket {
            Some(socket) => poll(socket),
            None => closed(),
        }
    }
}

fn closed<T>() -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::ErrorKind::NotConnected.into()))
}

impl Wire {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else {
            return closed();
        };
        READ.with_borrow_mut(|piece| {
            let mut piece = ReadBuf::new(piece);
            match Pin::new(&mut *socket).poll_read(cx, &mut piece) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    socket.tend(cx)?;
                    return Poll::Pending;
                }
            }
            let came = piece.filled();
            let received = &mut self.received.bytes;
            if received.is_empty() {
                *received = HEADS.with_borrow_mut(|heads| copied(came, heads));
            } else {
                let mut all = BytesMut::from(mem::take(received));
                all.extend_from_slice(came);
                *received = all.freeze();
            }
            Poll::Ready(Ok(came.len()))
        })
    }

    /// The loop waits, and is told when the body is over. Ready when the client has gone.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if matches!(self.reading, Reading::Body(_)) {
            note(&mut self.server, cx);
        }
        match self.socket.as_mut().map(|socket| socket.tend(cx)) {
            Some(Ok(())) => Poll::Pending,
            Some(Err(_)) | None => Poll::Ready(()),
        }
    }

    /// The next piece of the body; an error, or its end, is the last that is said of it.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = self.poll_piece(cx);
        if let Poll::Ready(Some(Err(_))) = polled {
            self.reading = Reading::Over;
        }
        polled
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            let Reading::Body(mut left) = self.reading else {
                return Poll::Ready(Some(Err(Error::Closed)));
            };
            let next = left.next(&mut self.received.bytes, self.trailers)?;
            if left == Left::Nothing {
                self.reading = Reading::Head;
                self.received.end();
                return Poll::Ready(next.map(Ok));
            }
            self.reading = Reading::Body(left);
            if let Some(frame) = next {
                return Poll::Ready(Some(Ok(frame)));
            }
            if ready!(self.poll_more(cx))? == 0 {
                return Poll::Ready(Some(Err(Error::Closed)));
            }
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(socket) = &mut self.socket else {
            return closed();
        };
        let polled = self.received.poll_more(Pin::new(&mut *socket), cx);
        socket.waits_for_bytes(polled.is_pending());
        if polled.is_pending() {
            note(&mut self.reader, cx);
        } else {
            self.reader = None;
        }
        polled
    }

    /// Who reads a body does so no more, and is returned to be woken.
    fn let_go(&mut self) -> Option<Waker> {
        if let Some(socket) = &mut self.socket {
            socket.waits_for_bytes(false);
        }
        self.reader.take()
    }

    /// Reads a body that nobody wants to its end, where that is there already. There is one try: what a
    /// client still sends is not worth waiting for.
    fn drain(&mut self, cx: &mut Context<'_>) {
        let Reading::Unwanted(mut left) = self.reading else {
            return;
        };
        let mut tried = false;
        self.reading = loop {
            match left.next(&mut self.received.bytes, self.trailers) {
                Ok(_) if left == Left::Nothing => break Reading::Head,
                Ok(Some(_)) => continue,
                Ok(None) if !tried => {}
                Ok(None) | Err(_) => break Reading::Over,
            }
            tried = true;
            let came = match &mut self.socket {
                Some(socket) => self.received.poll_more(Pin::new(socket), cx),
                None => closed(),
            };
            if !matches!(came, Poll::Ready(Ok(1..))) {
                break Reading::Over;
            }
        };
        self.received.end();
    }
}

/// The bytes, in a part of what is allocated for several heads.
fn copied(bytes: &[u8], heads: &mut BytesMut) -> Bytes {
    if heads.capacity() < bytes.len() {
        *heads = BytesMut::with_capacity(HEADS_BYTES.max(bytes.len()));
    }
    heads.extend_from_slice(bytes);
    heads.split().freeze()
}

/// Remembers who is to be woken.
fn note(slot: &mut Option<Waker>, cx: &Context<'_>) {
    if !slot
        .as_ref()
        .is_some_and(|known| known.will_wake(cx.waker()))
    {
        *slot = Some(cx.waker().clone());
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(connection) = &self.connection else {
            return Poll::Ready(None);
        };
        let mut wire = connection.0.borrow_mut();
        let polled = wire.poll_body(cx);
        if !matches!(wire.reading, Reading::Body(_)) {
            let server = wire.server.take();
            drop(wire);
            self.connection = None;
            // The loop's own task looks at the connection before it waits.
            if let Some(server) = server.filter(|it| !it.will_wake(cx.waker())) {
                server.wake();
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.connection.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.connection {
            None => SizeHint::with_exact(0),
            Some(connection) => match connection.0.borrow().reading {
                Reading::Body(left) => left.size_hint(),
                _ => SizeHint::default(),
            },
        }
    }
}

impl Drop for Body {
    /// The rest is not wanted.
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let mut wire = connection.0.borrow_mut();
        if let Reading::Body(left) = wire.reading {
            wire.reading = Reading::Unwanted(left);
        }
        let (reader, server) = (wire.let_go(), wire.server.take());
        drop(wire);
        drop(reader);
        if let Some(server) = server {
            server.wake();
        }
    }
}

impl From<Malformed> for Error {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Unreadable(what)
    }
}
