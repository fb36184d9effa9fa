//! `weir healthcheck`: an exit code, for images without curl.
//!
//! Must not know what makes a proxy ready.

use std::process::ExitCode;

use super::arguments::HealthcheckOptions;
use super::{Failure, client};

/// Asks `/live` or `/ready`; quiet when all is well.
pub(super) fn run(options: &HealthcheckOptions) -> Result<ExitCode, Failure> {
    let path = if options.ready {
        "/ready?verbose"
    } else {
        "/live"
    };
    let (status, body) = client::get(&options.admin, path)?;
    if status.is_success() {
        return Ok(ExitCode::SUCCESS);
    }
    anstream::eprint!("{}", String::from_utf8_lossy(&body));
    Ok(ExitCode::from(1))
}
