//! The command line: one file a verb.
//!
//! Owns arguments and exit codes: 0 fine, 1 failed at run time, 2 usage, 3 configuration invalid.
//! Must not know how anything is done.

mod arguments;
mod bench;
mod cert;
mod check;
mod client;
mod demo;
mod documents;
mod explain;
mod healthcheck;
pub(crate) mod offline;
mod quick;
mod rollout;
mod run;
mod show;
mod simulate;

use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Verb};
use crate::snapshot::compile::CompileError;

/// How a verb failed.
#[derive(Debug)]
enum Failure {
    /// Exit code 1.
    Run(anyhow::Error),
    /// Exit code 2.
    Usage(String),
    /// Exit code 3; the problems, as they are printed.
    Config(String),
}

impl Failure {
    fn uncompiled(error: &CompileError) -> Self {
        Self::Config(format!("weir: {error}\n"))
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Run(error.into())
    }
}

/// Parses the arguments, runs the verb, and says how it went.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match dispatch(arguments.verb) {
        Ok(code) => code,
        Err(Failure::Run(error)) => {
            anstream::eprintln!("weir: {error:#}");
            ExitCode::from(1)
        }
        Err(Failure::Usage(message)) => {
            anstream::eprintln!("weir: {message}");
            ExitCode::from(2)
        }
        Err(Failure::Config(problems)) => {
            anstream::eprint!("{problems}");
            if !problems.ends_with('\n') {
                anstream::eprintln!();
            }
            ExitCode::from(3)
        }
    }
}

fn dispatch(verb: Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Run(options) => run::run(&options),
        Verb::Quick(options) => quick::run(&options),
        Verb::Demo(options) => demo::run(&options),
        Verb::Bench(options) => bench::run(&options),
        Verb::Check(options) => check::run(&options),
        Verb::Explain(options) => explain::run(&options),
        Verb::Simulate(options) => simulate::run(&options),
        Verb::Rollout(options) => rollout::run(&options),
        Verb::Status(options) => show::status(&options),
        Verb::Listeners(options) => show::listeners(&options),
        Verb::Routes(options) => show::routes(&options),
        Verb::Backends(options) => show::backends(&options),
        Verb::Certificates(options) => show::certificates(&options),
        Verb::Cert(options) => cert::run(&options),
        Verb::Healthcheck(options) => healthcheck::run(&options),
        Verb::Schema => documents::schema(),
        Verb::Completions(options) => documents::completions(options.shell),
        Verb::Man => documents::man(),
        Verb::Version => documents::version(),
    }
}
