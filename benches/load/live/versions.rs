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
    /// What was answered, in the order of the answers.
    answers: RefCell<Vec<Answer>>,
    users: RefCell<HashSet<String>>,
}

/// In seconds of the wall clock.
#[derive(Debug)]
struct Answer {
    came: f64,
    answered: f64,
    failed: bool,
}

impl Version {
    pub(super) async fn serve(name: &'static str, at: SocketAddr) -> anyhow::Result<Rc<Self>> {
        let version = Rc::new(Self {
            name,
            fails: Cell::new(0.0),
            slower: Cell::new(1.0),
            rng: RefCell::new(SmallRng::seed_from_u64(at.port().into())),
            last: Cell::new(0.0),
            answers: RefCell::default(),
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
        self.answers.borrow_mut().clear();
        self.users.borrow_mut().clear();
    }

    pub(super) fn users(&self) -> usize {
        self.users.borrow().len()
    }

    pub(super) fn failed(&self) -> u64 {
        let answers = self.answers.borrow();
        answers.iter().filter(|one| one.failed).count() as u64
    }

    /// When the last request came.
    pub(super) fn last_request(&self) -> f64 {
        self.last.get()
    }

    /// The newest failure that was answered until then: when it came, and was answered.
    pub(super) fn last_failure(&self, until: f64) -> Option<(f64, f64)> {
        let answers = self.answers.borrow();
        let found = answers
            .iter()
            .rev()
            .find(|one| one.failed && one.answered <= until)?;
        Some((found.came, found.answered))
    }

    /// When the last of those that came before was answered, of those that were until then.
    pub(super) fn last_answer(&self, came: f64, until: f64) -> Option<f64> {
        let answers = self.answers.borrow();
        let mut known = answers.iter().rev().filter(|one| one.answered <= until);
        Some(known.find(|one| one.came <= came)?.answered)
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let came = now();
        self.last.set(came);
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
            if let Some(user) = request
                .headers()
                .get("x-user")
                .and_then(|it| it.to_str().ok())
            {
                self.users.borrow_mut().insert(user.to_owned());
            }
        }
        self.answers.borrow_mut().push(Answer {
            came,
            answered: now(),
            failed: fails,
        });
        response
    }
}
