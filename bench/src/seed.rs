//! Many users who are signed in, put straight into the database: row for row what the coordinator's own transactions leave
//! behind when each of them was added and has signed in once. Only their passwords are one and the same.
//!
//! Proofs of their sessions are signed here, with the keys that any edge is told, as the login would have signed them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use edgekeep_shared::api::{CheckAnswer, CheckVerdict};
use edgekeep_shared::codec::put_length_prefixed;
use edgekeep_shared::ids::{SessionId, SiteId, UserId, from_hex, to_hex};
use edgekeep_shared::keyring::{RingKey, Secret};
use edgekeep_shared::revision::Revision;
use edgekeep_shared::token::{Claims, sign};
use serde::Deserialize;
use xtask::state::{State, User};

use crate::coordinator::Coordinator;
use crate::world::World;
use crate::{say, sql};

/// Users in one transaction.
const BATCH: u64 = 100_000;
/// The default, which no benchmark changes.
const IDLE_TIMEOUT_MS: u64 = 3_600_000;
/// What their sessions say of the browser, and how they are told from others.
const DEVICE: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0 (seeded)";

/// A user with a session.
#[derive(Clone, Debug)]
pub struct Visitor {
    /// The name; the password is the template's.
    pub name: String,
    /// What the login's proof says.
    claims: Claims,
}

/// Adds `count` users who signed in `signed_in_ago`, with the password of `template`; who was there before stays.
///
/// # Errors
/// If the database refuses it.
pub fn users(world: &World, count: u64, template: &User, signed_in_ago: Duration) -> Result<()> {
    say(&format!("  seeding {count} users with a session each"));
    let state = State::load(world.cluster.folder())?;
    let key = BASE64_STANDARD.decode(&state.subject_key)?;
    let mut from = 0;
    while from < count {
        let until = (from + BATCH).min(count);
        let text = batch(from, until, &template.name, signed_in_ago, &subject(&key));
        sql::run(&world.tools, world.cluster.database_url(), &text).context("seeding users")?;
        from = until;
    }
    // As a database that has stood for a while: statistics, and pages that nobody has to visit again.
    for maintenance in ["VACUUM (ANALYZE)", "CHECKPOINT"] {
        sql::run(&world.tools, world.cluster.database_url(), maintenance)?;
    }
    Ok(())
}

/// The subject of the text `name` as SQL: HMAC-SHA-256 (RFC 2104) out of what Postgres has.
fn subject(key: &[u8]) -> String {
    let padded = |with: u8| {
        let mut block = [with; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let mut inner = padded(0x36).to_vec();
    put_length_prefixed(&mut inner, b"edgekeep subject v1");
    format!(
        "sha256('\\x{}'::bytea || sha256('\\x{}'::bytea || int8send(octet_length(name)::bigint) || name::bytea))",
        to_hex(&padded(0x5c)),
        to_hex(&inner)
    )
}

/// Ids are spread like random ones, which is what indexes are sensitive to. Rows refer to each other by construction: checking
/// every reference would take most of the time.
fn batch(from: u64, until: u64, template: &str, signed_in_ago: Duration, subject: &str) -> String {
    format!(
        "SET session_replication_role = replica;
         SET synchronous_commit = off;
         BEGIN;
         CREATE TEMPORARY TABLE seeded ON COMMIT DROP AS
           SELECT name, {subject} AS subject, hashint8extended(n, 1) & 9223372036854775807 AS user_id,
                  substr(sha256(('session of ' || name)::bytea), 1, 16) AS session_id,
                  sha256(('attempt of ' || name)::bytea) AS attempt_id,
                  date_trunc('milliseconds', clock_timestamp()) - interval '{ago_ms} milliseconds' AS at,
                  least(proof_life_ms, idle_timeout_ms / 2) * interval '1 millisecond' AS proof_life,
                  idle_timeout_ms * interval '1 millisecond' AS idle, absolute_timeout_ms * interval '1 millisecond' AS life
           FROM (SELECT n, 'visitor-' || n AS name FROM generate_series({from}::bigint, {until} - 1) n) numbered, settings;
         INSERT INTO users (user_id, name, subject, password_hash, created_at, last_login_at)
           SELECT user_id, name, subject, (SELECT password_hash FROM users WHERE name = '{template}'), at, at FROM seeded;
         INSERT INTO user_state (user_id, revision) SELECT user_id, (SELECT epoch::bigint << 48 FROM cluster) FROM seeded;
         INSERT INTO session (user_id, slot, session_id, authenticated_at, last_seen_at, idle_expires_at, expires_at,
                              proof_until, device)
           SELECT user_id, 0, session_id, at, at, at + idle, at + life, at + proof_life, '{DEVICE}' FROM seeded;
         INSERT INTO subject_state (subject, next_seq, window_from_seq, updated_at) SELECT subject, 2, 2, at FROM seeded;
         INSERT INTO attempt (attempt_id, operation, subject, seq, counted, reserved_at, owner, owner_deadline, settled_at,
                              outcome, user_id, session_id)
           SELECT attempt_id, 'login', subject, 1, false, at, substr(attempt_id, 1, 16), at + interval '10 seconds', at,
                  'succeeded', user_id, session_id FROM seeded;
         INSERT INTO audit (at, user_id, action, detail)
           SELECT at, user_id, 'user_added', '{{\"roles\": [], \"imported\": false}}' FROM seeded;
         INSERT INTO audit (at, user_id, subject, action, session_id, detail)
           SELECT at, user_id, subject, 'login', session_id, '{{\"operation\": \"login\", \"outcome\": \"succeeded\"}}'
           FROM seeded;
         COMMIT;",
        ago_ms = signed_in_ago.as_millis(),
    )
}

#[derive(Deserialize)]
struct Row {
    name: String,
    user_id: String,
    revision: String,
    session_id: String,
    authenticated_at_ms: String,
    proof_until_ms: String,
    idle_expires_at_ms: String,
    expires_at_ms: String,
}

/// So many of the seeded users, chosen at random; fewer if there are fewer.
///
/// # Errors
/// If the database does not tell.
pub fn choose(world: &World, count: usize) -> Result<Vec<Visitor>> {
    let ms = |column: &str| format!("floor(extract(epoch FROM s.{column}) * 1000)::bigint::text AS {column}_ms");
    let text = format!(
        "SELECT u.name, s.user_id::text, st.revision::text, encode(s.session_id, 'hex') AS session_id, {}, {}, {}, {}
         FROM (SELECT * FROM session WHERE device = '{DEVICE}' ORDER BY random() LIMIT {count}) s
         JOIN users u USING (user_id) JOIN user_state st USING (user_id)",
        ms("authenticated_at"),
        ms("proof_until"),
        ms("idle_expires_at"),
        ms("expires_at")
    );
    let rows: Vec<Row> = serde_json::from_str(&sql::run(&world.tools, world.cluster.database_url(), &text)?)?;
    let visitor = |row: Row| {
        let claims = Claims {
            site: SiteId(0), // Put in by the signer, who was told it.
            user_id: UserId(row.user_id.parse()?),
            revision: Revision(row.revision.parse()?),
            session_id: SessionId(from_hex(&row.session_id).context("a session id")?),
            authenticated_at_ms: row.authenticated_at_ms.parse()?,
            renew_after_ms: row.proof_until_ms.parse()?,
            idle_expires_at_ms: row.idle_expires_at_ms.parse()?,
            expires_at_ms: row.expires_at_ms.parse()?,
            name: row.name.clone(),
            roles: Vec::new(),
        };
        Ok(Visitor { name: row.name, claims })
    };
    rows.into_iter().map(visitor).collect()
}

/// Signs proofs as the coordinator does.
pub struct Signer {
    key: RingKey,
    site: SiteId,
}

impl Signer {
    /// With what a coordinator tells edges.
    ///
    /// # Errors
    /// If it does not.
    pub fn of(coordinator: &Coordinator) -> Result<Self> {
        let keys = coordinator.keys()?;
        let key = keys.keys.iter().find(|key| !key.withdrawn).context("no key")?;
        let secret = Secret::from_hex(&key.secret).context("a key's secret")?;
        Ok(Self { key: RingKey::new(key.id, &secret, false), site: SiteId::of(&keys.site) })
    }

    /// The proof that the visitor's login was answered with.
    ///
    /// # Errors
    /// None that is known.
    pub fn proof(&self, visitor: &Visitor) -> Result<String> {
        Ok(sign(&Claims { site: self.site, ..visitor.claims.clone() }, &self.key)?)
    }
}

/// Whether this is the answer to a renewal that has written its session's row, and has a new proof: the idle timeout then counts
/// from after the question was read.
#[must_use]
pub fn renewed(body: &[u8]) -> bool {
    let answer = serde_json::from_slice::<CheckAnswer>(body);
    answer.is_ok_and(|answer| match answer.verdict {
        CheckVerdict::Current { token: Some(_), session, .. } => {
            session.idle_expires_at_ms >= answer.read_at_ms + IDLE_TIMEOUT_MS
        }
        _ => false,
    })
}
