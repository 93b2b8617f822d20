//! The final state of the database, for the checker.

use std::collections::BTreeMap;

use edgekeep_tests::sql::Sql;

use crate::checker::audit::{Account, Accounts, Entry, StoredAttempt};

/// Reads everything about these users. Names are made by the run and need no quoting.
#[must_use]
pub fn accounts(url: &str, names: &[String]) -> Accounts {
    let mut sql = Sql::connect(url);
    let mut all = BTreeMap::new();
    for (number, name) in (0..).zip(names) {
        let user = format!("(SELECT user_id FROM users WHERE name = '{name}')");
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let audit = sql.rows(&format!(
            "SELECT action, encode(session_id, 'hex'), detail->>'reason', detail->>'outcome', detail->>'lost' FROM audit
             WHERE user_id = {user} ORDER BY audit_id"
        ));
        let audit = audit.iter().map(|row| Entry {
            action: row[0].clone(),
            session: some(&row[1]),
            reason: some(&row[2]),
            outcome: some(&row[3]),
            lost: row[4] == "true",
        });
        let current = sql.rows(&format!("SELECT encode(session_id, 'hex') FROM session WHERE user_id = {user}"));
        let attempts = sql.rows(&format!(
            "SELECT operation, outcome, encode(session_id, 'hex'), floor(extract(epoch FROM reserved_at) * 1000)::bigint,
                    floor(extract(epoch FROM settled_at) * 1000)::bigint
             FROM attempt WHERE subject = (SELECT subject FROM users WHERE name = '{name}') ORDER BY seq"
        ));
        let attempts = attempts.iter().map(|row| StoredAttempt {
            operation: row[0].clone(),
            outcome: some(&row[1]),
            session: some(&row[2]),
            reserved_ms: row[3].parse().expect("a number"),
            settled_ms: row[4].parse().ok(),
        });
        let mut times = |which: &str| -> Vec<u64> {
            let rows =
                sql.rows(&format!("SELECT floor(extract(epoch FROM at) * 1000)::bigint FROM audit WHERE {which}"));
            rows.iter().map(|row| row[0].parse().expect("a number")).collect()
        };
        let unlocked_ms = times(&format!("user_id = {user} AND action = 'unlocked'"));
        let locked_ms =
            times(&format!("subject = (SELECT subject FROM users WHERE name = '{name}') AND action = 'locked'"));
        let flag = |sql: &mut Sql, of: &str| {
            sql.number(&format!("SELECT count(*) FROM users WHERE name = '{name}' AND {of}")) > 0
        };
        let account = Account {
            audit: audit.collect(),
            current: current.into_iter().flatten().collect(),
            locked_ms,
            unlocked_ms,
            attempts: attempts.collect(),
            disabled: flag(&mut sql, "disabled_at IS NOT NULL"),
            role: flag(&mut sql, "'admin' = ANY(roles)"),
        };
        all.insert(number, account);
    }
    all
}
