//! The ways of a WebSocket through the proxy: HTTP/1.1 or HTTP/2 on either side.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::ext::Protocol;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::Error;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::support::http2::{Body, begin, empty};
use crate::support::proxy::{Proxy, all_to};
use crate::support::serve_each;

/// A way for bytes.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}
pub(crate) type Tunnel = Box<dyn Io>;

/// Which HTTP a side speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Http1,
    Http2,
}

pub(crate) const BOTH: [Side; 2] = [Side::Http1, Side::Http2];

/// An endpoint that sends every message back, and closes as the RFC asks when it gets what is none.
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Handshakes that it has agreed to.
    pub(crate) agreed: Arc<AtomicU64>,
}

/// See [`Endpoint`]. `allows`: over HTTP/2, it says that it takes extended CONNECT.
pub(crate) fn endpoint(side: Side, allows: bool) -> Endpoint {
    listen(side, allows, None)
}

/// An [`Endpoint`] that speaks TLS, and what was agreed on by ALPN.
pub(crate) fn secure(config: rustls::ServerConfig) -> Endpoint {
    listen(Side::Http1, true, Some(TlsAcceptor::from(Arc::new(config))))
}

fn listen(side: Side, allows: bool, tls: Option<TlsAcceptor>) -> Endpoint {
    let agreed = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&agreed);
    let address = serve_each(move |stream| {
        let (counter, tls) = (Arc::clone(&counter), tls.clone());
        async move {
            stream.set_nodelay(true).unwrap();
            let Some(tls) = tls else {
                return match side {
                    Side::Http1 => http1(stream, &counter).await,
                    Side::Http2 => http2(stream, allows, counter).await,
                };
            };
            let stream = tls.accept(stream).await.unwrap();
            if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                http2(stream, allows, counter).await;
            } else {
                http1(stream, &counter).await;
            }
        }
    });
    Endpoint { address, agreed }
}

/// Chooses the last protocol that is offered, and says what extensions were.
fn choose(asked: &HeaderMap, answer: &mut HeaderMap) {
    if let Some(offered) = asked.get("sec-websocket-protocol") {
        let last = offered.to_str().unwrap().rsplit(", ").next().unwrap();
        let chosen = HeaderValue::from_str(last).unwrap();
        answer.insert("sec-websocket-protocol", chosen);
    }
    for name in [
        "sec-websocket-extensions",
        "sec-websocket-version",
        "origin",
    ] {
        if let Some(value) = asked.get(name) {
            let saw = http::HeaderName::try_from(format!("x-saw-{name}")).unwrap();
            answer.insert(saw, value.clone());
        }
    }
}

async fn http1(stream: impl Io, agreed: &AtomicU64) {
    #[allow(
        clippy::result_large_err,
        reason = "the signature of a callback of the library"
    )]
    let chosen = |asked: &server::Request, mut answer: server::Response| {
        choose(asked.headers(), answer.headers_mut());
        answer
            .headers_mut()
            .insert("x-over", HeaderValue::from_static("http1"));
        Ok(answer)
    };
    // What is no handshake gets no answer.
    if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, chosen).await {
        agreed.fetch_add(1, Ordering::SeqCst);
        echo(socket).await;
    }
}

async fn http2(stream: impl Io + 'static, allows: bool, agreed: Arc<AtomicU64>) {
    let service = hyper::service::service_fn(move |mut request: Request<_>| {
        let agreed = Arc::clone(&agreed);
        async move {
            let protocol = request.extensions().get::<Protocol>().map(Protocol::as_str);
            let mut answer = Response::new(empty());
            if (request.method(), protocol) != (&Method::CONNECT, Some("websocket")) {
                *answer.status_mut() = StatusCode::BAD_REQUEST;
            } else if request.uri().path() == "/refused" {
                *answer.status_mut() = StatusCode::FORBIDDEN;
            } else {
                // Neither key nor accept has a meaning there (RFC 8441, 5).
                assert_eq!(request.headers().get("sec-websocket-key"), None);
                choose(request.headers(), answer.headers_mut());
                let over = HeaderValue::from_static("http2");
                answer.headers_mut().insert("x-over", over);
                agreed.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let upgraded = TokioIo::new(hyper::upgrade::on(&mut request).await.unwrap());
                    echo(WebSocketStream::from_raw_socket(upgraded, Role::Server, None).await)
                        .await;
                });
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    if allows {
        builder.enable_connect_protocol();
    }
    // How the other side ends is its own matter.
    drop(
        builder
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut socket: WebSocketStream<S>) {
    while let Some(message) = socket.next().await {
        match message {
            Ok(message) if message.is_text() || message.is_binary() => {
                if socket.send(message).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return,
            Err(error) => {
                let code: u16 = match error {
                    Error::Utf8(_) => 1007,
                    Error::Capacity(_) => 1009,
                    _ => 1002,
                };
                let mut stream = socket.into_inner();
                let frame = [&[0x88, 2][..], &code.to_be_bytes()].concat();
                // The client may have gone.
                drop(stream.write_all(&frame).await);
                drop(stream.shutdown().await);
                // Closing over unread bytes would reset the connection, and destroy the frame.
                drop(tokio::io::copy(&mut stream, &mut tokio::io::sink()).await);
                return;
            }
        }
    }
}

/// A proxy in front of an endpoint.
pub(crate) fn proxy(side: Side, endpoint: &Endpoint) -> Proxy {
    let text = all_to(endpoint.address);
    Proxy::start(&match side {
        Side::Http1 => text,
        Side::Http2 => text.replace("endpoints", "protocol: h2c, endpoints"),
    })
}

/// An answer to a handshake: status, fields, and the tunnel where there is one.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) tunnel: Option<Tunnel>,
}

/// Asks for a WebSocket at `target`.
pub(crate) async fn ask(
    side: Side,
    address: SocketAddr,
    path: &str,
    fields: &[(&'static str, &str)],
) -> Answer {
    match side {
        Side::Http1 => ask_http1(address, path, fields).await,
        Side::Http2 => {
            let mut sender = begin(dial(address).await).await;
            ask_http2(&mut sender, path, fields).await
        }
    }
}

async fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

async fn ask_http1(address: SocketAddr, path: &str, fields: &[(&'static str, &str)]) -> Answer {
    let stream = dial(address).await;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake::<_, Body>(TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(async move { drop(connection.with_upgrades().await) });
    let mut request = Request::get(path)
        .header("host", "a.example")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(empty()).unwrap()).await;
    let response = response.unwrap();
    if response.status() == 101 {
        // The example of RFC 6455, 1.3.
        let accept = &response.headers()["sec-websocket-accept"];
        assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
    answer(response, 101).await
}

/// See [`ask`]; on a stream of a connection that stands.
pub(crate) async fn ask_http2(
    sender: &mut hyper::client::conn::http2::SendRequest<Body>,
    path: &str,
    fields: &[(&'static str, &str)],
) -> Answer {
    let mut request = Request::builder()
        .method(Method::CONNECT)
        .uri(format!("http://a.example{path}"))
        .header("sec-websocket-version", "13");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    let mut request = request.body(empty()).unwrap();
    request
        .extensions_mut()
        .insert(Protocol::from_static("websocket"));
    let response = sender.send_request(request).await.unwrap();
    for name in ["upgrade", "connection", "sec-websocket-accept"] {
        assert_eq!(response.headers().get(name), None, "{name}");
    }
    answer(response, 200).await
}

async fn answer(mut response: Response<hyper::body::Incoming>, success: u16) -> Answer {
    let status = response.status().as_u16();
    let tunnel = if status == success {
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        Some(Box::new(TokioIo::new(upgraded)) as Tunnel)
    } else {
        None
    };
    Answer {
        status,
        headers: response.headers().clone(),
        tunnel,
    }
}
