//! Requests with bodies: what the endpoint gets, and what comes of answers before their end.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::connected;
use crate::http::client::{Body, Connection, Error, Failed};
use crate::http::message::{RequestMessage, ResponseMessage};

type Given = UnsyncBoxBody<Bytes, io::Error>;
type Pieces = mpsc::Sender<io::Result<Frame<Bytes>>>;

const HEAD: &str = "POST /path HTTP/1.1\r\nhost: a.example\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A request whose body comes as it is sent.
fn request(fields: &[(&str, &str)]) -> (RequestMessage<Given>, Pieces) {
    let (pieces, coming) = mpsc::channel(100);
    let coming = futures_util::stream::unfold(coming, async |mut coming| {
        let piece: io::Result<Frame<Bytes>> = coming.recv().await?;
        Some((piece, coming))
    });
    let body = StreamBody::new(Box::pin(coming)).boxed_unsync();
    let mut request = Request::post("/path").header("host", "a.example");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    (request.body(body).unwrap().into(), pieces)
}

fn data(bytes: impl Into<Bytes>) -> io::Result<Frame<Bytes>> {
    Ok(Frame::data(bytes.into()))
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    let limited = tokio::time::timeout(Duration::from_secs(20), what).await;
    limited.expect("it ends")
}

/// As workers have it.
fn run<T>(what: impl Future<Output = T>) -> T {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, within(what))
}

async fn until(endpoint: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    while !all.ends_with(end) {
        let count = within(endpoint.read_buf(&mut all)).await.unwrap();
        assert_ne!(count, 0, "{}", String::from_utf8_lossy(&all));
    }
    all
}

async fn read(response: ResponseMessage<Body>) -> Result<Bytes, Error> {
    Ok(within(response.body.collect()).await?.to_bytes())
}

/// What the endpoint has to see of a body.
fn written(pieces: &[Vec<u8>], chunked: bool) -> Vec<u8> {
    let all = pieces.concat();
    let mut written = HEAD.as_bytes().to_vec();
    if !chunked {
        written.extend_from_slice(format!("content-length: {}\r\n\r\n", all.len()).as_bytes());
        written.extend_from_slice(&all);
        return written;
    }
    written.extend_from_slice(b"transfer-encoding: chunked\r\n\r\n");
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        written.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        written.extend_from_slice(piece);
        written.extend_from_slice(b"\r\n");
    }
    written.extend_from_slice(b"0\r\n\r\n");
    written
}

async fn exchange(
    connection: &Rc<Connection>,
    request: &mut RequestMessage<Given>,
) -> Result<ResponseMessage<Body>, Failed> {
    within(connection.exchange(request, None)).await
}

/// RFC 9112, 6.1: who speaks HTTP/1.0 may not know chunks, and read them as requests.
#[test]
fn an_old_endpoint_is_not_kept_behind_chunks() {
    let old = b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    for (fields, end, kept) in [
        (&[("content-length", "5")][..], "hello", true),
        (&[], "0\r\n\r\n", false),
    ] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            let (mut request, pieces) = request(fields);
            pieces.send(data("hello")).await.unwrap();
            drop(pieces);
            let answer = async {
                until(&mut endpoint, end.as_bytes()).await;
                endpoint.write_all(old).await.unwrap();
            };
            let (answered, ()) = tokio::join!(exchange(&connection, &mut request), answer);
            assert_eq!(read(answered.unwrap()).await.unwrap(), "ok");
            assert_eq!(connection.is_ready(), kept, "{fields:?}");
        });
    }
}

#[test]
fn bodies_as_they_are_written() {
    let trailers = |names: &[&'static str]| {
        let fields = names
            .iter()
            .map(|name| (name.parse().unwrap(), "1".parse().unwrap()));
        Ok(Frame::trailers(fields.collect::<HeaderMap>()))
    };
    let large = "x".repeat(20_000);
    let announced = ("trailer", "X-Sum, x-more ,content-type");
    for (fields, frames, expected) in [
        (&[("content-length", "5")][..], vec![data("hel"), data(""), data("lo")], "content-length: 5\r\n\r\nhello".to_owned()),
        (&[], vec![data("hel"), data(""), data("lo")], "transfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n".to_owned()),
        (&[], vec![data("a"), data(large.clone()), data("b")], format!("transfer-encoding: chunked\r\n\r\n1\r\na\r\n4e20\r\n{large}\r\n1\r\nb\r\n0\r\n\r\n")),
        (&[], vec![data(large.clone()), data(large.clone())], format!("transfer-encoding: chunked\r\n\r\n4e20\r\n{large}\r\n4e20\r\n{large}\r\n0\r\n\r\n")),
        (&[("content-length", "40000")], vec![data(large.clone()), data(large.clone())], format!("content-length: 40000\r\n\r\n{large}{large}")),
        (&[announced], vec![data("a"), trailers(&["x-sum", "x-other", "content-type"])],
            "trailer: X-Sum, x-more ,content-type\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 1\r\n\r\n".to_owned()),
        (&[], vec![data("a"), trailers(&["x-sum"])], "transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n".to_owned()),
    ] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            for _ in 0..2 {
                let (mut request, pieces) = request(fields);
                for frame in &frames {
                    let frame = frame.as_ref().unwrap();
                    let copy = match frame.data_ref() {
                        Some(bytes) => Frame::data(bytes.clone()),
                        None => Frame::trailers(frame.trailers_ref().unwrap().clone()),
                    };
                    pieces.send(Ok(copy)).await.unwrap();
                }
                drop(pieces);
                let asking = exchange(&connection, &mut request);
                let answering = async {
                    let mut seen = vec![0; HEAD.len() + expected.len()];
                    within(endpoint.read_exact(&mut seen)).await.unwrap();
                    endpoint.write_all(OK).await.unwrap();
                    String::from_utf8(seen).unwrap()
                };
                let (answer, seen) = tokio::join!(asking, answering);
                assert_eq!(seen, format!("{HEAD}{expected}"));
                assert_eq!(read(answer.unwrap()).await.unwrap(), "ok");
                assert!(connection.is_ready());
            }
        });
    }
}

/// The head does not go out alone.
#[test]
fn a_small_request_is_one_piece() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let request = Request::post("/path").header("content-length", "1000");
        let mut request = request
            .body(Full::new(Bytes::from(vec![b'x'; 1000])))
            .unwrap()
            .into();
        let asking = connection.exchange(&mut request, None);
        let answering = async {
            let mut seen = vec![0; 4000];
            let count = endpoint.read(&mut seen).await.unwrap();
            endpoint.write_all(OK).await.unwrap();
            seen.truncate(count);
            seen
        };
        let (answer, seen) = tokio::join!(asking, answering);
        assert!(answer.is_ok() && seen.ends_with(&[b'x'; 1000]));
    });
}

#[test]
fn bodies_that_are_not_as_they_should_be() {
    let broken = || Err(io::ErrorKind::ConnectionReset.into());
    let length = ("content-length", "5");
    for (fields, frames, sent) in [
        (&[length][..], vec![data("hell")], false),
        (&[length], vec![data("hello!")], false),
        (&[length], vec![data("hello"), data("!")], false),
        (&[length], vec![], false),
        (&[], vec![broken()], false),
        (&[length], vec![broken()], false),
        (&[("content-length", "5x")], vec![data("hello")], false),
        (
            &[length],
            vec![data("hell"), Ok(Frame::data(Bytes::new())), broken()],
            true,
        ),
        (&[], vec![data("hell"), broken()], true),
    ] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            let (mut request, pieces) = request(fields);
            let mut frames = frames;
            let last = frames.pop_if(|_| sent);
            for frame in frames {
                pieces.send(frame).await.unwrap();
            }
            // Otherwise all is known from the start.
            let late = last.map(|last| (last, pieces));
            let asking = exchange(&connection, &mut request);
            let giving = async move {
                if let Some((last, pieces)) = late {
                    // What came before has gone out then.
                    for _ in 0..10 {
                        tokio::task::yield_now().await;
                    }
                    pieces.send(last).await.unwrap();
                }
            };
            let (failed, ()) = tokio::join!(asking, giving);
            let failed = failed.unwrap_err();
            assert!(matches!(failed.error, Error::Request), "{failed:?}");
            assert_eq!(failed.unsent, !sent, "{failed:?}");
            assert!(!connection.is_ready());
            drop(connection);
            let mut seen = Vec::new();
            endpoint.read_to_end(&mut seen).await.unwrap();
            assert_eq!(!seen.is_empty(), sent);
            assert!(!seen.ends_with(b"hello") && !seen.ends_with(b"0\r\n\r\n"));
        });
    }
}

#[test]
fn an_endpoint_says_continue_in_between() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let (mut request, pieces) = request(&[("expect", "100-continue")]);
        let asking = exchange(&connection, &mut request);
        let answering = async {
            until(&mut endpoint, b"\r\n\r\n").await;
            endpoint
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .await
                .unwrap();
            pieces.send(data("a")).await.unwrap();
            until(&mut endpoint, b"1\r\na\r\n").await;
            endpoint
                .write_all(b"HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n")
                .await
                .unwrap();
            pieces.send(data("b")).await.unwrap();
            drop(pieces);
            until(&mut endpoint, b"1\r\nb\r\n0\r\n\r\n").await;
            endpoint.write_all(OK).await.unwrap();
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(read(answer.unwrap()).await.unwrap(), "ok");
        assert!(connection.is_ready());
    });
}

/// No more of a body is taken than the sockets hold, and all of it arrives.
#[test]
fn a_large_body_waits_for_a_slow_endpoint() {
    const COUNT: usize = 300;
    let pieces: Vec<_> = (0..COUNT)
        .map(|number| vec![number as u8; 100_000])
        .collect();
    let length = pieces.concat().len().to_string();
    for chunked in [false, true] {
        let expected = written(&pieces, chunked);
        run(async {
            let (connection, mut endpoint) = connected().await;
            let fields = [("content-length", &*length)];
            let (mut request, giving) = request(if chunked { &[] } else { &fields });
            let given = std::cell::Cell::new(0);
            let give = async {
                for (number, piece) in pieces.iter().enumerate() {
                    giving.send(data(piece.clone())).await.unwrap();
                    given.set(number);
                }
                drop(giving);
            };
            let answer = async {
                let (mut before, mut still) = (0, 0);
                while still < 1000 {
                    tokio::task::yield_now().await;
                    still = if given.get() == before { still + 1 } else { 0 };
                    before = given.get();
                }
                assert!(before < COUNT - 1, "nobody has read, and all is given");
                let mut seen = vec![0; expected.len()];
                endpoint.read_exact(&mut seen).await.unwrap();
                endpoint.write_all(OK).await.unwrap();
                seen
            };
            let (response, (), seen) =
                tokio::join!(exchange(&connection, &mut request), give, answer);
            assert!(seen == expected, "{chunked}");
            assert_eq!(read(response.unwrap()).await.unwrap(), "ok");
            assert!(connection.is_ready());
        });
    }
}

/// Both directions at once: each piece is answered before the next one is given.
#[test]
fn a_conversation() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let (mut request, pieces) = request(&[]);
        let echo = async {
            until(&mut endpoint, b"\r\n\r\n").await;
            let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
            endpoint.write_all(head).await.unwrap();
            for number in 0..100 {
                let chunk = until(&mut endpoint, format!("\r\n{number}\r\n").as_bytes()).await;
                endpoint.write_all(&chunk).await.unwrap();
            }
            until(&mut endpoint, b"0\r\n\r\n").await;
            endpoint.write_all(b"0\r\n\r\n").await.unwrap();
        };
        let talk = async {
            let mut body = exchange(&connection, &mut request).await.unwrap().body;
            for number in 0..100 {
                pieces.send(data(number.to_string())).await.unwrap();
                let frame = within(body.frame()).await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), number.to_string());
            }
            drop(pieces);
            assert!(within(body.frame()).await.is_none());
        };
        tokio::join!(echo, talk);
        assert!(connection.is_ready());
    });
}

/// The rest is sent while nobody asks for more of the answer.
#[test]
fn an_early_answer_does_not_hold_up_the_request() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let (mut request, pieces) = request(&[("content-length", "10")]);
        let asking = exchange(&connection, &mut request);
        let answering = async {
            until(&mut endpoint, b"\r\n\r\n").await;
            let half = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no";
            endpoint.write_all(half).await.unwrap();
        };
        let (answer, ()) = tokio::join!(asking, answering);
        pieces.send(data("0123456789")).await.unwrap();
        until(&mut endpoint, b"0123456789").await;
        drop(pieces);
        endpoint.write_all(b"k").await.unwrap();
        assert_eq!(read(answer.unwrap()).await.unwrap(), "ok");
        assert!(connection.is_ready());
    });
}

/// The answer is whole, and the connection of no use. The rest of the body is still read.
#[test]
fn an_answer_that_ends_before_its_request() {
    for answer in [
        OK,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 413 Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
    ] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            let (mut request, pieces) = request(&[]);
            pieces.send(data("first")).await.unwrap();
            let asking = exchange(&connection, &mut request);
            let answering = async {
                until(&mut endpoint, b"first\r\n").await;
                endpoint.write_all(answer).await.unwrap();
            };
            let (response, ()) = tokio::join!(asking, answering);
            read(response.unwrap()).await.unwrap();
            assert!(!connection.is_ready());
            drop(connection);
            for _ in 0..1000 {
                within(pieces.send(data("more"))).await.unwrap();
            }
            within(pieces.send(Err(io::ErrorKind::Other.into())))
                .await
                .unwrap();
            within(pieces.closed()).await;
            let mut rest = Vec::new();
            endpoint.read_to_end(&mut rest).await.unwrap();
            assert!(!rest.ends_with(b"0\r\n\r\n"), "it does not look whole");
        });
    }
}

/// Whoever gives up the answer gives up the request.
#[test]
fn an_answer_that_is_given_up_ends_its_request() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let (mut request, pieces) = request(&[]);
        let asking = exchange(&connection, &mut request);
        let answering = async {
            until(&mut endpoint, b"\r\n\r\n").await;
            endpoint.write_all(&OK[..OK.len() - 1]).await.unwrap();
        };
        let (response, ()) = tokio::join!(asking, answering);
        drop(response);
        within(pieces.closed()).await;
        assert!(!connection.is_ready());
    });
}

/// A body that breaks off cuts the answer.
#[test]
fn a_body_that_breaks_off_under_its_answer() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let (mut request, pieces) = request(&[]);
        let asking = exchange(&connection, &mut request);
        let answering = async {
            until(&mut endpoint, b"\r\n\r\n").await;
            endpoint
                .write_all(b"HTTP/1.1 200 OK\r\n\r\nto the end")
                .await
                .unwrap();
        };
        let (response, ()) = tokio::join!(asking, answering);
        pieces.send(Err(io::ErrorKind::Other.into())).await.unwrap();
        assert!(matches!(read(response.unwrap()).await, Err(Error::Request)));
        assert!(!connection.is_ready());
    });
}

/// An endpoint that answers and closes, over what it has not read: the answer counts.
#[test]
fn an_answer_before_a_reset() {
    let answer = b"HTTP/1.1 413 Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno";
    for wait in [false, true] {
        run(async {
            let (connection, mut endpoint) = connected().await;
            let (mut request, pieces) = request(&[]);
            let asking = exchange(&connection, &mut request);
            let answering = async move {
                until(&mut endpoint, b"\r\n\r\n").await;
                pieces.send(data(vec![b'x'; 100_000])).await.unwrap();
                endpoint.readable().await.unwrap();
                endpoint.write_all(answer).await.unwrap();
                drop(endpoint);
                if wait {
                    for _ in 0..100 {
                        // The task that reads them may have ended.
                        let _taken = pieces.send(data(vec![b'x'; 100_000])).await;
                    }
                }
                pieces
            };
            let (response, pieces) = tokio::join!(asking, answering);
            let response = response.unwrap();
            assert_eq!(response.head.status, 413);
            assert_eq!(read(response).await.unwrap(), "no");
            assert!(!connection.is_ready());
            drop(pieces);
        });
    }
}

/// A reset without an answer is an error, and nobody can say that nothing was sent.
#[test]
fn a_reset_without_an_answer() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let (mut request, pieces) = request(&[]);
        let asking = exchange(&connection, &mut request);
        let resetting = async move {
            until(&mut endpoint, b"\r\n\r\n").await;
            pieces.send(data("x")).await.unwrap();
            endpoint.readable().await.unwrap();
            drop(endpoint);
            pieces
        };
        let (failed, _pieces) = tokio::join!(asking, resetting);
        let failed = failed.unwrap_err();
        assert!(matches!(failed.error, Error::Io(_) | Error::Closed) && !failed.unsent);
    });
}

/// On a connection that was reset before, nothing is sent.
#[test]
fn a_connection_that_is_gone() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let (mut first, pieces) = request(&[]);
        drop(pieces);
        let asking = exchange(&connection, &mut first);
        let answering = async {
            until(&mut endpoint, b"0\r\n\r\n").await;
            endpoint.write_all(OK).await.unwrap();
        };
        let (response, ()) = tokio::join!(asking, answering);
        read(response.unwrap()).await.unwrap();
        endpoint.set_zero_linger().unwrap();
        drop(endpoint);
        poll_fn(|cx| connection.poll_over(cx)).await;
        let (mut second, pieces) = request(&[("content-length", "1")]);
        pieces.send(data("x")).await.unwrap();
        let failed = exchange(&connection, &mut second).await.unwrap_err();
        assert!(failed.unsent, "{failed:?}");
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pieces_arrive_in_their_order(
        lengths in prop::collection::vec(
            prop_oneof![0..100_usize, 15_000..18_000_usize, 60_000..70_000_usize],
            0..60,
        ),
        chunked in any::<bool>(),
        pauses in any::<u64>(),
    ) {
        let numbered = lengths.iter().enumerate();
        let pieces: Vec<_> = numbered.map(|(number, length)| vec![number as u8; *length]).collect();
        let expected = written(&pieces, chunked);
        let length = pieces.concat().len().to_string();
        let seen = run(async {
            let (connection, mut endpoint) = connected().await;
            let fields = [("content-length", &*length)];
            let (mut request, giving) = request(if chunked { &[] } else { &fields });
            let give = async {
                for (number, piece) in pieces.into_iter().enumerate() {
                    if pauses >> (number % 64) & 1 == 1 {
                        tokio::task::yield_now().await;
                    }
                    giving.send(data(piece)).await.unwrap();
                }
                drop(giving);
            };
            let answer = async {
                let mut seen = vec![0; expected.len()];
                endpoint.read_exact(&mut seen).await.unwrap();
                endpoint.write_all(OK).await.unwrap();
                seen
            };
            let (response, (), seen) =
                tokio::join!(exchange(&connection, &mut request), give, answer);
            assert_eq!(read(response.unwrap()).await.unwrap(), "ok");
            assert!(connection.is_ready());
            seen
        });
        prop_assert!(seen == expected);
    }
}
