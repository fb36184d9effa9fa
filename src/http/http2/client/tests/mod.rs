//! Exchanges over a pipe with the engine's own server, which does as it is told.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Empty, Full};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::{Notify, mpsc};
use tokio::task::{LocalSet, spawn_local};

use super::{Answer, Body, Connection};

mod limits;
mod tunnels;

/// A request as the endpoint has it.
struct Asked {
    request: Request<RecvStream>,
    answer: SendResponse<Bytes>,
}

impl Asked {
    async fn body(&mut self) -> Result<Bytes, h2::Error> {
        let mut whole = Vec::new();
        while let Some(data) = self.request.body_mut().data().await {
            let data = data?;
            let flow = self.request.body_mut().flow_control();
            drop(flow.release_capacity(data.len()));
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
    }

    fn answer(&mut self, response: Response<()>, body: &'static str) {
        let mut stream = self.answer.send_response(response, false).unwrap();
        stream
            .send_data(Bytes::from_static(body.as_bytes()), true)
            .unwrap();
    }
}

/// An endpoint.
struct Endpoint {
    asked: mpsc::Receiver<Asked>,
    /// Ends it: in order, or at once.
    close: mpsc::Sender<bool>,
}

impl Endpoint {
    async fn next(&mut self) -> Asked {
        within(self.asked.recv()).await.expect("a request")
    }
}

async fn within<F: Future>(future: F) -> F::Output {
    let limited = tokio::time::timeout(Duration::from_secs(5), future);
    limited.await.expect("it ends soon")
}

async fn connected() -> (Connection, Endpoint) {
    connected_to(h2::server::Builder::new().enable_connect_protocol()).await
}

async fn connected_to(endpoint: &h2::server::Builder) -> (Connection, Endpoint) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (sender, asked) = mpsc::channel(100);
    let (close, closed) = mpsc::channel(1);
    spawn_local(serve(endpoint.clone(), theirs, sender, closed));
    let begun = h2::client::Builder::new()
        .enable_push(false)
        .initial_max_send_streams(1)
        .handshake(ours);
    let (engine, connection) = begun.await.unwrap();
    spawn_local(async move { drop(connection.await) });
    (Connection::new(engine), Endpoint { asked, close })
}

async fn serve(
    endpoint: h2::server::Builder,
    io: DuplexStream,
    asked: mpsc::Sender<Asked>,
    mut close: mpsc::Receiver<bool>,
) {
    let mut connection = endpoint.handshake(io).await.unwrap();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, answer))) => {
                    asked.send(Asked { request, answer }).await.unwrap_or(());
                }
                Some(Err(_)) | None => return,
            },
            Some(in_order) = close.recv() => {
                if !in_order {
                    return;
                }
                connection.graceful_shutdown();
            }
        }
    }
}

/// Runs on a worker's kind of runtime.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(LocalSet::new().run_until(within(test)));
}

fn request<B>(method: Method, body: B) -> Request<B> {
    let request = Request::builder().method(method).version(Version::HTTP_2);
    request.uri("http://a.example/path").body(body).unwrap()
}

fn get() -> Request<Empty<Bytes>> {
    request(Method::GET, Empty::new())
}

async fn exchange<B>(
    connection: &Connection,
    request: Request<B>,
) -> Result<Response<Body>, h2::Error>
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let exchange = connection.begin(request).map_err(|failed| failed.error)?;
    Ok(exchange.await?.map(|answer| match answer {
        Answer::Body(body) => body,
        Answer::Tunnel(_) => panic!("a tunnel was not asked for"),
    }))
}

/// A body whose frames come when they are told to. Without an end, it ends when it is let go.
#[derive(Debug, Clone, Default)]
struct Slow(Rc<RefCell<Frames>>);

#[derive(Debug, Default)]
struct Frames {
    ready: VecDeque<Result<Frame<Bytes>, &'static str>>,
    ended: bool,
    waker: Option<std::task::Waker>,
}

impl Slow {
    fn push(&self, frame: Result<Frame<Bytes>, &'static str>) {
        let mut frames = self.0.borrow_mut();
        frames.ready.push_back(frame);
        if let Some(waker) = frames.waker.take() {
            waker.wake();
        }
    }

    fn data(&self, data: &'static str) {
        self.push(Ok(Frame::data(Bytes::from_static(data.as_bytes()))));
    }

    fn end(&self) {
        self.0.borrow_mut().ended = true;
        if let Some(waker) = self.0.borrow_mut().waker.take() {
            waker.wake();
        }
    }

    /// Whether nobody but the test has it.
    fn is_let_go(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl http_body::Body for Slow {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let mut frames = self.0.borrow_mut();
        match frames.ready.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None if frames.ended => Poll::Ready(None),
            None => {
                frames.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let frames = self.0.borrow();
        frames.ended && frames.ready.is_empty()
    }
}

#[test]
fn an_answer_with_its_trailers() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let whole = async {
            let response = exchange(&connection, request(Method::POST, Full::from("ping"))).await?;
            let status = response.status();
            let collected = response.into_body().collect().await?;
            let trailers = collected.trailers().cloned().unwrap_or_default();
            Ok::<_, h2::Error>((status, trailers, collected.to_bytes()))
        };
        let answering = async {
            let mut asked = endpoint.next().await;
            assert_eq!(asked.request.headers()["content-length"], "4");
            assert_eq!(asked.body().await.unwrap(), "ping");
            let mut stream = asked
                .answer
                .send_response(Response::new(()), false)
                .unwrap();
            stream.send_data("po".into(), false).unwrap();
            stream.send_data("ng".into(), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            stream.send_trailers(trailers).unwrap();
        };
        let ((status, trailers, body), ()) =
            tokio::join!(async { whole.await.unwrap() }, answering);
        assert_eq!((status.as_u16(), &body[..]), (200, &b"pong"[..]));
        assert_eq!(trailers["grpc-status"], "0");
    });
}

/// What the head of an answer tells of its length.
#[test]
fn lengths_of_answers() {
    for (length, ends, expected) in [
        (None, false, None),
        (None, true, Some(0)),
        (Some("2"), false, Some(2)),
        (Some("0"), true, Some(0)),
    ] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            let answering = async {
                let mut asked = endpoint.next().await;
                let mut response = Response::new(());
                if let Some(length) = length {
                    let length = HeaderValue::from_static(length);
                    response.headers_mut().insert("content-length", length);
                }
                asked.answer.send_response(response, ends).unwrap();
                asked
            };
            let (response, _asked) = tokio::join!(exchange(&connection, get()), answering);
            let body = response.unwrap().into_body();
            assert_eq!(
                http_body::Body::size_hint(&body).exact(),
                expected,
                "{length:?}"
            );
            assert_eq!(http_body::Body::is_end_stream(&body), ends, "{length:?}");
        });
    }
}

/// RFC 9113, 8.2.2: the engine sends no head that has any of these.
#[test]
fn fields_that_filters_have_set_and_http2_has_no_place_for() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let mut request = get();
        for (name, value) in [
            ("connection", "close, x-named"),
            ("x-named", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip, trailers"),
            ("x-kept", "1"),
        ] {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(name, value);
        }
        let sent = pin!(exchange(&connection, request));
        let answering = async {
            let mut asked = endpoint.next().await;
            asked.answer(Response::new(()), "ok");
            asked.request.headers().clone()
        };
        let (answer, seen) = tokio::join!(sent, answering);
        assert_eq!(answer.unwrap().status(), 200);
        let mut names: Vec<_> = seen.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["te", "x-kept"]);
        assert_eq!(seen["te"], "trailers");
    });
}

/// The id of a request is never indexed; but its name is, from the first one on. What a client wants never indexed
/// never is.
#[test]
fn of_a_unique_value_only_the_name_is_kept() {
    const SECRET: &str =
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const NAMES: [&str; 4] = [
        "x-request-id",
        "x-request-id",
        "x-request-id",
        "x-request-ix",
    ];
    run(async {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let (passed, mut reader) = tokio::io::duplex(1 << 20);
        // Counts what the client sends, on its way to the endpoint.
        let sent = Rc::new(Cell::new(0));
        let count = Rc::clone(&sent);
        let (mut from, mut to) = tokio::io::split(theirs);
        let (mut back, mut on) = tokio::io::split(passed);
        spawn_local(async move {
            let mut bytes = vec![0; 1 << 16];
            while let Ok(read @ 1..) = from.read(&mut bytes).await {
                count.set(count.get() + read);
                on.write_all(&bytes[..read]).await.unwrap();
            }
        });
        spawn_local(async move { drop(tokio::io::copy(&mut back, &mut to).await) });
        let (sender, asked) = mpsc::channel(100);
        let (close, closed) = mpsc::channel(1);
        reader.flush().await.unwrap();
        spawn_local(serve(h2::server::Builder::new(), reader, sender, closed));
        let (engine, driven) = h2::client::handshake(ours).await.unwrap();
        spawn_local(async move { drop(driven.await) });
        let (connection, mut endpoint) = (Connection::new(engine), Endpoint { asked, close });
        let mut sizes = Vec::new();
        for (number, name) in NAMES.into_iter().enumerate() {
            let value = format!("{number}{number}{number}{number}");
            let mut unique = HeaderValue::try_from(&value).unwrap();
            unique.set_sensitive(true);
            let mut asks = get();
            asks.headers_mut().insert(name, unique);
            let mut secret = HeaderValue::from_static(SECRET);
            secret.set_sensitive(true);
            asks.headers_mut().insert("authorization", secret);
            let before = sent.get();
            let exchange = exchange(&connection, asks);
            let served = async {
                let mut asked = endpoint.next().await;
                assert_eq!(asked.request.headers()[name], value.as_str());
                sizes.push(sent.get() - before);
                asked.answer(Response::new(()), "");
            };
            let (answered, ()) = tokio::join!(exchange, served);
            assert_eq!(answered.unwrap().status(), 200);
        }
        // The first ones have the preface and acknowledge settings. A name of as many letters takes more.
        assert!(sizes[3] > sizes[2] + 5, "{sizes:?}");
        // Letters take five bits at least; an indexed value would take one byte in all.
        assert!(sizes[2] > SECRET.len() * 5 / 8, "{sizes:?}");
    });
}

/// Of a body that is larger than the window, no more is read than fits.
#[test]
fn a_body_waits_for_its_window() {
    const PIECES: usize = 40;
    run(async {
        let (connection, mut endpoint) =
            connected_to(h2::server::Builder::new().initial_window_size(10_000)).await;
        let connection = Rc::new(connection);
        let body = Slow::default();
        for _ in 0..PIECES {
            body.push(Ok(Frame::data(vec![b'x'; 5_000].into())));
        }
        body.end();
        let sent = spawn_local({
            let (connection, body) = (Rc::clone(&connection), body.clone());
            async move { exchange(&connection, request(Method::POST, body)).await }
        });
        let mut asked = endpoint.next().await;
        let stands = || PIECES - body.0.borrow().ready.len();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!((2..=4).contains(&stands()), "{} pieces were read", stands());
        assert_eq!(asked.body().await.unwrap().len(), PIECES * 5_000);
        asked.answer(Response::new(()), "ok");
        assert_eq!(sent.await.unwrap().unwrap().status(), 200);
        assert!(body.is_let_go());
    });
}

/// What comes after the head of the answer goes on, whether or not anybody takes the answer.
#[test]
fn both_directions_are_independent() {
    for takes in [true, false] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            let body = Slow::default();
            let answering = async {
                let mut asked = endpoint.next().await;
                let stream = asked
                    .answer
                    .send_response(Response::new(()), false)
                    .unwrap();
                (asked, stream)
            };
            let asking = exchange(&connection, request(Method::POST, body.clone()));
            let (answer, (mut asked, mut stream)) = tokio::join!(asking, answering);
            let mut answer = answer.unwrap().into_body();
            for word in ["one", "two", "three"] {
                body.data(word);
                let came = within(asked.request.body_mut().data()).await;
                assert_eq!(came.unwrap().unwrap(), word);
                stream.send_data(word.into(), false).unwrap();
                if takes {
                    let echo = within(answer.frame()).await.unwrap().unwrap();
                    assert_eq!(echo.into_data().unwrap(), word);
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("3"));
            body.push(Ok(Frame::trailers(trailers)));
            let sum = async {
                assert!(asked.request.body_mut().data().await.is_none());
                asked.request.body_mut().trailers().await.unwrap()
            };
            assert_eq!(within(sum).await.unwrap()["x-sum"], "3");
            drop(answer);
        });
    }
}

/// A reset ends the sending of a body that has gone on behind its answer.
#[test]
fn a_reset_lets_go_of_the_body() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let body = Slow::default();
        let answering = async {
            let mut asked = endpoint.next().await;
            asked.answer(Response::new(()), "early");
            asked
        };
        let asking = exchange(&connection, request(Method::POST, body.clone()));
        let (answer, mut asked) = tokio::join!(asking, answering);
        assert!(!body.is_let_go());
        asked.answer.send_reset(Reason::NO_ERROR);
        drop(asked);
        while !body.is_let_go() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let whole = answer.unwrap().into_body().collect().await.unwrap();
        assert_eq!(whole.to_bytes(), "early");
    });
}

/// Who stops waiting cancels; a client that breaks off is no order of ours.
#[test]
fn what_the_endpoint_is_told_of_a_request_that_breaks() {
    for (breaks, expected) in [(false, Reason::CANCEL), (true, Reason::INTERNAL_ERROR)] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            let body = Slow::default();
            let exchange = connection
                .begin(request(Method::POST, body.clone()))
                .unwrap();
            let sent = spawn_local(exchange);
            let mut asked = endpoint.next().await;
            if breaks {
                body.push(Err("the client left"));
                assert!(sent.await.unwrap().is_err());
            } else {
                sent.abort();
            }
            let reason = poll_fn(|cx| asked.answer.poll_reset(cx)).await;
            assert_eq!(reason.unwrap(), expected);
            assert!(body.is_let_go());
        });
    }
}

/// Bodies whose length is known tell it, where it means something.
#[test]
fn lengths_of_requests() {
    struct Sized(u64);
    impl http_body::Body for Sized {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(None)
        }
        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0)
        }
    }
    for (method, length, told, expected) in [
        (Method::GET, 0, None, None),
        (Method::GET, 3, None, Some("3")),
        (Method::POST, 0, None, Some("0")),
        (Method::DELETE, 0, None, None),
        (Method::POST, 5, Some("5"), Some("5")),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(told) = told {
            headers.insert("content-length", HeaderValue::from_static(told));
        }
        super::tell_length(&method, &mut headers, &Sized(length));
        let got = headers.get("content-length").map(|it| it.to_str().unwrap());
        assert_eq!(got, expected, "{method} {length}");
        assert!(headers.len() <= 1);
    }
}
