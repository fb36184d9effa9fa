//! The body of an answer, read from its connection as it is asked for.
//!
//! Owns when the connection is free again. Must not know what the pieces are for.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::head::Framing;
use super::upload::Rest;
use super::{Connection, Error, State};
use crate::http::transfer::{Left, Received, Trailers};

/// See the module.
pub(crate) struct Body {
    /// None once nothing more is to be read.
    connection: Option<Rc<Connection>>,
    left: Left,
    keep_alive: bool,
    received: Received,
    /// What has not been sent yet of the request.
    rest: Option<Box<Rest>>,
}

impl Body {
    /// `received` has come behind the head.
    pub(super) fn new(
        connection: &Rc<Connection>,
        framing: Framing,
        received: Bytes,
        rest: Option<Box<Rest>>,
    ) -> Self {
        let mut body = Self {
            connection: Some(Rc::clone(connection)),
            left: framing.left,
            keep_alive: framing.keep_alive,
            received: Received::new(received),
            rest,
        };
        if body.left == Left::Nothing {
            body.end();
        }
        body
    }

    /// The answer has been read to its end. What follows it was not asked for.
    fn end(&mut self) {
        self.left = Left::Nothing;
        let sent = self.rest.take().is_none_or(|rest| rest.end());
        if let Some(connection) = self.connection.take() {
            let ready = self.keep_alive && sent && self.received.bytes.is_empty();
            connection
                .state
                .set(if ready { State::Ready } else { State::Over });
        }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(rest) = &mut self.rest
            && let Poll::Ready(sent) = rest.poll(cx)
        {
            self.rest = None;
            sent?;
        }
        loop {
            let frame = self.left.next(&mut self.received.bytes, Trailers::MOST)?;
            if self.left == Left::Nothing {
                self.end();
                return Poll::Ready(frame.map(Ok));
            }
            if let Some(frame) = frame {
                return Poll::Ready(Some(Ok(frame)));
            }
            let Some(connection) = &self.connection else {
                return Poll::Ready(None);
            };
            let received = &mut self.received;
            let came = connection.with_stream(|stream| received.poll_more(stream, cx));
            if ready!(came)? == 0 {
                if self.left != Left::UntilClose {
                    return Poll::Ready(Some(Err(Error::Closed)));
                }
                self.end();
            }
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let polled = ready!(this.poll_next(cx));
        if let Some(Err(_)) = &polled {
            // What comes next would be the middle of something.
            (this.left, this.connection, this.rest) = (Left::Nothing, None, None);
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.left == Left::Nothing
    }

    fn size_hint(&self) -> SizeHint {
        self.left.size_hint()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = &self.left;
        f.debug_struct("Body")
            .field("left", left)
            .finish_non_exhaustive()
    }
}
