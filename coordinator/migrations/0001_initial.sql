-- Edgekeep's state: one database decides. Times that decide anything come from the statement that uses them.
-- Lock order, everywhere: user_state rows (by user_id), then session rows, then subject_state, then attempt.

-- The feed epoch (design 2.2): raised whenever the database is another one, or on another timeline, than when it was stored.
CREATE TABLE cluster (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch             integer NOT NULL CHECK (epoch BETWEEN 1 AND 32767),
    system_identifier bigint  NOT NULL,
    timeline          text    NOT NULL,
    -- The oldest epoch with the same system identifier and no restore since: cursors older than this reload in full.
    cursors_from_epoch integer NOT NULL CHECK (cursors_from_epoch BETWEEN 1 AND 32767),
    raised_at         timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Policy that every coordinator must agree on. Changed by `edgekeep settings set`.
CREATE TABLE settings (
    only_row                 boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version                  bigint  NOT NULL DEFAULT 1,
    site                     text    NOT NULL DEFAULT 'main' CHECK (length(site) BETWEEN 1 AND 128),
    max_staleness_ms         integer NOT NULL DEFAULT 5000 CHECK (max_staleness_ms BETWEEN 200 AND 600000),
    -- A lowered bound binds receipts only after every lease given under the old one has run out.
    previous_staleness_ms    integer NOT NULL DEFAULT 0,
    previous_staleness_until timestamptz NOT NULL DEFAULT '-infinity',
    sessions_per_user        integer NOT NULL DEFAULT 1 CHECK (sessions_per_user BETWEEN 1 AND 16),
    takeover                 text    NOT NULL DEFAULT 'newest_wins' CHECK (takeover IN ('newest_wins', 'refuse_second')),
    proof_life_ms            integer NOT NULL DEFAULT 300000 CHECK (proof_life_ms BETWEEN 1000 AND 3600000),
    idle_timeout_ms          bigint  NOT NULL DEFAULT 3600000 CHECK (idle_timeout_ms BETWEEN 1000 AND 2592000000),
    absolute_timeout_ms      bigint  NOT NULL DEFAULT 86400000 CHECK (absolute_timeout_ms BETWEEN 1000 AND 2592000000),
    -- Lockout (NIST SP 800-63B-4 3.2.2): F guesses in a run, growing waits between runs, and a cap on consecutive failures.
    guess_limit              integer NOT NULL DEFAULT 5 CHECK (guess_limit BETWEEN 1 AND 100),
    lockout_base_ms          bigint  NOT NULL DEFAULT 60000 CHECK (lockout_base_ms BETWEEN 100 AND 86400000),
    lockout_max_ms           bigint  NOT NULL DEFAULT 3600000 CHECK (lockout_max_ms BETWEEN 100 AND 86400000),
    consecutive_failure_cap  integer NOT NULL DEFAULT 100 CHECK (consecutive_failure_cap BETWEEN 1 AND 100),
    -- Default of `Prefer: wait` for logins, 0 = answer at once.
    login_wait_ms            integer NOT NULL DEFAULT 0 CHECK (login_wait_ms BETWEEN 0 AND 30000),
    -- Password policy (NIST SP 800-63B-4 3.1.1.2)
    password_min_chars       integer NOT NULL DEFAULT 15 CHECK (password_min_chars BETWEEN 8 AND 128),
    attempt_retention_ms     bigint  NOT NULL DEFAULT 97200000 CHECK (attempt_retention_ms >= 97200000), -- 27 h: a form's key lives 24 h, and its stamp may be 2 h ahead
    audit_retention_ms       bigint  NOT NULL DEFAULT 31536000000 CHECK (audit_retention_ms >= 2678400000)
);
INSERT INTO settings DEFAULT VALUES;

-- user_id is random (63 bits), never reused: a deleted user stays as a tombstone.
CREATE TABLE users (
    user_id          bigint PRIMARY KEY CHECK (user_id > 0),
    name             text,                      -- as shown; NULL once deleted
    subject          bytea CHECK (octet_length(subject) = 32),  -- keyed hash of the canonical name; NULL once deleted
    password_hash    text,                      -- PHC string
    password_version bigint NOT NULL DEFAULT 1,
    roles            text[] NOT NULL DEFAULT '{}',
    created_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    last_login_at    timestamptz,
    disabled_at      timestamptz,
    deleted_at       timestamptz,
    CHECK (deleted_at IS NOT NULL OR (name IS NOT NULL AND subject IS NOT NULL))
);
CREATE UNIQUE INDEX users_subject ON users (subject) WHERE deleted_at IS NULL;

-- The row that orders everything about one user, and the user's entry of the feed.
CREATE TABLE user_state (
    user_id      bigint PRIMARY KEY REFERENCES users,
    revision     bigint NOT NULL DEFAULT 0,     -- only grows; epoch in the high 16 bits
    needed_until timestamptz NOT NULL DEFAULT '-infinity',
    feed_xid     bigint NOT NULL DEFAULT 0      -- transaction id (xid8) of the last raise
);
CREATE INDEX user_state_feed ON user_state (feed_xid);

-- G1: at most one current session per (user, slot), with as many slots as are allowed.
CREATE TABLE session (
    user_id          bigint  NOT NULL REFERENCES user_state,
    slot             integer NOT NULL CHECK (slot BETWEEN 0 AND 15),
    session_id       bytea   NOT NULL UNIQUE CHECK (octet_length(session_id) = 16),
    authenticated_at timestamptz NOT NULL,
    last_seen_at     timestamptz NOT NULL,
    idle_expires_at  timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    proof_until      timestamptz NOT NULL,      -- the latest renew_after that any proof of this session may carry
    device           text NOT NULL DEFAULT '',  -- user agent, cut to 256 characters
    PRIMARY KEY (user_id, slot)
);

-- Why a session ended; kept until its absolute expiry has passed.
CREATE TABLE ended_session (
    session_id   bytea  PRIMARY KEY CHECK (octet_length(session_id) = 16),
    user_id      bigint NOT NULL,
    reason       text   NOT NULL CHECK (reason IN ('signed_out', 'signed_in_elsewhere', 'password_changed', 'disabled', 'revoked', 'expired')),
    ended_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    expires_at   timestamptz NOT NULL,
    effective_at timestamptz                    -- set by the first receipt, after the commit was acknowledged
);
CREATE INDEX ended_session_expiry ON ended_session (expires_at);

-- Guesses per account, for known and unknown users alike (subject = keyed hash of the canonical name).
CREATE TABLE subject_state (
    subject              bytea PRIMARY KEY CHECK (octet_length(subject) = 32),
    next_seq             bigint  NOT NULL DEFAULT 1,
    window_from_seq      bigint  NOT NULL DEFAULT 1,  -- attempts from here on count in the current run
    runs                 integer NOT NULL DEFAULT 0,  -- runs of failures since the last success: the waits grow with it
    consecutive_failures integer NOT NULL DEFAULT 0,  -- since the last success (NIST cap)
    locked_until         timestamptz,                 -- 'infinity': until an administrator unlocks
    updated_at           timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One row per (operation, subject, idempotency key, passwords); see design 2.3.
CREATE TABLE attempt (
    attempt_id     bytea PRIMARY KEY CHECK (octet_length(attempt_id) = 32),
    operation      text   NOT NULL CHECK (operation IN ('login', 'logout_everywhere', 'password_change')),
    subject        bytea  NOT NULL REFERENCES subject_state,
    seq            bigint NOT NULL,
    counted        boolean NOT NULL DEFAULT true,
    reserved_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    owner          bytea  NOT NULL CHECK (octet_length(owner) = 16),
    owner_deadline timestamptz NOT NULL,
    settled_at     timestamptz,
    outcome        text CHECK (outcome IN ('succeeded', 'invalid_credentials', 'refused_second', 'password_rejected')),
    user_id        bigint,
    session_id     bytea,
    ended_other    boolean NOT NULL DEFAULT false,  -- this operation ended at least one session
    effective_at   timestamptz,
    CHECK ((settled_at IS NULL) = (outcome IS NULL))
);
CREATE UNIQUE INDEX attempt_subject ON attempt (subject, seq);
CREATE INDEX attempt_reserved ON attempt (reserved_at);

-- Signing keys, sealed with the deployment's key. A key is announced to edges before anything is signed with it.
CREATE TABLE signing_key (
    key_id       integer PRIMARY KEY CHECK (key_id > 0),
    sealed       bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    signs_from   timestamptz NOT NULL,
    retired_at   timestamptz,    -- no longer signs; still verifies
    withdrawn_at timestamptz     -- its proofs must renew
);
CREATE TABLE key_set (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    version  bigint NOT NULL DEFAULT 1
);
INSERT INTO key_set DEFAULT VALUES;

CREATE TABLE edge_credential (
    edge_id     text PRIMARY KEY CHECK (edge_id ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
    secret_hash bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    revoked_at  timestamptz
);

-- Written by each coordinator at a beat, on the connection that it reads with.
CREATE TABLE heartbeat (
    instance   bytea PRIMARY KEY CHECK (octet_length(instance) = 16),
    counter    bigint NOT NULL,
    beat_at    timestamptz NOT NULL
);

-- In the same transaction as what it records; per user in commit order, because it is written under the user's lock.
CREATE TABLE audit (
    audit_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    user_id    bigint,
    subject    bytea,
    action     text NOT NULL,
    session_id bytea,
    detail     jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_user ON audit (user_id, audit_id);
CREATE INDEX audit_at ON audit (at);
