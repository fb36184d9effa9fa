//! `weir rollout`: watching and steering the rollouts of a running proxy.
//!
//! Owns the commands. Must not know how the proxy carries them out.

pub(super) mod view;

use std::io::Read;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

use super::arguments::{
    Output, RolloutCommandOptions, RolloutNameOptions, RolloutOptions, RolloutReplayOptions,
    RolloutStatusOptions, RolloutVerb, ShowOptions,
};
use super::client::AdminAddress;
use super::show::print;
use super::{Failure, client};
use crate::rollout::machine::Record;

/// How often a watched rollout is looked at.
const PAUSE: Duration = Duration::from_millis(500);

const ROOT: &str = "/api/v1/rollouts";

pub(super) fn run(options: &RolloutOptions) -> Result<ExitCode, Failure> {
    match &options.what {
        RolloutVerb::List(show) => list(show),
        RolloutVerb::Status(status) => show_status(status),
        RolloutVerb::Promote(promote) => {
            command("promote", &promote.command, json!({ "full": promote.full }))
        }
        RolloutVerb::Pause(options) => command("pause", options, json!({})),
        RolloutVerb::Resume(options) => command("resume", options, json!({})),
        RolloutVerb::Abort(options) => command("abort", options, json!({})),
        RolloutVerb::Retry(options) => command("retry", options, json!({})),
        RolloutVerb::SetWeight(options) => {
            let mut body = json!({ "weight": options.weight * 100.0 });
            if let Some(lasts) = options.lasts {
                body["for"] = json!(lasts.to_string());
            }
            command("weight", &options.command, body)
        }
        RolloutVerb::History(options) => history(options),
        RolloutVerb::Replay(options) => replay(options),
    }
}

fn list(show: &ShowOptions) -> Result<ExitCode, Failure> {
    let all = ask(&show.admin, ROOT)?;
    print(&all, show.output, view::list)?;
    Ok(ExitCode::SUCCESS)
}

fn show_status(options: &RolloutStatusOptions) -> Result<ExitCode, Failure> {
    let show = &options.of.show;
    let name = named(&options.of)?;
    let path = format!("{ROOT}/{name}");
    let mut before = String::new();
    loop {
        let one = ask(&show.admin, &path)?;
        if !options.watch {
            print(&one, show.output, view::status)?;
            return Ok(ExitCode::SUCCESS);
        }
        // What stays the same is not said again, so that the output can be kept.
        let shown = match show.output {
            Output::Table => view::line(&one),
            Output::Json | Output::Yaml => serde_json::to_string(&one)?,
        };
        if shown != before {
            anstream::println!("{shown}");
            before = shown;
        }
        match one["phase"].as_str() {
            Some("promoted") => return Ok(ExitCode::SUCCESS),
            Some("rolledBack" | "aborted") => return Ok(ExitCode::from(1)),
            _ => std::thread::sleep(PAUSE),
        }
    }
}

fn history(options: &RolloutNameOptions) -> Result<ExitCode, Failure> {
    let name = named(options)?;
    let records = ask(&options.show.admin, &format!("{ROOT}/{name}/history"))?;
    print(&records, options.show.output, view::history)?;
    Ok(ExitCode::SUCCESS)
}

fn command(
    verb: &str,
    options: &RolloutCommandOptions,
    mut body: Value,
) -> Result<ExitCode, Failure> {
    let (show, name) = (&options.of.show, named(&options.of)?);
    body["owner"] = json!(options.owner);
    body["reason"] = json!(options.reason);
    let token = match &options.token_file {
        Some(file) => {
            let text = std::fs::read_to_string(file);
            Some(text.with_context(|| format!("cannot read {}", file.display()))?)
        }
        None => None,
    };
    let token = token.as_deref().map(str::trim);
    let path = format!("{ROOT}/{name}/{verb}");
    let (status, answer) = client::post(&show.admin, &path, token, body.to_string())?;
    let text = String::from_utf8_lossy(&answer);
    if !status.is_success() {
        return Err(anyhow!("{}", text.trim()).into());
    }
    let value: Value = serde_json::from_str(&text)?;
    print(&value, show.output, view::line)?;
    Ok(ExitCode::SUCCESS)
}

/// The rollout that is meant.
fn named(options: &RolloutNameOptions) -> anyhow::Result<String> {
    if let Some(name) = &options.name {
        return Ok(name.clone());
    }
    let all = ask(&options.show.admin, ROOT)?;
    let names: Vec<_> = all
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|one| one["name"].as_str())
        .collect();
    match names.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => bail!("the proxy has no rollout"),
        several => bail!("which one? {}", several.join(", ")),
    }
}

fn ask(admin: &AdminAddress, path: &str) -> anyhow::Result<Value> {
    let (status, body) = client::get(admin, path)?;
    if status == http::StatusCode::NOT_FOUND {
        bail!("the proxy has no such rollout; `weir rollout list` names them");
    }
    if !status.is_success() {
        let said = String::from_utf8_lossy(&body);
        bail!("{admin} answered {status}: {}", said.trim());
    }
    Ok(serde_json::from_slice(&body)?)
}

fn replay(options: &RolloutReplayOptions) -> Result<ExitCode, Failure> {
    let text = if options.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        text
    } else {
        let text = std::fs::read_to_string(&options.file);
        text.with_context(|| format!("cannot read {}", options.file.display()))?
    };
    let records = records(&text)?;
    let mut agree = true;
    let replayed: Vec<Value> = records
        .iter()
        .map(|record| {
            let replay = record.replay();
            agree &= replay.as_ref().is_none_or(|replay| replay.agrees);
            json!({ "record": record, "replay": replay })
        })
        .collect();
    print(&Value::from(replayed), options.output, view::replayed)?;
    Ok(ExitCode::from(u8::from(!agree)))
}

/// One record, a list of them, or one a line.
fn records(text: &str) -> anyhow::Result<Vec<Record>> {
    let read = |text: &str| Record::read(text).map_err(|error| anyhow!("not a record: {error}"));
    if let Ok(Value::Array(all)) = serde_json::from_str(text) {
        return all.iter().map(|one| read(&one.to_string())).collect();
    }
    if let Ok(one) = Record::read(text) {
        return Ok(vec![one]);
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.map(read).collect()
}
