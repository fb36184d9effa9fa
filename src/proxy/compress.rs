//! Whether an answer is compressed on its way to the client.
//!
//! Owns whose word counts: the backendRef's, else the rule's, else the listener's. Must not know how it is
//! done; that is [`crate::http::compression`].

use std::sync::Arc;

use http::{Method, request};

use crate::http::body::{ResponseBody, UpstreamBody};
use crate::http::compression::{self, Algorithm, Compression};
use crate::http::message::ResponseMessage;
use crate::snapshot::port::Listener;
use crate::snapshot::rule::{Arm, Rule};

/// What is to be done with the answer to one request.
#[derive(Debug)]
pub(super) struct Compressing {
    compression: Arc<Compression>,
    /// What the client takes.
    algorithm: Option<Algorithm>,
    /// Only the head is asked for.
    head: bool,
}

impl Compressing {
    /// `None` where nothing is compressed.
    pub(super) fn new(
        rule: &Rule,
        arm: &Arm,
        listener: &Listener,
        parts: &request::Parts,
    ) -> Option<Self> {
        let said = [&arm.filters.compression, &rule.filters.compression];
        let mut said = said.into_iter().chain([&listener.compression]).flatten();
        let compression = said.next()?;
        Some(Self {
            algorithm: compression.agreed(&parts.headers),
            compression: Arc::clone(compression),
            head: parts.method == Method::HEAD,
        })
    }

    /// The answer as the client gets it.
    pub(super) async fn encode(
        self,
        response: ResponseMessage<UpstreamBody>,
    ) -> ResponseMessage<ResponseBody> {
        let ResponseMessage { mut head, body } = response;
        let algorithm = if self.compression.fits(&head) {
            compression::vary(&mut head.headers);
            self.algorithm
        } else {
            None
        };
        if let Some(algorithm) = algorithm {
            compression::encoded(&mut head.headers, algorithm);
        }
        let body = match algorithm.filter(|_| !self.head) {
            None => ResponseBody::upstream(body),
            Some(algorithm) => {
                ResponseBody::compressed(self.compression.encode(algorithm, body).await)
            }
        };
        ResponseMessage { head, body }
    }
}
