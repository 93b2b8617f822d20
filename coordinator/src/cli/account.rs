//! `edgekeep user`, `edgekeep session`, `edgekeep audit`.

use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::json;

use super::commands::{AuditOptions, SessionCommand, UserCommand};
use super::{input, output};
use crate::admin::view::{AuditView, UserView};
use crate::admin::{Admin, NewPassword};
use crate::config::Config;
use crate::failure::Failure;

/// Entries that are looked at again while following: a transaction with a lower number may commit later.
const FOLLOW_OVERLAP: i64 = 1000;
/// Between two looks while following.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);

/// Roles, separated by commas; none for an empty text.
fn roles(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|role| !role.is_empty()).map(str::to_owned).collect()
}

pub(super) async fn user(command: UserCommand, config: &Config) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    match command {
        UserCommand::Add { name, roles, no_password, format } => {
            let password =
                if no_password { NewPassword::None } else { NewPassword::Typed(input::new_password(&name)?) };
            let id = told(admin.add(&name, password, &roles).await)?;
            if format.json {
                return output::json(&json!({ "user_id": id, "name": name, "roles": roles }));
            }
            output::line(&format!("{name} was added"))
        }
        UserCommand::Passwd { name } => {
            // Refuse a wrong name before asking for a password.
            told(admin.show(&name).await)?;
            told(admin.set_password(&name, input::new_password(&name)?).await)?;
            output::line(&format!("{name} has a new password; every session has ended"))
        }
        UserCommand::Roles { name, roles: text } => {
            told(admin.set_roles(&name, &roles(&text)).await)?;
            output::line(&format!("{name} has these roles now: {}", told(admin.show(&name).await)?.roles.join(",")))
        }
        UserCommand::Disable { name } => {
            told(admin.disable(&name).await)?;
            output::line(&format!("{name} is disabled; every session has ended"))
        }
        UserCommand::Enable { name } => {
            told(admin.enable(&name).await)?;
            output::line(&format!("{name} may sign in"))
        }
        UserCommand::Unlock { name } => {
            told(admin.unlock(&name).await)?;
            output::line(&format!("{name} is not locked"))
        }
        UserCommand::Delete { name } => {
            told(admin.delete(&name).await)?;
            output::line(&format!("{name} was deleted; every session has ended"))
        }
        UserCommand::Show { name, format } => show(&told(admin.show(&name).await)?, format.json),
        UserCommand::List { after, limit, format } => list(&told(admin.list(&after, limit).await)?, format.json),
        UserCommand::Import { file, skip_existing, format } => import(&admin, &file, skip_existing, format.json).await,
    }
}

/// A failure as one line for an administrator: what the database said is theirs to know.
fn told<T>(result: Result<T, Failure>) -> anyhow::Result<T> {
    result.map_err(|failure| match failure {
        Failure::Invalid(text) => anyhow::Error::msg(text),
        other => other.into(),
    })
}

fn show(user: &UserView, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(user);
    }
    let rows = [
        ("name", user.name.clone()),
        ("user id", user.user_id.to_string()),
        ("roles", user.roles.join(",")),
        ("disabled", yes(user.disabled)),
        ("password", password(user).into()),
        ("locked", user.locked.clone().unwrap_or_else(|| "no".into())),
        ("created", user.created_at.clone()),
        ("last login", user.last_login_at.clone().unwrap_or_else(|| "never".into())),
        ("sessions", user.sessions.to_string()),
    ];
    for (name, value) in rows {
        output::line(&format!("{name:10}  {value}"))?;
    }
    Ok(())
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.into()
}

const fn password(user: &UserView) -> &'static str {
    match (user.has_password, user.imported_hash) {
        (false, _) => "none",
        (true, true) => "imported",
        (true, false) => "set",
    }
}

fn list(users: &[UserView], json: bool) -> anyhow::Result<()> {
    if json {
        return output::json(&users);
    }
    let rows: Vec<_> = users
        .iter()
        .map(|user| {
            [
                user.name.clone(),
                user.roles.join(","),
                yes(user.disabled),
                yes(user.locked.is_some()),
                user.sessions.to_string(),
                user.last_login_at.clone().unwrap_or_else(|| "never".into()),
            ]
        })
        .collect();
    output::table(["NAME", "ROLES", "DISABLED", "LOCKED", "SESSIONS", "LAST LOGIN"], &rows)
}

/// One line of an import.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Import {
    name: String,
    hash: String,
    #[serde(default)]
    roles: Vec<String>,
}

async fn import(admin: &Admin, file: &Path, skip_existing: bool, json: bool) -> anyhow::Result<()> {
    let reader: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        Box::new(BufReader::new(std::fs::File::open(file).with_context(|| file.display().to_string())?))
    };
    let (mut added, mut skipped, mut refused) = (0_u64, 0_u64, 0_u64);
    for (number, line) in reader.lines().enumerate() {
        let line = line.with_context(|| format!("line {}", number + 1))?;
        if line.trim().is_empty() {
            continue;
        }
        match import_one(admin, &line, skip_existing).await {
            Ok(true) => added += 1,
            Ok(false) => skipped += 1,
            // The line holds a hash: only its number is shown.
            Err(error) => {
                refused += 1;
                eprintln!("edgekeep: line {}: {error:#}", number + 1);
            }
        }
    }
    if json {
        output::json(&json!({ "added": added, "skipped": skipped, "refused": refused }))?;
    } else {
        output::line(&format!("{added} added, {skipped} skipped, {refused} refused"))?;
    }
    if refused > 0 {
        bail!("{refused} line(s) were refused; all others were imported");
    }
    Ok(())
}

/// Says whether a user was added; if not, there is one already.
async fn import_one(admin: &Admin, line: &str, skip_existing: bool) -> anyhow::Result<bool> {
    let one: Import = serde_json::from_str(line)
        .map_err(|error| anyhow::anyhow!("not a JSON object with name, hash and roles (column {})", error.column()))?;
    if skip_existing {
        match admin.show(&one.name).await {
            Ok(_) => return Ok(false),
            // There is none, or the name is refused below.
            Err(Failure::Invalid(_)) => {}
            // "Could not look" is not "is there".
            Err(failure) => return told(Err(failure)),
        }
    }
    told(admin.add(&one.name, NewPassword::Imported(one.hash), &one.roles).await)?;
    Ok(true)
}

pub(super) async fn session(command: SessionCommand, config: &Config) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    match command {
        SessionCommand::List { name, format } => {
            let sessions = told(admin.sessions(&name).await)?;
            if format.json {
                return output::json(&sessions);
            }
            let rows: Vec<_> = sessions
                .into_iter()
                .map(|s| [s.id.to_string(), s.authenticated_at, s.last_seen_at, s.expires_at, output::plain(&s.device)])
                .collect();
            output::table(["SESSION", "SINCE", "LAST SEEN", "EXPIRES", "DEVICE"], &rows)
        }
        SessionCommand::Revoke { name, format } => {
            let ended = told(admin.revoke_sessions(&name).await)?;
            if format.json {
                return output::json(&json!({ "ended": ended }));
            }
            output::line(&format!("{ended} session(s) of {name} ended"))
        }
    }
}

pub(super) async fn audit(options: AuditOptions, config: &Config) -> anyhow::Result<()> {
    let admin = Admin::open(config).await?;
    let user = options.user.as_deref();
    let json = options.format.json;
    let entries = told(admin.audit(user, 0, options.limit).await)?;
    if json && !options.follow {
        return output::json(&entries);
    }
    let mut seen = HashSet::new();
    let mut last = 0;
    print_new(&entries, json, &mut seen, &mut last)?;
    if !options.follow {
        return Ok(());
    }
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let above = (last - FOLLOW_OVERLAP).max(entries.first().map_or(0, |first| first.audit_id - 1));
        let entries = told(admin.audit(user, above, u32::MAX >> 1).await)?;
        print_new(&entries, json, &mut seen, &mut last)?;
        seen.retain(|id| *id > last - 2 * FOLLOW_OVERLAP);
    }
}

fn print_new(entries: &[AuditView], json: bool, seen: &mut HashSet<i64>, last: &mut i64) -> anyhow::Result<()> {
    for entry in entries {
        if !seen.insert(entry.audit_id) {
            continue;
        }
        *last = (*last).max(entry.audit_id);
        if json {
            output::line(&serde_json::to_string(entry)?)?;
            continue;
        }
        let who = entry.name.clone().or_else(|| entry.user_id.map(|id| id.to_string())).unwrap_or_else(|| "-".into());
        let session = entry.session_id.map(|id| format!("  session {id}")).unwrap_or_default();
        let detail = if entry.detail == json!({}) { String::new() } else { format!("  {}", entry.detail) };
        output::line(&output::plain(&format!("{}  {who}  {}{session}{detail}", entry.at, entry.action)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use edgekeep_shared::keyring::Secret;
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::config::{Argon2Config, HashingConfig};
    use crate::password::Hasher;
    use crate::password::rules::BlockList;
    use crate::secrets::Secrets;

    #[tokio::test]
    async fn a_user_who_could_not_be_looked_up_is_not_skipped() {
        let secret = || Secret([1; 32]);
        let secrets = Secrets {
            seal_key: secret(),
            subject_key: secret(),
            attempt_key: secret(),
            attempt_key_previous: None,
            pepper: None,
        };
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(100));
        let admin = Admin {
            // Nobody listens there.
            pool: pool.connect_lazy("postgres://127.0.0.1:1/nothing").unwrap(),
            hasher: Hasher::new(
                &Argon2Config { memory_kib: 1024, passes: 1, lanes: 1 },
                &HashingConfig::default(),
                None,
            )
            .unwrap(),
            block_list: BlockList::load(None).unwrap(),
            secrets,
        };
        let line = r#"{"name":"ann","hash":"$2b$12$x"}"#;
        assert!(import_one(&admin, line, true).await.is_err());
    }
}
