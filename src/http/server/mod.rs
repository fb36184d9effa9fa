//! A client's connection of HTTP/1 while its requests are plain: no upgrade, one answer.
//!
//! hyper is made for everything at once, and that is what most requests do not need. Here the task of the
//! connection reads a head, asks the service and writes the answer, with two calls to the kernel where the
//! exchange is small; a body is read by whoever has it. At the first request that is anything else, hyper
//! gets the connection and what has been read; so what is refused, and how, is hyper's to say. A connection
//! that waits holds no buffer. Must not know what the service does.

mod answer;
mod connection;
pub(crate) mod head;
mod unsent;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame};
use tokio::io::AsyncWrite;

use self::answer::Owed;
pub(crate) use self::connection::Body;
use self::connection::{Connection, Turn};
use self::head::{Asked, Limits, Parsed, parse};
use self::unsent::Unsent;
use super::body::DownstreamBody;
use super::client::may_be_complete;
use super::message::{RequestMessage, ResponseMessage};
use super::serve::{Close, Control, Ended, ServeOptions};
use super::socket::Watched;
use super::spare;
use super::transfer::{Left, Trailers};

/// What has become of a connection.
#[derive(Debug)]
pub(super) enum Served {
    Ended(Ended),
    /// Its next request is hyper's.
    Other,
}

/// What comes next on a connection.
enum Next {
    Request(RequestMessage<DownstreamBody>, Asked),
    Other,
    /// It is to end, or has ended, between two requests.
    End,
    Gone,
}

/// The connection is of no use any more: its client has gone, or must see that it gets no whole answer.
#[derive(Debug, Clone, Copy)]
struct Gone;

/// A client's connection. Dropped, it is closed, whoever still has a body of it.
#[derive(Debug)]
pub(super) struct Client {
    connection: Rc<Connection>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl Client {
    pub(super) fn new(socket: Watched, options: &ServeOptions) -> Self {
        let most = Trailers::MOST;
        let trailers = Trailers {
            bytes: u16::try_from(options.header_bytes).map_or(most.bytes, |it| it.min(most.bytes)),
            fields: u8::try_from(options.header_count)
                .map_or(most.fields, |it| it.min(most.fields)),
        };
        let connection = Connection::new(socket, trailers);
        Self { connection }
    }

    /// For another engine, which reads again what has come and is not served.
    pub(super) fn take(&self) -> Option<Watched> {
        self.connection.take()
    }

    /// From another engine, between two requests.
    pub(super) fn put(&self, socket: Watched) {
        self.connection.put(socket);
    }

    /// Serves the connection until it ends, or until a request comes that is not plain.
    pub(super) async fn serve<S, F, E, B>(
        &self,
        options: &ServeOptions,
        control: &Control,
        service: &S,
    ) -> Served
    where
        S: Fn(RequestMessage<DownstreamBody>) -> F,
        F: Future<Output = Result<ResponseMessage<B>, E>>,
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        control.interims.want(true);
        loop {
            let (request, asked) = match self.next_request(options, control).await {
                Next::Request(request, asked) => (request, asked),
                Next::Other => {
                    control.interims.want(false);
                    return Served::Other;
                }
                Next::End => break,
                Next::Gone => return Served::Ended(Ended::Io),
            };
            let called = pin!(service(request));
            match self.exchange(called, asked, options, control).await {
                Ok(true) => {}
                Ok(false) => break,
                Err(Gone) => return Served::Ended(Ended::Io),
            }
        }
        if self.connection.stop_reading() {
            control.leaves_unread();
        }
        let shutdown = |cx: &mut Context<'_>| {
            self.connection
                .poll_socket(|socket| Pin::new(socket).poll_shutdown(cx))
        };
        // What cannot be sent any more is not missed.
        let _closed = poll_fn(shutdown).await;
        Served::Ended(Ended::Closed)
    }

    async fn next_request(&self, options: &ServeOptions, control: &Control) -> Next {
        let limits = Limits {
            bytes: options.header_bytes,
            fields: options.header_count,
        };
        let mut looked = 0;
        let mut came = self.connection.received(|received| received.len());
        if came > 0 {
            control.hears();
        }
        loop {
            match self
                .connection
                .received(|received| read(received, looked, limits))
            {
                Parsed::Partial => {}
                Parsed::Plain(head, asked, left, _) => {
                    let body = match left {
                        Left::Nothing => DownstreamBody::None,
                        left => DownstreamBody::Own(self.connection.begin_body(left)),
                    };
                    return Next::Request(RequestMessage { head, body }, asked);
                }
                Parsed::Other => return Next::Other,
            }
            looked = came;
            if looked >= limits.bytes {
                return Next::Other;
            }
            let read = poll_fn(|cx| match self.connection.poll_head(cx) {
                // A request that has begun to come is still served.
                Poll::Pending if control.asked_to_close() != Close::No && looked == 0 => {
                    Poll::Ready(Ok(0))
                }
                polled => polled,
            });
            match read.await {
                Ok(0) if looked == 0 => return Next::End,
                Ok(0) => return Next::Other,
                Ok(more) => came += more,
                Err(_) => return Next::Gone,
            }
        }
    }

    /// Waits for the answer and sends it; whether another request may follow.
    async fn exchange<B, E>(
        &self,
        mut called: Pin<&mut impl Future<Output = Result<ResponseMessage<B>, E>>>,
        asked: Asked,
        options: &ServeOptions,
        control: &Control,
    ) -> Result<bool, Gone>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
    {
        let poll_gone = |cx: &mut Context<'_>| {
            let gone = self.connection.poll_gone(cx, options.half_close);
            gone.map(|()| Gone)
        };
        let mut early = None::<Box<Unsent>>;
        let response = poll_fn(|cx| {
            let polled = called.as_mut().poll(cx);
            if control.interims.have_come() {
                let early = early.get_or_insert_with(|| Box::new(Unsent::new()));
                answer::write_interims(control.interims.take(), early.bytes());
            }
            if let Poll::Ready(answered) = polled {
                let may_go_on = self.connection.may_go_on(cx);
                return Poll::Ready(answered.map_err(|_| Gone).map(|it| (it, may_go_on)));
            }
            if let Some(unsent) = &mut early
                && let Poll::Ready(sent) = poll_write(unsent, &self.connection, cx)
            {
                sent?;
                early = None;
            }
            poll_gone(cx).map(Err)
        });
        let (mut response, may_go_on) = response.await?;
        let stays = asked.keep_alive && may_go_on && control.asked_to_close() == Close::No;
        let mut unsent = early.map_or_else(Unsent::new, |early| *early);
        let owed = answer::write_head(&mut response, asked, stays, unsent.bytes());
        let ResponseMessage { head, body } = response;
        spare::give_answer(head);
        let mut answer = Answer {
            owed: owed.map_err(|_| Gone)?,
            body: Some(body),
            is_cut: false,
            trailers: asked.trailers,
            unsent,
        };
        answer.drop_unsent_body();
        poll_fn(|cx| match answer.poll_send(&self.connection, cx) {
            Poll::Pending => poll_gone(cx).map(Err),
            sent @ Poll::Ready(_) => sent,
        })
        .await?;
        if answer.owed.last {
            return Ok(false);
        }
        // A body that is still read is read to its end, unless the connection is to end.
        let turn = poll_fn(|cx| match self.connection.poll_turn(cx) {
            Poll::Pending if control.asked_to_close() != Close::No => Poll::Ready(Turn::Over),
            polled => polled,
        });
        Ok(turn.await == Turn::Head && control.asked_to_close() == Close::No)
    }
}

/// Ready when all of it has been written.
fn poll_write(
    unsent: &mut Unsent,
    connection: &Connection,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Gone>> {
    let sent = connection.poll_socket(|socket| {
        ready!(unsent.poll_write(socket, cx))?;
        Pin::new(socket).poll_flush(cx)
    });
    sent.map_err(|_| Gone)
}

/// Takes a head out of what has come, of which `looked` bytes are known to hold none.
fn read(received: &mut Bytes, looked: usize, limits: Limits) -> Parsed {
    if !may_be_complete(received, looked) {
        return Parsed::Partial;
    }
    let parsed = parse(received, limits);
    if let Parsed::Plain(.., len) = &parsed {
        *received = received.split_off(*len);
    }
    parsed
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

impl<B: http_body::Body<Data = Bytes> + Unpin> Answer<B> {
    /// Ready when all of it has been sent.
    fn poll_send(
        &mut self,
        connection: &Connection,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Gone>> {
        loop {
            let waits = self.poll_collect(cx).is_pending();
            ready!(poll_write(&mut self.unsent, connection, cx))?;
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
