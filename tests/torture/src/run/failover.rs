//! The standby is promoted while everybody works on.
//!
//! | | before the promotion | what must hold |
//! |---|---|---|
//! | killed | the synchronous standby is held back and waits of commits for it are cancelled; then the primary is killed | everything: what was cancelled was never acknowledged |
//! | lives on | the old primary goes on, cut off from its standby, with one coordinator and one edge | everything, and that edge falls closed by itself |
//! | asynchronous | the standby is held back, commits are acknowledged without it; then the primary is killed | everything but what was acknowledged and not replicated ([`crate::checker::loss`]) |

use std::time::{Duration, Instant};

use anyhow::ensure;
use edgekeep_shared::revision::Revision;
use edgekeep_tests::client::{Client, login_request};
use edgekeep_tests::http::{Kept, Request};
use edgekeep_tests::random_hex;
use edgekeep_tests::sql::Sql;

use super::Failover;
use super::link::Link;
use super::nemesis::Nemesis;
use crate::history::Lost;

/// For so long a standby is held back before its primary is killed.
const HELD_BACK: Duration = Duration::from_millis(1_500);
/// Coordinators and edges have found the new primary by then.
const FOUND: Duration = Duration::from_secs(60);

/// What was so before, for comparing.
#[derive(Clone, Copy, Debug)]
pub struct Promotion {
    epoch: i64,
    highest: u64,
}

impl Promotion {
    /// Promotes the standby, and lets everybody go on for three times the bound.
    ///
    /// Where the old primary lives on, one coordinator stays with it for that time, and one edge with that coordinator: they
    /// must fall closed by themselves. Sessions go on to end elsewhere, so the checker would see it if they did not.
    ///
    /// # Errors
    /// If the new primary's epoch is not raised.
    pub fn run(nemesis: &mut Nemesis<'_>, how: Failover) -> anyhow::Result<Self> {
        nemesis.note(&format!("failover: {how:?}"));
        let mut old = Sql::connect(&nemesis.fleet.database_url());
        match how {
            Failover::Killed => {
                let cancelled = cancel_waits(nemesis, &mut old);
                nemesis.remarks.push(format!("{cancelled} commits were cancelled in their wait for the standby"));
            }
            Failover::Asynchronous => {
                nemesis.fleet.hold_standby_back();
                std::thread::sleep(HELD_BACK);
            }
            // The first edge reaches that coordinator only.
            Failover::LivesOn => {
                nemesis.fleet.to_coordinator.first().into_iter().flatten().skip(1).for_each(Link::cut);
            }
        }
        let before = Self { epoch: epoch(&mut old), highest: highest(&mut old) };
        drop(old);
        let deposed = nemesis.fleet.promote(how);
        nemesis.note("promoted");
        let from_us = nemesis.recorder.now_us();
        let mut new = Sql::connect(&nemesis.fleet.database_url());
        if how == Failover::Asynchronous {
            // The primary's time of the last commit that the standby has; same machine, same clock. Commits of one moment
            // may be in another order than their times.
            let age_ms = new.number(
                "SELECT ceil(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::bigint",
            );
            let replicated_us = nemesis.recorder.now_us().saturating_sub((age_ms.unsigned_abs() + 100) * 1_000);
            nemesis.recorder.lost(Lost { from_us: replicated_us, until_us: from_us });
            nemesis.remarks.push(format!("what was committed in the last {age_ms} ms before the promotion was lost"));
        }
        std::thread::sleep(3 * nemesis.bound);
        if how == Failover::LivesOn {
            nemesis.recorder.isolated(0, from_us, nemesis.recorder.now_us());
        }
        nemesis.fleet.follow();
        drop(deposed);
        let deadline = Instant::now() + FOUND;
        while epoch(&mut new) <= before.epoch {
            ensure!(Instant::now() < deadline, "nobody raises the epoch");
            std::thread::sleep(Duration::from_millis(20));
        }
        nemesis.note("failover is over");
        Ok(before)
    }

    /// What must be so afterwards: a higher epoch, revisions above all old ones, and edges that decide for themselves.
    ///
    /// # Errors
    /// What is not.
    pub fn finish(self, nemesis: &mut Nemesis<'_>) -> anyhow::Result<()> {
        let mut sql = Sql::connect(&nemesis.fleet.database_url());
        let now = epoch(&mut sql);
        let given: Vec<u64> = revisions(&mut sql).filter(|it| i64::from(Revision(*it).epoch()) > self.epoch).collect();
        let lowest = given.iter().min().copied().unwrap_or(u64::MAX);
        ensure!(!given.is_empty(), "no revision was given out in the new epoch");
        ensure!(lowest > self.highest, "revision {lowest} of the new epoch is below {} of the old one", self.highest);
        for link in &nemesis.fleet.to_edge {
            let deadline = Instant::now() + FOUND;
            while let Err(said) = decides_itself(link, &nemesis.canary) {
                ensure!(Instant::now() < deadline, "an edge does not resynchronise: {said}");
            }
        }
        nemesis.remarks.push(format!(
            "epoch {} became {now}; {} users have revisions of the new one, the lowest {} above the highest of the old \
             one; every edge decides by its own view again",
            self.epoch,
            given.len(),
            lowest - self.highest
        ));
        Ok(())
    }
}

/// Holds the standby back and cancels every wait for it, as an impatient administrator would. Says how many.
fn cancel_waits(nemesis: &Nemesis<'_>, sql: &mut Sql) -> i64 {
    nemesis.fleet.hold_standby_back();
    let until = Instant::now() + HELD_BACK;
    let mut cancelled = 0;
    while Instant::now() < until {
        cancelled +=
            sql.number("SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
        std::thread::sleep(Duration::from_millis(50));
    }
    cancelled
}

fn epoch(sql: &mut Sql) -> i64 {
    sql.number("SELECT epoch FROM cluster")
}

fn revisions(sql: &mut Sql) -> impl Iterator<Item = u64> {
    sql.rows("SELECT revision FROM user_state").into_iter().filter_map(|row| row[0].parse().ok())
}

fn highest(sql: &mut Sql) -> u64 {
    revisions(sql).max().unwrap_or(0)
}

/// The edge answers for a session by its own view.
fn decides_itself(link: &Link, canary: &xtask::state::User) -> Result<(), String> {
    let mut connection = Kept::patient_for(link.address, Duration::from_secs(12));
    let mut client = Client::new();
    let login = connection.send(&login_request(canary, &random_hex(16))).map_err(|error| error.to_string())?;
    client.jar.take(&login);
    let asked = connection.send(&client.with_cookies(Request::get("/auth/session")));
    let answer = asked.map_err(|error| error.to_string())?;
    let how = if answer.status == 200 { answer.json()["check"]["how"].to_string() } else { answer.text() };
    if how == "\"local\"" { Ok(()) } else { Err(how) }
}
