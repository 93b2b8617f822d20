//! The state of the model.

use std::collections::BTreeMap;

use core::time::Duration;

use edgekeep_shared::moment::Moment;
use edgekeep_shared::revision::Revision;

use super::check::Check;
use super::database::{Database, Session};
use super::edge::Edge;
use super::feeder::Feeder;
use super::relay::Relay;
use super::renew::Renewing;
use super::{Feed, T0_MS, TICK_MS};

/// What may happen only so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Budget {
    /// Logins, each on the device that the last one was not on.
    Login,
    /// The newest session ends.
    Logout,
    /// All sessions end.
    LogoutEverywhere,
    /// The user loses the role.
    Demote,
    /// A transaction is rolled back.
    Abort,
    /// A coordinator begins to renew a proof.
    Renew,
    /// A coordinator reads the feed's rows.
    Read,
    /// A coordinator restarts.
    Restart,
    /// Postgres crashes and restarts.
    Crash,
    /// A standby is promoted.
    Failover,
    /// An edge asks the feed.
    Ask,
    /// A coordinator keeps a question waiting.
    Hold,
    /// An edge asks about a session.
    Check,
    /// An isolate's view is reset.
    Reset,
    /// A question, or an answer, is lost.
    Lose,
    /// An edge's clock is stepped.
    Step,
    /// A relay asks a coordinator.
    RelayAsk,
    /// A relay restarts.
    RelayRestart,
}

const BUDGETS: usize = 18;

/// A proof that was signed, at any time, for anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Proof {
    /// 1; 2 is the user that was revoked long ago.
    pub user: u64,
    /// The session.
    pub session: u8,
    /// Its revision.
    pub revision: Revision,
    /// When the session began.
    pub since_ms: u64,
    /// Until when it proves anything.
    pub renew_after_ms: u64,
    /// Absolute expiry of the session.
    pub expires_ms: u64,
    /// It carries the role.
    pub admin: bool,
}

/// One state of the small world.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    /// Ticks since the start.
    pub tick: u8,
    /// The primary.
    pub db: Database,
    /// A primary that was deposed and does not know it.
    pub deposed: Option<Database>,
    /// The coordinator that may go on reading it.
    pub stays: Option<usize>,
    /// The coordinators' readers.
    pub feeders: Vec<Feeder>,
    /// The relay, if edges ask one.
    pub relay: Option<Relay>,
    /// The edges.
    pub edges: Vec<Edge>,
    /// Renewals between reading and signing.
    pub renewals: Vec<Renewing>,
    /// Questions about sessions, and what was said to them.
    pub checks: Vec<Check>,
    /// All proofs ever signed, ascending.
    pub proofs: Vec<Proof>,
    /// When each session stopped being current, visibly.
    pub gone_ms: BTreeMap<u8, u64>,
    /// Sessions that a failover lost: gone at the next raise.
    pub lost: Vec<u8>,
    /// When the role was taken away, visibly.
    pub demoted_ms: Option<u64>,
    spent: [u8; BUDGETS],
}

impl World {
    pub(super) fn new(feed: &Feed) -> Self {
        let db = Database::new(feed, T0_MS);
        let mut world = Self {
            tick: 0,
            deposed: None,
            stays: None,
            feeders: (0..feed.scenario.coordinators).map(Feeder::new).collect(),
            relay: (feed.scenario.relay_rate > 0).then(Relay::default),
            edges: feed.scenario.edges.iter().map(|rate| Edge::new(feed, *rate)).collect(),
            renewals: vec![],
            checks: vec![],
            proofs: vec![],
            gone_ms: BTreeMap::new(),
            lost: vec![],
            demoted_ms: None,
            spent: [0; BUDGETS],
            db,
        };
        let moment = world.moment(feed);
        for feeder in &mut world.feeders {
            feeder.read(feed, &mut world.db, true, moment, T0_MS);
        }
        if let Some(session) = world.db.rows.sessions.first().copied() {
            world.signed(&session, world.db.rows.revision, true, session.proof_until_ms);
        }
        if feed.scenario.paged.is_some() {
            let renew_after_ms = NOISE_NEEDED_UNTIL_MS;
            let (since_ms, expires_ms) = (T0_MS - 20 * TICK_MS, T0_MS + feed.lives().absolute_timeout_ms);
            let revision = Revision::first_of_epoch(1);
            let noise = Proof { user: 2, session: NOISE, revision, since_ms, renew_after_ms, expires_ms, admin: false };
            world.proofs.push(noise);
            world.gone_ms.insert(NOISE, T0_MS - 10 * TICK_MS);
        }
        world
    }

    /// Coordinator time.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        T0_MS + u64::from(self.tick) * TICK_MS
    }

    /// As a coordinator's clocks tell it.
    #[must_use]
    pub fn moment(&self, feed: &Feed) -> Moment {
        self.moment_at(feed.scenario.coordinator_rate)
    }

    /// As clocks of this rate tell it.
    pub(super) fn moment_at(&self, rate: u64) -> Moment {
        let passed_ms = u64::from(self.tick) * TICK_MS * rate / 1_000;
        let monotonic = Duration::from_millis(passed_ms);
        Moment { monotonic, wall: Duration::from_millis(T0_MS) + monotonic }
    }

    /// There is some of it left.
    pub(super) fn may(&self, feed: &Feed, what: Budget) -> bool {
        let most = feed.scenario.budget.iter().find(|(budget, _)| *budget == what).map_or(0, |(_, most)| *most);
        self.spent[what as usize] < most
    }

    /// Takes one; says how many were taken by now.
    pub(super) fn spend(&mut self, what: Budget) -> u8 {
        self.spent[what as usize] += 1;
        self.spent[what as usize]
    }

    /// How many were taken.
    #[must_use]
    pub fn spent(&self, what: Budget) -> u8 {
        self.spent[what as usize]
    }

    pub(super) const fn proof(session: &Session, revision: Revision, admin: bool, renew_after_ms: u64) -> Proof {
        Proof {
            user: 1,
            session: session.id,
            revision,
            since_ms: session.since_ms,
            renew_after_ms,
            expires_ms: session.expires_ms,
            admin,
        }
    }

    /// A proof leaves the coordinator.
    pub(super) fn signed(&mut self, session: &Session, revision: Revision, admin: bool, renew_after_ms: u64) {
        let proof = Self::proof(session, revision, admin, renew_after_ms);
        if let Err(place) = self.proofs.binary_search(&proof) {
            self.proofs.insert(place, proof);
        }
    }
}

/// The session of the user that was revoked long ago.
pub(super) const NOISE: u8 = 200;
/// Until when that user's entry is needed.
pub(super) const NOISE_NEEDED_UNTIL_MS: u64 = T0_MS + 50 * TICK_MS;
