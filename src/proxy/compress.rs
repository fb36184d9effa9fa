//! Whether an answer is compressed on its way to the client.
//!
//! Owns whose word counts: the backendRef's, else the rule's, else the listener's. Must not know how it is
//! done; that is [`crate::http::compression`].

use std::sync::Arc;

use http::{Method, Response, request};

use crate::http::body::{ResponseBody, UpstreamBody};
use crate::http::compression::{self, Algorithm, Compression};
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
    pub(super) async fn encode(self, response: Response<UpstreamBody>) -> Response<ResponseBody> {
        let (mut parts, body) = response.into_parts();
        if !self.compression.fits(&parts) {
            return Response::from_parts(parts, ResponseBody::upstream(body));
        }
        compression::vary(&mut parts.headers);
        let Some(algorithm) = self.algorithm else {
            return Response::from_parts(parts, ResponseBody::upstream(body));
        };
        compression::encoded(&mut parts.headers, algorithm);
        let body = if self.head {
            ResponseBody::upstream(body)
        } else {
            ResponseBody::compressed(self.compression.encode(algorithm, body).await)
        };
        Response::from_parts(parts, body)
    }
}
