//! Run by `cargo xtask bench`, which builds what it needs: see [`edgekeep_bench`].

use std::process::ExitCode;

use clap::Parser as _;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    bench: xtask::cli::Bench,
}

fn main() -> ExitCode {
    match edgekeep_bench::run(&Cli::parse().bench) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            xtask::console::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
