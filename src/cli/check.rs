//! `weir check`: every problem of a configuration, for people or programs.
//!
//! Must not know what makes a configuration right.

use std::process::ExitCode;

use super::Failure;
use super::arguments::{CheckOptions, ProblemFormat};
use super::run::colour;
use crate::config::{self, Problem, problem};
use crate::snapshot::compile::{CompileError, Compiler};
use crate::telemetry::recorder::Registry;

/// Checks; warnings are printed too, but only errors fail.
pub(super) fn run(options: &CheckOptions) -> Result<ExitCode, Failure> {
    let found = config::search(options.path.as_deref());
    let loaded = found.and_then(|path| config::load(&path));
    let (problems, document) = match loaded {
        Ok(loaded) => (loaded.warnings, Some(loaded.document)),
        Err(problems) => (problems, None),
    };
    print(&problems, options.format)?;
    let Some(mut document) = document else {
        return Ok(ExitCode::from(3));
    };
    // Names are looked up where the proxy runs, which is seldom where its configuration is checked.
    for backend in &mut document.backends {
        backend.endpoints.clear();
    }
    let registry = Registry::new();
    let compiler = Compiler {
        registry: &registry,
        workers: 1,
        earlier: None,
        open_log: false,
    };
    compiler
        .compile(document, 0)
        .map_err(|error: CompileError| Failure::Config(format!("weir: {error}\n")))?;
    Ok(ExitCode::SUCCESS)
}

fn print(problems: &[Problem], format: ProblemFormat) -> Result<(), Failure> {
    match format {
        ProblemFormat::Human if problems.is_empty() => {}
        ProblemFormat::Human => anstream::eprint!("{}", problem::render(problems, colour())),
        ProblemFormat::Json => {
            anstream::println!(
                "{}",
                serde_json::to_string_pretty(&problem::to_json(problems))?
            );
        }
    }
    Ok(())
}
