//! The command line.
//!
//! Exit status: 0 for done, 1 for a refusal or failure (one line on standard error says which), 2 for wrong usage only.
//! Passwords come from a prompt or from one line of standard input, never from an argument. `--json` prints what a
//! script would read.

mod account;
mod commands;
mod deployment;
mod health;
mod input;
mod output;
mod relay;
mod serve;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser as _;

use crate::config::Config;
use commands::{Cli, Command, ConfigCommand};

/// The file that is read when none is named, if it is there.
const DEFAULT_FILE: &str = "edgekeep.toml";

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    // Wrong usage ends here with status 2, and help with 0.
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line, with its causes.
            let text = format!("{error:#}").replace('\n', " ");
            eprintln!("edgekeep: {text}");
            ExitCode::FAILURE
        }
    }
}

fn file(named: Option<&Path>) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.to_owned()),
        None => Path::new(DEFAULT_FILE).exists().then(|| DEFAULT_FILE.into()),
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    if let Command::Config(ConfigCommand::Init { output }) = &cli.command {
        return deployment::config_init(output);
    }
    let file = file(cli.config.as_deref());
    let config = match cli.command {
        // A relay has no database.
        Command::Relay(_) | Command::Health => Config::load_relay(file.as_deref())?,
        _ => Config::load(file.as_deref())?,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(command(cli.command, config));
    // Hashes that nobody waits for any more must not hold up the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

async fn command(command: Command, config: Config) -> anyhow::Result<()> {
    if !matches!(command, Command::Serve { .. } | Command::Relay(_)) {
        serve::watch();
    }
    match command {
        Command::Serve { migrate } => serve::serve(config, migrate).await,
        Command::Relay(options) => relay::relay(config, options).await,
        Command::Migrate => deployment::migrate(&config).await,
        Command::Health => health::health(&config),
        Command::User(command) => account::user(command, &config).await,
        Command::Session(command) => account::session(command, &config).await,
        Command::Audit(options) => account::audit(options, &config).await,
        Command::Edge(command) => deployment::edge(command, &config).await,
        Command::Key(command) => deployment::key(command, &config).await,
        Command::Settings(command) => deployment::settings(command, &config).await,
        Command::AfterRestore { at_least_epoch } => deployment::after_restore(&config, at_least_epoch).await,
        Command::Config(command) => deployment::config(command, &config),
    }
}
