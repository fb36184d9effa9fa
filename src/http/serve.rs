//! Drives one connection of a client: which HTTP it speaks, its deadlines, its orderly end.
//!
//! Owns the end of an HTTP/2 connection and the state that tells an idle connection from a busy one.
//! Must not know what the service does.
//!
//! A connection has no timer of its own. It notes on a coarse clock since when it is in its state,
//! and a sweep over all connections of the worker closes those that are late: no timer is set, reset
//! or cancelled for a request.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::age::{Age, AgeLimits, Past};
use super::body::{DownstreamBody, ResponseBody};
use super::flood::{Budget, Limits};
use super::http2;
use super::interim::Interims;
use super::message::{RequestMessage, ResponseMessage};
use super::park::{self, PARK_AFTER};
use super::server::Client;
use super::socket::{Framed, Watched};
use super::stall::{Carried, Noted, Signals, Stall};
use crate::telemetry::http2::Http2Limit;
use crate::tls::stream::Stream;

/// What a listener allows. Times of zero mean no bound.
#[derive(Debug, Clone)]
pub(crate) struct ServeOptions {
    /// HTTP/1 is spoken.
    pub(crate) http1: bool,
    /// HTTP/2 with prior knowledge is spoken.
    pub(crate) h2c: bool,
    /// From the first byte of a request to the end of its head.
    pub(crate) header_timeout: Duration,
    /// Between two requests.
    pub(crate) idle_timeout: Duration,
    /// Without any progress of bytes that wait for the client to take them.
    pub(crate) write_timeout: Duration,
    /// Of a connection as a whole.
    pub(crate) age: AgeLimits,
    /// Bytes of a head.
    pub(crate) header_bytes: usize,
    /// Fields of a head.
    pub(crate) header_count: usize,
    /// What a client of HTTP/2 may send besides requests.
    pub(crate) http2: Limits,
    /// A client that has closed its sending side still gets its answer.
    pub(crate) half_close: bool,
}

/// How a connection is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Close {
    /// Not yet.
    No,
    /// After the requests in flight.
    Graceful,
    /// At once.
    Now,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between requests, or before the first.
    Idle,
    /// Bytes of a head have come.
    Head,
    /// At least one request is being served.
    Busy,
}

/// What a worker can see of one of its connections, and how it ends it.
#[derive(Debug)]
pub(crate) struct Control {
    clock: Rc<Cell<Instant>>,
    age: Age,
    /// HTTP/2 has a word for its end (GOAWAY); in HTTP/1 it goes with an answer.
    http2: Cell<bool>,
    state: Cell<State>,
    since: Cell<Instant>,
    in_flight: Cell<u32>,
    signals: Arc<Signals>,
    carried: Rc<Carried>,
    stall: Rc<Stall>,
    pub(crate) interims: Rc<Interims>,
    close: Cell<Close>,
    /// It has been idle for a while, and its engine may be taken away until something comes.
    park: Cell<bool>,
    /// No request has come yet.
    unused: Cell<bool>,
    /// Since when it has been asked to end.
    asked: Cell<Instant>,
    waker: RefCell<Option<Waker>>,
}

impl Control {
    /// A connection that has just been accepted. `clock` is the worker's coarse one.
    pub(crate) fn new(clock: Rc<Cell<Instant>>) -> Rc<Self> {
        let age = Age::new(clock.get());
        Self::of(clock, age)
    }

    fn of(clock: Rc<Cell<Instant>>, age: Age) -> Rc<Self> {
        let (now, signals) = (clock.get(), Arc::<Signals>::default());
        Rc::new(Self {
            stall: Rc::new(Stall::new(Arc::clone(&signals), Rc::clone(&clock))),
            signals,
            carried: Rc::default(),
            interims: Rc::default(),
            clock,
            age,
            http2: Cell::new(false),
            state: Cell::new(State::Idle),
            since: Cell::new(now),
            in_flight: Cell::new(0),
            close: Cell::new(Close::No),
            park: Cell::new(false),
            unused: Cell::new(true),
            asked: Cell::new(now),
            waker: RefCell::new(None),
        })
    }

    /// For the tunnel that the connection, or one of its streams, becomes. It is as old.
    pub(crate) fn tunnel(&self) -> Rc<Self> {
        Self::of(Rc::clone(&self.clock), self.age.clone())
    }

    /// From now on its age is bounded. `chance` from 0 to 1.
    pub(crate) fn limit_age(&self, limits: AgeLimits, chance: f64) {
        self.age.limit(limits, chance);
    }

    /// Whether the client is told with its next answer that the connection closes, for its age.
    pub(crate) fn is_aged(&self) -> bool {
        self.age.past() != Past::None
    }

    /// Whether what ends now ends because the connection is too old, and had its grace.
    pub(crate) fn is_past_grace(&self) -> bool {
        self.age.past() == Past::Grace
    }

    /// The client's side of a tunnel: bytes that it does not take are seen.
    pub(super) fn watch<T>(&self, client: T) -> Noted<T> {
        Noted::new(client, Arc::clone(&self.signals), Rc::clone(&self.carried))
    }

    /// Bytes that a tunnel has carried from its client and to it.
    pub(crate) fn carried(&self) -> (u64, u64) {
        (self.carried.from_client.get(), self.carried.to_client.get())
    }

    /// Asks the connection to end; never takes back an earlier, stronger wish.
    pub(crate) fn close(&self, how: Close) {
        if how > self.close.get() {
            self.close.set(how);
            self.asked.set(self.clock.get());
            self.wake();
        }
    }

    /// How it has been asked to end.
    pub(super) fn asked_to_close(&self) -> Close {
        self.close.get()
    }

    /// Bytes of a request are there, whoever has read them.
    pub(super) fn hears(&self) {
        self.signals.heard.store(true, Ordering::Relaxed);
    }

    /// Whether nothing is on the way in either direction. HTTP/2 has streams and tables to keep.
    fn may_park(&self) -> bool {
        let silent = !self.signals.is_sending() && !self.signals.is_blocked();
        self.state.get() == State::Idle && silent && !self.http2.get() && !self.unused.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    /// The connection ends although its client may still be sending a request.
    pub(crate) fn leaves_unread(&self) {
        self.signals.unread.store(true, Ordering::Relaxed);
    }

    /// Whether what ends now ends because the client did not take its answer.
    pub(crate) fn is_stalled(&self) -> bool {
        self.stall.is_cutting()
    }

    /// Ends the connection if it has been too long in its state.
    pub(crate) fn sweep(&self, now: Instant, options: &ServeOptions) {
        match (self.state.get(), self.signals.heard.load(Ordering::Relaxed)) {
            (State::Idle, true) => self.enter(State::Head),
            // Frames that are no head, or a head that was refused.
            (State::Head, false) => self.enter(State::Idle),
            _ => {}
        }
        let spent = now.saturating_duration_since(self.since.get());
        let late = |bound: Duration| !bound.is_zero() && spent > bound;
        if self.stall.sweep(now, options.write_timeout) {
            self.close(Close::Now);
        }
        match self.age.sweep(now) {
            // A client of HTTP/1 that is between two requests may be sending the next one.
            Past::Limit if self.http2.get() => self.close(Close::Graceful),
            Past::Grace => self.close(Close::Now),
            Past::Limit | Past::None => {}
        }
        match self.state.get() {
            // The engines close an idle connection that is asked to end, but not one without any request
            // yet, nor one whose client does not take the rest of its answers.
            State::Idle if self.close.get() == Close::Graceful => {
                let asked = now.saturating_duration_since(self.asked.get());
                let stuck = late(options.write_timeout) && asked > options.write_timeout;
                if stuck || (self.unused.get() && asked > LAST_CALL) {
                    self.close(Close::Now);
                }
            }
            State::Idle if late(options.idle_timeout) => self.close(Close::Graceful),
            State::Idle if spent > PARK_AFTER && !self.park.get() && self.may_park() => {
                self.park.set(true);
                self.wake();
            }
            State::Head if late(options.header_timeout) => self.close(Close::Now),
            State::Idle | State::Head | State::Busy => {}
        }
    }

    /// Notes that a request has begun; it ends when the guard is dropped.
    pub(crate) fn begin_request(self: &Rc<Self>) -> RequestGuard {
        self.in_flight.set(self.in_flight.get() + 1);
        self.state.set(State::Busy);
        self.unused.set(false);
        self.park.set(false);
        RequestGuard(Rc::clone(self))
    }

    /// Runs `future` until it is done or the connection is asked to end at once.
    pub(crate) async fn until_closed<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            self.register(cx);
            match future.as_mut().poll(cx) {
                Poll::Ready(output) => Poll::Ready(Some(output)),
                Poll::Pending if self.close.get() == Close::Now => Poll::Ready(None),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    fn enter(&self, state: State) {
        self.state.set(state);
        self.since.set(self.clock.get());
    }

    fn register(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker
            .as_ref()
            .is_some_and(|known| known.will_wake(cx.waker()))
        {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// Stands for one request in flight.
#[derive(Debug)]
pub(crate) struct RequestGuard(Rc<Control>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        let left = self.0.in_flight.get().saturating_sub(1);
        self.0.in_flight.set(left);
        if left == 0 {
            self.0.signals.heard.store(false, Ordering::Relaxed);
            self.0.enter(State::Idle);
        }
    }
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// In order, or because it was asked to.
    Closed,
    /// What came was not HTTP.
    Protocol(Box<dyn Error + Send + Sync>),
    /// Too much of something came.
    Flood(Http2Limit),
    /// The peer went away or the network failed.
    Io,
}

/// Serves the connection until it ends.
pub(crate) async fn serve<S, F, E>(
    stream: Stream,
    options: &ServeOptions,
    control: &Rc<Control>,
    service: S,
) -> Ended
where
    S: Fn(RequestMessage<DownstreamBody>) -> F + Unpin,
    F: Future<Output = Result<ResponseMessage<ResponseBody>, E>> + Unpin + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let http2 = match &stream {
        // What is not spoken was not offered. Without ALPN it is HTTP/1.1 (RFC 9113, 3.2) where
        // that is spoken.
        Stream::Tls(..) => stream.alpn().map_or(!options.http1, |name| name == b"h2"),
        Stream::Plain(tcp) => match first_bytes(tcp, options, control).await {
            Ok(Some(http2)) => http2,
            Ok(None) => return Ended::Closed,
            Err(_) => return Ended::Io,
        },
    };
    let resets = options.half_close && !http2;
    let socket = Watched::new(stream, Arc::clone(&control.signals), resets);
    control.http2.set(http2);
    if http2 {
        // Boxed, as a connection of HTTP/1 would keep the room for it.
        Box::pin(serve_http2(socket, options, control, service)).await
    } else {
        let client = Client::new(socket, options);
        park::serve(client, options, control, service).await
    }
}

async fn serve_http2<S, F, E>(
    socket: Watched,
    options: &ServeOptions,
    control: &Rc<Control>,
    service: S,
) -> Ended
where
    S: Fn(RequestMessage<DownstreamBody>) -> F + Unpin,
    F: Future<Output = Result<ResponseMessage<ResponseBody>, E>> + Unpin + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let budget = Budget::of_client(options.http2.clone(), control.clock.get());
    let socket = Framed::new(socket, budget, Rc::clone(&control.clock));
    let result = {
        control.interims.want(true);
        let (socket, stall) = (socket.clone(), Rc::clone(&control.stall));
        let interims = Rc::clone(&control.interims);
        let connection = http2::server::Connection::new(socket, options, service, stall, interims);
        let driven = drive(pin!(connection), control, http2::server::Connection::end).await;
        driven.unwrap_or(Ok(()))
    };
    let (over, told) = socket.budget(|budget| (budget.over(), budget.has_said_goodbye()));
    if over.is_some() || told {
        control.until_closed(socket.dismiss()).await;
    }
    match (over, result) {
        (Some(limit), _) => Ended::Flood(limit),
        (None, Err(error)) if told => Ended::Protocol(error.into()),
        (None, Ok(())) => Ended::Closed,
        (None, Err(_)) => Ended::Io,
    }
}

/// Polls the connection, and tells it when to end; `None` when it is idle and may be parked. What has
/// arrived is read before the connection is told, so that a request already in the socket is served.
pub(super) async fn drive<C, E>(
    mut connection: Pin<&mut C>,
    control: &Control,
    graceful: impl Fn(Pin<&mut C>),
) -> Option<Result<(), E>>
where
    C: Future<Output = Result<(), E>>,
{
    let mut told = false;
    poll_fn(|cx| {
        control.register(cx);
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(result));
        }
        match control.close.get() {
            Close::Now => return Poll::Ready(Some(Ok(()))),
            Close::Graceful if !told => {
                told = true;
                graceful(connection.as_mut());
                return connection.as_mut().poll(cx).map(Some);
            }
            Close::No if control.park.get() && control.may_park() => return Poll::Ready(None),
            Close::Graceful | Close::No => {}
        }
        Poll::Pending
    })
    .await
}

/// How long a connection that was accepted but has not sent anything may still begin, once the
/// listener is closing. Its request may be on the way.
const LAST_CALL: Duration = Duration::from_millis(500);

/// Waits for the first bytes and looks at them without taking them: hyper's own detection would stay
/// in the path of every byte after it. `None` when the connection ends before.
async fn first_bytes(
    stream: &TcpStream,
    options: &ServeOptions,
    control: &Control,
) -> io::Result<Option<bool>> {
    let wait = async {
        loop {
            stream.readable().await?;
            let mut preface = [0; 3];
            match stream.peek(&mut preface).await {
                Ok(0) => return Ok(None),
                // No method of HTTP/1 is called PRI (RFC 9113, 3.4).
                Ok(n) if b"PRI".starts_with(&preface[..n]) => {
                    if n == 3 {
                        return Ok(Some(options.h2c || !options.http1));
                    }
                    // Readable again at once, so wait for the rest in small steps.
                    Box::pin(tokio::time::sleep(Duration::from_millis(5))).await;
                }
                Ok(_) => return Ok(Some(!options.http1)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    };
    let mut wait = pin!(wait);
    let mut last_call = None::<Pin<Box<Sleep>>>;
    poll_fn(|cx| {
        control.register(cx);
        if let Poll::Ready(result) = wait.as_mut().poll(cx) {
            if matches!(result, Ok(Some(_))) {
                control.enter(State::Head);
            }
            return Poll::Ready(result);
        }
        match control.close.get() {
            Close::No => Poll::Pending,
            Close::Now => Poll::Ready(Ok(None)),
            Close::Graceful => {
                let sleep = || Box::pin(tokio::time::sleep(LAST_CALL));
                let timer = last_call.get_or_insert_with(sleep);
                timer.as_mut().poll(cx).map(|()| Ok(None))
            }
        }
    })
    .await
}
