//! Messages whose heads are boxed: each stage and each future would move their 224 and 112 bytes.
//!
//! Must not know what is in them.

use std::mem;

use http::{Request, Response, StatusCode, request, response};

use super::spare;

/// A request on its way.
#[derive(Debug)]
pub(crate) struct RequestMessage<B> {
    pub(crate) head: Box<request::Parts>,
    pub(crate) body: B,
}

/// An answer on its way.
#[derive(Debug)]
pub(crate) struct ResponseMessage<B> {
    pub(crate) head: Box<response::Parts>,
    pub(crate) body: B,
}

impl<B> RequestMessage<B> {
    pub(crate) fn new(head: Box<request::Parts>, body: B) -> Self {
        Self { head, body }
    }
}

impl<B: Default> RequestMessage<B> {
    /// For an engine that wants to have it; what is left is empty.
    pub(crate) fn take(&mut self) -> Request<B> {
        let head = spare::unbox_head(&mut self.head);
        Request::from_parts(head, mem::take(&mut self.body))
    }
}

impl<B> ResponseMessage<B> {
    pub(crate) fn new(status: StatusCode, body: B) -> Self {
        let mut head = spare::take_answer(0);
        head.status = status;
        Self { head, body }
    }

    /// With another body.
    pub(crate) fn map<T>(self, other: impl FnOnce(B) -> T) -> ResponseMessage<T> {
        let body = other(self.body);
        let head = self.head;
        ResponseMessage { head, body }
    }
}

impl<B> From<Request<B>> for RequestMessage<B> {
    fn from(request: Request<B>) -> Self {
        let (head, body) = request.into_parts();
        Self::new(spare::box_head(head), body)
    }
}

impl<B> From<Response<B>> for ResponseMessage<B> {
    fn from(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let head = spare::box_answer(head);
        Self { head, body }
    }
}

impl<B> From<ResponseMessage<B>> for Response<B> {
    fn from(message: ResponseMessage<B>) -> Self {
        Self::from_parts(spare::unbox_answer(message.head), message.body)
    }
}
