//! What the binary can print about itself: schema, completions, manual page, version.
//!
//! Must not know anything of a running proxy.

use std::io::Write;
use std::process::ExitCode;

use clap::CommandFactory;

use super::Failure;
use super::arguments::Arguments;
use crate::telemetry::reason::Reason;

/// The JSON Schema of the configuration file.
pub(super) fn schema() -> Result<ExitCode, Failure> {
    let schema = serde_json::to_string_pretty(&crate::config::schema())?;
    print(format!("{schema}\n").as_bytes())
}

/// Completions for a shell.
pub(super) fn completions(shell: clap_complete::Shell) -> Result<ExitCode, Failure> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut text);
    print(&text)
}

/// The manual page, one section a verb.
pub(super) fn man() -> Result<ExitCode, Failure> {
    let mut command = Arguments::command();
    // Gives the verbs their full names.
    command.build();
    let mut text = Vec::new();
    clap_mangen::Man::new(command.clone()).render(&mut text)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let page = clap_mangen::Man::new(verb.clone());
        writeln!(text, ".SH \"WEIR {}\"", verb.get_name().to_uppercase())?;
        page.render_description_section(&mut text)?;
        page.render_options_section(&mut text)?;
    }
    writeln!(
        text,
        ".SH REASONS\nWhy the proxy answered by itself or cut a body: in the access log, in\n.B weir_errors_total\nand in the\n.B proxy-status\nfield."
    )?;
    for reason in Reason::ALL {
        writeln!(text, ".TP\n.B {reason}\n{}", reason.explanation())?;
    }
    print(&text)
}

/// The version.
pub(super) fn version() -> Result<ExitCode, Failure> {
    print(format!("weir {}\n", env!("CARGO_PKG_VERSION")).as_bytes())
}

/// A reader that has seen enough (`| head`) is no failure.
fn print(text: &[u8]) -> Result<ExitCode, Failure> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        result => {
            result?;
            Ok(ExitCode::SUCCESS)
        }
    }
}
