//! Commands and their arguments.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Edgekeep's coordinator and its administration.
#[derive(Parser)]
#[command(
    name = "edgekeep",
    version,
    about = "Edgekeep's coordinator: passwords, sessions and the revocation feed on Postgres",
    after_help = "Set up:\n  edgekeep config init            write edgekeep.toml with fresh secrets\n  \
                  edgekeep migrate                create or update the database's schema\n  \
                  edgekeep user add ann           asks for the password\n  \
                  edgekeep edge add eu-1          prints the credential of a new edge deployment, once\n  \
                  edgekeep serve\n\nConfiguration: the file, then EDGEKEEP_… variables over it (EDGEKEEP_DATABASE_URL, \
                  EDGEKEEP_ARGON2__PASSES, …); see docs/configuration.md.\nExit status: 0 done, 1 refused or failed, 2 \
                  wrong usage."
)]
pub(super) struct Cli {
    /// The configuration file [default: edgekeep.toml, if it is there]
    #[arg(long, global = true, env = "EDGEKEEP_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub(super) enum Command {
    /// Run the coordinator until SIGTERM or Ctrl-C
    Serve {
        /// Run missing migrations first
        #[arg(long)]
        migrate: bool,
    },
    /// Pass the revocation feed on to many edges, until SIGTERM or Ctrl-C
    #[command(
        long_about = "Pass the revocation feed on to many edges, until SIGTERM or Ctrl-C.\n\nA relay follows one \
                      coordinator and holds the polls of many edges, so that no coordinator has to hold them all. It has no \
                      database, no secrets and no signing keys; edges still sign in, check and fetch keys at \
                      coordinators. Edges name it in RELAY_URLS.",
        after_help = "Set up:\n  edgekeep edge add relay-1 --feed-only > relay.credential     at a coordinator\n  \
                      edgekeep relay --upstream https://coordinator-1.example.com \\\n    \
                      --upstream https://coordinator-2.example.com --credential-file relay.credential\n\nThe credential can \
                      also be the variable EDGEKEEP_RELAY__CREDENTIAL; it is never an argument.\nThe configuration file's \
                      listen, [http], [feed] page_entries, [relay] and [log] count too; see docs/configuration.md."
    )]
    Relay(RelayOptions),
    /// Create or update the database's schema
    Migrate,
    /// Ask the coordinator or relay on this machine whether it is ready (a container's health check)
    Health,
    /// Users
    #[command(subcommand)]
    User(UserCommand),
    /// Sessions of a user
    #[command(subcommand)]
    Session(SessionCommand),
    /// Edge deployments and their credentials
    #[command(subcommand)]
    Edge(EdgeCommand),
    /// Signing keys
    #[command(subcommand)]
    Key(KeyCommand),
    /// The policy that all coordinators share
    #[command(subcommand)]
    Settings(SettingsCommand),
    /// After a restore of the database in place: raise the epoch, end every session. Stop all coordinators first
    AfterRestore {
        /// Raise the epoch to at least this, if edges may have seen a later one than the backup holds
        #[arg(long, value_name = "EPOCH")]
        at_least_epoch: Option<u16>,
    },
    /// The audit log, newest last
    Audit(AuditOptions),
    /// The configuration file
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// What goes over the configuration file.
#[derive(Args)]
pub(super) struct RelayOptions {
    /// A coordinator's address, http(s)://host[:port]; may be given again, in the order of preference [default:
    /// relay.upstream_urls of the configuration]
    #[arg(long, value_name = "URL")]
    pub upstream: Vec<String>,
    /// Where edges reach this relay [default: listen of the configuration]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// The file with what `edgekeep edge add NAME --feed-only` printed
    #[arg(long, value_name = "FILE")]
    pub credential_file: Option<PathBuf>,
}

/// What prints for people unless asked otherwise.
#[derive(Args, Clone, Copy)]
pub(super) struct Format {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Make a user; asks for the password, or reads it from one line of standard input
    #[command(after_help = "Examples:\n  edgekeep user add ann --roles admin,staff\n  \
                            printf '%s\\n' \"$PASSWORD\" | edgekeep user add ann")]
    Add {
        /// The user's name
        name: String,
        /// Roles, separated by commas
        #[arg(long, value_delimiter = ',')]
        roles: Vec<String>,
        /// No password yet: nobody can sign in as this user
        #[arg(long)]
        no_password: bool,
        #[command(flatten)]
        format: Format,
    },
    /// Set a password (asked for, or one line of standard input); ends every session and lifts every lock
    Passwd {
        /// The user's name
        name: String,
    },
    /// Give a user these roles and no others
    #[command(
        after_help = "Examples:\n  edgekeep user roles ann admin,staff\n  edgekeep user roles ann ''   none at all"
    )]
    Roles {
        /// The user's name
        name: String,
        /// Roles, separated by commas
        roles: String,
    },
    /// Disable a user and end every session
    Disable {
        /// The user's name
        name: String,
    },
    /// Let a disabled user sign in again
    Enable {
        /// The user's name
        name: String,
    },
    /// Forget failed attempts and lift the lock
    Unlock {
        /// The user's name
        name: String,
    },
    /// Delete a user and end every session; the id is never used again
    Delete {
        /// The user's name
        name: String,
    },
    /// Show a user
    Show {
        /// The user's name
        name: String,
        #[command(flatten)]
        format: Format,
    },
    /// List users by name
    List {
        /// Begin after this name
        #[arg(long, default_value = "", hide_default_value = true)]
        after: String,
        /// At most so many
        #[arg(long, default_value_t = 1000)]
        limit: u32,
        #[command(flatten)]
        format: Format,
    },
    /// Make users from hashes of another system: argon2, bcrypt, scrypt
    #[command(
        after_help = "One JSON object per line: {\"name\":\"ann\",\"hash\":\"$2b$12$…\",\"roles\":[\"staff\"]}\n\
                            Hashes are replaced by our own at the first login."
    )]
    Import {
        /// The file, or - for standard input
        file: PathBuf,
        /// Leave users alone that are there already, instead of reporting them
        #[arg(long)]
        skip_existing: bool,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
pub(super) enum SessionCommand {
    /// List the current sessions of a user, newest first
    List {
        /// The user's name
        name: String,
        #[command(flatten)]
        format: Format,
    },
    /// End every session of a user
    Revoke {
        /// The user's name
        name: String,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
pub(super) enum EdgeCommand {
    /// Register an edge deployment and print its credential, once
    Add {
        /// Its name: a-z 0-9 -
        name: String,
        /// For a relay: good for the revocation feed, and for no sign-in, check or key
        #[arg(long)]
        feed_only: bool,
        #[command(flatten)]
        format: Format,
    },
    /// List edge deployments
    List {
        #[command(flatten)]
        format: Format,
    },
    /// Revoke an edge's credential, rotate the signing keys and withdraw those that it held
    Revoke {
        /// Its name
        name: String,
    },
}

#[derive(Subcommand)]
pub(super) enum KeyCommand {
    /// Announce the next signing key now; nobody is logged out
    Rotate,
    /// Withdraw a key: proofs signed with it must be renewed at the coordinator before they count
    Withdraw {
        /// Its id, see `edgekeep key list`
        id: u32,
    },
    /// List signing keys
    List {
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Subcommand)]
pub(super) enum SettingsCommand {
    /// Show all settings
    Show {
        #[command(flatten)]
        format: Format,
    },
    /// Change settings, all or none
    #[command(after_help = "Examples:\n  edgekeep settings set max_staleness_ms=2000\n  \
                            edgekeep settings set sessions_per_user=3 takeover=newest_wins\n\n\
                            Changing `site` makes every cookie invalid.")]
    Set {
        /// key=value
        #[arg(required = true, value_name = "KEY=VALUE", value_parser = pair)]
        changes: Vec<(String, String)>,
        #[command(flatten)]
        format: Format,
    },
}

#[derive(Args)]
pub(super) struct AuditOptions {
    /// Only what concerns this user
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// At most so many entries, the newest
    #[arg(long, default_value_t = 100)]
    pub limit: u32,
    /// Go on with new entries until Ctrl-C
    #[arg(long)]
    pub follow: bool,
    #[command(flatten)]
    pub format: Format,
}

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Check file, environment and secrets, without touching the database
    Check,
    /// Write a configuration with fresh secrets, readable by its owner only
    Init {
        /// Where to; an existing file is never overwritten
        #[arg(long, default_value = super::DEFAULT_FILE, value_name = "FILE")]
        output: PathBuf,
    },
}

/// `key=value`
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn wrong_usage_is_status_2_and_no_password_is_an_argument() {
        for wrong in [&["edgekeep"][..], &["edgekeep", "nonsense"], &["edgekeep", "settings", "set", "novalue"]] {
            let error = Cli::try_parse_from(wrong).err().unwrap();
            assert_eq!(error.exit_code(), 2, "{wrong:?}");
        }
        assert!(Cli::try_parse_from(["edgekeep", "user", "add", "ann", "--password", "x"]).is_err());
        assert!(Cli::try_parse_from(["edgekeep", "user", "roles", "ann", "a,b"]).is_ok());
    }
}
