//! What an endpoint allows on a connection, and its end.

use super::*;

/// A request is given back where nothing of it was sent; a stream that the endpoint has not looked at tells so.
#[test]
fn after_goaway() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let first = spawn_local(connection.begin(get()).unwrap());
        let mut asked = endpoint.next().await;
        assert!(!connection.is_over());
        endpoint.close.send(true).await.unwrap();
        while !connection.is_over() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let failed = connection.begin(get()).unwrap_err();
        assert!(failed.request.is_some() && failed.error.is_go_away());
        // What was begun before is served.
        asked.answer(Response::new(()), "ok");
        assert_eq!(first.await.unwrap().unwrap().status(), 200);
    });
}

#[test]
fn the_end_of_the_connection() {
    run(async {
        let (connection, mut endpoint) = connected().await;
        let sent = spawn_local(connection.begin(get()).unwrap());
        let _asked = endpoint.next().await;
        endpoint.close.send(false).await.unwrap();
        assert!(sent.await.unwrap().is_err());
        assert!(connection.is_over());
        let failed = connection.begin(get()).unwrap_err();
        assert!(failed.request.is_some());
    });
}

/// How many streams there may be, and whether tunnels, is known once the endpoint has said so.
#[test]
fn what_the_endpoint_allows() {
    run(async {
        let mut builder = h2::server::Builder::new();
        let builder = builder.max_concurrent_streams(7).enable_connect_protocol();
        let (connection, _endpoint) = connected_to(builder).await;
        assert_eq!(
            (connection.most_streams(), connection.takes_tunnels()),
            (1, false)
        );
        while connection.most_streams() == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(
            (connection.most_streams(), connection.takes_tunnels()),
            (7, true)
        );
    });
}

/// More streams than the endpoint allows wait their turn.
#[test]
fn streams_beyond_what_is_allowed() {
    run(async {
        let mut builder = h2::server::Builder::new();
        let (connection, mut endpoint) = connected_to(builder.max_concurrent_streams(2)).await;
        while connection.most_streams() == 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let sent = [(); 4].map(|()| spawn_local(connection.begin(get()).unwrap()));
        let mut asked = VecDeque::from([endpoint.next().await, endpoint.next().await]);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(endpoint.asked.try_recv().is_err(), "only two are allowed");
        for left in [2, 1, 0, 0] {
            asked.pop_front().unwrap().answer(Response::new(()), "ok");
            if left > 0 {
                asked.push_back(endpoint.next().await);
            }
        }
        for served in sent {
            let response = served.await.unwrap().unwrap();
            let Answer::Body(body) = response.into_body() else {
                panic!("a tunnel was not asked for");
            };
            assert_eq!(body.collect().await.unwrap().to_bytes(), "ok");
        }
    });
}
