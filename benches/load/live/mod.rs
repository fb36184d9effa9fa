//! Both versions of a service, their clients, and a rollout between them: what a bad candidate costs, told
//! by those who pay.

mod admin;
mod clients;
mod versions;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::bail;

use self::admin::Admin;
use self::clients::{Clients, Seen};
use self::versions::Version;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The proxy.
    #[arg(long)]
    to: SocketAddr,
    /// Its admin listener.
    #[arg(long)]
    admin: SocketAddr,
    /// Where stable and candidate listen.
    #[arg(long)]
    stable: SocketAddr,
    #[arg(long)]
    candidate: SocketAddr,
    /// Requests a second, whatever becomes of them.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Different users.
    #[arg(long, default_value_t = 50_000)]
    users: u64,
    /// How many of its requests the candidate fails, in percent, from the break on.
    #[arg(long, default_value_t = 0.0)]
    fails: f64,
    /// Stable fails as many.
    #[arg(long)]
    both: bool,
    /// How many of theirs both fail all the time.
    #[arg(long, default_value_t = 0.1)]
    always: f64,
    /// How many times as long the candidate takes, from the break on.
    #[arg(long, default_value_t = 1.0)]
    slower: f64,
    /// Seconds of traffic before the break.
    #[arg(long, default_value_t = 2.0)]
    before: f64,
    /// Longest time from the break to the end of a run.
    #[arg(long, default_value_t = 30.0)]
    longest: f64,
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Nothing breaks: wait for the promotion.
    #[arg(long)]
    good: bool,
}

/// What one run came to.
#[derive(Debug, Default)]
struct Run {
    ended: String,
    /// From the break.
    seconds: f64,
    /// Different users with a failed answer of the candidate's making; requests it failed; failed answers.
    users: usize,
    failed: u64,
    answered_badly: u64,
    /// From the deciding answer to the last request that the candidate got. The decision needs the candidate's
    /// failures and the end of stable's requests that came before; the last of these answers decides.
    reaction: Option<f64>,
    /// From the decision to that.
    effect: Option<f64>,
}

pub(crate) async fn run(options: Options) -> anyhow::Result<bool> {
    let stable = Version::serve("v1", options.stable).await?;
    let candidate = Version::serve("v2", options.candidate).await?;
    let admin = Admin::new(options.admin);
    let mut runs = Vec::new();
    for number in 0..options.runs {
        if number > 0 {
            admin.post("retry").await?;
        }
        runs.push(once(&options, &stable, &candidate, &admin).await?);
    }
    tell(&runs);
    Ok(true)
}

async fn once(
    options: &Options,
    stable: &Rc<Version>,
    candidate: &Rc<Version>,
    admin: &Admin,
) -> anyhow::Result<Run> {
    stable.set(options.always, 1.0);
    candidate.set(options.always, 1.0);
    candidate.forget();
    stable.forget();
    let seen = Rc::new(Seen::default());
    let clients = Clients::start(options.to, options.rate, options.users, &seen);
    admin.until(|phase| phase == "step", 30.0).await?;
    if !options.good {
        tokio::time::sleep(Duration::from_secs_f64(options.before)).await;
        seen.forget();
        candidate.forget();
        stable.forget();
    }
    let broke = Instant::now();
    if !options.good {
        candidate.set(options.fails.max(options.always), options.slower);
        if options.both {
            stable.set(options.fails, 1.0);
        }
    }
    let over = |phase: &str| matches!(phase, "rolledBack" | "promoted" | "aborted");
    let ended = admin.until(over, options.longest).await;
    let seconds = broke.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_millis(300)).await;
    clients.stop().await;
    let ended = match ended {
        Ok(phase) => phase,
        Err(_) => "step".to_owned(),
    };
    let mut run = Run {
        ended,
        seconds,
        users: candidate.users(),
        failed: candidate.failed(),
        answered_badly: seen.bad(),
        reaction: None,
        effect: None,
    };
    if run.ended == "rolledBack" {
        let at = admin.decided().await?;
        run.seconds = (at - wall(broke)).max(0.0);
        let last = candidate.last_request();
        // The decision's time has whole milliseconds.
        run.effect = Some(((last - at) * 1e3).max(0.0));
        // The decision's time has whole milliseconds.
        let until = at + 0.001;
        run.reaction = candidate.last_failure(until).map(|(came, answered)| {
            let older = stable.last_answer(came, until).unwrap_or(answered);
            // Often none comes after it.
            ((last - answered.max(older)) * 1e3).max(0.0)
        });
    }
    if run.ended == "aborted" {
        bail!("somebody else has aborted it");
    }
    Ok(run)
}

/// Seconds of the wall clock at an instant.
fn wall(at: Instant) -> f64 {
    now() - at.elapsed().as_secs_f64()
}

/// Seconds of the wall clock.
fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

fn tell(runs: &[Run]) {
    let of = |value: &dyn Fn(&Run) -> Option<f64>| -> Vec<f64> {
        let mut values: Vec<f64> = runs.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let middle = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    let most = |values: &[f64]| values.last().copied().unwrap_or(f64::NAN);
    let ninth = |values: &[f64]| {
        values
            .get(values.len() * 9 / 10)
            .copied()
            .unwrap_or(f64::NAN)
    };
    let rolled = runs.iter().filter(|run| run.ended == "rolledBack").count();
    let promoted = runs.iter().filter(|run| run.ended == "promoted").count();
    let seconds = of(&|run| Some(run.seconds));
    let users = of(&|run| Some(run.users as f64));
    let failed = of(&|run| Some(run.failed as f64));
    let bad = of(&|run| Some(run.answered_badly as f64));
    let reaction = of(&|run| run.reaction);
    let all: Vec<String> = reaction.iter().map(|it| format!("{it:.1}")).collect();
    println!("reactions={}", all.join(" "));
    println!(
        "runs={} rolled_back={rolled} promoted={promoted} seconds={:.3} seconds_most={:.3} users={:.0} users_most={:.0} failed={:.0} answered_badly={:.0} answered_badly_most={:.0} reaction_ms={:.1} reaction_ms_ninth={:.1} reaction_ms_most={:.1} effect_ms_most={:.1}",
        runs.len(),
        middle(&seconds),
        most(&seconds),
        middle(&users),
        most(&users),
        middle(&failed),
        middle(&bad),
        most(&bad),
        middle(&reaction),
        ninth(&reaction),
        most(&reaction),
        most(&of(&|run| run.effect)),
    );
}
