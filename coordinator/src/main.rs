//! The `edgekeep` program: see `edgekeep --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    edgekeep::cli::main()
}
