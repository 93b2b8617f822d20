//! The coordinator's configuration: a TOML file, then `EDGEKEEP_…` variables over it.
//!
//! A key that does not exist is refused with its name, in the file and in the environment; every number has bounds.
//! What all coordinators must agree on (bounds of staleness, lockout, sessions per user) is not here: it lives in the
//! database, see `edgekeep settings`.
//!
//! A variable's name is the key in capitals with `__` between levels: `EDGEKEEP_LISTEN`, `EDGEKEEP_ARGON2__PASSES`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;

pub use crate::relay::config::RelayConfig;
use crate::secrets::SecretsConfig;

/// The configuration cannot be used; the text says which key and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl ConfigError {
    /// An error with this text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Everything that one coordinator is told.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `postgres://user:password@host:port/database`
    #[serde(default)]
    pub database_url: DatabaseUrl,
    /// Where edges reach this coordinator.
    pub listen: SocketAddr,
    /// Connections.
    pub database: DatabaseConfig,
    /// Keys that must never be in the database.
    pub secrets: SecretsConfig,
    /// Cost of a password hash.
    pub argon2: Argon2Config,
    /// How many hashes at a time, and how long logins queue for one.
    pub hashing: HashingConfig,
    /// Login protocol.
    pub login: LoginConfig,
    /// New passwords.
    pub passwords: PasswordsConfig,
    /// The service that edges talk to.
    pub http: HttpConfig,
    /// The revocation feed.
    pub feed: FeedConfig,
    /// Signing keys.
    pub keys: KeysConfig,
    /// Where a relay gets the feed (`edgekeep relay`).
    pub relay: RelayConfig,
    /// Logs.
    pub log: LogConfig,
}

/// The database's address; its password is never printed.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(pub String);

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl(..)")
    }
}

/// `[database]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// Connections of the pool; the feed's reader has one more.
    pub connections: u32,
    /// How long a request waits for a connection, in milliseconds.
    pub acquire_timeout_ms: u64,
    /// How long a statement waits for a row lock, in milliseconds.
    pub lock_timeout_ms: u64,
    /// A transaction that this process left idle for so long is ended by the server, in milliseconds (a stopped
    /// coordinator must not hold a user's row).
    pub idle_in_transaction_ms: u64,
}

/// `[argon2]`: OWASP's minimum for Argon2id by default (19 MiB, 2 passes, 1 lane). Raise it as far as logins stay fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Argon2Config {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
}

/// `[hashing]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HashingConfig {
    /// Hashes at a time; 0 means as many as there are processor cores.
    pub permits: usize,
    /// Logins that may wait for one.
    pub queue_length: usize,
    /// How long they may, in milliseconds.
    pub queue_deadline_ms: u64,
}

/// `[login]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoginConfig {
    /// How long an attempt belongs to the delivery that reserved it, in milliseconds; then a retry takes it over.
    /// Longer than a hash and a transaction ever take.
    pub owner_deadline_ms: u64,
    /// How long a delivery waits for another one of the same attempt, in milliseconds.
    pub in_flight_wait_ms: u64,
    /// Guesses per minute from one client address; 0 switches that limit off.
    pub address_per_minute: u32,
    /// Guesses that one client address may make at once.
    pub address_burst: u32,
    /// Client addresses that are remembered.
    pub address_table: usize,
    /// The longest `Prefer: wait`, in seconds.
    pub longest_wait_s: u32,
}

/// `[passwords]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PasswordsConfig {
    /// More passwords that nobody may choose, one per line.
    pub block_list_file: Option<PathBuf>,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// How long requests may run on after a shutdown was asked for, in milliseconds.
    pub drain_ms: u64,
    /// Requests at a time, held polls not counted.
    pub max_in_flight: usize,
    /// Polls held at a time.
    pub max_polls: usize,
}

/// `[feed]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FeedConfig {
    /// How often the reader reads while anyone waits, in milliseconds.
    pub read_every_ms: u64,
    /// How often it commits a heartbeat, in milliseconds.
    pub heartbeat_every_ms: u64,
    /// Entries per page of a long answer.
    pub page_entries: usize,
}

/// `[keys]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeysConfig {
    /// A key signs for so long before the next one does, in seconds.
    pub rotate_every_s: u64,
    /// A key is known to edges for so long before anything is signed with it, in seconds.
    pub announce_s: u64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `text` or `json`.
    pub format: LogFormat,
    /// A filter as of `tracing-subscriber`, such as `info` or `edgekeep=debug,info`.
    pub filter: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: DatabaseUrl::default(),
            listen: SocketAddr::from(([127, 0, 0, 1], 8700)),
            database: DatabaseConfig::default(),
            secrets: SecretsConfig::default(),
            argon2: Argon2Config::default(),
            hashing: HashingConfig::default(),
            login: LoginConfig::default(),
            passwords: PasswordsConfig::default(),
            http: HttpConfig::default(),
            feed: FeedConfig::default(),
            keys: KeysConfig::default(),
            relay: RelayConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        Self { connections: 16, acquire_timeout_ms: 3_000, lock_timeout_ms: 5_000, idle_in_transaction_ms: 30_000 }
    }
}

impl Default for Argon2Config {
    fn default() -> Self {
        Self { memory_kib: 19_456, passes: 2, lanes: 1 }
    }
}

impl Default for HashingConfig {
    fn default() -> Self {
        Self { permits: 0, queue_length: 512, queue_deadline_ms: 5_000 }
    }
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            owner_deadline_ms: 10_000,
            in_flight_wait_ms: 4_000,
            address_per_minute: 60,
            address_burst: 30,
            address_table: 65_536,
            longest_wait_s: 30,
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { drain_ms: 10_000, max_in_flight: 1_024, max_polls: 20_000 }
    }
}

impl Default for FeedConfig {
    fn default() -> Self {
        Self { read_every_ms: 25, heartbeat_every_ms: 250, page_entries: 16_384 }
    }
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self { rotate_every_s: 7 * 86_400, announce_s: 600 }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

/// Variables with our prefix that are not configuration: the path of the file, test set-ups, and what container
/// platforms set for a service called "edgekeep".
fn is_not_a_key(name: &str) -> bool {
    name == "CONFIG" || name == "PORT" || ["TEST_", "SERVICE_", "PORT_"].iter().any(|prefix| name.starts_with(prefix))
}

impl Config {
    /// Reads the file, if there is one, then the environment over it, and checks every bound.
    ///
    /// # Errors
    /// Names the key that does not exist, is missing or is out of bounds.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let config = Self::load_relay(file)?;
        config.check_database()?;
        Ok(config)
    }

    /// The same for a relay, which has no database.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_relay(file: Option<&Path>) -> Result<Self, ConfigError> {
        let text = match file {
            Some(path) => std::fs::read_to_string(path)
                .map_err(|error| ConfigError::new(format!("cannot read {}: {error}", path.display())))?,
            None => String::new(),
        };
        let from = file.map_or_else(|| "the configuration".to_owned(), |path| path.display().to_string());
        Self::read(&text, &from, std::env::vars())
    }

    /// The same from text and pairs of name and value.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(
        text: &str,
        from: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config = Self::read(text, from, variables)?;
        config.check_database()?;
        Ok(config)
    }

    fn read(text: &str, from: &str, variables: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let problem = |error: toml::de::Error| ConfigError::new(format!("{from}: {}", error.message()));
        // The file alone first, so that its errors carry its line numbers. Their whole text would quote the line, which
        // may hold a secret.
        toml::from_str::<Self>(text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map(|before| format!(", line {}", before.matches('\n').count() + 1)).unwrap_or_default();
            ConfigError::new(format!("{from}{line}: {}", error.message()))
        })?;
        let mut table: toml::Table = text.parse().map_err(problem)?;
        let mut set = Vec::new();
        for (name, value) in variables {
            let Some(key) = name.strip_prefix("EDGEKEEP_") else { continue };
            if !is_not_a_key(key) {
                overlay(&mut table, &name, key, &value)?;
                set.push(name);
            }
        }
        let config: Self = table.try_into().map_err(|error: toml::de::Error| {
            ConfigError::new(format!(
                "{} (after these variables of the environment: {})",
                error.message(),
                set.join(", ")
            ))
        })?;
        config.check()?;
        Ok(config)
    }

    fn check_database(&self) -> Result<(), ConfigError> {
        if self.database_url.0.is_empty() {
            return Err(ConfigError::new("database_url (or EDGEKEEP_DATABASE_URL) is missing"));
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let a = &self.argon2;
        within("argon2.memory_kib", a.memory_kib, 8 * a.lanes.max(1)..=1 << 21)?;
        within("argon2.memory_kib", a.memory_kib, 1024..=1 << 21)?;
        within("argon2.passes", a.passes, 1..=100)?;
        within("argon2.lanes", a.lanes, 1..=16)?;
        within("hashing.permits", self.hashing.permits, 0..=1024)?;
        within("hashing.queue_length", self.hashing.queue_length, 0..=100_000)?;
        within("hashing.queue_deadline_ms", self.hashing.queue_deadline_ms, 100..=60_000)?;
        within("database.connections", self.database.connections, 2..=1_000)?;
        within("database.acquire_timeout_ms", self.database.acquire_timeout_ms, 100..=60_000)?;
        within("database.lock_timeout_ms", self.database.lock_timeout_ms, 100..=60_000)?;
        within("database.idle_in_transaction_ms", self.database.idle_in_transaction_ms, 1_000..=600_000)?;
        within("login.owner_deadline_ms", self.login.owner_deadline_ms, 1_000..=120_000)?;
        within("login.in_flight_wait_ms", self.login.in_flight_wait_ms, 0..=60_000)?;
        within("login.address_per_minute", self.login.address_per_minute, 0..=1_000_000)?;
        within("login.address_burst", self.login.address_burst, 1..=1_000_000)?;
        within("login.address_table", self.login.address_table, 64..=10_000_000)?;
        within("login.longest_wait_s", self.login.longest_wait_s, 0..=60)?;
        within("http.drain_ms", self.http.drain_ms, 0..=120_000)?;
        within("http.max_in_flight", self.http.max_in_flight, 1..=1_000_000)?;
        within("http.max_polls", self.http.max_polls, 1..=10_000_000)?;
        within("feed.read_every_ms", self.feed.read_every_ms, 1..=1_000)?;
        within("feed.heartbeat_every_ms", self.feed.heartbeat_every_ms, 10..=10_000)?;
        within("feed.page_entries", self.feed.page_entries, 16..=1_000_000)?;
        within("keys.rotate_every_s", self.keys.rotate_every_s, 60..=366 * 86_400)?;
        within("keys.announce_s", self.keys.announce_s, 0..=86_400)
    }
}

fn within<T: PartialOrd + std::fmt::Display>(key: &str, value: T, range: RangeInclusive<T>) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(format!("{key} is {value}; it must be from {} to {}", range.start(), range.end())))
}

/// Puts one variable into the table. Numbers and `true`/`false` become what they look like, all else is text.
fn overlay(table: &mut toml::Table, name: &str, key: &str, value: &str) -> Result<(), ConfigError> {
    let lower = key.to_ascii_lowercase();
    let mut parts: Vec<&str> = lower.split("__").collect();
    let Some(last) = parts.pop() else { return Ok(()) };
    let mut at = table;
    for part in parts {
        at = at
            .entry(part)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| ConfigError::new(format!("{name}: `{part}` is not a section")))?;
    }
    let value = match (value.parse::<i64>(), value.parse::<bool>()) {
        (Ok(number), _) => toml::Value::Integer(number),
        (_, Ok(switch)) => toml::Value::Boolean(switch),
        _ => toml::Value::String(value.to_owned()),
    };
    at.insert(last.to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::parse(text, "test.toml", variables).map_err(|error| error.to_string())
    }

    #[test]
    fn the_environment_goes_over_the_file() {
        let config = parse(
            "database_url = \"postgres://a\"\n[argon2]\npasses = 3\n",
            &[("EDGEKEEP_DATABASE_URL", "postgres://b"), ("EDGEKEEP_ARGON2__MEMORY_KIB", "32768"), ("HOME", "/")],
        )
        .unwrap();
        assert_eq!(config.database_url.0, "postgres://b");
        assert_eq!(config.argon2, Argon2Config { memory_kib: 32_768, passes: 3, lanes: 1 });
    }

    #[test]
    fn unknown_keys_are_refused_by_name() {
        assert!(parse("database_url = \"x\"\nlissten = 1\n", &[]).unwrap_err().contains("lissten"));
        assert!(parse("database_url = \"x\"\n[argon2]\nmemory = 1\n", &[]).unwrap_err().contains("memory"));
        let error = parse("database_url = \"x\"", &[("EDGEKEEP_ARGON2__MEMORY", "1")]).unwrap_err();
        assert!(error.contains("memory") && error.contains("EDGEKEEP_ARGON2__MEMORY"), "{error}");
    }

    #[test]
    fn bounds_are_checked_and_named() {
        assert!(parse("", &[]).unwrap_err().contains("database_url"));
        let error = parse("database_url = \"x\"\n[argon2]\npasses = 0\n", &[]).unwrap_err();
        assert!(error.contains("argon2.passes"), "{error}");
    }

    #[test]
    fn what_a_container_platform_sets_is_ignored() {
        let variables =
            [("EDGEKEEP_SERVICE_HOST", "10.0.0.1"), ("EDGEKEEP_PORT", "tcp://10.0.0.1:1"), ("EDGEKEEP_CONFIG", "f")];
        parse("database_url = \"x\"", &variables).unwrap();
    }

    #[test]
    fn no_secret_is_printed() {
        let config = parse("database_url = \"postgres://u:hunter2@h/d\"\n[secrets]\npepper = \"abc\"", &[]).unwrap();
        let text = format!("{config:?}");
        assert!(!text.contains("hunter2") && !text.contains("abc"), "{text}");
        for mistake in ["[secrets]\nseal_kye = \"hunter2\"", "\n\n[secrets]\npepper = \"hunter2"] {
            let error = parse(mistake, &[]).unwrap_err();
            assert!(!error.contains("hunter2") && error.contains("test.toml, line "), "{error}");
        }
    }

    /// What stands between ```toml and ``` in the documentation.
    fn documented() -> &'static str {
        let text = include_str!("../../docs/configuration.md");
        let (_, rest) = text.split_once("```toml\n").unwrap();
        rest.split_once("\n```").unwrap().0
    }

    #[test]
    fn the_documentation_has_every_key_with_its_default() {
        let written = parse(documented(), &[]).unwrap();
        let shown = |config: &Config| format!("{config:?}");
        let defaults = Config { database_url: written.database_url.clone(), ..Config::default() };
        assert_eq!(shown(&written), shown(&defaults));
        // `Debug` names every field.
        let text = include_str!("../../docs/configuration.md");
        for field in
            shown(&defaults).split(|c: char| !(c.is_ascii_lowercase() || c == '_' || c == ':' || c.is_ascii_digit()))
        {
            if let Some(key) = field.strip_suffix(':').filter(|key| !key.is_empty()) {
                assert!(text.contains(key), "{key} is not in docs/configuration.md");
            }
        }
    }
}
