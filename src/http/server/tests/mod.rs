//! The same exchanges by this engine and by hyper, over real sockets: the client sees the same bytes.

mod bodies;

use std::cell::Cell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, SizeHint};
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::http::age::AgeLimits;
use crate::http::flood;
use crate::http::stall::Signals;
use crate::tls::stream::Stream;

/// A body of these frames.
#[derive(Debug, Clone)]
struct Frames {
    left: VecDeque<Option<Bytes>>,
    trailers: Option<HeaderMap>,
    /// What it says of its length.
    size: Option<u64>,
    /// Whether it knows that a frame is the last one.
    knows_its_end: bool,
    /// It breaks off there.
    breaks: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("broken")]
struct Broken;

impl Body for Frames {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.left.pop_front() {
            Some(Some(data)) => Poll::Ready(Some(Ok(Frame::data(data)))),
            Some(None) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None if self.breaks => Poll::Ready(Some(Err(Broken))),
            None => Poll::Ready(self.trailers.take().map(|it| Ok(Frame::trailers(it)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        let is_over = self.left.iter().all(Option::is_none) && self.trailers.is_none();
        self.knows_its_end && is_over && !self.breaks
    }

    fn size_hint(&self) -> SizeHint {
        self.size
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[derive(Debug, Clone)]
struct Scripted {
    status: u16,
    phrase: Option<&'static str>,
    fields: Vec<(&'static str, String)>,
    body: Frames,
}

impl Scripted {
    fn answer(&self) -> Response<Frames> {
        let mut response = Response::new(self.body.clone());
        *response.status_mut() = StatusCode::from_u16(self.status).unwrap();
        if let Some(phrase) = self.phrase {
            let phrase = ReasonPhrase::from_static(phrase.as_bytes());
            response.extensions_mut().insert(phrase);
        }
        for (name, value) in &self.fields {
            let name = HeaderName::from_static(name);
            response
                .headers_mut()
                .append(name, HeaderValue::from_str(value).unwrap());
        }
        response
    }
}

const NO_HTTP2: flood::Limits = flood::Limits {
    pings: 0,
    settings: 0,
    resets: 0,
    provoked_resets: 0,
    priorities: 0,
    empty_data: 0,
    window_updates: 0,
    continuations: 0,
    other_frames: 0,
    pending_resets: 0,
    local_resets: 0,
    streams: 0,
};

fn options() -> ServeOptions {
    ServeOptions {
        http1: true,
        h2c: false,
        header_timeout: Duration::ZERO,
        idle_timeout: Duration::ZERO,
        write_timeout: Duration::ZERO,
        age: AgeLimits::default(),
        header_bytes: 8192,
        header_count: 100,
        http2: NO_HTTP2,
        half_close: true,
    }
}

async fn connected() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), accepted.unwrap().0)
}

/// Sends `asked` and nothing more; what comes back.
async fn ask(mut client: TcpStream, asked: &str) -> String {
    client.write_all(asked.as_bytes()).await.unwrap();
    client.shutdown().await.unwrap();
    let mut answered = Vec::new();
    // A reset ends it as well.
    drop(client.read_to_end(&mut answered).await);
    String::from_utf8_lossy(&answered).into_owned()
}

/// What comes back, how many requests there were, and whether it ended in order.
async fn by_us(asked: &str, scripted: &Scripted) -> (String, u32, bool) {
    let (client, accepted) = connected().await;
    let count = Cell::new(0);
    let service = |_: RequestMessage<DownstreamBody>| {
        count.set(count.get() + 1);
        std::future::ready(Ok::<_, Infallible>(scripted.answer().into()))
    };
    let signals = Arc::<Signals>::default();
    let socket = Watched::new(Stream::Plain(accepted), signals, true);
    let control = Control::new(Rc::new(Cell::new(Instant::now())));
    let options = options();
    let server = Client::new(socket, &options);
    let serve = async {
        let served = server.serve(&options, &control, &service).await;
        drop(server);
        matches!(served, Served::Ended(Ended::Closed))
    };
    let (answered, ended) = tokio::join!(ask(client, asked), serve);
    (answered, count.get(), ended)
}

async fn by_hyper(asked: &str, scripted: &Scripted) -> (String, u32, bool) {
    let (client, accepted) = connected().await;
    let count = Cell::new(0);
    let service = service_fn(|_| {
        count.set(count.get() + 1);
        std::future::ready(Ok::<_, Infallible>(scripted.answer()))
    });
    let serve = async {
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(accepted), service);
        connection.await.is_ok()
    };
    let (answered, ended) = tokio::join!(ask(client, asked), serve);
    (answered, count.get(), ended)
}

/// Without the time.
fn timeless(answered: &str) -> String {
    let lines = answered.split("\r\n");
    lines
        .map(|line| if line.ends_with(" GMT") { "date" } else { line })
        .collect::<Vec<_>>()
        .join("\n")
}

fn same(asked: &str, scripted: &Scripted) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let ours = runtime.block_on(by_us(asked, scripted));
    let theirs = runtime.block_on(by_hyper(asked, scripted));
    assert_eq!(ours.1, theirs.1, "requests, of {asked:?} {scripted:?}");
    assert_eq!(ours.2, theirs.2, "the end, of {asked:?} {scripted:?}");
    if ours.2 {
        assert_eq!(timeless(&ours.0), timeless(&theirs.0), "{scripted:?}");
    }
}

const FIELDS: [(&str, &str); 10] = [
    ("x-a", "1"),
    ("set-cookie", "a"),
    ("x-a", "\u{e9}"),
    ("connection", "x-b"),
    ("connection", "x-c, Close"),
    ("trailer", "x-t"),
    ("trailer", "x-t, host, , x-u"),
    ("date", "Thu, 26 Nov 2026 04:00:00 GMT"),
    ("keep-alive", "5"),
    ("server", "w"),
];

fn scripted() -> impl Strategy<Value = Scripted> {
    let status = prop::sample::select(vec![200, 200, 200, 201, 204, 304, 404, 500, 299]);
    let phrase = prop::sample::select(vec![None, None, Some("Fine"), Some("")]);
    let fields = prop::collection::vec(prop::sample::select(FIELDS.to_vec()), 0..5);
    let data = prop::sample::select(vec![
        Some(0),
        Some(1),
        Some(17),
        Some(5000),
        Some(70_000),
        None,
    ]);
    let body = prop::collection::vec(data, 0..5);
    let off = prop::sample::select(vec![0, 0, 0, 1, -1]);
    let flags = prop::array::uniform4(any::<bool>());
    let trailers = prop::sample::select(vec!["", "", "x-t", "x-u", "host", "x-z"]);
    (status, phrase, fields, body, (off, flags, trailers, 0..12)).prop_map(
        |(
            status,
            phrase,
            fields,
            body,
            (off, [known, told, knows_its_end, _], trailer, breaks),
        )| {
            let left: VecDeque<_> = body
                .into_iter()
                .map(|size| size.map(|size| Bytes::from(vec![b'x'; size])))
                .collect();
            let sum: usize = left.iter().flatten().map(Bytes::len).sum();
            let length = (sum as u64).saturating_add_signed(off);
            let mut fields: Vec<_> = fields
                .into_iter()
                .map(|(name, value)| (name, value.to_owned()))
                .collect();
            // hyper asserts that a body of known length has it.
            if told {
                fields.push(("content-length", length.to_string()));
            }
            let trailers = (!trailer.is_empty()).then(|| {
                let mut trailers = HeaderMap::new();
                for value in ["1", "2"] {
                    trailers.append(trailer, HeaderValue::from_static(value));
                }
                trailers
            });
            Scripted {
                status,
                phrase,
                fields,
                body: Frames {
                    left,
                    trailers,
                    size: known.then_some(length),
                    knows_its_end,
                    breaks: breaks == 0,
                },
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_client_sees_the_same(
        scripted in scripted(),
        method in prop::sample::select(vec!["GET", "GET", "HEAD", "DELETE"]),
        fields in prop::sample::select(vec!["", "TE: trailers\r\n", "Connection: close\r\n"]),
    ) {
        let first = format!("{method} /1 HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let second = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        same(&format!("{first}{second}"), &scripted);
    }
}

fn plain(body: &'static str) -> Scripted {
    Scripted {
        status: 200,
        phrase: None,
        fields: Vec::new(),
        body: Frames {
            left: [Some(Bytes::from_static(body.as_bytes()))].into(),
            trailers: None,
            size: Some(body.len() as u64),
            knows_its_end: true,
            breaks: false,
        },
    }
}

#[test]
fn a_small_exchange_as_it_is() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let asked = "GET / HTTP/1.1\r\n\r\n".repeat(3);
    let (answered, count, in_order) = runtime.block_on(by_us(&asked, &plain("answer")));
    assert_eq!(
        timeless(&answered),
        "HTTP/1.1 200 OK\ncontent-length: 6\ndate\n\nanswer".repeat(3)
    );
    assert_eq!((count, in_order), (3, true));
}

/// What there was is sent, and no end of it.
#[test]
fn a_cut_answer_shows() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for size in [Some(9), None] {
        for breaks in [true, false] {
            let mut cut = plain("hello");
            cut.body.size = size;
            cut.body.breaks = breaks;
            cut.body.knows_its_end = false;
            let (answered, _, in_order) =
                runtime.block_on(by_us("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &cut));
            let is_whole = size.is_none() && !breaks;
            assert_eq!(in_order, is_whole, "{answered}");
            assert!(answered.contains("hello"), "{answered}");
            assert_eq!(answered.ends_with("0\r\n\r\n"), is_whole, "{answered}");
        }
    }
}

/// A service cannot say more than one thing.
#[test]
fn a_final_answer_is_final() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let early = Scripted {
        status: 103,
        fields: vec![("link", "x".to_owned())],
        ..plain("")
    };
    let asked = "GET / HTTP/1.1\r\n\r\n".repeat(2);
    let (answered, count, in_order) = runtime.block_on(by_us(&asked, &early));
    let error = "HTTP/1.1 500 Internal Server Error\ncontent-length: 0\ndate\n\n";
    assert_eq!(timeless(&answered), error);
    assert_eq!((count, in_order), (1, true));
}

/// What is not plain comes out again, byte by byte.
#[test]
fn what_is_not_served_here() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let large = format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000));
    for other in [
        "POST / HTTP/1.1\r\nContent-Length: 02\r\n\r\nhi",
        "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\nGET /",
        "GET / HTTP/1.1\r\nUpgr",
        "junk\r\n\r\n",
        &large,
    ] {
        runtime.block_on(async {
            let (client, accepted) = connected().await;
            let service = |_: RequestMessage<DownstreamBody>| {
                std::future::ready(Ok::<_, Infallible>(plain("").answer().into()))
            };
            let signals = Arc::<Signals>::default();
            let socket = Watched::new(Stream::Plain(accepted), Arc::clone(&signals), true);
            let control = Control::new(Rc::new(Cell::new(Instant::now())));
            let options = options();
            let server = Client::new(socket, &options);
            let asked = format!("GET / HTTP/1.1\r\n\r\n{other}");
            let serve = async {
                let Served::Other = server.serve(&options, &control, &service).await else {
                    panic!("{other:?} was served");
                };
                let mut socket = server.take().unwrap();
                let mut left = Vec::new();
                socket.read_to_end(&mut left).await.unwrap();
                assert_eq!(String::from_utf8_lossy(&left), other);
                drop(socket);
            };
            let (answered, ()) = tokio::join!(ask(client, &asked), serve);
            assert_eq!(answered.matches("200 OK").count(), 1, "{answered:?}");
        });
    }
}
