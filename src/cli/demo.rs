//! placeholder
use super::Failure;
use std::process::ExitCode;
pub(super) fn run<T>(_o: &T) -> Result<ExitCode, Failure> {
    Ok(ExitCode::SUCCESS)
}
