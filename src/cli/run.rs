//! `weir run`, and what everything that serves has in common.
//!
//! Must not know what is served.

use std::process::ExitCode;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use super::Failure;
use super::arguments::{RunOptions, ServeOptions};
use crate::app::{self, App, Options, Source, StartError, workers};
use crate::config::{self, problem};
use crate::telemetry::logging::{self, Style};
use crate::telemetry::process::count_panics;

/// Runs until a signal.
pub(super) fn run(options: &RunOptions) -> Result<ExitCode, Failure> {
    let path = config::search(options.config.as_deref())
        .map_err(|problems| Failure::Config(problem::render(&problems, colour())))?;
    let shown = path.display().to_string();
    serve(&options.serve, Source::Path(path), &shown)
}

/// Starts the log, the control runtime and the proxy, and serves.
pub(super) fn serve(
    options: &ServeOptions,
    source: Source,
    shown: &str,
) -> Result<ExitCode, Failure> {
    let (log_level, _written_at_the_end) = logging::start(&options.log, Style::Auto)
        .map_err(|error| Failure::Usage(format!("--log: {error}")))?;
    count_panics();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = shown, "weir");
    let options = Options {
        source,
        workers: options
            .workers
            .map_or_else(workers::default_count, usize::from),
        admin: options.admin,
        log_level: Some(log_level),
    };
    let runtime = control_runtime()?;
    runtime.block_on(async {
        let app = start(options).await?;
        app.run().await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The runtime of everything that is not on the path of a request.
pub(super) fn control_runtime() -> std::io::Result<LocalRuntime> {
    Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
}

/// Starts the proxy; what is wrong with the configuration has an exit code of its own.
pub(super) async fn start(options: Options) -> Result<App, Failure> {
    App::start(options).await.map_err(|error| match error {
        StartError::Config(app::reload::ReloadError::Invalid(problems)) => {
            Failure::Config(problem::render(&problems, colour()))
        }
        StartError::Config(error) => Failure::Config(format!("weir: {error}\n")),
        other => Failure::Run(other.into()),
    })
}

/// Whether standard error wants colours; `anstream` strips them again where it does not.
pub(super) fn colour() -> bool {
    anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never
}
