//! Bodies in both directions, with what has to be known about them when they end. Frames pass as they
//! came; none is collected. Must not know routes or metrics.

mod downstream;
mod request;
mod response;
mod upstream;

use bytes::Bytes;
use http_body::Frame;

pub(crate) use self::downstream::DownstreamBody;
pub(crate) use self::request::{
    BrokenRequestBody, RequestBody, RequestProgress, RequestTrouble, Stream,
};
pub(crate) use self::response::{Cut, End, Finish, ResponseBody};
pub(crate) use self::upstream::UpstreamBody;
use super::headers;

/// The frame as the other side gets it.
fn passed_on(mut frame: Frame<Bytes>) -> Frame<Bytes> {
    if let Some(trailers) = frame.trailers_mut() {
        headers::strip_trailers(trailers);
    }
    frame
}
