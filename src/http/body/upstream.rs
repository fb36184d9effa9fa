//! The body of an endpoint's answer, as the engine that reads it gives it.
//!
//! Must not know what becomes of it.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::http::client;
use crate::http::http2::client::Answer;
use crate::http::http2::{self, Tunnel};

/// See the module.
#[derive(Debug)]
pub(crate) enum UpstreamBody {
    /// From a connection that the request's task reads itself.
    Own(client::Body),
    /// From a stream of HTTP/2.
    Http2(http2::Body),
    /// None: the stream is a tunnel, until it is taken.
    Tunnel(Option<Box<Tunnel>>),
    /// From a connection that hyper drives.
    Hyper(Incoming),
}

impl UpstreamBody {
    /// What has come over HTTP/2.
    pub(crate) fn http2(answer: Answer) -> Self {
        match answer {
            Answer::Body(body) => Self::Http2(body),
            Answer::Tunnel(tunnel) => Self::Tunnel(Some(Box::new(tunnel))),
        }
    }

    /// The tunnel that the stream has become.
    pub(crate) fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        match self {
            Self::Tunnel(tunnel) => tunnel.take(),
            Self::Own(_) | Self::Http2(_) | Self::Hyper(_) => None,
        }
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Tunnel(_) => Poll::Ready(None),
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
            Self::Tunnel(_) => true,
            Self::Hyper(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
            Self::Hyper(body) => body.size_hint(),
        }
    }
}
