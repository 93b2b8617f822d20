//! Commits that were acknowledged although their replication is in doubt.
//!
//! When a commit waits for its synchronous standby and somebody cancels that wait, Postgres answers with *success* and
//! a `WARNING`: the transaction is committed here, and may be lost with this server. The protocol calls such a commit
//! unknown, never success (design 2.2). The database driver tells of warnings only as log events, so this is a layer of
//! the log that counts them. An event is made while the future that reads from the connection is polled, on the thread
//! that polls it: so each commit sees its own warnings and nobody else's. (Postgres also warns on every new connection to
//! a database whose collations are of another version. That must put no commit in doubt.)
//!
//! What this module guarantees, once [`Watch`] is part of the log: [`watched`] says of a commit that was acknowledged
//! whether the server warned while it was under way.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::db::DbError;

/// The driver's target for what the server remarks on.
const NOTICES: &str = "sqlx::postgres::notice";

thread_local! {
    static WARNINGS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the server's warnings. It must see them whatever the log shows: give filters to other layers, not to all.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch;

impl<S: Subscriber> Layer<S> for Watch {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        if metadata.target() == NOTICES && *metadata.level() <= Level::WARN {
            WARNINGS.set(WARNINGS.get().wrapping_add(1));
        }
    }
}

/// Runs what sends a commit and reads its acknowledgement.
///
/// # Errors
/// Its own, or [`DbError::CommitUnknown`] if it was acknowledged with a warning.
pub async fn watched<T, E>(commit: impl Future<Output = Result<T, E>>) -> Result<T, DbError>
where
    DbError: From<E>,
{
    let mut commit = pin!(commit);
    let mut warned = false;
    let value = poll_fn(|context| {
        let before = WARNINGS.get();
        let polled = commit.as_mut().poll(context);
        warned |= WARNINGS.get() != before;
        polled
    })
    .await?;
    if warned {
        return Err(DbError::CommitUnknown("the server warned while the commit was under way".to_owned()));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;

    use super::*;

    #[tokio::test]
    async fn a_commit_is_in_doubt_by_its_own_warnings_only() {
        let _watch = tracing_subscriber::registry().with(Watch).set_default();
        let commit = async |warns: bool| {
            for turn in 0..4 {
                if warns && turn == 2 {
                    tracing::warn!(target: NOTICES, "canceling wait for synchronous replication");
                }
                tracing::info!(target: NOTICES, "something else");
                tokio::task::yield_now().await;
            }
            Ok::<_, DbError>(())
        };
        let (good, doubtful) = tokio::join!(watched(commit(false)), watched(commit(true)));
        assert!(good.is_ok());
        assert!(matches!(doubtful, Err(DbError::CommitUnknown(_))));
    }
}
