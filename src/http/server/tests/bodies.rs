//! Requests with bodies: the service sees and the client gets the same as with hyper, whoever reads.

use http_body_util::{BodyExt as _, Full};
use tokio::sync::oneshot;
use tokio::task::{LocalSet, spawn_local};

use http::Request;
use hyper::body::Incoming;

use super::*;

/// Who reads a body.
#[derive(Debug, Clone, Copy)]
enum Reader {
    /// The task of the request.
    Itself,
    /// Another one.
    Other,
    /// Nobody.
    Nobody,
}

/// What there was of a body.
async fn read<B>(body: B) -> (StatusCode, String)
where
    B: Body<Data = Bytes> + Unpin,
{
    match body.collect().await {
        Ok(whole) => {
            let trailers = whole.trailers().cloned().unwrap_or_default();
            let data = whole.to_bytes();
            let sum: u64 = data.iter().map(|byte| u64::from(*byte)).sum();
            (StatusCode::OK, format!("{} {sum} {trailers:?}", data.len()))
        }
        Err(_) => (StatusCode::BAD_REQUEST, String::new()),
    }
}

async fn answer<B>(body: B, reader: Reader) -> Result<Response<Full<Bytes>>, Infallible>
where
    B: Body<Data = Bytes> + Unpin + 'static,
{
    let (status, text) = match reader {
        Reader::Itself => read(body).await,
        Reader::Other => spawn_local(read(body)).await.unwrap(),
        Reader::Nobody => (StatusCode::OK, "unread".to_owned()),
    };
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    Ok(response)
}

/// Sends the pieces one by one; what comes back.
async fn ask_in_pieces(mut client: TcpStream, pieces: &[&[u8]]) -> String {
    client.set_nodelay(true).unwrap();
    for piece in pieces {
        // What has been refused is not taken any more.
        if client.write_all(piece).await.is_err() {
            break;
        }
        tokio::task::yield_now().await;
    }
    drop(client.shutdown().await);
    let mut answered = Vec::new();
    drop(client.read_to_end(&mut answered).await);
    timeless(&String::from_utf8_lossy(&answered))
}

fn served(accepted: TcpStream, half_close: bool) -> (Client, ServeOptions, Rc<Control>) {
    let signals = Arc::<Signals>::default();
    let socket = Watched::new(Stream::Plain(accepted), signals, half_close);
    let options = ServeOptions {
        half_close,
        ..options()
    };
    let control = Control::new(Rc::new(Cell::new(Instant::now())));
    (Client::new(socket, &options), options, control)
}

async fn by_us(pieces: &[&[u8]], reader: Reader) -> String {
    let (client, accepted) = connected().await;
    let (server, options, control) = served(accepted, true);
    let service = async |request: RequestMessage<DownstreamBody>| {
        answer(request.body, reader)
            .await
            .map(ResponseMessage::from)
    };
    let serve = async {
        let ended = server.serve(&options, &control, &service).await;
        drop(server);
        assert!(matches!(ended, Served::Ended(_)), "{ended:?}");
    };
    tokio::join!(ask_in_pieces(client, pieces), serve).0
}

async fn by_hyper(pieces: &[&[u8]], reader: Reader) -> String {
    let (client, accepted) = connected().await;
    // As it is used, so that no reset destroys an answer.
    let socket = Watched::new(Stream::Plain(accepted), Arc::default(), true);
    let service = service_fn(|request: Request<Incoming>| answer(request.into_body(), reader));
    let serve = async {
        let connection = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(socket), service);
        drop(connection.await);
    };
    tokio::join!(ask_in_pieces(client, pieces), serve).0
}

/// Runs it, and all tasks that it spawns, for a bounded time.
fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let limited = async { tokio::time::timeout(Duration::from_secs(10), future).await };
    let ended = LocalSet::new().block_on(&runtime, limited);
    ended.expect("it ends")
}

fn same(pieces: &[&[u8]], reader: Reader) -> String {
    let (ours, theirs) = run(async {
        let ours = by_us(pieces, reader).await;
        (ours, by_hyper(pieces, reader).await)
    });
    // Where it closes for a body that does not come, hyper does not say so.
    let told = |answered: &str| answered.replace("\nconnection: close", "");
    assert_eq!(told(&ours), told(&theirs), "{reader:?}");
    ours
}

/// The framing of a body, and the body as it is sent.
fn framed(sizes: &[usize], chunked: bool, extension: &str, trailer: &str) -> (String, Vec<u8>) {
    let data = |size: &usize| (0..=255).cycle().take(*size).collect::<Vec<u8>>();
    if !chunked {
        let body: Vec<u8> = sizes.iter().flat_map(data).collect();
        return (format!("Content-Length: {}", body.len()), body);
    }
    let mut body = Vec::new();
    for size in sizes {
        body.extend_from_slice(format!("{size:X}{extension}\r\n").as_bytes());
        body.extend_from_slice(&data(size));
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("0\r\n{trailer}\r\n").as_bytes());
    ("Transfer-Encoding: chunked".to_owned(), body)
}

const SECOND: &[u8] = b"GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// In any pieces; where a byte is another one, too.
    #[test]
    fn the_client_and_the_service_see_the_same(
        sizes in prop::collection::vec(prop::sample::select(vec![1, 2, 100, 5000, 70_000]), 0..4),
        chunked in any::<bool>(),
        extension in prop::sample::select(vec!["", ";a", " ;b=\"c\""]),
        trailer in prop::sample::select(vec!["", "x-t: 1\r\n", "x-t: 1\r\nx-t: 2\r\n"]),
        method in prop::sample::select(vec!["POST", "GET", "HEAD"]),
        fields in prop::sample::select(vec!["", "", "Connection: close\r\n"]),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        wrong in prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>())),
        other in any::<bool>(),
    ) {
        let (framing, mut body) = framed(&sizes, chunked, extension, trailer);
        if let (Some((at, byte)), true) = (wrong, chunked) {
            let at = at.index(body.len());
            // A bare LF in the trailers is only refused here.
            if byte != b'\n' && body[at] != b'\r' {
                body[at] = byte;
            }
        }
        let head = format!("{method} /1 HTTP/1.1\r\nHost: a\r\n{fields}{framing}\r\n\r\n");
        let asked = [head.as_bytes(), &body, SECOND].concat();
        cuts.sort_by_key(|cut| cut.index(asked.len()));
        let ends = cuts.iter().map(|cut| cut.index(asked.len()));
        let mut from = 0;
        let mut pieces = Vec::new();
        for to in ends.chain([asked.len()]) {
            pieces.push(&asked[from..to]);
            from = to;
        }
        same(&pieces, if other { Reader::Other } else { Reader::Itself });
    }
}

/// What is there is skipped, and what is not ends the connection.
#[test]
fn a_body_that_nobody_reads() {
    for (framing, body, stays) in [
        ("Content-Length: 5", "hello", true),
        ("Content-Length: 6", "hello", false),
        (
            "Transfer-Encoding: chunked",
            "5\r\nhello\r\n0\r\n\r\n",
            true,
        ),
        ("Transfer-Encoding: chunked", "5\r\nhello\r\n", false),
        ("Transfer-Encoding: chunked", "5\r\nhelloX", false),
    ] {
        let head = format!("POST /1 HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
        let second = if stays { SECOND } else { b"" };
        let asked = [head.as_bytes(), second].concat();
        let answered = same(&[&asked], Reader::Nobody);
        let count = answered.matches("200 OK").count();
        assert_eq!(count, if stays { 2 } else { 1 }, "{head:?}");
        assert!(answered.contains("connection: close"), "{answered:?}");
    }
}

/// In large pieces, and with what follows.
#[test]
fn a_large_body() {
    let (framing, body) = framed(&[9_000_000], false, "", "");
    let head = format!("PUT /1 HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n");
    for reader in [Reader::Itself, Reader::Other] {
        let answered = same(&[head.as_bytes(), &body, SECOND], reader);
        assert!(answered.contains("9000000 "), "{answered:?}");
        assert_eq!(answered.matches("200 OK").count(), 2);
    }
}

const HEAD: &[u8] = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello";

/// Once another task has read the body to its end, the loop looks for the client again.
#[test]
fn a_client_that_leaves_behind_its_body() {
    run(async {
        let (mut client, accepted) = connected().await;
        let (server, options, control) = served(accepted, false);
        let (told, over) = oneshot::channel();
        let told = Cell::new(Some(told));
        let service = |request: RequestMessage<DownstreamBody>| {
            let told = told.take().unwrap();
            spawn_local(async move {
                let whole = request.body.collect().await.unwrap();
                told.send(whole.to_bytes()).unwrap();
            });
            std::future::pending::<Result<ResponseMessage<Full<Bytes>>, Infallible>>()
        };
        let ask = async {
            client.write_all(HEAD).await.unwrap();
            tokio::task::yield_now().await;
            client.write_all(b"world").await.unwrap();
            assert_eq!(over.await.unwrap(), "helloworld");
            // The loop is waiting by then.
            tokio::task::yield_now().await;
            drop(client);
        };
        let (ended, ()) = tokio::join!(server.serve(&options, &control, &service), ask);
        assert!(matches!(ended, Served::Ended(Ended::Io)));
    });
}

/// Its reader is not left waiting.
#[test]
fn a_body_whose_connection_is_closed() {
    run(async {
        let (mut client, accepted) = connected().await;
        let (server, options, control) = served(accepted, true);
        let (told, over) = oneshot::channel();
        let told = Cell::new(Some(told));
        let service = |request: RequestMessage<DownstreamBody>| {
            let told = told.take().unwrap();
            spawn_local(async move {
                told.send(request.body.collect().await.is_err()).unwrap();
            });
            std::future::pending::<Result<ResponseMessage<Full<Bytes>>, Infallible>>()
        };
        client.write_all(HEAD).await.unwrap();
        let serve = async {
            let served = server.serve(&options, &control, &service);
            let short = tokio::time::timeout(Duration::from_millis(50), served).await;
            assert!(short.is_err());
            drop(server);
        };
        let (broken, ()) = tokio::join!(over, serve);
        assert!(broken.unwrap());
        // The socket is closed although the body was still there.
        let mut rest = Vec::new();
        drop(client.read_to_end(&mut rest).await);
        assert!(rest.is_empty());
    });
}

/// An answer before the end of the body: the next request is read once the body has been, and not at all
/// when nobody reads it to its end.
#[test]
fn an_answer_that_comes_early() {
    for is_read in [true, false] {
        let answered = run(async {
            let (mut client, accepted) = connected().await;
            let (server, options, control) = served(accepted, true);
            let (told, over) = oneshot::channel();
            let over = Cell::new(Some(over));
            let service = |request: RequestMessage<DownstreamBody>| {
                if let Some(over) = over.take() {
                    spawn_local(async move {
                        let mut body = request.body;
                        body.frame().await.unwrap().unwrap();
                        over.await.unwrap();
                        if is_read {
                            body.collect().await.unwrap();
                        }
                    });
                }
                let early = Full::new(Bytes::from_static(b"early"));
                let answer = ResponseMessage::new(StatusCode::OK, early);
                std::future::ready(Ok::<_, Infallible>(answer))
            };
            let ask = async {
                client.write_all(HEAD).await.unwrap();
                let mut answered = Vec::new();
                while !answered.ends_with(b"early") {
                    assert_ne!(client.read_buf(&mut answered).await.unwrap(), 0);
                }
                told.send(()).unwrap();
                if is_read {
                    let rest = [b"world", SECOND].concat();
                    client.write_all(&rest).await.unwrap();
                }
                drop(client.read_to_end(&mut answered).await);
                String::from_utf8(answered).unwrap()
            };
            let serve = async {
                let ended = server.serve(&options, &control, &service).await;
                drop(server);
                assert!(matches!(ended, Served::Ended(Ended::Closed)));
            };
            tokio::join!(ask, serve).0
        });
        let count = answered.matches("200 OK").count();
        assert_eq!(count, if is_read { 2 } else { 1 }, "{answered:?}");
    }
}
