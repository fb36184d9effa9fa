//! `weir demo`: a split at work, with built-in backends and traffic; needs nothing else.
//!
//! Owns what is shown. Must not know how a split is made: it looks from outside, as a user would.

mod backends;
mod traffic;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;

use self::traffic::{Plan, Seen};
use super::arguments::DemoOptions;
use super::run::{control_runtime, start};
use super::{Failure, client};
use crate::app::{Options, Source, workers};
use crate::config;
use crate::drain::{Phase, Watch};
use crate::telemetry::logging::{self, Style};

/// Names of the two built-in backends.
const NAMES: [&str; 2] = ["stable", "candidate"];

/// Requests a second where nobody says: leisurely to look at, brisk when the number is limited.
const RATES: (u32, u32) = (400, 2000);

/// Runs until a signal, or until the requests are through.
pub(super) fn run(options: &DemoOptions) -> Result<ExitCode, Failure> {
    let weights = parse_weights(&options.weights)?;
    let (_level, _written_at_the_end) =
        logging::start("warn", Style::Auto).map_err(|error| Failure::Usage(error.to_string()))?;
    let backends = backends::start(NAMES)?;
    let text = document(options, weights, &backends);
    let loaded = config::parse("demo", &text)
        .map_err(|problems| Failure::Config(config::problem::render(&problems, false)))?;
    let workers = options
        .workers
        .map_or_else(workers::default_count, usize::from);
    let passed = control_runtime()?.block_on(async {
        let app = start(Options {
            source: Source::Made(Box::new(loaded.document)),
            workers,
            admin: Some(options.admin),
            log_level: None,
        })
        .await?;
        let admin = app.admin();
        let state = std::sync::Arc::clone(app.state());
        let proxy = state.bound(options.listen);
        anstream::println!(
            "proxy    http://{proxy}   (try: curl http://{proxy}/)\nadmin    http://{admin}/   a page; /metrics, /config, /api/v1/status\n\
             split    {} {} / {} {}, {workers} workers",
            NAMES[0], weights[0], NAMES[1], weights[1],
        );
        let plan = Plan {
            proxy,
            requests: options.requests,
            rps: options.rps.unwrap_or(if options.requests.is_some() { RATES.1 } else { RATES.0 }),
            names: NAMES,
        };
        let watch = state.drain.clone();
        let conductor = std::thread::spawn(move || {
            let seen = traffic::run(&plan, &watch, |seen| live(seen, &watch));
            let report = seen.and_then(|seen| summary(&seen, weights, workers, admin));
            state.trigger.enter(Phase::LameDuck);
            report
        });
        app.run().await?;
        conductor.join().map_err(|_| anyhow::anyhow!("the demo's traffic failed; please report it"))?.map_err(Failure::Run)
    })?;
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

fn parse_weights(text: &str) -> Result<[u32; 2], Failure> {
    let parts: Option<Vec<u32>> = text.split('/').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([stable, candidate]) if stable + candidate > 0 => Ok([*stable, *candidate]),
        _ => Err(Failure::Usage(format!(
            "--weights {text}: write two numbers, for example `--weights 95/5`"
        ))),
    }
}

fn document(
    options: &DemoOptions,
    weights: [u32; 2],
    backends: &[std::net::SocketAddr; 2],
) -> String {
    format!(
        "version: 1\naccessLog: {{ format: \"off\" }}\ndrain: {{ delay: 0s, timeout: 5s }}\n\
         listeners: [{{ name: demo, address: \"{}\" }}]\n\
         routes: [{{ name: demo, rules: [{{ name: all, backendRefs: [\
         {{ name: {}, weight: {} }}, {{ name: {}, weight: {} }}] }}] }}]\n\
         backends: [{{ name: {}, endpoints: [{{ address: \"{}\" }}] }}, {{ name: {}, endpoints: [{{ address: \"{}\" }}] }}]\n",
        options.listen,
        NAMES[0],
        weights[0],
        NAMES[1],
        weights[1],
        NAMES[0],
        backends[0],
        NAMES[1],
        backends[1],
    )
}

/// One look at the traffic: a line that is drawn over on a terminal, a line a second elsewhere.
fn live(seen: &Seen, watch: &Watch) {
    use std::io::{IsTerminal, Write};
    if watch.phase() != Phase::Serving {
        return;
    }
    let arms = NAMES.iter().zip(&seen.latencies).map(|(name, latencies)| {
        format!(
            "{name} {} ({:.1} %, p50 {}, p99 {})",
            latencies.len(),
            100.0 * latencies.len() as f64 / seen.answered().max(1) as f64,
            shown(quantile(latencies, 0.5)),
            shown(quantile(latencies, 0.99)),
        )
    });
    let line = format!(
        "{}  failed {}",
        arms.collect::<Vec<_>>().join("  "),
        seen.failed
    );
    if std::io::stdout().is_terminal() {
        anstream::print!("\r\x1b[K{line}");
        // A terminal that is gone does not matter to the demo.
        drop(std::io::stdout().flush());
    } else {
        anstream::println!("{line}");
    }
}

/// Prints what was seen beside what was promised. Returns whether the promise was kept.
fn summary(
    seen: &Seen,
    weights: [u32; 2],
    workers: usize,
    admin: std::net::SocketAddr,
) -> anyhow::Result<bool> {
    let (_, body) = client::get(admin, "/metrics").context("cannot read the proxy's metrics")?;
    let metrics = String::from_utf8_lossy(&body);
    let total = u64::from(weights[0]) + u64::from(weights[1]);
    // Each worker draws for itself and stays closer than 2 to its share.
    let bound = 2.0 * workers as f64;
    let mut kept = seen.failed == 0;
    anstream::println!(
        "\n\n{:<12}{:>9}{:>11}{:>12}{:>12}{:>10}{:>10}",
        "backend",
        "requests",
        "expected",
        "difference",
        "in metrics",
        "p50",
        "p99"
    );
    for (index, name) in NAMES.iter().enumerate() {
        let latencies = seen.latencies.get(index).map_or(&[][..], Vec::as_slice);
        let expected = seen.answered() as f64 * f64::from(weights[index]) / total as f64;
        let difference = latencies.len() as f64 - expected;
        let counted = requests_in(&metrics, name);
        kept &= difference.abs() < bound && counted >= latencies.len() as u64;
        anstream::println!(
            "{name:<12}{:>9}{expected:>11.1}{difference:>+12.1}{counted:>12}{:>10}{:>10}",
            latencies.len(),
            shown(quantile(latencies, 0.5)),
            shown(quantile(latencies, 0.99)),
        );
    }
    let verdict = if kept { "kept" } else { "NOT kept" };
    anstream::println!(
        "{} requests, {} failed; promise: less than {bound} off its share ({workers} workers, 2 each): {verdict}",
        seen.answered() + seen.failed,
        seen.failed,
    );
    Ok(kept)
}

/// The sum of `weir_requests_total` of a backend. Other people's requests are in it too.
fn requests_in(metrics: &str, backend: &str) -> u64 {
    let label = format!("backend=\"{backend}\"");
    let of_backend =
        |line: &&str| line.starts_with("weir_requests_total{") && line.contains(&label);
    metrics
        .lines()
        .filter(of_backend)
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

fn quantile(latencies: &[Duration], q: f64) -> Option<Duration> {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied()
}

fn shown(latency: Option<Duration>) -> String {
    latency.map_or_else(
        || "-".to_owned(),
        |d| format!("{:.1} ms", d.as_secs_f64() * 1000.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_two_numbers() {
        assert_eq!(parse_weights("95/5").ok(), Some([95, 5]));
        for wrong in ["95", "95/5/1", "a/b", "0/0", ""] {
            assert!(parse_weights(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn quantiles_and_sums() {
        let ms: Vec<_> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&ms, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(quantile(&ms, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&[], 0.5), None);
        let text = "weir_requests_total{backend=\"a\",code=\"200\"} 3\nweir_requests_total{backend=\"a\",code=\"503\"} 4\nother{backend=\"a\"} 9\n";
        assert_eq!(requests_in(text, "a"), 7);
    }
}
