//! `weir demo`: a split and a rollout at work, with built-in backends and traffic; needs nothing else.
//!
//! Owns the order of things. Must not know how a split is made: it looks from outside, as a user would.

mod backends;
mod release;
mod traffic;
mod view;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use self::release::Release;
use self::traffic::Plan;
use self::view::Live;
use super::arguments::DemoOptions;
use super::run::{control_runtime, start};
use super::{Failure, client};
use crate::app::{Options, Source, workers};
use crate::config;
use crate::drain::Phase;
use crate::telemetry::logging::{self, Style};

/// Names of the two built-in backends.
const NAMES: [&str; 2] = ["stable", "candidate"];

/// The greatest weight that a configuration may have.
const MOST_WEIGHT: u32 = 1_000_000;

/// Requests a second where nobody says: leisurely to look at, brisk when the number is limited.
const RATES: (u32, u32) = (400, 2000);

/// Runs until a signal, or until the requests are through.
pub(super) fn run(options: &DemoOptions) -> Result<ExitCode, Failure> {
    let weights = parse_weights(&options.weights)?;
    let moves = moves(options)?;
    let broken = Arc::new(AtomicBool::new(false));
    let (_level, _written_at_the_end) = logging::start("warn,weir::steering=error", Style::Auto)
        .map_err(|error| Failure::Usage(error.to_string()))?;
    let backends = backends::start(NAMES, &broken)?;
    let mut text = document(options, weights, &backends);
    if moves {
        text.push_str(&release::document());
    }
    let loaded = config::parse("demo", &text)
        .map_err(|problems| Failure::Config(config::problem::render(&problems, false)))?;
    let workers = options
        .workers
        .map_or_else(workers::default_count, usize::from);
    let finite = options.requests.is_some();
    let passed = control_runtime()?.block_on(async {
        let app = start(Options {
            source: Source::Made(Box::new(loaded.document)),
            workers,
            admin: Some(options.admin),
            log_level: None,
        })
        .await?;
        let admin = app.admin();
        let state = Arc::clone(app.state());
        let proxy = state.bound(options.listen);
        let divided = if moves {
            "a rollout of the candidate: 5, 25, 50, 100 %".to_owned()
        } else {
            format!("{} {} / {} {}", NAMES[0], weights[0], NAMES[1], weights[1])
        };
        anstream::println!("{}", introduction(proxy, admin, &divided, workers));
        let plan = Plan {
            proxy,
            requests: options.requests,
            rps: options
                .rps
                .unwrap_or(if finite { RATES.1 } else { RATES.0 }),
            names: NAMES,
        };
        let mut live = Live::new((!moves).then_some(weights));
        let breaks = options.fail.is_some();
        let mut release = moves.then(|| Release::new(&state.desk, breaks, &broken));
        let (watch, pause) = (state.drain.clone(), live.pause());
        let traffic = std::thread::Builder::new()
            .name("demo-traffic".to_owned())
            .spawn(move || {
                let seen = traffic::run(&plan, &watch, pause, |seen| {
                    if let Some(release) = &mut release {
                        live.tell(&release.look());
                    }
                    live.show(seen);
                    release.as_ref().is_some_and(Release::is_over)
                });
                state.trigger.enter(Phase::LameDuck);
                (seen, live, release)
            })?;
        app.run().await?;
        // Every request has ended and is recorded by now. The thread is waited for elsewhere, so that
        // the admin listener goes on answering here.
        let joined = tokio::task::spawn_blocking(move || traffic.join()).await?;
        let (seen, mut live, release) =
            joined.map_err(|_| anyhow::anyhow!("the demo's traffic failed; please report it"))?;
        let seen = seen?;
        let metrics = metrics(admin).await?;
        keep(options, release.as_ref())?;
        let (summary, passed) = match release {
            Some(release) => release.summary(&seen, &metrics),
            None => {
                let counted = NAMES.map(|it| view::counted(&metrics, "weir_requests_total", it));
                view::summary(&seen, weights, counted, workers)
            }
        };
        live.finish(&summary);
        Ok::<_, Failure>(passed)
    })?;
    // Who watches until Ctrl-C has seen what there is to see.
    Ok(if passed || !(finite || options.fail.is_some()) {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    })
}

/// Whether there is a rollout to see. A number of requests is for the arithmetic of a split that stays as it is.
fn moves(options: &DemoOptions) -> Result<bool, Failure> {
    let moves = options.fail.is_some() || options.requests.is_none();
    if !moves && options.record.is_some() {
        let why = "--record FILE: with --requests alone nothing is decided; add --fail candidate";
        return Err(Failure::Usage(why.to_owned()));
    }
    Ok(moves)
}

/// Writes what was decided where that is wanted.
fn keep(options: &DemoOptions, release: Option<&Release>) -> anyhow::Result<()> {
    let (Some(file), Some(release)) = (&options.record, release) else {
        return Ok(());
    };
    std::fs::write(file, release.record()?)
        .with_context(|| format!("cannot write {}", file.display()))
}

fn introduction(proxy: SocketAddr, admin: SocketAddr, divided: &str, workers: usize) -> String {
    format!(
        "proxy    http://{proxy}   (try: curl http://{proxy}/)\nadmin    http://{admin}/   a page; /metrics, /config, /api/v1/status\n\
         split    {divided}, {workers} workers",
    )
}

/// What the proxy has counted, asked as any scraper would.
async fn metrics(admin: SocketAddr) -> anyhow::Result<String> {
    let (_, body) = client::ask(&client::AdminAddress::Tcp(admin), "/metrics")
        .await
        .context("cannot read the proxy's metrics")?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn parse_weights(text: &str) -> Result<[u32; 2], Failure> {
    let parts: Option<Vec<u32>> = text.split('/').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([stable, candidate])
            if (*stable > 0 || *candidate > 0) && *stable.max(candidate) <= MOST_WEIGHT =>
        {
            Ok([*stable, *candidate])
        }
        _ => Err(Failure::Usage(format!(
            "--weights {text}: write two numbers up to {MOST_WEIGHT}, not both zero, for example `--weights 95/5`"
        ))),
    }
}

fn document(options: &DemoOptions, weights: [u32; 2], backends: &[SocketAddr; 2]) -> String {
    // The lame duck is there for the traffic: it stops by itself before anything is closed.
    format!(
        "version: 1\naccessLog: {{ format: \"off\" }}\ndrain: {{ delay: 100ms, timeout: 5s }}\n\
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_two_numbers() {
        assert_eq!(parse_weights("95/5").ok(), Some([95, 5]));
        for wrong in ["4294967295/1", "95", "95/5/1", "a/b", "0/0", ""] {
            assert!(parse_weights(wrong).is_err(), "{wrong}");
        }
    }
}
