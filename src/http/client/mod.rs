//! A connection of HTTP/1 to an endpoint, used by whoever asks: one request at a time.
//!
//! hyper drives a connection in a task of its own; two switches of tasks and two channels a request cost
//! more than what they carry. Here the task that asks writes the request, with one `send` where all of it
//! is there, and reads the answer. Tunnels stay hyper's.
//! An answer that hyper refuses is refused here. Must not know when a connection is used again.

mod body;
mod head;
mod outbox;
mod upload;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::Version;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

pub(crate) use self::body::Body;
use self::head::Parsed;
pub(crate) use self::head::may_be_complete;
use self::upload::{Rest, Stopped, Upload};
use super::interim::{self, Inform};
use super::message::{RequestMessage, ResponseMessage};
use super::transfer::{Malformed, READ};
use crate::tls::stream::Stream;

/// Most bytes of an answer's head.
pub(crate) const ANSWER_HEAD: usize = 128 * 1024;
/// Most bytes before the end of the final head, informational ones included.
const BEFORE_THE_BODY: usize = 512 * 1024;
/// What is allocated for heads at a time. One that is still in use keeps it all, so it is small.
const HEADS_BYTES: usize = 4 * 1024;

thread_local! {
    /// Heads share what is allocated for several of them.
    static HEADS: RefCell<BytesMut> = RefCell::default();
    static WRITE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Connection {
    /// None once another engine has it.
    stream: RefCell<Option<Stream>>,
    state: Cell<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The last answer has been read to its end.
    Ready,
    /// In an exchange; left there, the connection is of no use.
    Busy,
    /// It ends after this answer, or has ended.
    Over,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It was closed in order, before the end of an answer.
    #[error("the connection was closed before the message was complete")]
    Closed,
    /// An answer came that is none, or that is larger than its bound.
    #[error("not HTTP/1: {0}")]
    Unreadable(&'static str),
    /// The request's body broke off, or was not as long as it should be.
    #[error("the request could not be sent to its end")]
    Request,
}

/// A request that got no answer.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: Error,
    /// Nothing of it has reached the endpoint.
    pub(crate) unsent: bool,
}

/// A request of which what was there has been sent.
struct Begun<B> {
    /// What is left of it.
    rest: Option<Box<Upload<B>>>,
    /// Its body goes in chunks.
    chunked: bool,
}

impl From<Malformed> for Error {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Unreadable(what)
    }
}

impl Failed {
    /// A connection that took no more of the request says more than its end does.
    fn new<B>(error: Error, upload: Option<&mut Upload<B>>) -> Self {
        let Some(upload) = upload else {
            return error.into();
        };
        let unsent = upload.is_unsent();
        let error = upload.broken.take().map_or(error, Error::Io);
        Self { error, unsent }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let unsent = false;
        Self { error, unsent }
    }
}

impl Connection {
    /// One that was just made.
    pub(crate) fn new(stream: Stream) -> Rc<Self> {
        Rc::new(Self {
            stream: RefCell::new(Some(stream)),
            state: Cell::new(State::Ready),
        })
    }

    /// For another engine, where nothing is on the way.
    pub(crate) fn into_stream(self: Rc<Self>) -> Option<Stream> {
        let stream = self.stream.take();
        stream.filter(|_| self.state.get() == State::Ready)
    }

    /// Whether another request may follow.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.get() == State::Ready
    }

    /// Ready when no other request may follow: also because the endpoint has closed the connection, or
    /// has sent what nobody asked for.
    pub(crate) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_ready() {
            let mut byte = [0];
            let mut byte = ReadBuf::new(&mut byte);
            // Whatever comes, the end included, is the end.
            if self
                .with_stream(|stream| stream.poll_read(cx, &mut byte))
                .is_pending()
            {
                return Poll::Pending;
            }
            self.state.set(State::Over);
        }
        Poll::Ready(())
    }

    /// Sends a request, whose body is taken, and waits for the head of the final answer. Where that comes
    /// first, the rest of the body is sent while the answer's body is read.
    ///
    /// `inform` is told of informational answers.
    ///
    /// # Errors
    /// The connection is of no use then.
    pub(crate) async fn exchange<B>(
        self: &Rc<Self>,
        request: &mut RequestMessage<B>,
        inform: Inform<'_>,
    ) -> Result<ResponseMessage<Body>, Failed>
    where
        B: http_body::Body<Data = Bytes> + Default + Unpin + 'static,
    {
        self.state.set(State::Busy);
        let begun = poll_fn(|cx| Poll::Ready(self.begin(cx, request))).await?;
        let mut upload = begun.rest;
        let (mut came, mut looked, mut interims) = (0, 0, 0);
        let mut buffer = BytesMut::new();
        loop {
            let received = poll_fn(|cx| {
                self.go_on(cx, &mut upload)?;
                let received = ready!(self.poll_receive_head(cx, &mut buffer));
                Poll::Ready(received.map_err(Error::Io).and_then(some))
            });
            came += match received.await {
                Ok(count) => count,
                Err(error) => return Err(Failed::new(error, upload.as_deref_mut())),
            };
            while may_be_complete(&buffer, looked) {
                let mut bytes = buffer.split().freeze();
                match head::parse(&bytes, &request.head.method)? {
                    Parsed::Final(head, mut framing, len) => {
                        HEADS.set(buffer);
                        // An endpoint of HTTP/1.0 that knows no chunks may take them for the next request.
                        let old = head.version == Version::HTTP_10;
                        framing.keep_alive &= !(old && begun.chunked);
                        bytes.advance(len);
                        let rest = upload.map(|upload| Rest::spawn(upload, self));
                        let body = Body::new(self, framing, bytes, rest);
                        return Ok(ResponseMessage { head, body });
                    }
                    Parsed::Interim(interim, len) => {
                        bytes.advance(len);
                        interims += 1;
                        if let Some(inform) = inform.filter(|_| interims <= interim::MOST) {
                            inform(interim);
                        }
                        (buffer, looked) = (bytes.into(), 0);
                    }
                    Parsed::Partial => {
                        buffer = bytes.into();
                        break;
                    }
                }
            }
            looked = buffer.len();
            if looked > ANSWER_HEAD || came > BEFORE_THE_BODY {
                return Err(Error::Unreadable("the head is too large").into());
            }
        }
    }

    /// Sends what is there of a request.
    fn begin<B>(
        &self,
        cx: &mut Context<'_>,
        request: &mut RequestMessage<B>,
    ) -> Result<Begun<B>, Failed>
    where
        B: http_body::Body<Data = Bytes> + Default + Unpin,
    {
        let mut upload = Upload::new(request).map_err(|error| Failed {
            error,
            unsent: true,
        })?;
        let chunked = upload.is_chunked();
        let rest = match upload.poll(cx, self) {
            Poll::Ready(Ok(())) => None,
            Poll::Ready(Err(Stopped::Body)) => {
                return Err(Failed::new(Error::Request, Some(&mut upload)));
            }
            Poll::Ready(Err(Stopped::Connection)) if upload.is_unsent() => {
                return Err(Failed::new(Error::Closed, Some(&mut upload)));
            }
            // What has come before may be an answer.
            Poll::Ready(Err(Stopped::Connection)) | Poll::Pending => Some(Box::new(upload)),
        };
        Ok(Begun { rest, chunked })
    }

    /// Sends more of a request, before its answer.
    fn go_on<B>(
        &self,
        cx: &mut Context<'_>,
        upload: &mut Option<Box<Upload<B>>>,
    ) -> Result<(), Error>
    where
        B: http_body::Body<Data = Bytes> + Default + Unpin,
    {
        let Some(going) = upload else {
            return Ok(());
        };
        match going.poll(cx, self) {
            Poll::Ready(Ok(())) => *upload = None,
            Poll::Ready(Err(Stopped::Body)) => return Err(Error::Request),
            Poll::Ready(Err(Stopped::Connection)) | Poll::Pending => {}
        }
        Ok(())
    }

    fn poll_receive_head(
        &self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|piece| {
            let mut piece = ReadBuf::new(piece);
            ready!(self.with_stream(|stream| stream.poll_read(cx, &mut piece)))?;
            // Not before something has come: those that wait hold none.
            if into.capacity() == 0 {
                *into = HEADS.take();
                if into.capacity() < piece.filled().len() {
                    *into = BytesMut::with_capacity(HEADS_BYTES.max(piece.filled().len()));
                }
            }
            into.extend_from_slice(piece.filled());
            Poll::Ready(Ok(piece.filled().len()))
        })
    }

    fn with_stream<T>(
        &self,
        poll: impl FnOnce(Pin<&mut Stream>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut *self.stream.borrow_mut() {
            Some(stream) => poll(Pin::new(stream)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Connection {
    /// Over TLS the end is told (RFC 8446, 6.1), if the socket takes it at once.
    fn drop(&mut self) {
        if let Some(stream @ Stream::Tls(..)) = self.stream.get_mut() {
            let mut cx = Context::from_waker(Waker::noop());
            let _told = Pin::new(stream).poll_shutdown(&mut cx);
        }
    }
}

/// An end before its time.
fn some(count: usize) -> Result<usize, Error> {
    if count > 0 {
        Ok(count)
    } else {
        Err(Error::Closed)
    }
}

#[cfg(test)]
mod tests;
