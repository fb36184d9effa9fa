//! `weir check`: every problem of a configuration, for people or programs.
//!
//! Must not know what makes a configuration right.

use std::process::ExitCode;

use super::arguments::{CheckOptions, ProblemFormat};
use super::run::colour;
use super::{Failure, offline};
use crate::config::{self, Problem, problem};

/// Checks; warnings are printed too, but only errors fail.
pub(super) fn run(options: &CheckOptions) -> Result<ExitCode, Failure> {
    let found = config::search(options.path.as_deref());
    let loaded = found.and_then(|path| config::load(&path));
    let (problems, document) = match loaded {
        Ok(loaded) => (loaded.warnings, Some(loaded.document)),
        Err(problems) => (problems, None),
    };
    print(&problems, options.format)?;
    let Some(document) = document else {
        return Ok(ExitCode::from(3));
    };
    offline::compile(document).map_err(|error| Failure::uncompiled(&error))?;
    Ok(ExitCode::SUCCESS)
}

fn print(problems: &[Problem], format: ProblemFormat) -> Result<(), Failure> {
    match format {
        ProblemFormat::Human if problems.is_empty() => {}
        ProblemFormat::Human => {
            anstream::eprintln!("{}", problem::render(problems, colour()).trim_end())
        }
        ProblemFormat::Json => {
            anstream::println!(
                "{}",
                serde_json::to_string_pretty(&problem::to_json(problems))?
            );
        }
    }
    Ok(())
}
