//! `weir status`, `listeners`, `routes`, `backends`, `certificates`: what a running proxy says of itself.
//!
//! Owns the tables. Must not know how the proxy knows.

use std::process::ExitCode;

use anyhow::bail;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::Value;

use super::arguments::{Output, ShowOptions};
use super::rollout::view::stands;
use super::{Failure, client};

/// How the proxy is.
pub(super) fn status(options: &ShowOptions) -> Result<ExitCode, Failure> {
    show(options, "status", |value| {
        let mut table = new_table(&[]);
        let connections: u64 = value["connections"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_u64)
            .sum();
        for (name, text) in [
            ("version", text(&value["version"])),
            ("phase", text(&value["phase"])),
            ("up", format!("{} s", text(&value["uptimeSeconds"]))),
            ("generation", text(&value["generation"])),
            ("workers", text(&value["workers"])),
            ("connections", connections.to_string()),
            (
                "reloads",
                format!(
                    "{} applied, {} refused",
                    value["reload"]["applied"], value["reload"]["refused"]
                ),
            ),
            ("newest configuration", reload(&value["reload"])),
        ] {
            table.add_row([name.to_owned(), text]);
        }
        if let Some(kept) = value["state"].as_object() {
            let folder = text(&kept["folder"]);
            let state = match kept["trouble"].as_str() {
                None => folder,
                Some(why) => format!("not kept in {folder}: {why}"),
            };
            table.add_row(["state".to_owned(), state]);
        }
        for one in value["rollouts"].as_array().into_iter().flatten() {
            table.add_row([format!("rollout {}", text(&one["name"])), stands(one)]);
        }
        table
    })
}

fn reload(reload: &Value) -> String {
    match reload["error"].as_str() {
        None => "serves".to_owned(),
        Some(error) => format!("refused; the one before serves\n{error}"),
    }
}

/// Where it listens.
pub(super) fn listeners(options: &ShowOptions) -> Result<ExitCode, Failure> {
    show(options, "listeners", |value| {
        let headings = [
            "LISTENER",
            "ADDRESS",
            "HOSTNAME",
            "PROXY PROTOCOL",
            "CONNECTIONS",
        ];
        let mut table = new_table(&headings);
        for one in value.as_array().into_iter().flatten() {
            let hostname = one["hostname"].as_str().unwrap_or("any").to_owned();
            table.add_row([
                text(&one["name"]),
                text(&one["bound"]),
                hostname,
                text(&one["proxyProtocol"]),
                text(&one["connections"]),
            ]);
        }
        right(table, &[4])
    })
}

/// Its rules, with configured and observed shares.
pub(super) fn routes(options: &ShowOptions) -> Result<ExitCode, Failure> {
    show(options, "routes", |value| {
        let headings = [
            "RULE", "BACKEND", "WEIGHT", "SHARE", "OBSERVED", "REQUESTS", "P50", "P99",
        ];
        let mut table = new_table(&headings);
        for rule in value.as_array().into_iter().flatten() {
            let backends = rule["backends"].as_array().map_or(&[][..], Vec::as_slice);
            let total: u64 = backends.iter().filter_map(|b| b["requests"].as_u64()).sum();
            for backend in backends {
                let requests = backend["requests"].as_u64().unwrap_or(0);
                let observed = if total == 0 {
                    "-".to_owned()
                } else {
                    percent(requests as f64 / total as f64)
                };
                table.add_row([
                    format!("{}/{}", text(&rule["route"]), text(&rule["rule"])),
                    text(&backend["name"]),
                    text(&backend["weight"]),
                    percent(backend["share"].as_f64().unwrap_or(0.0)),
                    observed,
                    requests.to_string(),
                    milliseconds(&backend["p50Seconds"]),
                    milliseconds(&backend["p99Seconds"]),
                ]);
            }
            if backends.is_empty() {
                table.add_row([
                    format!("{}/{}", text(&rule["route"]), text(&rule["rule"])),
                    "-".to_owned(),
                ]);
            }
        }
        right(table, &[2, 3, 4, 5, 6, 7])
    })
}

/// Its backends and their endpoints.
pub(super) fn backends(options: &ShowOptions) -> Result<ExitCode, Failure> {
    show(options, "backends", |value| {
        let mut table = new_table(&[
            "BACKEND",
            "PROTOCOL",
            "POLICY",
            "ENDPOINTS BY",
            "ENDPOINT",
            "STATE",
            "PRIORITY",
            "WEIGHT",
            "IN FLIGHT",
            "CONNECTIONS",
        ]);
        for backend in value.as_array().into_iter().flatten() {
            let common = [
                text(&backend["name"]),
                text(&backend["protocol"]),
                text(&backend["policy"]),
                source(&backend["discovery"]),
            ];
            let endpoints = backend["endpoints"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            for endpoint in endpoints {
                let own = [
                    text(&endpoint["address"]),
                    state(endpoint),
                    text(&endpoint["priority"]),
                    text(&endpoint["weight"]),
                    text(&endpoint["requestsInFlight"]),
                ];
                table.add_row([&common[..], &own, &[text(&backend["connections"])]].concat());
            }
            if endpoints.is_empty() {
                table.add_row([&common[..], &["none".to_owned()]].concat());
            }
        }
        right(table, &[6, 7, 8, 9])
    })
}

/// Who says where its endpoints are, and what is wrong with that.
fn source(discovery: &Value) -> String {
    let Some(source) = discovery["source"].as_str() else {
        return "configuration".to_owned();
    };
    match discovery["result"].as_str() {
        Some("ok") => source.to_owned(),
        None => format!("{source} (no answer yet)"),
        Some(result) => {
            let since = discovery["goodSecondsAgo"].as_u64();
            let since = since.map_or_else(|| "never".to_owned(), |ago| format!("{ago} s ago"));
            format!("{source} ({result}; last good {since})")
        }
    }
}

fn state(endpoint: &Value) -> String {
    let state = text(&endpoint["state"]);
    match endpoint["trouble"].as_str() {
        Some(trouble) => format!("{state}: {trouble}"),
        None => state,
    }
}

/// Its keys, certificates and lists, and when they end.
pub(super) fn certificates(options: &ShowOptions) -> Result<ExitCode, Failure> {
    show(options, "certificates", |value| {
        let mut table = new_table(&["OWNER", "ROLE", "ENDS", "STATE", "NAMES", "FILE"]);
        for part in value.as_array().into_iter().flatten() {
            let list = |value: &Value| {
                let texts = value.as_array().into_iter().flatten().map(text);
                texts.collect::<Vec<_>>().join(" ")
            };
            let certificates = part["certificates"]
                .as_array()
                .map_or(&[][..], Vec::as_slice);
            let named = |one: &Value| match list(&one["names"]) {
                names if names.is_empty() => text(&one["subject"]),
                names => names,
            };
            table.add_row([
                text(&part["owner"]),
                text(&part["role"]),
                text(&part["ends"]),
                part["error"].as_str().map_or_else(
                    || "in use".to_owned(),
                    |error| format!("an earlier one in use; {error}"),
                ),
                certificates
                    .iter()
                    .map(named)
                    .collect::<Vec<_>>()
                    .join("; "),
                list(&part["files"]),
            ]);
        }
        table
    })
}

fn show(
    options: &ShowOptions,
    page: &str,
    table: impl Fn(&Value) -> Table,
) -> Result<ExitCode, Failure> {
    let (status, body) = client::get(&options.admin, &format!("/api/v1/{page}"))?;
    if !status.is_success() {
        return Err((|| -> anyhow::Result<()> {
            bail!(
                "{} answered {status}: {}",
                options.admin,
                String::from_utf8_lossy(&body).trim()
            )
        })()
        .map_or_else(Failure::Run, |()| Failure::Usage(String::new())));
    }
    let value: Value = serde_json::from_slice(&body)?;
    print(&value, options.output, table)?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a value as the user wants it.
pub(super) fn print<T: std::fmt::Display>(
    value: &Value,
    output: Output,
    table: impl Fn(&Value) -> T,
) -> Result<(), Failure> {
    match output {
        Output::Table => anstream::println!("{}", table(value)),
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(value)?),
        Output::Yaml => anstream::print!("{}", yaml(value, 0)),
    }
    Ok(())
}

/// JSON is YAML, so only the outer shape has to look like it: mappings and sequences in blocks,
/// scalars as JSON writes them.
fn yaml(value: &Value, depth: usize) -> String {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(map) if !map.is_empty() => map
            .iter()
            .map(|(key, value)| match value {
                Value::Object(inner) if !inner.is_empty() => {
                    format!("{indent}{key}:\n{}", yaml(value, depth + 1))
                }
                Value::Array(inner) if !inner.is_empty() => {
                    format!("{indent}{key}:\n{}", yaml(value, depth))
                }
                scalar => format!("{indent}{key}: {scalar}\n"),
            })
            .collect(),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| {
                let block = yaml(item, depth + 1);
                format!("{indent}- {}", block.trim_start())
            })
            .collect(),
        scalar => format!("{indent}{scalar}\n"),
    }
}

/// A table without lines, as `kubectl` prints them.
pub(super) fn new_table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if !headings.is_empty() {
        table.set_header(headings);
    }
    table
}

/// Puts the figures of these columns to the right.
pub(super) fn right(mut table: Table, columns: &[usize]) -> Table {
    for index in columns {
        if let Some(column) = table.column_mut(*index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

pub(super) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn milliseconds(seconds: &Value) -> String {
    seconds
        .as_f64()
        .map_or_else(|| "-".to_owned(), |s| format!("<= {} ms", s * 1000.0))
}
