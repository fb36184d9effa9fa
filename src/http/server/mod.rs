//! A client's connection of HTTP/1 while its requests are plain: no body, no upgrade, one answer.
//!
//! hyper is made for everything at once, and that is what most requests do not need. Here the task of the
//! connection reads a head, asks the service and writes the answer, with two calls to the kernel where the
//! exchange is small. At the first request that is anything else, hyper gets the connection and what has
//! been read; so what is refused, and how, is hyper's to say. A connection that waits holds no buffer.
//! Must not know what the service does.

mod answer;
pub(crate) mod head;
mod unsent;

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame};
use hyper::service::Service;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};

use self::answer::Owed;
use self::head::{Asked, Limits, Parsed, parse};
use self::unsent::Unsent;
use super::body::DownstreamBody;
use super::client::may_be_complete;
use super::serve::{Close, Control, Ended, ServeOptions};
use super::socket::Watched;
use super::spare;

/// What is read at a time, and so the most that is taken ahead of a request's answer.
const PIECE: usize = 16 * 1024;

/// What is allocated for heads at a time. A request that is still there keeps it all, so it is small.
const HEADS_BYTES: usize = 4 * 1024;

thread_local! {
    /// Heads share what is allocated for several of them.
    static HEADS: RefCell<BytesMut> = RefCell::default();
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; PIECE]);
}

/// What has become of a connection.
#[derive(Debug)]
pub(super) enum Served {
    Ended(Ended),
    /// Its next request is hyper's. It begins with these bytes.
    Other(Bytes),
}

/// Serves the connection until it ends, or until a request comes that is not plain.
pub(super) async fn serve<S, B>(
    socket: &mut Watched,
    options: &ServeOptions,
    control: &Control,
    service: &S,
) -> Served
where
    S: Service<Request<DownstreamBody>, Response = Response<B>>,
    B: Body<Data = Bytes> + Unpin,
{
    let mut client = Client {
        socket,
        received: Bytes::new(),
        half_close: options.half_close,
    };
    loop {
        let (request, asked) = match client.next_request(options, control).await {
            Next::Request(request, asked) => (request, asked),
            Next::Other => return Served::Other(client.received),
            Next::End => break,
            Next::Gone => return Served::Ended(Ended::Io),
        };
        let called = service.call(request.map(|()| DownstreamBody::None));
        match client.exchange(called, asked, control).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(Gone) => return Served::Ended(Ended::Io),
        }
    }
    // What cannot be sent any more is not missed.
    let _closed = client.socket.shutdown().await;
    Served::Ended(Ended::Closed)
}

/// What comes next on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "to box it would be an allocation a request"
)]
enum Next {
    Request(Request<()>, Asked),
    Other,
    /// It is to end, or has ended, between two requests.
    End,
    Gone,
}

/// The connection is of no use any more: its client has gone, or must see that it gets no whole answer.
#[derive(Debug, Clone, Copy)]
struct Gone;

struct Client<'a> {
    socket: &'a mut Watched,
    /// What has come, and is not served yet.
    received: Bytes,
    /// A client that has closed its sending side still gets its answer.
    half_close: bool,
}

impl Client<'_> {
    async fn next_request(&mut self, options: &ServeOptions, control: &Control) -> Next {
        let limits = Limits {
            bytes: options.header_bytes,
            fields: options.header_count,
        };
        if !self.received.is_empty() {
            control.hears();
        }
        let mut looked = 0;
        loop {
            if may_be_complete(&self.received, looked) {
                match parse(&self.received, limits) {
                    Parsed::Partial => {}
                    Parsed::Plain(request, asked, len) => {
                        self.received = self.received.split_off(len);
                        return Next::Request(request, asked);
                    }
                    Parsed::Other => return Next::Other,
                }
            }
            looked = self.received.len();
            if looked >= limits.bytes {
                return Next::Other;
            }
            let came = poll_fn(|cx| match self.poll_receive(cx) {
                // A request that has begun to come is still served.
                Poll::Pending if control.asked_to_close() != Close::No && looked == 0 => {
                    Poll::Ready(Ok(0))
                }
                polled => polled,
            });
            match came.await {
                Ok(0) if looked == 0 => return Next::End,
                Ok(0) => return Next::Other,
                Ok(_) => {}
                Err(_) => return Next::Gone,
            }
        }
    }

    /// Waits for the answer and sends it; whether another request may follow.
    async fn exchange<B, E>(
        &mut self,
        called: impl Future<Output = Result<Response<B>, E>>,
        asked: Asked,
        control: &Control,
    ) -> Result<bool, Gone>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let mut called = pin!(called);
        let response = poll_fn(|cx| match called.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(answered.map_err(|_| Gone)),
            Poll::Pending => self.poll_gone(cx).map(Err),
        });
        let mut response = response.await?;
        let stays = asked.keep_alive && control.asked_to_close() == Close::No;
        let mut unsent = Unsent::new();
        let owed = answer::write_head(&mut response, asked, stays, unsent.bytes());
        spare::give(mem::take(response.headers_mut()));
        let mut answer = Answer {
            owed: owed.map_err(|_| Gone)?,
            body: Some(response.into_body()),
            is_cut: false,
            trailers: asked.trailers,
            unsent,
        };
        answer.drop_unsent_body();
        poll_fn(|cx| match answer.poll_send(self.socket, cx) {
            Poll::Pending => self.poll_gone(cx).map(Err),
            sent @ Poll::Ready(_) => sent,
        })
        .await?;
        Ok(!answer.owed.last && control.asked_to_close() == Close::No)
    }

    /// Reads what has come, behind what is there already; how many bytes, none at the end.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        READ.with_borrow_mut(|piece| {
            let mut piece = ReadBuf::new(piece);
            match Pin::new(&mut *self.socket).poll_read(cx, &mut piece) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    self.socket.tend(cx)?;
                    return Poll::Pending;
                }
            }
            let came = piece.filled();
            if self.received.is_empty() {
                self.received = HEADS.with_borrow_mut(|heads| copied(came, heads));
            } else {
                let mut all = BytesMut::from(mem::take(&mut self.received));
                all.extend_from_slice(came);
                self.received = all.freeze();
            }
            Poll::Ready(Ok(came.len()))
        })
    }

    /// Ready when nobody waits for the answer any more. What is read meanwhile is the next request; behind
    /// one that has come nothing is read.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Gone> {
        if self.half_close {
            return match self.socket.tend(cx) {
                Ok(()) => Poll::Pending,
                Err(_) => Poll::Ready(Gone),
            };
        }
        if !self.received.is_empty() {
            return Poll::Pending;
        }
        match ready!(self.poll_receive(cx)) {
            Ok(1..) => Poll::Pending,
            Ok(0) | Err(_) => Poll::Ready(Gone),
        }
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

/// An answer on its way.
struct Answer<B> {
    owed: Owed,
    /// None once nothing more of it is wanted.
    body: Option<B>,
    /// It has broken off, and must not look whole.
    is_cut: bool,
    /// The client takes trailers.
    trailers: bool,
    unsent: Unsent,
}

impl<B: Body<Data = Bytes> + Unpin> Answer<B> {
    /// Ready when all of it has been sent.
    fn poll_send(&mut self, socket: &mut Watched, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        loop {
            let waits = self.poll_collect(cx).is_pending();
            ready!(self.unsent.poll_write(socket, cx)).map_err(|_| Gone)?;
            ready!(Pin::new(&mut *socket).poll_flush(cx)).map_err(|_| Gone)?;
            if waits {
                return Poll::Pending;
            }
            if self.body.is_none() {
                return Poll::Ready(if self.is_cut { Err(Gone) } else { Ok(()) });
            }
        }
    }

    /// Takes from the body what is there, up to what is worth a call to the kernel.
    fn poll_collect(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(body) = &mut self.body
            && self.unsent.has_room()
        {
            let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
            let is_end = body.is_end_stream();
            match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) if data.is_empty() && !is_end => {}
                Some(Ok(Ok(data))) if !data.is_empty() => self.send_piece(data, is_end),
                Some(Ok(Err(frame))) => {
                    let trailers = frame.trailers_ref().filter(|_| self.trailers);
                    self.end(trailers);
                }
                None | Some(Ok(Ok(_))) => self.end(None),
                Some(Err(_)) => {
                    self.body = None;
                    self.is_cut = true;
                }
            }
        }
        Poll::Ready(())
    }

    fn send_piece(&mut self, mut piece: Bytes, is_end: bool) {
        let behind = self.owed.pay(&mut piece, is_end, self.unsent.bytes());
        self.unsent.push(piece, behind);
        if is_end || self.owed.is_nothing() {
            self.body = None;
        }
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.body = None;
        self.is_cut = self.owed.end(trailers, self.unsent.bytes()).is_err();
    }

    /// A body that does not go out is not asked for, and ends before the head is sent.
    fn drop_unsent_body(&mut self) {
        if self.owed.is_nothing() {
            self.body = None;
        }
    }
}

#[cfg(test)]
mod tests;
