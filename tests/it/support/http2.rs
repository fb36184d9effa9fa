//! HTTP/2 in the clear, on hyper: a client and a backend.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{DEADLINE, serve_each};

/// A request's body.
pub(crate) type Body = BoxBody<Bytes, Infallible>;

/// One response, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

/// No body.
pub(crate) fn empty() -> Body {
    Empty::new().boxed()
}

/// A body with the trailer `x-sum: 7`.
pub(crate) fn with_trailer(text: &'static str) -> Body {
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-sum"),
        HeaderValue::from_static("7"),
    )]);
    let body = Full::new(Bytes::from_static(text.as_bytes()))
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .boxed();
    OfUnknownLength(body).boxed()
}

/// Hides the length, so that hyper announces none: HTTP/1 has no trailers behind a known length.
struct OfUnknownLength(Body);

impl http_body::Body for OfUnknownLength {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.0).poll_frame(cx)
    }
}

/// Runs a future to its end, with a deadline.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(DEADLINE, future).await })
        .unwrap()
}

/// A connection with prior knowledge, driven by the runtime of the caller.
pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Body> {
    begin(tokio::net::TcpStream::connect(address).await.unwrap()).await
}

/// Speaks HTTP/2 over a connection that stands.
pub(crate) async fn begin(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
) -> SendRequest<Body> {
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(async move { drop(connection.await) });
    sender
}

/// Sends a request and reads its answer.
pub(crate) async fn ask(
    sender: &mut SendRequest<Body>,
    request: Request<Body>,
) -> hyper::Result<Answer> {
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?;
    let trailers = body.trailers().cloned();
    Ok(Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        trailers,
    })
}

/// A backend that speaks only HTTP/2. Its thread ends with the test's process.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    pub(crate) connections: Arc<AtomicU64>,
}

/// Answers with the request that it saw, and `x-backend`; the body's trailers and its own as trailers.
pub(crate) fn backend(name: &'static str) -> Backend {
    serve(move |request| echo(name, request))
}

/// A backend that answers by a function.
pub(crate) fn serve<A>(
    answer: impl Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
) -> Backend
where
    A: Future<Output = hyper::Result<Response<Body>>> + Send + 'static,
{
    let connections = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&connections);
    let address = serve_each(move |stream| {
        counter.fetch_add(1, Ordering::SeqCst);
        let service = hyper::service::service_fn(answer.clone());
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        async move { drop(connection.await) }
    });
    Backend {
        address,
        connections,
    }
}

/// Answers with what came, whatever version of HTTP it came by.
pub(crate) async fn echo(
    name: &'static str,
    request: Request<Incoming>,
) -> hyper::Result<Response<Body>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await?;
    let seen_trailers = format!("{:?}", body.trailers().map(|t| t.get("x-sum")));
    let body = body.to_bytes();
    let mut text = format!("{} {} {:?}\r\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap_or("?"));
    }
    text += &format!("\r\n|{}|{seen_trailers}", String::from_utf8_lossy(&body));
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("x-end"),
        HeaderValue::from_static("9"),
    )]);
    let body = Full::new(Bytes::from(text))
        .with_trailers(std::future::ready(Some(Ok(trailers))))
        .boxed();
    let body = OfUnknownLength(body).boxed();
    let response = Response::builder()
        .header("x-backend", name)
        .header("trailer", "x-end")
        .body(body);
    Ok(response.unwrap())
}
