//! Requests of which each is accounted for: answered, refused before it was accepted, or lost.

mod http1;
mod http2;
mod pace;
mod tally;

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use self::pace::Pace;
use self::tally::Tally;
use crate::connect::{Connector, Target};

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Protocol {
    Http1,
    Http2,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    target: Target,
    #[arg(long, default_value = "http1")]
    protocol: Protocol,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Requests at a time on each connection of HTTP/2.
    #[arg(long, default_value_t = 16)]
    streams: usize,
    #[arg(long, default_value_t = 60.0)]
    seconds: f64,
    /// A connection that is refused is not tried again.
    #[arg(long)]
    until_refused: bool,
    /// Requests a second over all connections; latency counts from when each was due.
    #[arg(long)]
    rate: Option<u64>,
    /// They are due at exact times, for which a core is kept busy, so that nothing else should need it; else a
    /// millisecond late at most.
    #[arg(long, requires = "rate")]
    exact: bool,
    /// Send POST, with a short body, which must not be sent twice; only HTTP/1.
    #[arg(long)]
    post: bool,
    /// One request with each of so many values of the cookie `user`, instead of a time.
    #[arg(long)]
    keys: Option<u64>,
    /// The backend of each key, a line each, goes here.
    #[arg(long, requires = "keys")]
    record: Option<PathBuf>,
}

/// What the tasks share.
pub(crate) struct Load {
    connector: Connector,
    until: Cell<Instant>,
    until_refused: bool,
    post: bool,
    began: Instant,
    /// Between two requests, where there is a rate.
    every: Option<Duration>,
    /// In place of `every`, where times are to be exact.
    pace: Option<Pace>,
    keys: Option<u64>,
    next: Cell<u64>,
    /// Given back by a connection that could not send them.
    unsent: RefCell<Vec<u64>>,
    tally: RefCell<Tally>,
}

/// A request to be sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    number: u64,
    due: Instant,
}

impl Job {
    /// One of which nobody is told.
    fn uncounted() -> Self {
        Self {
            number: 0,
            due: Instant::now(),
        }
    }
}

/// Before the first request is due at an exact time: connections are open by then, and those of HTTP/1 have had an
/// answer, or the opening of all of them at once would be most of the p99 of a second.
const SETTLED: Duration = Duration::from_millis(200);

/// Longest wait for an answer.
const LATE: Duration = Duration::from_secs(15);

impl Load {
    /// The next request, once it is due; `None` when there are no more.
    async fn next(&self) -> Option<Job> {
        let given_back = self.unsent.borrow_mut().pop();
        if let Some(pace) = &self.pace {
            let number = match given_back {
                Some(number) => number,
                None => pace.next().await?,
            };
            let due = self.due(number);
            return Some(Job { number, due });
        }
        let number = given_back.unwrap_or_else(|| self.next.replace(self.next.get() + 1));
        if self.keys.is_some_and(|keys| number >= keys) || Instant::now() >= self.until.get() {
            return None;
        }
        let due = self.due(number);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        Some(Job { number, due })
    }

    fn due(&self, number: u64) -> Instant {
        match self.every {
            // f64 is exact enough for a minute of requests.
            Some(every) => self.began + every.mul_f64(number as f64),
            None => Instant::now(),
        }
    }

    /// Whether a connection that was just opened is still to have its first answer, which does not count.
    fn is_settling(&self) -> bool {
        self.pace.is_some() && Instant::now() < self.began
    }

    fn give_back(&self, job: Job) {
        self.unsent.borrow_mut().push(job.number);
    }

    fn has_more(&self) -> bool {
        if let Some(pace) = &self.pace {
            return pace.has_more();
        }
        let exhausted = self.keys.is_some_and(|keys| self.next.get() >= keys)
            && self.unsent.borrow().is_empty();
        Instant::now() < self.until.get() && !exhausted
    }

    /// The `cookie` of a request, where there are keys.
    fn cookie(&self, job: Job) -> Option<String> {
        self.keys.map(|_| format!("user={}", job.number))
    }
}

/// Whether every request was answered, and each by one generation of the configuration.
pub(crate) async fn run(options: Options) -> anyhow::Result<bool> {
    let (said, well) = send(options).await?;
    println!("{said}");
    Ok(well)
}

/// What became of them, and whether that is what [`run`] tells.
pub(crate) async fn send(options: Options) -> anyhow::Result<(String, bool)> {
    let settled = if options.exact {
        SETTLED
    } else {
        Duration::ZERO
    };
    let began = Instant::now() + settled;
    let every = options
        .rate
        .map(|rate| Duration::from_secs(1).div_f64(rate as f64));
    let load = Rc::new(Load {
        connector: options.target.connector()?,
        until: Cell::new(began + Duration::from_secs_f64(options.seconds)),
        until_refused: options.until_refused,
        post: options.post,
        began,
        every,
        pace: every.filter(|_| options.exact).map(Pace::new),
        keys: options.keys,
        next: Cell::new(0),
        unsent: RefCell::default(),
        tally: RefCell::new(Tally::new(options.keys)),
    });
    // TERM ends it before its time, in good order.
    let (mut ended, ends) = (signal(SignalKind::terminate())?, Rc::clone(&load));
    let ender = tokio::task::spawn_local(async move {
        ended.recv().await;
        ends.until.set(Instant::now());
    });
    let keeps = Rc::clone(&load);
    let keeper = tokio::task::spawn_local(async move {
        if let Some(pace) = &keeps.pace {
            pace.keep(keeps.began, &keeps.until).await;
        }
    });
    let tasks: Vec<_> = (0..options.connections)
        .map(|_| {
            let (load, streams) = (Rc::clone(&load), options.streams);
            tokio::task::spawn_local(async move {
                match options.protocol {
                    Protocol::Http1 => http1::run(&load).await,
                    Protocol::Http2 => http2::run(&load, streams).await,
                }
            })
        })
        .collect();
    for task in tasks {
        task.await?;
    }
    ender.abort();
    keeper.abort();
    let tally = load.tally.borrow();
    let (lag, unsent) = load.pace.as_ref().map_or((0, 0), Pace::report);
    let said = format!(
        "requests protocol={:?} lag_us={lag} unsent={unsent} {tally}",
        options.protocol
    );
    if let Some(file) = options.record {
        let mut text = String::new();
        for backend in tally.backends() {
            writeln!(text, "{backend}")?;
        }
        std::fs::write(file, text)?;
    }
    let complete = options.keys.is_none_or(|keys| tally.answered == keys);
    Ok((said, tally.is_well() && complete))
}
