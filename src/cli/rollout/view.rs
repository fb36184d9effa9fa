//! Rollouts as people read them.
//!
//! Must not know where the values come from.

use std::fmt::Write as _;

use comfy_table::Table;
use serde_json::Value;

use super::super::show::{new_table, right, text};

fn percent(value: &Value) -> String {
    value
        .as_f64()
        .map_or_else(|| "-".to_owned(), |percent| format!("{percent} %"))
}

fn share(millionths: &Value) -> String {
    let millionths = millionths.as_f64().unwrap_or(0.0);
    format!("{} %", millionths / 10_000.0)
}

/// What holds it, or what it says.
fn note(one: &Value) -> String {
    match one["stays"].as_str() {
        Some(stays) => stays.to_owned(),
        None => text(&one["last"]["reason"]),
    }
}

/// `3 of 5` at a step, else the phase.
fn phase(one: &Value) -> String {
    let steps = one["steps"].as_array().map_or(&[][..], Vec::as_slice);
    match steps.iter().position(|step| step["current"] == true) {
        Some(index) => format!("step {} of {}", index + 1, steps.len()),
        None => text(&one["phase"]),
    }
}

pub(super) fn list(all: &Value) -> Table {
    let mut table = new_table(&[
        "ROLLOUT",
        "RULE",
        "STABLE",
        "CANDIDATE",
        "PHASE",
        "WEIGHT",
        "SET BY",
        "VERDICT",
    ]);
    for one in all.as_array().into_iter().flatten() {
        table.add_row([
            text(&one["name"]),
            text(&one["rule"]),
            text(&one["stable"]),
            text(&one["candidate"]),
            phase(one),
            percent(&one["weight"]),
            set_by(one),
            text(&one["verdict"]),
        ]);
    }
    right(table, &[5])
}

/// Who has set the weight; of persons also which.
fn set_by(one: &Value) -> String {
    let owner = match one["phase"].as_str() {
        Some("aborted") => &one["last"]["by"],
        _ => &one["override"]["owner"],
    };
    match owner.as_str() {
        Some(owner) if one["setBy"] == "operator" => format!("operator {owner}"),
        _ => text(&one["setBy"]),
    }
}

/// How it stands, in one line.
pub(super) fn line(one: &Value) -> String {
    format!("{}: {}", text(&one["name"]), stands(one))
}

/// The same without its name.
pub(in crate::cli) fn stands(one: &Value) -> String {
    let mut line = format!(
        "{}, {} by {}, {}",
        phase(one),
        percent(&one["weight"]),
        set_by(one),
        one["verdict"].as_str().unwrap_or("not judged"),
    );
    let note = note(one);
    if note != "-" && !note.is_empty() {
        write!(line, ": {note}").expect("writing to a String cannot fail");
    }
    line
}

pub(super) fn status(one: &Value) -> String {
    let mut table = new_table(&[]);
    let mut row = |name: &str, value: String| {
        if value != "-" {
            table.add_row([name.to_owned(), value]);
        }
    };
    row("rollout", text(&one["name"]));
    row("rule", text(&one["rule"]));
    row(
        "versions",
        format!("{} -> {}", text(&one["stable"]), text(&one["candidate"])),
    );
    row(
        "run",
        format!("{} of {}", text(&one["run"]), text(&one["revision"])),
    );
    row("phase", phase(one));
    row("weight", weight(one));
    row("verdict", text(&one["verdict"]));
    row("stays because", text(&one["stays"]));
    let last = &one["last"];
    if last.is_object() {
        let decision = text(&last["decision"]);
        let (at, by) = (text(&last["at"]), text(&last["by"]));
        row(
            "last decision",
            format!("{decision} by {by} at {at}: {}", text(&last["reason"])),
        );
        let samples = last["samples"].as_array().map_or(&[][..], Vec::as_slice);
        let ids: Vec<String> = samples.iter().map(text).collect();
        if !ids.is_empty() {
            row("failed requests", ids.join(" "));
        }
    }
    row("traffic", traffic(one));
    row("outlook", outlook(&one["outlook"]));
    let evidence = evidence(one);
    format!("{table}\n\n{evidence}")
}

fn weight(one: &Value) -> String {
    let weights = &one["weights"];
    let mut text_ = format!("{} by {}", percent(&one["weight"]), text(&one["setBy"]));
    let wants = ["file", "plan", "operator", "guard"].map(|who| match &weights[who] {
        Value::Null => format!("{who} -"),
        value => format!("{who} {}", percent(value)),
    });
    write!(text_, " ({})", wants.join(", ")).expect("writing to a String cannot fail");
    let set = &one["override"];
    if set.is_object() {
        let until = match &set["until"] {
            Value::Null => "until somebody resumes".to_owned(),
            until => format!("until {}", text(until)),
        };
        let (owner, reason) = (text(&set["owner"]), text(&set["reason"]));
        write!(text_, "; set by {owner} {until}: {reason}")
            .expect("writing to a String cannot fail");
    }
    text_
}

fn traffic(one: &Value) -> String {
    let rps = one["rps"].as_f64().unwrap_or(0.0);
    let (requests, failures) = (&one["requests"], &one["failures"]);
    format!(
        "{rps:.0} requests/s; stable {} ({} failed), candidate {} ({} failed)",
        requests["stable"], failures["stable"], requests["candidate"], failures["candidate"],
    )
}

fn outlook(outlook: &Value) -> String {
    let seconds = |name: &str| outlook[name].as_f64();
    match (seconds("passSeconds"), seconds("totalFailureSeconds")) {
        (Some(pass), Some(failure)) => {
            format!(
                "passes in {pass:.0} s without failures; a total failure is seen in {failure:.1} s"
            )
        }
        _ => "-".to_owned(),
    }
}

fn evidence(one: &Value) -> Table {
    let mut table = new_table(&[
        "INDICATOR",
        "CANDIDATE",
        "STABLE",
        "KEYS",
        "EVIDENCE",
        "THRESHOLD",
        "P",
    ]);
    for reading in one["evidence"].as_array().into_iter().flatten() {
        let power = |name: &str| match reading[name].as_f64() {
            Some(log) => format!("10^{:.1}", log / std::f64::consts::LN_10),
            None => "-".to_owned(),
        };
        table.add_row([
            text(&reading["sli"]),
            text(&reading["events"]["candidate"]),
            text(&reading["events"]["stable"]),
            text(&reading["keys"]),
            power("logEvidence"),
            power("logThreshold"),
            reading["p"]
                .as_f64()
                .map_or_else(String::new, |p| format!("{p:.1e}")),
        ]);
    }
    right(table, &[1, 2, 3, 4, 5, 6])
}

/// `plan`, `guard`, or the name of a person.
fn by(by: &Value) -> String {
    match &by["operator"] {
        Value::Null => text(by),
        name => text(name),
    }
}

pub(super) fn history(records: &Value) -> Table {
    let mut table = new_table(&["AT", "RUN", "DECISION", "BY", "WEIGHT", "REASON"]);
    for record in records.as_array().into_iter().flatten() {
        let (from, to) = (&record["from"]["share"], &record["to"]["share"]);
        table.add_row([
            text(&record["at"]),
            text(&record["run"]),
            text(&record["decision"]),
            by(&record["by"]),
            if from == to {
                share(to)
            } else {
                format!("{} -> {}", share(from), share(to))
            },
            text(&record["reason"]),
        ]);
    }
    table
}

pub(super) fn replayed(all: &Value) -> Table {
    let mut table = new_table(&["AT", "ROLLOUT", "DECISION", "VERDICT THEN", "NOW", ""]);
    for one in all.as_array().into_iter().flatten() {
        let (record, replay) = (&one["record"], &one["replay"]);
        table.add_row([
            text(&record["at"]),
            text(&record["rollout"]),
            text(&record["decision"]),
            text(&record["basis"]["judgement"]["verdict"]),
            text(&replay["judgement"]["verdict"]),
            match replay["agrees"].as_bool() {
                Some(true) => "agrees".to_owned(),
                Some(false) => "differs".to_owned(),
                None => "nothing was judged".to_owned(),
            },
        ]);
    }
    table
}
