//! Commits that were acknowledged although their replication is in doubt.
//!
//! When a commit waits for its synchronous standby and somebody cancels that wait, Postgres answers with *success* and
//! a `WARNING`: the transaction is committed here, and may be lost with this server. The protocol calls such a commit
//! unknown, never success (design 2.2). The database driver tells of warnings only as log events, so this is a layer of
//! the log that counts them. Which statement a warning belongs to is not told either: everybody whose commit was under
//! way meanwhile takes its own for unknown, which is the safe direction. Warnings are rare.
//!
//! What this module guarantees, once [`Watch`] is part of the log: a [`Doubts`] taken before a commit was sent says
//! after its acknowledgement whether a warning came in between.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::db::DbError;

/// The driver's target for what the server remarks on.
const NOTICES: &str = "sqlx::postgres::notice";

static WARNINGS: AtomicU64 = AtomicU64::new(0);

/// Counts the server's warnings. It must see them whatever the log shows: give filters to other layers, not to all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch;

impl<S: Subscriber> Layer<S> for Watch {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == NOTICES && *metadata.level() <= Level::WARN {
            WARNINGS.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// How many warnings there had been when a commit was sent.
#[derive(Clone, Copy, Debug)]
pub struct Doubts(u64);

impl Doubts {
    /// Before the commit is sent.
    #[must_use]
    pub fn before() -> Self {
        Self(WARNINGS.load(Ordering::SeqCst))
    }

    /// After it was acknowledged.
    ///
    /// # Errors
    /// [`DbError::CommitUnknown`] if a warning came in between.
    pub fn after(self) -> Result<(), DbError> {
        if WARNINGS.load(Ordering::SeqCst) == self.0 {
            return Ok(());
        }
        Err(DbError::CommitUnknown("the server warned while a commit was under way".to_owned()))
    }
}
