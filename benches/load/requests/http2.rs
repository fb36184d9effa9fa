//! HTTP/2 with prior knowledge, or after ALPN where there is TLS.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::TokioIo;

use super::tally::Seen;
use super::{Job, LATE, Load};
use crate::local::Local;

pub(super) async fn run(load: &Rc<Load>, streams: usize) {
    while load.has_more() {
        let stream = match load.connector.open().await {
            Ok(stream) => stream,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                load.tally.borrow_mut().refused += 1;
                if load.until_refused {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
            Err(error) => {
                load.tally.borrow_mut().lose(format!("connecting: {error}"));
                continue;
            }
        };
        let shaken = Builder::new(Local).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = match shaken {
            Ok(both) => both,
            Err(error) => {
                load.tally.borrow_mut().lose(format!("preface: {error}"));
                continue;
            }
        };
        let driver = tokio::task::spawn_local(connection);
        let tasks: Vec<_> = (0..streams)
            .map(|_| {
                let (load, sender) = (Rc::clone(load), sender.clone());
                tokio::task::spawn_local(async move { one_after_another(&load, sender).await })
            })
            .collect();
        drop(sender);
        for task in tasks {
            drop(task.await);
        }
        driver.abort();
    }
}

/// Until the connection takes no more requests, or there are none.
async fn one_after_another(load: &Load, mut sender: SendRequest<Empty<Bytes>>) {
    // Only what the connection takes is a request that it must answer.
    while sender.ready().await.is_ok() {
        let Some(job) = load.next().await else {
            return;
        };
        match tokio::time::timeout(LATE, ask(load, job, &mut sender)).await {
            Ok(Ok(Some(seen))) => load.tally.borrow_mut().note(job, &seen),
            Ok(Ok(None)) => load.give_back(job),
            Ok(Err(error)) => load.tally.borrow_mut().lose(chain(&error)),
            Err(late) => load.tally.borrow_mut().lose(late),
        }
    }
}

fn chain(error: &hyper::Error) -> String {
    let source = std::error::Error::source(error);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// The answer; `None` if the request was not sent.
async fn ask(
    load: &Load,
    job: Job,
    sender: &mut SendRequest<Empty<Bytes>>,
) -> hyper::Result<Option<Seen>> {
    let mut request = Request::builder()
        .version(Version::HTTP_2)
        .uri("http://load.example/load");
    if let Some(cookie) = load.cookie(job) {
        request = request.header("cookie", cookie);
    }
    let request = request.body(Empty::new()).unwrap();
    let response = match sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut error) => {
            let unsent = error.take_message().is_some();
            return if unsent {
                Ok(None)
            } else {
                Err(error.into_error())
            };
        }
    };
    let mut seen = Seen {
        status: response.status().as_u16(),
        ..Seen::default()
    };
    for (name, value) in response.headers() {
        seen.field(name.as_str(), value.to_str().unwrap_or("?"));
    }
    response.into_body().collect().await?;
    Ok(Some(seen))
}
