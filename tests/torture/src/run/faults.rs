//! Kinds of faults, and what each of them needs for itself.

use std::fmt;

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
    /// Each `COMMIT` of a session's making or end is lost: nothing has happened, and who sent it cannot know.
    CommitLost,
    /// Each of them is done, and its acknowledgement is lost.
    CommitUnheard,
}

/// What can happen to any link.
const TO_ANY: [Broken; 6] =
    [Broken::Delay, Broken::DropBefore, Broken::DropAfter, Broken::Cut, Broken::HalfOpen, Broken::LateAnswers];

/// Which links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Between {
    /// A coordinator and Postgres.
    Database,
    /// An edge and a coordinator.
    Coordinator,
    /// Clients and an edge.
    Edge,
}

/// A kind of fault, as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Of a link.
    Link(Between, Broken),
    /// `kill -9` of a coordinator, started again later.
    KillCoordinator,
    /// `kill -9` of an edge, started again later.
    KillEdge,
    /// SIGSTOP of a coordinator.
    FreezeCoordinator,
    /// SIGSTOP of a coordinator when Postgres has answered and it has not read that yet.
    FreezeAfterRead,
    /// SIGSTOP of an edge.
    FreezeEdge,
    /// Postgres is stopped in good order and started again.
    RestartPostgres,
    /// Postgres is killed just after some transactions were aborted, and started again.
    KillPostgres,
    /// The last edge's clock is stepped.
    StepClock,
}

impl Kind {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let links = [Between::Database, Between::Coordinator, Between::Edge];
        let of_links = links.into_iter().flat_map(|between| TO_ANY.map(|broken| Self::Link(between, broken)));
        of_links
            .chain([Broken::CommitLost, Broken::CommitUnheard].map(|broken| Self::Link(Between::Database, broken)))
            .chain([
                Self::KillCoordinator,
                Self::KillEdge,
                Self::FreezeCoordinator,
                Self::FreezeAfterRead,
                Self::FreezeEdge,
                Self::RestartPostgres,
                Self::KillPostgres,
                Self::StepClock,
            ])
            .collect()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Link(between, broken) => {
                let between = match between {
                    Between::Database => "coordinator to Postgres",
                    Between::Coordinator => "edge to coordinator",
                    Between::Edge => "client to edge",
                };
                let broken = match broken {
                    Broken::Delay => "delay",
                    Broken::DropBefore => "drop before",
                    Broken::DropAfter => "drop after",
                    Broken::Cut => "cut",
                    Broken::HalfOpen => "half-open",
                    Broken::LateAnswers => "late answers",
                    Broken::CommitLost => "COMMIT lost",
                    Broken::CommitUnheard => "COMMIT unheard",
                };
                return f.pad(&format!("{between}: {broken}"));
            }
            Self::KillCoordinator => "kill -9 of a coordinator",
            Self::KillEdge => "kill -9 of an edge",
            Self::FreezeCoordinator => "SIGSTOP of a coordinator",
            Self::FreezeAfterRead => "SIGSTOP of a coordinator between read and answer",
            Self::FreezeEdge => "SIGSTOP of an edge",
            Self::RestartPostgres => "Postgres restarted",
            Self::KillPostgres => "Postgres killed after aborted transactions",
            Self::StepClock => "clock of an edge stepped",
        };
        f.pad(text)
    }
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its kind.
    pub kind: Kind,
    /// Which coordinator, if it is about one.
    pub coordinator: usize,
    /// Which edge, if it is about one.
    pub edge: usize,
}

/// What a fault has for itself while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Coordinator(usize),
    Edge(usize),
    Postgres,
    LinkToDatabase(usize),
    LinkToCoordinator(usize, usize),
    LinkToEdge(usize),
}

impl Fault {
    fn parts(self) -> [Option<Part>; 2] {
        let Self { kind, coordinator, edge } = self;
        let [first, second] = match kind {
            Kind::Link(Between::Database, _) => [Some(Part::LinkToDatabase(coordinator)), None],
            Kind::Link(Between::Coordinator, _) => [Some(Part::LinkToCoordinator(edge, coordinator)), None],
            Kind::Link(Between::Edge, _) => [Some(Part::LinkToEdge(edge)), None],
            Kind::KillCoordinator | Kind::FreezeCoordinator => [Some(Part::Coordinator(coordinator)), None],
            // It needs the link for its trap.
            Kind::FreezeAfterRead => [Some(Part::Coordinator(coordinator)), Some(Part::LinkToDatabase(coordinator))],
            Kind::KillEdge | Kind::FreezeEdge => [Some(Part::Edge(edge)), None],
            Kind::RestartPostgres | Kind::KillPostgres => [Some(Part::Postgres), None],
            // Its edge is asked all the time.
            Kind::StepClock => [Some(Part::Edge(edge)), Some(Part::LinkToEdge(edge))],
        };
        [first, second]
    }

    /// Both can go on at the same time: one thing at a time happens to each process and to each link.
    #[must_use]
    pub fn goes_with(self, other: Self) -> bool {
        self.parts().into_iter().flatten().all(|part| !other.parts().contains(&Some(part)))
    }
}
