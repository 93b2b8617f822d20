//! Faults, chosen by the seed: storms in which several go on at once, and calm in between.
//!
//! What is not done: a clock is never stepped back behind an edge's back. A step back is detected by the edge when it
//! next looks at its clock; an undetected one is a stated assumption (docs/guarantees.md). So the clock is stepped only while
//! its edge runs and is asked all the time.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use edgekeep_tests::sql::Sql;
use rustix::process::{Pid, Signal, kill_process};
use xtask::state::User;

use super::Failover;
use super::fleet::Fleet;
use super::link::{Link, Loss};
use super::recorder::{Random, Recorder};

/// How a link is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Broken {
    /// Everything is slow.
    Delay,
    /// Every few questions one is lost.
    DropBefore,
    /// Every few questions the answer of one is lost.
    DropAfter,
    /// Connections are closed.
    Cut,
    /// Nothing passes and nobody is told; then what waited arrives late, or is lost.
    HalfOpen,
    /// Questions arrive, their answers come seconds late (held polls among them).
    LateAnswers,
}

const BROKEN: [Broken; 6] =
    [Broken::Delay, Broken::DropBefore, Broken::DropAfter, Broken::Cut, Broken::HalfOpen, Broken::LateAnswers];

/// Which link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Between {
    /// A coordinator and Postgres.
    Database(usize),
    /// An edge and a coordinator.
    Coordinator(usize, usize),
    /// Clients and an edge.
    Edge(usize),
}

impl Between {
    const fn name(self) -> &'static str {
        match self {
            Self::Database(_) => "coordinator to Postgres",
            Self::Coordinator(..) => "edge to coordinator",
            Self::Edge(_) => "client to edge",
        }
    }
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Of a link.
    Link(Between, Broken),
    /// `kill -9` of a coordinator, started again later.
    KillCoordinator(usize),
    /// `kill -9` of an edge, started again later.
    KillEdge(usize),
    /// SIGSTOP of a coordinator.
    FreezeCoordinator(usize),
    /// SIGSTOP of a coordinator when Postgres has answered and it has not read that yet.
    FreezeAfterRead(usize),
    /// SIGSTOP of an edge.
    FreezeEdge(usize),
    /// Postgres is stopped in good order and started again.
    RestartPostgres,
    /// Postgres is killed just after some transactions were aborted, and started again.
    KillPostgres,
    /// The last edge's clock is stepped, by so many seconds.
    StepClock(i64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(between, broken) => {
                let broken = match broken {
                    Broken::Delay => "delay",
                    Broken::DropBefore => "drop before",
                    Broken::DropAfter => "drop after",
                    Broken::Cut => "cut",
                    Broken::HalfOpen => "half-open",
                    Broken::LateAnswers => "late answers",
                };
                write!(f, "{}: {broken}", between.name())
            }
            Self::KillCoordinator(_) => f.write_str("kill -9 of a coordinator"),
            Self::KillEdge(_) => f.write_str("kill -9 of an edge"),
            Self::FreezeCoordinator(_) => f.write_str("SIGSTOP of a coordinator"),
            Self::FreezeAfterRead(_) => f.write_str("SIGSTOP of a coordinator between read and answer"),
            Self::FreezeEdge(_) => f.write_str("SIGSTOP of an edge"),
            Self::RestartPostgres => f.write_str("Postgres restarted"),
            Self::KillPostgres => f.write_str("Postgres killed after aborted transactions"),
            Self::StepClock(_) => f.write_str("clock of an edge stepped"),
        }
    }
}

struct Going {
    fault: Fault,
    until: Instant,
}

/// Makes faults and undoes them.
pub struct Nemesis<'a> {
    fleet: &'a mut Fleet,
    recorder: &'a Recorder,
    random: Random,
    log: std::fs::File,
    going: Vec<Going>,
    bound: Duration,
    canary: User,
    /// How often each was done.
    pub counts: BTreeMap<String, usize>,
    /// How many storms there were.
    pub storms: usize,
}

impl<'a> Nemesis<'a> {
    /// Nothing is broken yet.
    pub fn new(fleet: &'a mut Fleet, recorder: &'a Recorder, seed: u64, log: std::fs::File) -> Self {
        let (bound, canary) = (fleet.world.bound(), fleet.world.user("canary"));
        let (going, counts) = (Vec::new(), BTreeMap::new());
        Self { fleet, recorder, random: Random::new(seed, 1), log, going, bound, canary, counts, storms: 0 }
    }

    fn note(&mut self, what: &str) {
        let _ = writeln!(self.log, "{:10.3} s  {what}", self.recorder.now_us() as f64 / 1e6);
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
        let began = Instant::now();
        loop {
            self.calm()?;
            progress(self);
            if began.elapsed() >= length && failover.is_none() {
                return Ok(());
            }
            match failover.take_if(|_| began.elapsed() >= length / 2) {
                Some(how) => self.fail_over(how),
                None => self.storm(),
            }
        }
    }

    fn calm(&mut self) -> anyhow::Result<()> {
        self.undo_all();
        self.fleet.heal(&self.canary)?;
        let from = self.recorder.now_us();
        self.note("calm");
        std::thread::sleep(Duration::from_millis(3_000 + self.random.below(3_000)));
        self.recorder.calm(from, self.recorder.now_us());
        Ok(())
    }

    /// The standby is promoted while everybody works on. Where the old primary lives on, one coordinator stays with it for
    /// longer than the bound, and one edge with that coordinator: they must fall closed by themselves. Sessions go on to
    /// end elsewhere, so the checker would see it if they did not.
    fn fail_over(&mut self, how: Failover) {
        self.note(&format!("failover: {how:?}"));
        *self.counts.entry(format!("failover: {how:?}")).or_default() += 1;
        if how == Failover::LivesOn
            && let Some(links) = self.fleet.to_coordinator.first()
        {
            // The first edge reaches that coordinator only.
            links.iter().skip(1).for_each(Link::cut);
        }
        let old = self.fleet.promote(how);
        self.note("promoted");
        let from_us = self.recorder.now_us();
        std::thread::sleep(3 * self.bound);
        if how == Failover::LivesOn {
            self.recorder.isolated(0, from_us, self.recorder.now_us());
        }
        self.fleet.follow();
        drop(old);
        self.note("failover is over");
    }

    fn storm(&mut self) {
        self.storms += 1;
        self.note("storm");
        let end = Instant::now() + Duration::from_millis(6_000 + self.random.below(6_000));
        while Instant::now() < end {
            let fault = self.choose();
            if self.may(fault) {
                self.begin(fault);
            }
            std::thread::sleep(Duration::from_millis(50 + self.random.below(700)));
            let now = Instant::now();
            let (over, going) = std::mem::take(&mut self.going).into_iter().partition(|going| going.until <= now);
            self.going = going;
            self.undo(over);
        }
    }

    fn choose(&mut self) -> Fault {
        let coordinators = self.fleet.to_database.len() as u64;
        let edges = self.fleet.to_edge.len() as u64;
        let coordinator = usize::try_from(self.random.below(coordinators)).unwrap_or(0);
        let edge = usize::try_from(self.random.below(edges)).unwrap_or(0);
        let broken = *self.random.pick(&BROKEN);
        match self.random.below(32) {
            0..8 => Fault::Link(Between::Coordinator(edge, coordinator), broken),
            8..14 => Fault::Link(Between::Database(coordinator), broken),
            14..18 => Fault::Link(Between::Edge(edge), broken),
            18..20 => Fault::KillCoordinator(coordinator),
            20 => Fault::KillEdge(edge),
            21..23 => Fault::FreezeCoordinator(coordinator),
            23..26 => Fault::FreezeAfterRead(coordinator),
            26 | 27 => Fault::FreezeEdge(edge),
            28 => Fault::RestartPostgres,
            29 => Fault::KillPostgres,
            _ => Fault::StepClock(*self.random.pick(&[-3_600, -30, -5, 5, 30, 3_600])),
        }
    }

    /// One thing at a time happens to each process and to each link.
    fn may(&self, fault: Fault) -> bool {
        let last = self.fleet.to_edge.len() - 1;
        let on = |fault: Fault| match fault {
            Fault::Link(between, _) => (0, Some(between)),
            Fault::KillCoordinator(n) | Fault::FreezeCoordinator(n) => (10 + n, None),
            // It needs the link for its trap.
            Fault::FreezeAfterRead(n) => (10 + n, Some(Between::Database(n))),
            Fault::KillEdge(n) | Fault::FreezeEdge(n) => (20 + n, None),
            Fault::RestartPostgres | Fault::KillPostgres => (30, None),
            Fault::StepClock(_) => (20 + last, Some(Between::Edge(last))),
        };
        let (process, link) = on(fault);
        self.going.iter().all(|going| {
            let (other, other_link) = on(going.fault);
            (process == 0 || other != process) && (link.is_none() || other_link != link)
        })
    }

    fn link(&self, between: Between) -> &Link {
        match between {
            Between::Database(n) => &self.fleet.to_database[n],
            Between::Coordinator(edge, n) => &self.fleet.to_coordinator[edge][n],
            Between::Edge(n) => &self.fleet.to_edge[n],
        }
    }

    fn begin(&mut self, fault: Fault) {
        self.note(&format!("{fault:?}"));
        *self.counts.entry(fault.to_string()).or_default() += 1;
        let mut takes = Duration::from_millis(200 + self.random.below(4_000));
        let past_the_lease = self.bound + Duration::from_millis(200 + self.random.below(2_000));
        let some = Duration::from_millis(20 + self.random.below(400));
        let late = Duration::from_millis(500 + self.random.below(3_500));
        let every = 2 + self.random.below(9);
        let url = self.fleet.database_url();
        let parts = &mut self.fleet.world.cluster;
        match fault {
            Fault::Link(between, broken) => {
                let link = self.link(between);
                match broken {
                    Broken::Delay => link.delay(some, some),
                    Broken::LateAnswers => link.delay(Duration::ZERO, late),
                    Broken::DropBefore => link.lose(Loss::DropBefore, every),
                    Broken::DropAfter => link.lose(Loss::DropAfter, every),
                    Broken::Cut => link.cut(),
                    Broken::HalfOpen => link.silence(),
                }
            }
            Fault::KillCoordinator(n) => parts.coordinators[n].kill(),
            Fault::KillEdge(n) => parts.edges[n].kill(),
            Fault::FreezeCoordinator(n) => {
                takes = past_the_lease;
                parts.coordinators[n].part.freeze();
            }
            Fault::FreezeAfterRead(n) => {
                takes = past_the_lease;
                if let Some(pid) = Pid::from_raw(parts.coordinators[n].part.pid().cast_signed()) {
                    let caught = Arc::new(AtomicBool::new(false));
                    let sprung = caught.clone();
                    // Its coordinator is not killed while this goes on, so the id is still its own.
                    self.fleet.to_database[n].trap(move || {
                        let _ = kill_process(pid, Signal::STOP);
                        sprung.store(true, Ordering::Relaxed);
                    });
                    let deadline = Instant::now() + Duration::from_secs(1);
                    while !caught.load(Ordering::Relaxed) && Instant::now() < deadline {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            }
            Fault::FreezeEdge(n) => {
                takes = past_the_lease;
                parts.edges[n].part.freeze();
            }
            Fault::RestartPostgres => {
                if let Some(postgres) = &mut parts.postgres {
                    postgres.stop();
                }
                takes = Duration::from_millis(self.random.below(3_000));
            }
            Fault::KillPostgres => {
                // After a crash Postgres gives the ids of aborted transactions out again.
                let mut sql = Sql::connect(&url);
                for _ in 0..5 {
                    sql.run("BEGIN; SELECT pg_current_xact_id(); ROLLBACK");
                }
                if let Some(postgres) = &mut parts.postgres {
                    postgres.kill();
                }
                takes = Duration::from_millis(self.random.below(3_000));
            }
            Fault::StepClock(by_s) => self.fleet.clock.set(by_s),
        }
        self.going.push(Going { fault, until: Instant::now() + takes });
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
            let result = match fault {
                Fault::Link(between, Broken::HalfOpen) if lost => {
                    self.link(between).cut();
                    self.link(between).mend();
                    Ok(())
                }
                Fault::Link(between, _) => {
                    self.link(between).mend();
                    Ok(())
                }
                Fault::KillCoordinator(n) => parts.coordinators[n].part.start_again(),
                Fault::KillEdge(n) => parts.edges[n].part.start_again(),
                Fault::FreezeCoordinator(n) => {
                    parts.coordinators[n].part.thaw();
                    Ok(())
                }
                Fault::FreezeAfterRead(n) => {
                    self.fleet.to_database[n].mend();
                    parts.coordinators[n].part.thaw();
                    Ok(())
                }
                Fault::FreezeEdge(n) => {
                    parts.edges[n].part.thaw();
                    Ok(())
                }
                Fault::RestartPostgres | Fault::KillPostgres => {
                    parts.postgres.as_mut().map_or(Ok(()), xtask::postgres::Server::start_again)
                }
                Fault::StepClock(_) => {
                    self.fleet.clock.set(0);
                    Ok(())
                }
            };
            if let Err(error) = result {
                self.note(&format!("{fault:?} is not over: {error:#}"));
            }
        }
    }
}
