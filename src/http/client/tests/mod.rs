//! Exchanges over real sockets, with an endpoint that answers as it is told.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Empty};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Connection, Error};
use crate::tls::stream::Stream;

mod uploads;

/// Both ends.
async fn connected() -> (Rc<Connection>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, endpoint) = tokio::join!(TcpStream::connect(address), listener.accept());
    let endpoint = endpoint.unwrap().0;
    endpoint.set_nodelay(true).unwrap();
    (Connection::new(Stream::Plain(client.unwrap())), endpoint)
}

fn request(method: Method) -> Request<Empty<Bytes>> {
    let request = Request::builder().method(method).uri("/path");
    request
        .header("host", "a.example")
        .body(Empty::new())
        .unwrap()
}

/// An answer that was read to its end.
#[derive(Debug, PartialEq, Eq)]
struct Whole {
    status: u16,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// Asks once; the endpoint sends `pieces`, each on its own, and closes where `closes`.
async fn asked(
    connection: &Rc<Connection>,
    endpoint: &mut Option<TcpStream>,
    method: Method,
    pieces: &[&[u8]],
    closes: bool,
) -> Result<Whole, Error> {
    let answer = async {
        let socket = endpoint.as_mut().unwrap();
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert_ne!(socket.read_buf(&mut asked).await.unwrap(), 0);
        }
        for piece in pieces {
            // What has been refused is not taken any more.
            if socket.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        if closes {
            drop(endpoint.take());
        }
    };
    let whole = async {
        let mut request = request(method).into();
        let response = connection.exchange(&mut request, None).await;
        let response = response.map_err(|failed| failed.error)?;
        let status = response.head.status.as_u16();
        let collected = response.body.collect().await?;
        Ok(Whole {
            status,
            trailers: collected.trailers().cloned(),
            body: collected.to_bytes().to_vec(),
        })
    };
    let both = async { tokio::join!(whole, answer).0 };
    let limited = tokio::time::timeout(Duration::from_secs(5), both).await;
    limited.expect("an exchange ends")
}

async fn is_over(connection: &Connection) -> bool {
    let looked = poll_fn(|cx| Poll::Ready(connection.poll_over(cx).is_ready()));
    looked.await
}

#[tokio::test]
async fn answers_and_what_follows_them() {
    let many = [
        b"HTTP/1.1 200 OK\r\n",
        &b"a: 1\r\n".repeat(90)[..],
        b"content-length: 0\r\n\r\n",
    ]
    .concat();
    let large = vec![b'x'; 300_000];
    let large_answer = [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 300000\r\n\r\n"[..],
        &large,
    ]
    .concat();
    let large_chunk = [
        &b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n493E0;ext=\"a\"\r\n"[..],
        &large,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    for (method, answer, closes, status, body, again) in [
        ("GET", &b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"[..], false, 200, &b"hello"[..], true),
        ("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello!", false, 200, b"hello", false),
        ("GET", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello", false, 200, b"hello", false),
        ("GET", b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n", false, 503, b"", true),
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", false, 200, b"", true),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", false, 304, b"", true),
        ("GET", b"HTTP/1.1 200 OK\r\n\r\nto the end", true, 200, b"to the end", false),
        ("GET", b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", false, 200, b"ok", false),
        ("GET", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok", false, 200, b"ok", true),
        ("GET", b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\nok", true, 200, b"ok", false),
        ("GET", b"HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\nHTTP/1.1 204 No\r\n\r\n", false, 204, b"", true),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", false, 200, b"hello!", true),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", false, 200, b"", true),
        ("GET", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n005 ; a=b\r\nhello\r\n0;x\r\n\r\n", false, 200, b"hello", true),
        ("GET", &large_answer, false, 200, &large, true),
        ("GET", &large_chunk, false, 200, &large, true),
        ("GET", &many, false, 200, b"", true),
    ] {
        let told = String::from_utf8_lossy(answer.get(..60).unwrap_or(answer));
        let method: Method = method.parse().unwrap();
        let cuts = if answer.len() < 200 { answer.len() } else { 3 };
        for cut in 1..=cuts {
            let (connection, endpoint) = connected().await;
            let mut endpoint = Some(endpoint);
            let (first, second) = answer.split_at(answer.len() * cut / cuts);
            let whole = asked(&connection, &mut endpoint, method.clone(), &[first, second], closes).await;
            let expected = Whole { status, body: body.to_vec(), trailers: None };
            assert_eq!(whole.unwrap(), expected, "{told} {cut}");
            assert_eq!(connection.is_ready(), again, "{told} {cut}");
            if again {
                assert!(!is_over(&connection).await, "{told} {cut}");
                let next = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
                let next = asked(&connection, &mut endpoint, Method::GET, &[next], false).await;
                assert_eq!(next.unwrap().body, b"ok", "{told} {cut}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_cut_or_is_no_answer() {
    let chunks =
        |rest: &str| format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{rest}");
    let endless = |line: &str| chunks(&format!("{line}{}", "x".repeat(40_000)));
    for answer in [
        String::new(),
        "HTTP/1.1 200 OK\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell".to_owned(),
        chunks("5\r\nhel"),
        chunks("5\r\nhello"),
        chunks("5\r\nhello\r\n"),
        chunks("5\r\nhello\r\n0\r\n"),
    ] {
        let (connection, endpoint) = connected().await;
        let cut = asked(
            &connection,
            &mut Some(endpoint),
            Method::GET,
            &[answer.as_bytes()],
            true,
        )
        .await;
        assert!(matches!(cut, Err(Error::Closed)), "{answer:?}");
        assert!(is_over(&connection).await);
    }
    for answer in [
        "SSH-2.0-OpenSSH_9.9\r\n".to_owned(),
        chunks("\r\nhello"),
        chunks("x\r\nhello"),
        chunks("5\nhello\r\n0\r\n\r\n"),
        chunks("5\r\r\nhello\r\n0\r\n\r\n"),
        chunks("5 \r\r\nhello\r\n0\r\n\r\n"),
        chunks("5;a\rb\r\nhello\r\n0\r\n\r\n"),
        chunks("+5\r\nhello\r\n0\r\n\r\n"),
        chunks("0x5\r\nhello\r\n0\r\n\r\n"),
        chunks("5\r\nhello0\r\n\r\n"),
        chunks("10000000000000000\r\nhello"),
        chunks("0\r\na b: 1\r\n\r\n"),
        endless("5;"),
        endless("0\r\na: "),
        format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(200_000)),
        "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(30_000),
    ] {
        let (connection, endpoint) = connected().await;
        let bad = asked(
            &connection,
            &mut Some(endpoint),
            Method::GET,
            &[answer.as_bytes()],
            false,
        )
        .await;
        let shown = answer.get(..90).unwrap_or(&answer).to_owned();
        assert!(matches!(bad, Err(Error::Unreadable(_))), "{shown:?}");
        assert!(is_over(&connection).await);
    }
}

#[tokio::test]
async fn a_connection_that_is_kept_is_watched() {
    let (connection, mut endpoint) = connected().await;
    assert!(!is_over(&connection).await);
    endpoint
        .write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        .await
        .unwrap();
    poll_fn(|cx| connection.poll_over(cx)).await;
    let (connection, endpoint) = connected().await;
    drop(endpoint);
    poll_fn(|cx| connection.poll_over(cx)).await;
    assert!(!connection.is_ready() && connection.into_stream().is_none());
}

#[tokio::test]
async fn a_request_that_is_given_up_ends_its_connection() {
    let (connection, mut endpoint) = connected().await;
    {
        let mut request = request(Method::GET).into();
        let asking = connection.exchange(&mut request, None);
        let limited = tokio::time::timeout(Duration::from_millis(1), asking).await;
        assert!(limited.is_err());
    }
    assert!(is_over(&connection).await);
    drop(connection);
    let mut all = Vec::new();
    endpoint.read_to_end(&mut all).await.unwrap();
    assert!(all.starts_with(b"GET /path HTTP/1.1\r\n"));
}

/// `bytes` in pieces of these lengths, over and over.
fn pieces<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let piece = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece.0);
        bytes = piece.1;
    }
    pieces
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_are_put_together(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
        extension in "(;[a-z]{1,5}(=[a-z]{1,5})?)?",
        trailers in prop::collection::btree_map("x-[a-z]{1,8}", "[a-z]{0,8}", 0..3),
        lengths in prop::collection::vec(1..120_usize, 1..5),
    ) {
        let mut answer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
        for chunk in &chunks {
            answer.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            answer.extend_from_slice(chunk);
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"0\r\n");
        let mut expected = HeaderMap::new();
        for (name, value) in &trailers {
            answer.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
            expected.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        }
        answer.extend_from_slice(b"\r\n");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (whole, ready) = runtime.block_on(async {
            let (connection, endpoint) = connected().await;
            let pieces = pieces(&answer, &lengths);
            let whole = asked(&connection, &mut Some(endpoint), Method::GET, &pieces, false).await;
            (whole, connection.is_ready())
        });
        let whole = whole.unwrap();
        prop_assert_eq!(Bytes::from(whole.body), Bytes::from(chunks.concat()));
        prop_assert_eq!(whole.trailers.unwrap_or_default(), expected);
        prop_assert!(ready);
    }
}
