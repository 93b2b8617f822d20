//! SQL for seeding a database, through the `pg` package that a peer brings.

use std::process::Command;

use anyhow::Result;
use xtask::command;
use xtask::node::Tools;

use crate::peers;

/// Runs `sql` and gives the last result's rows as JSON.
///
/// # Errors
/// If it is refused.
pub fn run(tools: &Tools, database_url: &str, sql: &str) -> Result<String> {
    let place = peers::install("better-auth")?;
    let mut node = Command::new(&tools.node);
    node.current_dir(place).arg("sql.mjs").env("DATABASE_URL", database_url);
    command::output(&mut node, sql)
}

/// SQL that makes users with a recent revocation each, as the coordinator's own transactions leave them: `from` up to
/// `until` (their numbers, not their ids), needed for another hour.
#[must_use]
pub fn revoked_users(from: u64, until: u64) -> String {
    format!(
        "BEGIN;
         INSERT INTO users (user_id, name, subject)
           SELECT 1000000000 + n, 'seeded-' || n, sha256(('seeded-' || n)::bytea) FROM generate_series({from}, {until} - 1) n;
         INSERT INTO user_state (user_id, revision, needed_until, feed_xid)
           SELECT 1000000000 + n, (SELECT (epoch::bigint << 48) + 1 FROM cluster),
                  clock_timestamp() + interval '1 hour', pg_current_xact_id()::text::bigint
           FROM generate_series({from}, {until} - 1) n;
         COMMIT;"
    )
}
