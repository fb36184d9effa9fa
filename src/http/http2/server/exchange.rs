//! One request of a client, from its head to the end of its answer.
//!
//! Owns what an answer must be for HTTP/2 to have a place for it, and that a client which does not take one
//! is noticed. Must not know what the service does.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};

use super::promise::{Promise, promise};
use crate::http::body::{Cut, DownstreamBody, ResponseBody};
use crate::http::framing::decimal;
use crate::http::http2::sending::Sending;
use crate::http::http2::{Body, Tunnel};
use crate::http::interim::{self, Interims};
use crate::http::kinds::Kinds;
use crate::http::message::{RequestMessage, ResponseMessage};
use crate::http::stall::{Stall, Waiting};
use crate::http::{date, headers};

/// See the module. Dropped before its end, it resets the stream (`CANCEL`), and nothing else on the
/// connection.
pub(super) struct Exchange<F> {
    reply: SendResponse<Bytes>,
    stage: Stage<F>,
    /// What a request to be a tunnel has in the place of a body.
    opening: Option<Box<Opening>>,
    head_only: bool,
    stall: Rc<Stall>,
    interims: Rc<Interims>,
    /// Bytes of informational answers that may still be sent.
    room: usize,
}

#[expect(
    clippy::large_enum_variant,
    reason = "to box it would be an allocation a request"
)]
enum Stage<F> {
    Called(F),
    Answered(Answer),
    Over,
}

/// The body of an answer on its way.
struct Answer {
    sending: Sending<Paced>,
    waiting: Waiting,
}

struct Opening {
    receiving: RecvStream,
    promise: Promise,
}

impl<F> Exchange<F> {
    /// Asks the service. A request that makes no sense is refused here.
    pub(super) fn begin<S>(
        request: Request<RecvStream>,
        mut reply: SendResponse<Bytes>,
        service: &S,
        stall: &Rc<Stall>,
        interims: &Rc<Interims>,
    ) -> Option<Box<Self>>
    where
        S: Fn(RequestMessage<DownstreamBody>) -> F,
    {
        let (mut parts, receiving) = request.into_parts();
        let head_only = parts.method == Method::HEAD;
        let length = parts.headers.get(CONTENT_LENGTH).and_then(decimal);
        let (body, opening) = if parts.method == Method::CONNECT {
            // Its bytes would be counted as those of a body (RFC 9110, 9.3.6).
            if length.is_some_and(|length| length > 0) {
                reply.send_reset(Reason::PROTOCOL_ERROR);
                return None;
            }
            let (promise, promised) = promise();
            parts.extensions.insert(promised);
            let opening = Box::new(Opening { receiving, promise });
            (DownstreamBody::None, Some(opening))
        } else {
            (DownstreamBody::Http2(Body::new(receiving, length)), None)
        };
        // Boxed, as a task is moved several times before and after it runs.
        Some(Box::new(Self {
            reply,
            stage: Stage::Called(service(Request::from_parts(parts, body).into())),
            opening,
            head_only,
            stall: Rc::clone(stall),
            interims: Rc::clone(interims),
            room: interim::BYTES,
        }))
    }

    /// Sends informational answers, while there is room for them: the engine keeps what its client does not
    /// take.
    #[cold]
    fn inform(&mut self, cx: &mut Context<'_>) {
        let come = self.interims.take();
        // To a stream that the client has reset nothing is sent (RFC 9113, 5.1).
        if self.reply.poll_reset(cx).is_ready() {
            return;
        }
        for interim in come {
            let fields = interim.headers().iter();
            let bytes = fields.map(|(name, value)| name.as_str().len() + value.len() + 32);
            self.room = self.room.saturating_sub(bytes.sum::<usize>() + 32);
            if self.room > 0
                && let Err(error) = self.reply.send_informational(interim)
            {
                tracing::debug!(%error, "an informational answer was not sent");
            }
        }
    }

    /// Sends the head of the answer; what there is to send behind it.
    fn answer(
        &mut self,
        response: ResponseMessage<ResponseBody>,
    ) -> Result<Option<Answer>, h2::Error> {
        let (mut head, body) = Response::from(response).into_parts();
        let kinds = Kinds::of(&head.headers);
        headers::strip_response(&mut head.headers, kinds);
        if !kinds.has(Kinds::DATE) {
            add(&mut head.headers, DATE, date::now());
        }
        let bodiless = matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        if let Some(opening) = self.opening.take()
            && head.status.is_success()
        {
            let response = Response::from_parts(head, ());
            let stream = self.reply.send_response(response, false)?;
            // Whoever does not wait for it any more has dropped the tunnel.
            drop(opening.promise.send(Tunnel::new(stream, opening.receiving)));
            return Ok(None);
        }
        let is_over = body.is_end_stream();
        if !is_over
            && !bodiless
            && let Some(length) = body.size_hint().exact()
            && !kinds.has(Kinds::CONTENT_LENGTH)
        {
            add(&mut head.headers, CONTENT_LENGTH, HeaderValue::from(length));
        }
        let over = is_over || bodiless || self.head_only;
        let stream = self
            .reply
            .send_response(Response::from_parts(head, ()), over)?;
        Ok((!over).then(|| Answer {
            sending: Sending::of_answer(stream, Paced::new(body)),
            waiting: Waiting::default(),
        }))
    }
}

/// Adds a field, where a map can still hold one.
fn add(headers: &mut HeaderMap, name: http::HeaderName, value: HeaderValue) {
    drop(headers.try_insert(name, value));
}

impl<F, E> Future for Exchange<F>
where
    F: Future<Output = Result<ResponseMessage<ResponseBody>, E>> + Unpin,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if let Stage::Called(called) = &mut this.stage {
            let polled = Pin::new(called).poll(cx);
            if this.interims.have_come() {
                this.inform(cx);
            }
            let Poll::Ready(answered) = polled else {
                // A client that has reset the stream waits for nothing.
                return this.reply.poll_reset(cx).map(drop);
            };
            let answer = match answered {
                Ok(response) => this.answer(response),
                // Where the rule wants it so.
                Err(_) => Err(Reason::INTERNAL_ERROR.into()),
            };
            this.stage = match answer {
                Ok(Some(answer)) => Stage::Answered(answer),
                Ok(None) => return Poll::Ready(()),
                Err(error) => {
                    tracing::debug!(%error, "no answer can be sent");
                    this.reply.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
            };
        }
        let Stage::Answered(answer) = &mut this.stage else {
            return Poll::Ready(());
        };
        if ready!(answer.poll(&this.stall, cx)) {
            let untaken = std::mem::replace(&mut this.stage, Stage::Over);
            this.stall.cut(untaken);
        }
        Poll::Ready(())
    }
}

impl Answer {
    /// Ready when it is over; whether its client has had its time to take a piece.
    fn poll(&mut self, stall: &Stall, cx: &mut Context<'_>) -> Poll<bool> {
        if self.sending.poll(cx).is_ready() {
            return Poll::Ready(false);
        }
        match self.sending.held() {
            Some(piece) if stall.waits(&mut self.waiting, piece, cx) => Poll::Ready(true),
            Some(_) => Poll::Pending,
            None => {
                self.waiting.goes_on();
                self.sending.poll_reset(cx).map(|()| false)
            }
        }
    }
}

/// Bytes that a stream must get rid of within the limit to count as moving.
const PIECE: usize = 16 * 1024;

/// A body in pieces.
struct Paced {
    body: ResponseBody,
    rest: Bytes,
}

impl Paced {
    fn new(body: ResponseBody) -> Self {
        let rest = Bytes::new();
        Self { body, rest }
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        let mut data = std::mem::take(&mut this.rest);
        if data.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(bytes) => data = bytes,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                over => return Poll::Ready(over),
            }
        }
        if data.len() > PIECE {
            this.rest = data.split_off(PIECE);
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}
