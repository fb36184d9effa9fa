//! What the engine of rollouts promises, by simulation at full size: prints every number beside its bound
//! and fails when one is broken. `cargo bench --bench rollout_tables`; a name's part chooses tables.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement may fail anywhere"
)]

#[path = "../tests/it/rollout_tables/mod.rs"]
mod rollout_tables;

use std::process::ExitCode;
use std::time::Instant;

use rollout_tables::{Scale, TABLES};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --bench` runs it once, unoptimized, to see that it runs.
    let is_full = arguments.iter().any(|argument| argument == "--bench");
    let words: Vec<&String> = arguments
        .iter()
        .filter(|word| !word.starts_with("--"))
        .collect();
    let mut is_kept = true;
    for (name, table, small) in TABLES {
        if !words.is_empty() && !words.iter().any(|word| name.contains(word.as_str())) {
            continue;
        }
        let began = Instant::now();
        let lines = table(Scale(if is_full { 1.0 } else { *small }));
        println!("\n{name} ({:.1} s)", began.elapsed().as_secs_f64());
        for line in &lines {
            println!("  {line}");
            is_kept &= line.holds();
        }
    }
    if is_kept {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
