//! A version of a service with two dials: how often it fails, and how long it takes.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::now;

/// The middle of what a request takes, in seconds; half of them are between 0.7 and 1.4 times it.
const MIDDLE: f64 = 0.004;

#[derive(Debug)]
pub(super) struct Version {
    name: &'static str,
    fails: Cell<f64>,
    slower: Cell<f64>,
    rng: RefCell<SmallRng>,
    last: Cell<f64>,
    /// When each failure was answered.
    failures: RefCell<Vec<f64>>,
    users: RefCell<HashSet<String>>,
}

impl Version {
    pub(super) async fn serve(name: &'static str, at: SocketAddr) -> anyhow::Result<Rc<Self>> {
        let version = Rc::new(Self {
            name,
            fails: Cell::new(0.0),
            slower: Cell::new(1.0),
            rng: RefCell::new(SmallRng::seed_from_u64(at.port().into())),
            last: Cell::new(0.0),
            failures: RefCell::default(),
            users: RefCell::default(),
        });
        let listener = tokio::net::TcpListener::bind(at).await?;
        let this = Rc::clone(&version);
        drop(tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if stream.set_nodelay(true).is_err() {
                    continue;
                }
                let this = Rc::clone(&this);
                let service = hyper::service::service_fn(move |request| {
                    let this = Rc::clone(&this);
                    async move { Ok::<_, Infallible>(this.answer(&request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                drop(tokio::task::spawn_local(async move {
                    drop(connection.await);
                }));
            }
        }));
        Ok(version)
    }

    /// Fails so many percent and takes so many times as long.
    pub(super) fn set(&self, fails: f64, slower: f64) {
        self.fails.set(fails / 100.0);
        self.slower.set(slower);
    }

    /// Begins to count anew.
    pub(super) fn forget(&self) {
        self.failures.borrow_mut().clear();
        self.users.borrow_mut().clear();
    }

    pub(super) fn users(&self) -> usize {
        self.users.borrow().len()
    }

    pub(super) fn failed(&self) -> u64 {
        self.failures.borrow().len() as u64
    }

    /// When the last request came.
    pub(super) fn last_request(&self) -> f64 {
        self.last.get()
    }

    pub(super) fn last_failure_before(&self, at: f64) -> Option<f64> {
        // The decision's time has whole milliseconds.
        let failures = self.failures.borrow();
        failures
            .iter()
            .rev()
            .find(|one| **one < at + 0.001)
            .copied()
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        self.last.set(now());
        let (fails, takes) = {
            let mut rng = self.rng.borrow_mut();
            // Box and Muller.
            let (one, two): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
            let normal = (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos();
            let takes = MIDDLE * (0.5 * normal).exp() * self.slower.get();
            (rng.random_bool(self.fails.get()), takes)
        };
        tokio::time::sleep(Duration::from_secs_f64(takes)).await;
        let mut response = Response::new(Full::new(Bytes::from_static(b"served\n")));
        let headers = response.headers_mut();
        headers.insert("x-backend", http::HeaderValue::from_static(self.name));
        if fails {
            *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            self.failures.borrow_mut().push(now());
            if let Some(user) = request
                .headers()
                .get("x-user")
                .and_then(|it| it.to_str().ok())
            {
                self.users.borrow_mut().insert(user.to_owned());
            }
        }
        response
    }
}
