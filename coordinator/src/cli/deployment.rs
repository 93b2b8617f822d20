//! `edgekeep migrate`, `edge`, `key`, `settings`, `after-restore`, `config`.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use edgekeep_shared::credential::feed_credential;
use edgekeep_shared::ids::KeyId;
use edgekeep_shared::time::rfc3339;
use serde_json::json;

use super::commands::{ConfigCommand, EdgeCommand, KeyCommand, SettingsCommand};
use super::output;
use crate::admin::Admin;
use crate::config::Config;
use crate::db::{self, run_tx, schema};
use crate::failure::Failure;
use crate::keys::admin as keys;
use crate::password::Hasher;
use crate::password::rules::BlockList;
use crate::secrets::{self, Secrets};
use crate::{edges, epoch};

/// A failure as one line for an administrator.
fn told<T>(result: Result<T, Failure>) -> anyhow::Result<T> {
    result.map_err(|failure| match failure {
        Failure::Invalid(text) => anyhow::Error::msg(text),
        other => other.into(),
    })
}

pub(super) async fn migrate(config: &Config) -> anyhow::Result<()> {
    let mut conn = schema::connect(&db::connect_options(config)?).await?;
    db::check_server(&mut conn).await?;
    schema::migrate(&mut conn).await.context("migrations")?;
    output::line(&format!("the schema has all {} migration(s)", schema::MIGRATIONS.iter().count()))
}

pub(super) async fn edge(command: EdgeCommand, config: &Config) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    match command {
        EdgeCommand::Add { name, feed_only, format } => {
            let added = run_tx!(&admin.pool, "edge.add", async |conn| edges::add(conn, &name).await).await;
            let mut credential = told(added)?;
            if feed_only {
                // The whole one is shown to nobody.
                credential = feed_credential(&credential).context("a credential that cannot be read")?;
            }
            if format.json {
                return output::json(&json!({ "edge": name, "credential": credential.as_str() }));
            }
            eprintln!("The credential of {name}; it is shown only this once:");
            output::line(&credential)
        }
        EdgeCommand::List { format } => {
            let listed = run_tx!(&admin.pool, "edge.list", async |conn| edges::list(conn).await).await?;
            if format.json {
                return output::json(&listed);
            }
            let rows: Vec<_> = listed
                .into_iter()
                .map(|edge| {
                    let revoked = edge.revoked_at_ms.map_or_else(|| "no".into(), rfc3339);
                    [edge.edge_id, rfc3339(edge.created_at_ms), revoked]
                })
                .collect();
            output::table(["EDGE", "SINCE", "REVOKED"], &rows)
        }
        EdgeCommand::Revoke { name } => {
            let seal_key = &admin.secrets.seal_key;
            told(run_tx!(&admin.pool, "edge.revoke", async |conn| edges::revoke(conn, seal_key, &name).await).await)?;
            output::line(&format!("{name} is revoked; a new signing key is in use and all earlier ones are withdrawn"))
        }
    }
}

pub(super) async fn key(command: KeyCommand, config: &Config) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    let seal_key = &admin.secrets.seal_key;
    match command {
        KeyCommand::Rotate => {
            run_tx!(&admin.pool, "key.rotate", async |conn| keys::rotate(conn, seal_key, &config.keys, true).await)
                .await?;
            output::line("the next signing key is announced; it signs once every edge can know it")
        }
        KeyCommand::Withdraw { id } => {
            let key = KeyId(id);
            told(run_tx!(&admin.pool, "key.withdraw", async |conn| keys::withdraw(conn, seal_key, key).await).await)?;
            output::line(&format!("key {id} is withdrawn"))
        }
        KeyCommand::List { format } => {
            let listed = run_tx!(&admin.pool, "key.list", async |conn| keys::list(conn).await).await?;
            if format.json {
                return output::json(&listed);
            }
            let rows: Vec<_> = listed
                .into_iter()
                .map(|key| {
                    let (made, signs) = (rfc3339(key.created_at_ms), rfc3339(key.signs_from_ms));
                    [key.id.0.to_string(), key.state.into(), made, signs]
                })
                .collect();
            output::table(["KEY", "STATE", "MADE", "SIGNS FROM"], &rows)
        }
    }
}

pub(super) async fn settings(command: SettingsCommand, config: &Config) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    let (settings, format) = match command {
        SettingsCommand::Show { format } => (told(admin.settings().await)?, format),
        SettingsCommand::Set { changes, format } => (told(admin.set_settings(&changes).await)?, format),
    };
    if format.json {
        return output::json(&settings);
    }
    let serde_json::Value::Object(all) = serde_json::to_value(&settings)? else { bail!("settings are no object") };
    for (key, value) in all {
        output::line(&format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned)))?;
    }
    Ok(())
}

pub(super) async fn after_restore(config: &Config, at_least_epoch: Option<u16>) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    let done = run_tx!(&admin.pool, "after_restore", async |conn| epoch::after_restore(conn, at_least_epoch).await);
    let done = told(done.await)?;
    output::line(&format!(
        "epoch {}; {} session(s) ended; the coordinators can be started again",
        done.epoch, done.sessions_ended
    ))
}

pub(super) fn config(command: ConfigCommand, config: &Config) -> anyhow::Result<()> {
    match command {
        ConfigCommand::Check => {
            let secrets = Secrets::load(&config.secrets)?;
            Hasher::new(&config.argon2, &config.hashing, secrets.pepper)?;
            BlockList::load(config.passwords.block_list_file.as_deref())?;
            db::connect_options(config)?;
            output::line("the configuration is complete")
        }
        ConfigCommand::Init { output } => config_init(&output),
    }
}

/// Writes a configuration with fresh secrets. It never overwrites one: secrets that are lost cannot be made again.
pub(super) fn config_init(path: &Path) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).with_context(|| format!("cannot create {}", path.display()))?;
    let text = format!(
        "# Edgekeep's coordinator. Every key can also be a variable: EDGEKEEP_LISTEN, EDGEKEEP_ARGON2__PASSES, …\n\
         # What all coordinators must agree on is in the database: see `edgekeep settings`.\n\n\
         database_url = \"postgres://edgekeep@127.0.0.1/edgekeep\"\n\
         listen = \"127.0.0.1:8700\"\n\n\
         # The same on every coordinator, and kept somewhere else too: without subject_key no account is found again.\n\
         # Each of them may instead be a file: seal_key_file = \"/run/secrets/seal_key\"\n\
         [secrets]\n\
         seal_key = \"{}\"\n\
         subject_key = \"{}\"\n\
         attempt_key = \"{}\"\n\
         # A pepper is mixed into every password hash. Set it before the first user, and never lose it.\n\
         # pepper = \"{}\"\n",
        *secrets::fresh()?,
        *secrets::fresh()?,
        *secrets::fresh()?,
        *secrets::fresh()?
    );
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    eprintln!("{} has fresh secrets; set database_url in it, then run `edgekeep migrate`", path.display());
    Ok(())
}
