//! Arguments in, exit code out. No logic.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main()
}
