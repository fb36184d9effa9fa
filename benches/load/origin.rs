//! Origins: servers that say who they are, how their request was marked and, at `/fields`, what fields it had.

use std::cell::Cell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::signal::unix::{SignalKind, signal};

use crate::local::Local;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `NAME=ADDRESS`, as often as there are backends.
    #[arg(long = "listen", required = true)]
    listen: Vec<Named>,
    /// Speak HTTP/2 without TLS, and not HTTP/1.
    #[arg(long)]
    http2: bool,
    /// What a request takes, in milliseconds.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// The status of every answer.
    #[arg(long, default_value = "200")]
    status: StatusCode,
}

#[derive(Debug, Clone)]
struct Named {
    name: &'static str,
    address: SocketAddr,
}

impl FromStr for Named {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (name, address) = text.split_once('=').unwrap_or(("", text));
        Ok(Self {
            name: Box::leak(name.into()),
            address: address.parse()?,
        })
    }
}

/// Serves until TERM, then says how many requests it has answered.
pub(crate) async fn run(options: Options) -> anyhow::Result<bool> {
    let served = Rc::new(Cell::new(0_u64));
    let (delay, status) = (Duration::from_millis(options.delay), options.status);
    for named in options.listen {
        let listener = tokio::net::TcpListener::bind(named.address).await?;
        let served = Rc::clone(&served);
        drop(tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let served = Rc::clone(&served);
                let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                    let served = Rc::clone(&served);
                    async move {
                        if !delay.is_zero() {
                            tokio::time::sleep(delay).await;
                        }
                        while let Some(Ok(_)) = request.body_mut().frame().await {}
                        served.set(served.get() + 1);
                        Ok::<_, Infallible>(answer(named.name, status, &request))
                    }
                });
                if stream.set_nodelay(true).is_err() {
                    continue;
                }
                let stream = TokioIo::new(stream);
                drop(tokio::task::spawn_local(async move {
                    drop(if options.http2 {
                        http2::Builder::new(Local)
                            .serve_connection(stream, service)
                            .await
                    } else {
                        http1::Builder::new()
                            .serve_connection(stream, service)
                            .await
                    });
                }));
            }
        }));
    }
    signal(SignalKind::terminate())?.recv().await;
    println!("origin served={}", served.get());
    Ok(true)
}

fn answer(
    name: &'static str,
    status: StatusCode,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(b"served\n")));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert("x-backend", HeaderValue::from_static(name));
    for mark in ["x-asked", "x-chosen"] {
        if let Some(value) = request.headers().get(mark) {
            headers.insert(mark, value.clone());
        }
    }
    if request.uri().path() == "/fields" {
        let names: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        if let Ok(names) = HeaderValue::from_str(&names.join(",")) {
            headers.insert("x-fields", names);
        }
    }
    response
}
