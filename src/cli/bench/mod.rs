//! `weir bench`: what this proxy adds on this machine, as it is or with an operator's configuration: built-in
//! backends asked directly and through it.
//!
//! Owns the order of the rounds and what is made of them. Must not know how a request is proxied: it
//! looks from outside, but for the CPU of the workers, which is theirs alone.

mod load;
mod subject;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;

use self::load::{Plan, Seen};
use self::subject::{Asked, Subject};
use super::Failure;
use super::arguments::BenchOptions;
use super::run::{control_runtime, start};
use super::show::{new_table, print, right};
use crate::app::{Options, Source};
use crate::drain::Phase;
use crate::telemetry::logging::{self, Style};

/// Of each way, in turn, so that what else the machine does hits both.
const ROUNDS: u32 = 5;

/// Shorter, and a round is over before it has begun; longer, and the latencies do not fit into memory.
const SHORTEST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(600);

/// The documented answer.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    /// The operator's own; none: the built-in one.
    config: Option<String>,
    /// What was asked for.
    url: String,
    workers: usize,
    connections: usize,
    /// As many as can be.
    saturated: Ways,
    /// At a fixed rate, counted from when each request was due.
    open_loop: Ways,
    requests_per_second_asked: f64,
    added: Quantiles,
    /// CPU of the worker threads, and of no other, for each request of the saturated rounds through them;
    /// only where `/proc` says so.
    cpu_microseconds: Option<f64>,
    failed: usize,
}

/// The same load both ways.
#[derive(Debug, Serialize)]
struct Ways {
    direct: Figures,
    proxied: Figures,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    requests_per_second: f64,
    microseconds: Quantiles,
}

/// Microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
    p999: f64,
}

/// Measures and prints.
pub(super) fn run(options: &BenchOptions) -> Result<ExitCode, Failure> {
    let (_level, _written_at_the_end) =
        logging::start("error", Style::Auto).map_err(|error| Failure::Usage(error.to_string()))?;
    let duration = options.duration.get();
    if !(SHORTEST..=LONGEST).contains(&duration) {
        let why = format!("--duration must be from {SHORTEST:?} to {LONGEST:?}");
        return Err(Failure::Usage(why));
    }
    let backends = load::backends()?;
    let subject = match &options.config {
        Some(path) => subject::of_file(path, options.url.as_deref(), backends)?,
        None => subject::plain(backends)?,
    };
    let answer = control_runtime()?.block_on(serve_and_measure(options, subject, backends[0]))?;
    let value = serde_json::to_value(&answer).map_err(anyhow::Error::from)?;
    print(&value, options.output, |_| table(&answer))?;
    if answer.failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    anstream::eprintln!("{} requests were not answered", answer.failed);
    Ok(ExitCode::from(1))
}

async fn serve_and_measure(
    options: &BenchOptions,
    subject: Subject,
    backend: SocketAddr,
) -> Result<Answer, Failure> {
    let workers = usize::from(options.workers);
    let app = start(Options {
        source: Source::Made(Box::new(subject.document)),
        workers,
        admin: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        log_level: None,
    })
    .await?;
    let state = std::sync::Arc::clone(app.state());
    let job = Job {
        to: [backend, state.bound(subject.listener)],
        connections: usize::from(options.connections),
        duration: options.duration.get(),
        rate: options.rate,
        asked: subject.asked.clone(),
    };
    let measuring = std::thread::Builder::new()
        .name("bench-load".to_owned())
        .spawn(move || {
            let answer = measure(&job);
            state.trigger.enter(Phase::LameDuck);
            answer
        })?;
    app.run().await?;
    let joined = tokio::task::spawn_blocking(move || measuring.join()).await?;
    let answer = joined.map_err(|_| anyhow::anyhow!("the load failed; please report it"))?;
    Ok(Answer {
        workers,
        config: options.config.as_ref().map(|it| it.display().to_string()),
        url: subject.asked.to_string(),
        ..answer?
    })
}

/// What is sent where.
#[derive(Debug)]
struct Job {
    /// A backend, and the proxy before it.
    to: [SocketAddr; 2],
    asked: Asked,
    connections: usize,
    /// Half of it for each kind of load.
    duration: Duration,
    rate: Option<f64>,
}

fn measure(job: &Job) -> anyhow::Result<Answer> {
    let asked = control_runtime()?.block_on(load::once(job.to[1], &job.asked));
    asked.with_context(|| {
        let url = &job.asked;
        format!("GET {url} does not reach a backend: `weir explain GET {url}` says why; --url asks for something else")
    })?;
    let each = job.duration / (4 * ROUNDS);
    let rounds = |rate: Option<f64>| -> anyhow::Result<([Seen; 2], Option<u64>)> {
        let (mut seen, mut cpu) = ([Seen::default(), Seen::default()], Some(0));
        for _ in 0..ROUNDS {
            for (way, to) in job.to.into_iter().enumerate() {
                let plan = Plan {
                    to,
                    asked: job.asked.clone(),
                    connections: job.connections,
                    duration: each,
                    rate,
                };
                let before = cpu_of_workers();
                seen[way].add(load::run(&plan)?);
                let used = cpu_of_workers()
                    .zip(before)
                    .map(|(now, before)| now.saturating_sub(before));
                if way == 1 {
                    cpu = cpu.zip(used).map(|(sum, used)| sum + used);
                }
            }
        }
        Ok((seen, cpu))
    };
    // Connections are made and code is read in before it counts.
    rounds(None)?;
    let (saturated, cpu) = rounds(None)?;
    let spent = (each * ROUNDS).as_secs_f64();
    let half = saturated[1].microseconds.len() as f64 / spent / 2.0;
    let asked = job.rate.unwrap_or(half).max(1.0);
    let (open, _) = rounds(Some(asked))?;
    let failed = saturated.iter().chain(&open).map(|seen| seen.failed).sum();
    let requests = saturated[1].microseconds.len();
    let cpu_microseconds = cpu.map(|used| used as f64 / 1000.0 / requests.max(1) as f64);
    let ways = |[direct, proxied]: [Seen; 2]| Ways {
        direct: figures(direct, spent),
        proxied: figures(proxied, spent),
    };
    let open_loop = ways(open);
    let (direct, proxied) = (
        open_loop.direct.microseconds,
        open_loop.proxied.microseconds,
    );
    Ok(Answer {
        config: None,
        url: String::new(),
        workers: 0,
        connections: job.connections,
        saturated: ways(saturated),
        requests_per_second_asked: asked,
        added: Quantiles {
            p50: proxied.p50 - direct.p50,
            p99: proxied.p99 - direct.p99,
            p999: proxied.p999 - direct.p999,
        },
        open_loop,
        cpu_microseconds,
        failed,
    })
}

fn figures(mut seen: Seen, seconds: f64) -> Figures {
    seen.microseconds.sort_unstable();
    let all = &seen.microseconds;
    let quantile = |q: f64| {
        let rank = (q * all.len() as f64).ceil() as usize;
        all.get(rank.saturating_sub(1))
            .map_or(0.0, |microseconds| f64::from(*microseconds))
    };
    Figures {
        requests_per_second: all.len() as f64 / seconds,
        microseconds: Quantiles {
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
        },
    }
}

/// Nanoseconds that the threads of the data path have had of the CPU.
fn cpu_of_workers() -> Option<u64> {
    let mut sum = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()?.flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        if read("comm").starts_with("weir-worker") {
            let used = read("schedstat");
            sum += used.split_whitespace().next()?.parse::<u64>().ok()?;
        }
    }
    Some(sum)
}

fn table(answer: &Answer) -> String {
    let mut table = new_table(&["LOAD", "WAY", "REQUESTS/S", "P50 us", "P99 us", "P99.9 us"]);
    let kinds = [
        ("saturated", &answer.saturated),
        ("open loop", &answer.open_loop),
    ];
    for (kind, ways) in kinds {
        for (way, figures) in [("direct", &ways.direct), ("proxied", &ways.proxied)] {
            let found = figures.microseconds;
            let number = |it: f64| format!("{it:.0}");
            let rate = number(figures.requests_per_second);
            let (p50, p99, p999) = (number(found.p50), number(found.p99), number(found.p999));
            table.add_row([kind, way, &rate, &p50, &p99, &p999]);
        }
    }
    let cpu = answer.cpu_microseconds.map_or_else(String::new, |cpu| {
        format!("CPU of the proxy: {cpu:.1} us a request (its worker threads; load and backends have others)\n")
    });
    let of = answer.config.as_ref().map_or_else(String::new, |config| {
        let url = &answer.url;
        format!(
            "GET {url} by {config}, on loopback, with built-in backends; without TLS, PROXY protocol, health checks, hooks\n\n"
        )
    });
    format!(
        "{of}{}\n\nadded at {:.0} requests/s over {} connections: p50 {:.0} us, p99 {:.0} us, p99.9 {:.0} us\n\
         {cpu}{} workers; load and backends share the machine with the proxy",
        right(table, &[2, 3, 4, 5]),
        answer.requests_per_second_asked,
        answer.connections,
        answer.added.p50,
        answer.added.p99,
        answer.added.p999,
        answer.workers,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let seen = Seen {
            microseconds: (1..=1000).rev().collect(),
            failed: 0,
        };
        let figures = figures(seen, 2.0);
        let found = figures.microseconds;
        assert_eq!(figures.requests_per_second, 500.0);
        assert_eq!((found.p50, found.p99, found.p999), (500.0, 990.0, 999.0));
        let none = super::figures(Seen::default(), 1.0).microseconds;
        assert_eq!((none.p50, none.p999), (0.0, 0.0));
    }
}
