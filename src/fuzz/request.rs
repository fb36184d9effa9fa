//! The two engines that read a client's HTTP/1 agree.

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::Cursor;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::Bytes;
use http::{Request, Response, Version, request};
use http_body_util::Empty;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;

use crate::http::client::may_be_complete;
use crate::http::server::head::{FIELDS, Limits, Parsed, parse};
use crate::http::spare;
use crate::http::transfer::Left;

const LIMITS: Limits = Limits {
    bytes: 4096,
    fields: FIELDS,
};
/// Where a head may be cut in two.
const CUTS: usize = 64;

/// Bytes of a client. What is served without hyper is a request that hyper would serve, with the same
/// parts and the same end; what has come in two pieces is read as if it had come in one.
pub fn request(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let (plain, asked, body, len) = match parse(&bytes, LIMITS) {
        Parsed::Plain(plain, asked, body, len) => (plain, asked, body, len),
        // It is waited for more.
        Parsed::Partial => {
            assert!(bytes.is_empty() || by_hyper(data).0.is_none());
            return;
        }
        Parsed::Other => return,
    };
    // Nothing behind it counts.
    let (read, answer) = by_hyper(&data[..len]);
    let (read, length) = read.expect("hyper serves it");
    assert_eq!(read.method, plain.method);
    assert_eq!(read.uri, plain.uri);
    assert_eq!(read.headers, plain.headers);
    let order = |headers: &http::HeaderMap| headers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(order(&read.headers), order(&plain.headers));
    assert_eq!(
        (read.version, plain.version),
        (Version::HTTP_11, Version::HTTP_11)
    );
    assert!(plain.extensions.is_empty());
    assert!(read.extensions.get::<OnUpgrade>().is_none());
    let expected = match body {
        Left::Nothing => Some(0),
        Left::Bytes(length) => Some(length),
        _ => None,
    };
    assert_eq!(length, expected);
    // A body that does not come ends the connection.
    if body == Left::Nothing {
        let closes = answer.windows(17).any(|it| it == b"connection: close");
        assert_eq!(asked.keep_alive, !closes);
    }
    let is_head = plain.method == http::Method::HEAD;
    assert_eq!(asked.head_only, is_head);
    // The next head is read into its room.
    spare::give_head(plain);
    for cut in (1..len).rev().take(CUTS) {
        if let Parsed::Plain(..) = parse(&bytes.slice(..cut), LIMITS) {
            // The last line end of two.
            assert_eq!(cut, len);
        }
        assert!(may_be_complete(&bytes[..len], cut));
    }
}

/// A request, and the length of its body where that is known.
type Read = (request::Parts, Option<u64>);

/// The first request as hyper reads it, and what it answers.
fn by_hyper(data: &[u8]) -> (Option<Read>, Vec<u8>) {
    let first = Rc::<RefCell<Option<Read>>>::default();
    let service = service_fn(|request: Request<Incoming>| {
        let first = Rc::clone(&first);
        async move {
            let (parts, body) = request.into_parts();
            let length = body.size_hint().exact();
            first.borrow_mut().get_or_insert((parts, length));
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let socket = tokio::io::join(Cursor::new(data.to_vec()), Vec::new());
    let mut connection = http1::Builder::new()
        .half_close(true)
        .max_header_size(LIMITS.bytes)
        .serve_connection(TokioIo::new(socket), service);
    let mut cx = Context::from_waker(Waker::noop());
    let _ended = pin!(&mut connection).as_mut().poll(&mut cx);
    let answer = connection.into_parts().io.into_inner().into_inner().1;
    (first.take(), answer)
}
