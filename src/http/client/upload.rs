//! A request on its way: its head, and the body behind it as it comes.
//!
//! Owns the framing of the body, and what becomes of the rest of one that is answered before its end. Must
//! not know what an answer is.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, TRAILER};
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio::io::AsyncWrite as _;
use tokio::sync::oneshot;

use super::head::{self, Coding};
use super::outbox::Outbox;
use super::{Connection, Error};
use crate::http::fields;
use crate::http::message::RequestMessage;

/// What is taken of a body at a time, in bytes: more waits until the socket has taken that.
const AHEAD: usize = 64 * 1024;

/// A request on its way.
#[derive(Debug)]
pub(super) struct Upload<B> {
    body: B,
    coding: Coding,
    /// Trailers that the head has announced; hyper sends no others.
    trailers: Vec<HeaderName>,
    /// Nothing more comes of the body.
    ended: bool,
    outbox: Outbox,
    /// Why the connection takes no more of it.
    pub(super) broken: Option<io::Error>,
}

/// Why a request cannot be sent to its end.
#[derive(Debug)]
pub(super) enum Stopped {
    /// Its body broke off, or is not as long as it should be.
    Body,
    /// The connection takes no more; see [`Upload::broken`]. An answer may have come before.
    Connection,
}

impl<B> Upload<B> {
    pub(super) fn is_chunked(&self) -> bool {
        self.coding == Coding::Chunked
    }

    /// Whether no byte has reached the endpoint.
    pub(super) fn is_unsent(&self) -> bool {
        !self.outbox.begun && self.outbox.is_one()
    }
}

impl<B: Body<Data = Bytes> + Default + Unpin> Upload<B> {
    /// Takes the body of `request`.
    ///
    /// # Errors
    /// When its length is none.
    pub(super) fn new(request: &mut RequestMessage<B>) -> Result<Self, Error> {
        let coding = Coding::of(request)?;
        let mut outbox = Outbox::default();
        outbox.gather(|out| head::write(&request.head, coding, out));
        let ended = coding == Coding::Length(0) && request.body.is_end_stream();
        Ok(Self {
            coding,
            outbox,
            ended,
            trailers: match coding {
                Coding::Length(_) => Vec::new(),
                Coding::Chunked => announced(&request.head.headers),
            },
            body: std::mem::take(&mut request.body),
            broken: None,
        })
    }

    /// Sends what is there; ready when all is sent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
    ) -> Poll<Result<(), Stopped>> {
        if self.broken.is_some() {
            return Poll::Ready(Err(Stopped::Connection));
        }
        loop {
            let taken = self.poll_take(cx)?;
            if let Err(error) = ready!(self.poll_flush(cx, connection)) {
                self.broken = Some(error);
                return Poll::Ready(Err(Stopped::Connection));
            }
            if taken.is_pending() {
                return Poll::Pending;
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        connection: &Connection,
    ) -> Poll<io::Result<()>> {
        ready!(self.outbox.poll_write(cx, connection))?;
        connection.with_stream(|stream| stream.poll_flush(cx))
    }

    /// Takes what has come of the body, up to a bound.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        while !self.ended && self.outbox.len() < AHEAD {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => self.take(frame)?,
                Some(Err(_)) => return Poll::Ready(Err(Stopped::Body)),
                None => self.end(None)?,
            }
            if !self.ended && self.body.is_end_stream() {
                self.end(None)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(&mut self, frame: Frame<Bytes>) -> Result<(), Stopped> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                let trailers = frame.into_trailers();
                return trailers.map_or(Ok(()), |trailers| self.end(Some(&trailers)));
            }
        };
        // An empty chunk would be the last one.
        if data.is_empty() {
            return Ok(());
        }
        match &mut self.coding {
            Coding::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Stopped::Body)?;
                self.outbox.push(data);
            }
            Coding::Chunked => {
                self.outbox.gather(|out| head::write_size(data.len(), out));
                self.outbox.push(data);
                self.outbox.gather(|out| out.extend_from_slice(b"\r\n"));
            }
        }
        Ok(())
    }

    fn end(&mut self, trailers: Option<&HeaderMap>) -> Result<(), Stopped> {
        self.ended = true;
        match self.coding {
            Coding::Length(0) => {}
            Coding::Length(_) => return Err(Stopped::Body),
            Coding::Chunked => {
                let all = trailers.into_iter().flatten();
                let sent = all.filter(|(name, _)| self.trailers.contains(name));
                self.outbox.gather(|out| {
                    out.extend_from_slice(b"0\r\n");
                    sent.for_each(|(name, value)| fields::write(name, value, out));
                    out.extend_from_slice(b"\r\n");
                });
            }
        }
        Ok(())
    }

    /// Reads what is left of the body, for nobody.
    async fn discard(&mut self) {
        while !self.ended {
            self.ended = !matches!(self.body.frame().await, Some(Ok(_)));
        }
    }
}

/// The names in `Trailer`, less those of the head (RFC 9110, 6.5.1).
fn announced(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(TRAILER).iter();
    let names = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
    let heads = [CACHE_CONTROL, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE];
    names.filter(|name| !heads.contains(name)).collect()
}

/// The rest of a request whose answer has begun. It goes on in a task of its own, since whoever passes on
/// the answer does not ask for more of it while the client takes none, and some clients take none before
/// they have sent all.
#[derive(Debug)]
pub(super) struct Rest {
    /// How the sending has ended. None where the connection took no more.
    sent: Option<oneshot::Receiver<Result<(), Stopped>>>,
    /// Is told of the end of the answer.
    answered: oneshot::Sender<()>,
}

impl Rest {
    /// Needs a `LocalSet`.
    pub(super) fn spawn<B>(mut upload: Box<Upload<B>>, connection: &Rc<Connection>) -> Box<Self>
    where
        B: Body<Data = Bytes> + Default + Unpin + 'static,
    {
        let (tell, sent) = oneshot::channel();
        let (answered, mut over) = oneshot::channel();
        let connection = Rc::clone(connection);
        drop(tokio::task::spawn_local(async move {
            let sending = async {
                let sent = poll_fn(|cx| upload.poll(cx, &connection)).await;
                if matches!(sent, Err(Stopped::Connection)) {
                    upload.discard().await;
                } else {
                    // Nobody is told whom the answer does not interest any more.
                    let _told = tell.send(sent);
                }
            };
            tokio::select! {
                biased;
                () = sending => {}
                answered = &mut over => if answered.is_ok() {
                    // What the client still sends is read for a while, so that the answer is not destroyed
                    // by a reset. The body knows for how long.
                    drop(connection);
                    upload.discard().await;
                }
            }
        }));
        let sent = Some(sent);
        Box::new(Self { sent, answered })
    }

    /// Ready when all is sent, or will never be; while the answer goes on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Some(sent) = &mut self.sent else {
            return Poll::Pending;
        };
        match ready!(Pin::new(sent).poll(cx)) {
            Ok(Ok(())) => Poll::Ready(Ok(())),
            Ok(Err(_)) => Poll::Ready(Err(Error::Request)),
            Err(_) => {
                self.sent = None;
                Poll::Pending
            }
        }
    }

    /// The answer has ended; whether the request had.
    pub(super) fn end(self) -> bool {
        let sent = self.sent.and_then(|mut sent| sent.try_recv().ok());
        let sent = matches!(sent, Some(Ok(())));
        if !sent {
            // Where nobody listens, the task has ended.
            let _told = self.answered.send(());
        }
        sent
    }
}
