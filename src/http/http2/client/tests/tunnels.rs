//! Streams that become tunnels, or do not (RFC 8441).

use super::*;

fn connect() -> Request<Empty<Bytes>> {
    let mut request = request(Method::CONNECT, Empty::new());
    let protocol = h2::ext::Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    request
}

#[test]
fn a_tunnel() {
    const LARGE: usize = 200_000;
    run(async {
        let (connection, mut endpoint) = connected().await;
        while !connection.takes_tunnels() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let echoing = async {
            let mut asked = endpoint.next().await;
            let protocol = asked.request.extensions().get::<h2::ext::Protocol>();
            assert_eq!(protocol.map(h2::ext::Protocol::as_str), Some("websocket"));
            let mut stream = asked
                .answer
                .send_response(Response::new(()), false)
                .unwrap();
            while let Some(data) = asked.request.body_mut().data().await {
                let data = data.unwrap();
                let flow = asked.request.body_mut().flow_control();
                drop(flow.release_capacity(data.len()));
                stream.send_data(data, false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        };
        let talking = async {
            let answer = connection.begin(connect()).unwrap().await.unwrap();
            let Answer::Tunnel(tunnel) = answer.into_body() else {
                panic!("it is a tunnel");
            };
            let (mut reading, mut writing) = tokio::io::split(tunnel);
            let said = async {
                writing.write_all(&[b'x'; LARGE]).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            let mut heard = Vec::new();
            let (_, read) = tokio::join!(said, reading.read_to_end(&mut heard));
            assert_eq!(read.unwrap(), LARGE);
        };
        tokio::join!(echoing, talking);
    });
}

#[test]
fn tunnels_that_are_refused_or_reset() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        while !connection.takes_tunnels() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let agreed = Notify::new();
        let refusing = async {
            let mut asked = endpoint.next().await;
            let refused = Response::builder().status(403).body(()).unwrap();
            asked.answer(refused, "no");
            let mut asked = endpoint.next().await;
            let counted = Response::builder().header("content-length", "3");
            asked
                .answer
                .send_response(counted.body(()).unwrap(), false)
                .unwrap();
            let mut asked = endpoint.next().await;
            asked
                .answer
                .send_response(Response::new(()), false)
                .unwrap();
            // Not before the head is on its way.
            agreed.notified().await;
            asked.answer.send_reset(Reason::INTERNAL_ERROR);
        };
        let asking = async {
            let refused = connection.begin(connect()).unwrap().await.unwrap();
            let Answer::Body(body) = refused.into_body() else {
                panic!("it is refused");
            };
            assert_eq!(body.collect().await.unwrap().to_bytes(), "no");
            let counted = connection.begin(connect()).unwrap().await;
            assert!(counted.is_err());
            let reset = connection.begin(connect()).unwrap().await.unwrap();
            let Answer::Tunnel(mut tunnel) = reset.into_body() else {
                panic!("it is a tunnel");
            };
            agreed.notify_one();
            assert!(tunnel.read_u8().await.is_err());
            let error = tunnel.write_all(b"x").await.unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
        };
        tokio::join!(refusing, asking);
    });
}
