//! The heartbeat: a committed write that shows that this server still is the primary, and never went back in time.
//!
//! What this module guarantees:
//! - A beat counts only once its commit was acknowledged. With a synchronous standby a deposed primary commits
//!   nothing, so the ages of its answers grow and its edges fall closed by themselves.
//! - A counter that goes backwards, or a row that vanished, is [`BeatError::WentBack`]: somebody restored the database
//!   underneath, and this coordinator must stop. (After a failover that the epoch shows, a new row is begun instead.)
//! - No timeout is sent to the server: a beat that takes too long is abandoned with its connection, and counts as
//!   neither done nor not done.

use std::time::Duration;

use sqlx::PgConnection;

use super::doubt::watched;
use super::moment::{self, Moment};
use crate::db::{self, DbError};

/// How long a beat may take before its connection is given up.
pub const BEAT_LIMIT: Duration = Duration::from_secs(3);
/// After so long without a beat a row may be gone, and means nothing: clean-up drops rows of a day ([`crate::tasks`]).
const ROW_COUNTS_FOR: Duration = Duration::from_secs(12 * 3600);

/// One row of `heartbeat`, and what is known of it.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    instance: [u8; 16],
    /// The highest counter whose commit was acknowledged; 0 before the first.
    counter: u64,
    /// When the last acknowledged beat was begun; before the first, when this was made.
    written: Moment,
}

/// A beat whose commit was acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct Beat {
    /// When it was begun.
    pub began: Moment,
    /// Its transaction, now known durable.
    pub xid: u64,
}

/// Why there was no beat.
#[derive(Debug, thiserror::Error)]
pub enum BeatError {
    /// The database does not answer, or cannot commit.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The database has forgotten beats that it had acknowledged.
    #[error(
        "the database went back in time: heartbeat {known} was acknowledged and is not there. It was restored, or its \
         disk was. Stop all coordinators, run `edgekeep after-restore`, then start them again"
    )]
    WentBack {
        /// The counter that was acknowledged.
        known: u64,
    },
}

impl Heartbeat {
    /// A new row's name, from random bytes.
    #[must_use]
    pub fn new(instance: [u8; 16]) -> Self {
        Self { instance, counter: 0, written: moment::now() }
    }

    /// The row cannot have been cleaned up. Who beats only now and then begins a new one when this is no longer so; who
    /// beats all the time must not ask, and takes a row that vanished for what it is.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        moment::elapsed(self.written) < ROW_COUNTS_FOR
    }

    /// The row's key.
    #[must_use]
    pub const fn instance(&self) -> &[u8; 16] {
        &self.instance
    }

    /// The highest acknowledged counter; 0 before the first.
    #[must_use]
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    /// A beat with this counter that was begun at this moment was acknowledged (or its row found not to be there).
    ///
    /// # Errors
    /// When the row has vanished or its counter is not above the last one.
    pub fn acknowledged(&mut self, counter: Option<i64>, began: Moment) -> Result<(), BeatError> {
        match counter.map(db::unsigned).transpose()? {
            Some(counter) if counter > self.counter => {
                (self.counter, self.written) = (counter, began);
                Ok(())
            }
            _ => Err(BeatError::WentBack { known: self.counter }),
        }
    }

    /// Commits a beat. On an error the connection must be given up.
    ///
    /// # Errors
    /// When it was not acknowledged, or the database has forgotten earlier ones.
    pub async fn beat(&mut self, connection: &mut PgConnection) -> Result<Beat, BeatError> {
        let began = moment::now();
        let (counter, xid) = match tokio::time::timeout(BEAT_LIMIT, watched(self.write(connection))).await {
            Ok(written) => written?.unzip(),
            Err(_) => {
                return Err(DbError::CommitUnknown(format!("no beat within {} s", BEAT_LIMIT.as_secs())).into());
            }
        };
        self.acknowledged(counter, began)?;
        Ok(Beat { began, xid: db::unsigned(xid.unwrap_or(0))? })
    }

    /// One statement that commits by itself. All of its answer is read, down to the server's "ready": only that
    /// comes after the commit.
    async fn write(&self, connection: &mut PgConnection) -> Result<Option<(i64, i64)>, DbError> {
        if self.counter == 0 {
            // The first beat, perhaps again after one whose end is unknown.
            let rows = sqlx::query!(
                r#"INSERT INTO heartbeat AS h (instance, counter, beat_at) VALUES ($1, 1, clock_timestamp())
                   ON CONFLICT (instance) DO UPDATE SET counter = h.counter + 1, beat_at = clock_timestamp()
                   RETURNING counter, pg_current_xact_id()::text::bigint AS "xid!""#,
                &self.instance[..],
            )
            .fetch_all(connection)
            .await?;
            return Ok(rows.first().map(|row| (row.counter, row.xid)));
        }
        let rows = sqlx::query!(
            r#"UPDATE heartbeat SET counter = counter + 1, beat_at = clock_timestamp()
               WHERE instance = $1 AND counter >= $2
               RETURNING counter, pg_current_xact_id()::text::bigint AS "xid!""#,
            &self.instance[..],
            db::signed(self.counter),
        )
        .fetch_all(connection)
        .await?;
        Ok(rows.first().map(|row| (row.counter, row.xid)))
    }
}

/// 16 random bytes.
///
/// # Errors
/// When the operating system has none.
pub fn random_instance() -> Result<[u8; 16], DbError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| DbError::Unavailable("no random bytes".to_owned()))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_only_grows_and_a_lost_row_is_noticed() {
        let mut heartbeat = Heartbeat::new([1; 16]);
        assert!(heartbeat.acknowledged(Some(1), moment::now()).is_ok());
        // A beat whose end was unknown may have happened: a jump is fine.
        assert!(heartbeat.acknowledged(Some(3), moment::now()).is_ok());
        assert!(matches!(heartbeat.acknowledged(Some(3), moment::now()), Err(BeatError::WentBack { known: 3 })));
        assert!(matches!(heartbeat.acknowledged(None, moment::now()), Err(BeatError::WentBack { known: 3 })));
    }

    #[test]
    fn a_row_of_yesterday_may_have_been_cleaned_up() {
        let mut heartbeat = Heartbeat::new([1; 16]);
        assert!(heartbeat.is_kept());
        assert!(heartbeat.acknowledged(Some(1), moment::ago(ROW_COUNTS_FOR)).is_ok());
        assert!(!heartbeat.is_kept());
        assert!(heartbeat.acknowledged(Some(2), moment::now()).is_ok() && heartbeat.is_kept());
    }
}
