//! Faults, chosen by the seed: storms in which several go on at once, and calm in between.
//!
//! A storm is a number of faults, not a time: as many as are missing to so many a minute. Each is of a kind that was rare so
//! far, so that all kinds come about equally often however long they take. Between storms everything is healed, and stays
//! whole for a while.
//!
//! What is not done: a clock is never stepped back behind an edge's back. A step back is detected by the edge when it
//! next looks at its clock; an undetected one is a stated assumption (docs/guarantees.md). So the clock is stepped only while
//! its edge runs and is asked all the time.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgekeep_tests::sql::Sql;
use rustix::process::{Pid, Signal, kill_process};
use xtask::state::User;

use super::Failover;
use super::failover::Promotion;
use super::faults::{Between, Broken, Fault, Kind};
use super::fleet::Fleet;
use super::link::{Link, Loss};
use super::recorder::{Random, Recorder};

/// Of each kind there are so many a minute: 240 in an hour.
const A_MINUTE: usize = 4;
/// Faults of one storm, at least and at most.
const FAULTS: [usize; 2] = [16, 40];
/// The longest time from one fault to the next.
const GAP_MS: u64 = 300;
/// The shortest and the longest calm.
const CALM_MS: [u64; 2] = [2_500, 4_500];
/// A fault of a link that loses `COMMIT`s is over when it has lost so many.
const COMMITS: u64 = 2;
/// For so long such a fault lasts, and a storm waits for the first of them.
const COMMITS_WAIT: Duration = Duration::from_secs(5);

struct Going {
    fault: Fault,
    until: Instant,
}

/// How a run's time was spent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Spent {
    /// With storms.
    pub storm: Duration,
    /// Until everything had recovered from them.
    pub healing: Duration,
    /// With everything up.
    pub calm: Duration,
}

/// Makes faults and undoes them.
pub struct Nemesis<'a> {
    /// What it breaks.
    pub fleet: &'a mut Fleet,
    /// Where calm is written down.
    pub recorder: &'a Recorder,
    began: Instant,
    random: Random,
    log: std::fs::File,
    going: Vec<Going>,
    /// The bound.
    pub bound: Duration,
    /// Whom everything is tried out with.
    pub canary: User,
    /// How often each was done.
    pub counts: BTreeMap<Kind, usize>,
    /// How many storms there were.
    pub storms: usize,
    /// How the time was spent.
    pub spent: Spent,
    /// What there is to say of a failover.
    pub remarks: Vec<String>,
}

impl<'a> Nemesis<'a> {
    /// Nothing is broken yet.
    pub fn new(fleet: &'a mut Fleet, recorder: &'a Recorder, seed: u64, log: std::fs::File) -> Self {
        let (bound, canary) = (fleet.world.bound(), fleet.world.user("canary"));
        Self {
            fleet,
            recorder,
            began: Instant::now(),
            random: Random::new(seed, 1),
            log,
            going: Vec::new(),
            bound,
            canary,
            counts: Kind::all().into_iter().map(|kind| (kind, 0)).collect(),
            storms: 0,
            spent: Spent::default(),
            remarks: Vec::new(),
        }
    }

    /// Writes a line of the fault log.
    pub fn note(&self, what: &str) {
        let _ = writeln!(&self.log, "{:10.3} s  {what}", self.recorder.now_us() as f64 / 1e6);
    }

    /// Storms and calm for so long; ends with a calm. Half-way the standby is promoted, if that was asked for.
    ///
    /// # Errors
    /// If the parts do not recover.
    pub fn run(
        &mut self,
        length: Duration,
        mut failover: Option<Failover>,
        mut progress: impl FnMut(&Self),
    ) -> anyhow::Result<()> {
        let mut promoted: Option<Promotion> = None;
        loop {
            self.calm()?;
            progress(self);
            if self.began.elapsed() >= length && failover.is_none() {
                if let Some(promoted) = promoted {
                    promoted.finish(self)?;
                }
                return Ok(());
            }
            match failover.take_if(|_| self.began.elapsed() >= length / 2) {
                Some(how) => promoted = Some(Promotion::run(self, how)?),
                None => self.storm(),
            }
        }
    }

    fn calm(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.undo_all();
        let (mut log, recorder) = (&self.log, self.recorder);
        self.fleet.heal(&self.canary, |what| {
            let _ = writeln!(log, "{:10.3} s  {what}", recorder.now_us() as f64 / 1e6);
        })?;
        self.spent.healing += began.elapsed();
        self.note(&format!("calm, after {:.1} s of healing", began.elapsed().as_secs_f64()));
        let from = self.recorder.now_us();
        let [least, most] = CALM_MS;
        let calm = Duration::from_millis(least + self.random.below(most - least));
        std::thread::sleep(calm);
        self.recorder.calm(from, self.recorder.now_us());
        self.spent.calm += calm;
        Ok(())
    }

    fn storm(&mut self) {
        let began = Instant::now();
        self.storms += 1;
        self.note("storm");
        self.lose_commits();
        let [least, most] = FAULTS;
        let due = self.counts.len() * A_MINUTE * usize::try_from(self.began.elapsed().as_secs()).unwrap_or(0) / 60;
        for _ in 0..due.saturating_sub(self.counts.values().sum()).clamp(least, most) {
            if let Some(fault) = self.choose() {
                self.begin(fault);
            }
            std::thread::sleep(Duration::from_millis(10 + self.random.below(GAP_MS)));
            let now = Instant::now();
            let all = std::mem::take(&mut self.going);
            let is_over = |going: &Going| going.until <= now || self.has_lost(going.fault, COMMITS);
            let (over, going) = all.into_iter().partition(is_over);
            self.going = going;
            self.undo(over);
        }
        self.spent.storm += began.elapsed();
    }

    /// A storm begins with this, while all is well and everybody is served: later on few transactions get as far as their
    /// `COMMIT`.
    fn lose_commits(&mut self) {
        let coordinators = self.fleet.to_database.len();
        let first = self.below(coordinators);
        for (place, broken) in (first..).zip([Broken::CommitLost, Broken::CommitUnheard]) {
            let kind = Kind::Link(Between::Database, broken);
            let fault = Fault { kind, coordinator: place % coordinators, edge: 0 };
            if self.is_free_for(fault) {
                self.begin(fault);
            }
        }
        let deadline = Instant::now() + COMMITS_WAIT;
        while self.going.iter().any(|going| !self.has_lost(going.fault, 1)) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        // The answers must be seen: other faults would lose them.
        std::thread::sleep(Duration::from_millis(1_000));
    }

    /// Of a few kinds that can begin now the one that was rarest so far.
    fn choose(&mut self) -> Option<Fault> {
        let kinds = Kind::all();
        let tries: Vec<Fault> = (0..6)
            .map(|_| {
                let kind = *self.random.pick(&kinds);
                let coordinator = self.below(self.fleet.to_database.len());
                let edge = self.below(self.fleet.to_edge.len());
                // Only the last edge's clock can be stepped.
                let edge = if kind == Kind::StepClock { self.fleet.to_edge.len() - 1 } else { edge };
                Fault { kind, coordinator, edge }
            })
            .collect();
        let possible = tries.into_iter().filter(|fault| self.is_free_for(*fault));
        possible.min_by_key(|fault| self.counts.get(&fault.kind))
    }

    fn below(&mut self, count: usize) -> usize {
        usize::try_from(self.random.below(count as u64)).unwrap_or(0)
    }

    fn is_free_for(&self, fault: Fault) -> bool {
        self.going.iter().all(|going| fault.goes_with(going.fault))
    }

    fn link(&self, between: Between, fault: Fault) -> &Link {
        match between {
            Between::Database => &self.fleet.to_database[fault.coordinator],
            Between::Coordinator => &self.fleet.to_coordinator[fault.edge][fault.coordinator],
            Between::Edge => &self.fleet.to_edge[fault.edge],
        }
    }

    /// It has lost so many `COMMIT`s.
    fn has_lost(&self, fault: Fault, commits: u64) -> bool {
        match fault.kind {
            Kind::Link(between, Broken::CommitLost | Broken::CommitUnheard) => {
                self.link(between, fault).lost() >= commits
            }
            _ => false,
        }
    }

    fn begin(&mut self, fault: Fault) {
        let mut takes = Duration::from_millis(200 + self.random.below(2_500));
        let past_the_lease = self.bound + Duration::from_millis(200 + self.random.below(1_000));
        let some = Duration::from_millis(20 + self.random.below(400));
        let late = Duration::from_millis(500 + self.random.below(3_500));
        let every = 2 + self.random.below(9);
        let by_s = *self.random.pick(&[-3_600, -30, -5, 5, 30, 3_600]);
        let down = Duration::from_millis(self.random.below(1_500));
        let mut counts = true;
        self.note(&format!("{fault:?}"));
        let url = self.fleet.database_url();
        let parts = &mut self.fleet.world.cluster;
        match fault.kind {
            Kind::Link(between, broken) => {
                let link = self.link(between, fault);
                match broken {
                    Broken::Delay => link.delay(some, some),
                    Broken::LateAnswers => link.delay(Duration::ZERO, late),
                    Broken::DropBefore => link.lose(Loss::DropBefore, every),
                    Broken::DropAfter => link.lose(Loss::DropAfter, every),
                    Broken::Cut => link.cut(),
                    Broken::HalfOpen => link.silence(),
                    // Counted when it has lost one.
                    Broken::CommitLost | Broken::CommitUnheard => {
                        counts = false;
                        takes = COMMITS_WAIT;
                        let before = broken == Broken::CommitLost;
                        link.lose_commits(if before { Loss::DropBefore } else { Loss::DropAfter });
                    }
                }
            }
            Kind::KillCoordinator => parts.coordinators[fault.coordinator].kill(),
            Kind::KillEdge => parts.edges[fault.edge].kill(),
            Kind::FreezeCoordinator => {
                takes = past_the_lease;
                parts.coordinators[fault.coordinator].part.freeze();
            }
            Kind::FreezeAfterRead => {
                takes = past_the_lease;
                counts = self.freeze_after_read(fault.coordinator);
            }
            Kind::FreezeEdge => {
                takes = past_the_lease;
                parts.edges[fault.edge].part.freeze();
            }
            Kind::RestartPostgres => {
                takes = down;
                if let Some(postgres) = &mut parts.postgres {
                    postgres.stop();
                }
            }
            Kind::KillPostgres => {
                takes = down;
                // After a crash Postgres gives the ids of aborted transactions out again.
                let mut sql = Sql::connect(&url);
                for _ in 0..5 {
                    sql.run("BEGIN; SELECT pg_current_xact_id(); ROLLBACK");
                }
                if let Some(postgres) = &mut parts.postgres {
                    postgres.kill();
                }
            }
            Kind::StepClock => self.fleet.clock.set(by_s),
        }
        *self.counts.entry(fault.kind).or_default() += usize::from(counts);
        self.going.push(Going { fault, until: Instant::now() + takes });
    }

    /// Stops it when the next answer of Postgres comes. Says whether one came.
    fn freeze_after_read(&mut self, coordinator: usize) -> bool {
        let part = &self.fleet.world.cluster.coordinators[coordinator].part;
        let Some(pid) = Pid::from_raw(part.pid().cast_signed()) else { return false };
        let caught = Arc::new(AtomicBool::new(false));
        let sprung = caught.clone();
        // Its coordinator is not killed while this goes on, so the id is still its own.
        self.fleet.to_database[coordinator].trap(move || {
            let _ = kill_process(pid, Signal::STOP);
            sprung.store(true, Ordering::Relaxed);
        });
        let deadline = Instant::now() + Duration::from_secs(1);
        while !caught.load(Ordering::Relaxed) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        caught.load(Ordering::Relaxed)
    }

    fn undo_all(&mut self) {
        let all = std::mem::take(&mut self.going);
        self.undo(all);
    }

    fn undo(&mut self, over: Vec<Going>) {
        for Going { fault, .. } in over {
            self.note(&format!("over: {fault:?}"));
            let lost = self.random.one_in(2);
            let parts = &mut self.fleet.world.cluster;
            let mut result = Ok(());
            match fault.kind {
                Kind::Link(between, broken) => {
                    let link = self.link(between, fault);
                    let commits = link.lost();
                    if broken == Broken::HalfOpen && lost {
                        link.cut();
                    }
                    link.mend();
                    if matches!(broken, Broken::CommitLost | Broken::CommitUnheard) && commits > 0 {
                        self.note(&format!("{commits} commits"));
                        *self.counts.entry(fault.kind).or_default() += 1;
                    }
                }
                Kind::KillCoordinator => result = parts.coordinators[fault.coordinator].part.start_again(),
                Kind::KillEdge => result = parts.edges[fault.edge].part.start_again(),
                Kind::FreezeCoordinator => parts.coordinators[fault.coordinator].part.thaw(),
                Kind::FreezeAfterRead => {
                    self.fleet.to_database[fault.coordinator].mend();
                    parts.coordinators[fault.coordinator].part.thaw();
                }
                Kind::FreezeEdge => parts.edges[fault.edge].part.thaw(),
                Kind::RestartPostgres | Kind::KillPostgres => {
                    if let Some(postgres) = &mut parts.postgres {
                        result = postgres.start_again();
                    }
                }
                Kind::StepClock => self.fleet.clock.set(0),
            }
            if let Err(error) = result {
                self.note(&format!("{fault:?} is not over: {error:#}"));
            }
        }
    }
}
