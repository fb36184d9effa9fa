//! A connection of HTTP/2 to an endpoint, shared by requests: each opens its stream and does its exchange
//! in its own task.
//!
//! Only what is left of a request's body once its answer has begun goes on in a task of its own: it flows
//! also while nobody takes the answer.
//! Must not know when a connection is made or used again, nor who drives it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};

use super::sending::Sending;
use super::{Body, Tunnel};
use crate::http::framing::decimal;
use crate::http::headers;
use crate::http::interim;
use crate::http::kinds::Kinds;

/// See the module. The connection ends in order once all of these are gone.
pub(crate) struct Connection {
    engine: RefCell<SendRequest<Bytes>>,
    /// The endpoint has the names of fields whose values no two requests share.
    names_unique: Cell<bool>,
}

impl Connection {
    pub(crate) fn new(engine: SendRequest<Bytes>) -> Self {
        Self {
            engine: RefCell::new(engine),
            names_unique: Cell::new(false),
        }
    }

    /// Whether no more requests can be sent: it has ended, or the endpoint has said GOAWAY.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.poll_ready(), Poll::Ready(Err(_)))
    }

    /// Whoever has opened nothing waits for nothing.
    fn poll_ready(&self) -> Poll<Result<(), h2::Error>> {
        let mut cx = Context::from_waker(Waker::noop());
        self.engine.borrow_mut().poll_ready(&mut cx)
    }

    /// How many streams the endpoint allows at a time (SETTINGS_MAX_CONCURRENT_STREAMS).
    pub(crate) fn most_streams(&self) -> usize {
        self.engine.borrow().current_max_send_streams()
    }

    /// Whether the endpoint takes extended CONNECT (SETTINGS_ENABLE_CONNECT_PROTOCOL; RFC 8441, 3).
    pub(crate) fn takes_tunnels(&self) -> bool {
        self.engine.borrow().is_extended_connect_protocol_enabled()
    }

    /// Opens a stream for the request.
    ///
    /// # Errors
    /// When the engine takes no request; it is given back where nothing of it was sent.
    pub(crate) fn begin<B>(&self, request: Request<B>) -> Result<Exchange<B>, Failed<B>>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
    {
        if let Poll::Ready(Err(error)) = self.poll_ready() {
            let request = Some(Box::new(request));
            return Err(Failed { error, request });
        }
        let (mut parts, body) = request.into_parts();
        let connects = parts.method == Method::CONNECT;
        // Those of the client's hop are gone, but filters may set any (RFC 9113, 8.2.2).
        let kinds = Kinds::of(&parts.headers);
        headers::strip_request(&mut parts.headers, kinds);
        // `:authority` stands for it (RFC 9113, 8.3.1).
        if kinds.has(Kinds::HOST) {
            parts.headers.remove(HOST);
        }
        if !kinds.has(Kinds::CONTENT_LENGTH) {
            tell_length(&parts.method, &mut parts.headers, &body);
        }
        if !self.names_unique.replace(true) {
            name_unique(&mut parts.headers);
        }
        let ended = !connects && body.is_end_stream();
        let head = Request::from_parts(parts, ());
        // Its own, as one that has sent a request waits for the room of the next.
        let mut engine = self.engine.borrow().clone();
        let (answer, stream) = engine.send_request(head, ended).map_err(|error| Failed {
            error,
            request: None,
        })?;
        let rest = match (connects, ended) {
            (true, _) => Rest::Tunnel(stream),
            (false, false) => Rest::Body(Sending::of_request(stream, body)),
            (false, true) => Rest::Nothing,
        };
        Ok(Exchange { answer, rest })
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

/// Lets values that no two requests share be kept once: the table of the connection has their names from then
/// on, and each later request needs its values alone. Only those that are marked for that reason: what a client
/// wants never indexed stays so (RFC 7541, 6.2.3).
fn name_unique(headers: &mut HeaderMap) {
    for (name, value) in headers {
        if Kinds::of_name(name).has(Kinds::REQUEST_ID.or(Kinds::TRACEPARENT)) {
            value.set_sensitive(false);
        }
    }
}

/// Puts the length of the body into a head that has none, where it is known and means something.
fn tell_length(method: &Method, headers: &mut HeaderMap, body: &impl http_body::Body) {
    let Some(length) = body.size_hint().exact() else {
        return;
    };
    let bodiless = [Method::GET, Method::HEAD, Method::DELETE, Method::CONNECT];
    if length > 0 || !bodiless.contains(method) {
        // With as many fields as a map can hold, the endpoint has to do without.
        drop(headers.try_insert(CONTENT_LENGTH, HeaderValue::from(length)));
    }
}

/// A request that was not sent.
#[derive(Debug)]
pub(crate) struct Failed<B> {
    pub(crate) error: h2::Error,
    /// The request, where nothing of it has reached the endpoint.
    pub(crate) request: Option<Box<Request<B>>>,
}

/// A request on its way: resolves to the head of the final answer. Dropped before that, it is cancelled.
#[derive(Debug)]
pub(crate) struct Exchange<B> {
    answer: ResponseFuture,
    rest: Rest<B>,
}

/// What is left of a request behind its head.
#[derive(Debug)]
enum Rest<B> {
    Nothing,
    Body(Sending<B>),
    /// No body, but what is to become a tunnel's.
    Tunnel(SendStream<Bytes>),
}

/// What an endpoint has answered.
#[derive(Debug)]
pub(crate) enum Answer {
    Body(Body),
    /// The stream is a tunnel now.
    Tunnel(Tunnel),
}

impl<B> Exchange<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    /// Resolves as the exchange itself does, and tells of informational answers before, unless there are more
    /// than there is use for. How many there may be is bounded by the frames of the connection.
    ///
    /// # Errors
    /// See [`Connection::begin`].
    pub(crate) async fn informing(
        mut self,
        inform: &dyn Fn(Response<()>),
    ) -> Result<Response<Answer>, h2::Error> {
        let mut told = 0;
        poll_fn(|cx| {
            // The engine forgets those that come before an answer which is asked for.
            while let Poll::Ready(Some(interim)) = self.answer.poll_informational(cx) {
                let interim = interim?;
                // There is no such answer in HTTP/2 (RFC 9113, 8.6).
                if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Poll::Ready(Err(Reason::PROTOCOL_ERROR.into()));
                }
                if told < interim::MOST {
                    told += 1;
                    inform(interim);
                }
            }
            Pin::new(&mut self).poll(cx)
        })
        .await
    }
}

impl<B> Future for Exchange<B>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    type Output = Result<Response<Answer>, h2::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Rest::Body(body) = &mut this.rest
            && body.poll(cx).is_ready()
        {
            this.rest = Rest::Nothing;
        }
        let (head, received) = ready!(Pin::new(&mut this.answer).poll(cx))?.into_parts();
        let length = head.headers.get(CONTENT_LENGTH).and_then(decimal);
        let answer = match std::mem::replace(&mut this.rest, Rest::Nothing) {
            Rest::Tunnel(mut stream) if head.status == StatusCode::OK => {
                // Its bytes would be counted as those of a body (RFC 9110, 9.3.6).
                if length.is_some_and(|length| length > 0) {
                    stream.send_reset(Reason::PROTOCOL_ERROR);
                    return Poll::Ready(Err(Reason::PROTOCOL_ERROR.into()));
                }
                Answer::Tunnel(Tunnel::new(stream, received))
            }
            Rest::Body(body) => {
                body.go_on();
                Answer::Body(Body::new(received, length))
            }
            Rest::Nothing | Rest::Tunnel(_) => Answer::Body(Body::new(received, length)),
        };
        Poll::Ready(Ok(Response::from_parts(head, answer)))
    }
}

#[cfg(test)]
mod tests;
