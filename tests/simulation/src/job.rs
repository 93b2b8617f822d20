//! Transactions on their way through the database, and what a coordinator makes of their end.

use edgekeep_shared::problem::Code;

use crate::check::Renewing;
use crate::coordinator::Later;
use crate::database::{Change, Done};
use crate::message::{Operation, Reply};
use crate::world::{Event, World};

/// A transaction.
#[derive(Debug)]
pub(crate) struct Job {
    /// Who waits for it; an administrator does not.
    origin: Option<Origin>,
    user: u32,
    change: Change,
    database: usize,
    xid: Option<u64>,
}

/// Who waits for a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    coordinator: u8,
    life: u32,
    pub(crate) edge: u32,
    pub(crate) call: u64,
    /// A renewal; else what a person does.
    pub(crate) renewing: Option<Box<Renewing>>,
}

impl World {
    /// The administrator's command line works on the primary.
    pub(crate) fn administer(&mut self, user: u32, change: Change) {
        let database = self.primary();
        self.job(Job { origin: None, user, change, database, xid: None });
    }

    /// A person's operation, hashed.
    pub(crate) fn operate_at(&mut self, coordinator: u8, edge: u32, call: u64, operation: Operation) {
        let (user, change) = match operation {
            Operation::Login { user, key, presented } => (user, Change::Login { key, presented }),
            Operation::Logout { user, session } => (user, Change::Logout { session }),
            Operation::LogoutEverywhere { user } => (user, Change::LogoutEverywhere),
            Operation::ChangePassword { user, key } => (user, Change::Password { key }),
            Operation::Guess => {
                return self.reply(coordinator, edge, call, Reply::Problem(Code::InvalidCredentials));
            }
        };
        self.job_of(coordinator, edge, call, user, change, None);
    }

    pub(crate) fn job_of(
        &mut self,
        coordinator: u8,
        edge: u32,
        call: u64,
        user: u32,
        change: Change,
        renewing: Option<Box<Renewing>>,
    ) {
        let last = self.coordinator(coordinator).check_database;
        let database = self.server(coordinator, last);
        let life = self.coordinator(coordinator).life;
        let origin = Some(Origin { coordinator, life, edge, call, renewing });
        self.job(Job { origin, user, change, database, xid: None });
    }

    fn job(&mut self, job: Job) {
        let (ticket, in_us) = (self.number(), self.hop_us());
        self.jobs.insert(ticket, job);
        self.at(in_us, Event::Arrive(ticket));
    }

    pub(crate) fn arrive(&mut self, ticket: u64) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        if job.database != self.primary() {
            // A deposed primary commits nothing: whoever waits gives up after a while.
            let origin = self.jobs.remove(&ticket).and_then(|job| job.origin);
            return self.fail(origin, 3_000_000);
        }
        let (user, database) = (job.user, job.database);
        if self.databases[database].queue(user, ticket) {
            self.at(0, Event::Begin(ticket));
        }
    }

    /// The locks are this transaction's.
    pub(crate) fn begin(&mut self, ticket: u64) {
        let (lives, now_ms, sabotage) = (self.lives(), self.database_ms(), self.sabotage);
        let in_us = self.hold_commit_us.take().unwrap_or_else(|| self.rng.u64(300..2_000));
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        let xid = self.databases[job.database].begin(job.user, &job.change, &lives, now_ms, sabotage);
        job.xid = Some(xid);
        self.at(in_us, Event::Commit(ticket));
    }

    pub(crate) fn commit(&mut self, ticket: u64) {
        let Some(job) = self.jobs.remove(&ticket) else { return };
        let (database, user) = (job.database, job.user);
        let before = self.databases[database].rows[user as usize].clone();
        let aborted = core::mem::take(&mut self.abort_next);
        let xid = job.xid.unwrap_or(0);
        if aborted {
            self.databases[database].open.remove(&xid);
        }
        let committed = if aborted { None } else { self.databases[database].commit(xid) };
        if let Some(next) = self.databases[database].release(user, ticket) {
            self.at(0, Event::Begin(next));
        }
        match committed {
            Some(open) => {
                self.checker.committed(&open, &before, self.now_us);
                if open.rows.feed_xid == xid {
                    self.stats.raised(open.user, open.rows.revision, self.now_us);
                }
                self.log.note(self.now_us, &("commit", user, xid, open.ended.len(), open.rows.sessions.len()));
                if let Some(origin) = job.origin {
                    let (coordinator, life) = (origin.coordinator, origin.life);
                    let later = Box::new(Later::JobDone { origin: Box::new(origin), done: open.done });
                    let in_us = self.hop_us();
                    self.at(in_us, Event::Coordinator { coordinator, life, later });
                }
            }
            None => self.fail(job.origin, 1_000),
        }
    }

    /// Whoever waits learns that it did not work.
    fn fail(&mut self, origin: Option<Origin>, in_us: u64) {
        if let Some(Origin { coordinator, life, edge, call, .. }) = origin {
            let later = Box::new(Later::Fail { edge, call });
            self.at(in_us, Event::Coordinator { coordinator, life, later });
        }
    }

    /// Every transaction on this server is gone.
    pub(crate) fn drop_jobs(&mut self, database: usize) {
        let gone: Vec<u64> =
            self.jobs.iter().filter(|(_, job)| job.database == database).map(|(ticket, _)| *ticket).collect();
        for ticket in gone {
            let origin = self.jobs.remove(&ticket).and_then(|job| job.origin);
            self.fail(origin, 1_000);
        }
    }

    pub(crate) fn job_done(&mut self, coordinator: u8, origin: Origin, done: Done) {
        let Origin { edge, call, renewing, .. } = origin;
        let reply = match (renewing, done) {
            (Some(renewing), done) => self.renewed(coordinator, *renewing, done),
            (None, Done::Sign { session, revision, admin, until_ms }) => {
                let user = self.user_of(session.id);
                match user.and_then(|user| self.sign(user, &session, revision, admin, until_ms)) {
                    Some(token) => Reply::Token(token),
                    None => Reply::Problem(Code::Unavailable),
                }
            }
            (None, Done::Refused) => Reply::Problem(Code::InvalidCredentials),
            (None, Done::Changed) => Reply::Done,
            (None, Done::Ended(_) | Done::Unknown) => Reply::Problem(Code::Unavailable),
        };
        self.reply(coordinator, edge, call, reply);
    }
}
