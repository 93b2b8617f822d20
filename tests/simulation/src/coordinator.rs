//! A coordinator: its reader on one connection, and the polls that it holds. The shell of `coordinator/src/feed`, with the
//! awaits cut open; what is answered and when is `shared::source`.

use std::collections::BTreeMap;

use edgekeep_shared::feed::{Question, encode_body, encode_head};
use edgekeep_shared::moment::Moment;
use edgekeep_shared::problem::Code;
use edgekeep_shared::source::{Behind, EdgeSettings, Held, Look, Published, Read, Source, durable_after};

use crate::Sabotage;
use crate::check::Checking;
use crate::clock::Clock;
pub(crate) use crate::job::{Job, Origin};
use crate::message::{Ask, Operation, Reply};
use crate::relay::RELAY;
use crate::world::{Event, World};

/// As in a coordinator's default configuration.
const READ_EVERY_US: u64 = 25_000;
const BEAT_EVERY_US: u64 = 250_000;
const READ_SPACING_US: u64 = 2_000;
/// How long a beat or a check may take before its connection is given up.
const BEAT_LIMIT_US: u64 = 3_000_000;
/// A password hash.
const HASH_US: u64 = 40_000;

/// A poll that is held.
#[derive(Debug)]
struct HeldPoll {
    edge: u32,
    call: u64,
    question: Question,
    held: Held,
    on_change: bool,
    behind: bool,
}

/// The loop on the one connection.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// Grows with every connection.
    pub(crate) session: u32,
    database: usize,
    session_epoch: Option<u16>,
    durable_xid: u64,
    beat_began: Option<Moment>,
    next_beat_us: u64,
    read_began_us: u64,
    /// It waits for its next turn, which has this number.
    waits_for: Option<u64>,
    poked: bool,
    beat_wanted: bool,
}

/// One coordinator.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) clock: Clock,
    /// Grows with every restart.
    pub(crate) life: u32,
    pub(crate) paused_until_us: u64,
    /// It does not notice that another server was promoted until then.
    pub(crate) stays_until_us: u64,
    pub(crate) reader: Reader,
    pub(crate) source: Option<Source>,
    held: BTreeMap<u64, HeldPoll>,
    pub(crate) told: u64,
    pub(crate) checks: BTreeMap<u64, Checking>,
    pub(crate) check_database: usize,
}

/// What goes on at a coordinator, or on its connections.
#[derive(Debug)]
pub(crate) enum Later {
    Connect {
        session: u32,
    },
    BeatAt {
        session: u32,
        began: Moment,
    },
    BeatDone {
        session: u32,
        began: Moment,
        xid: u64,
    },
    ReadAt {
        session: u32,
        began: Moment,
    },
    ReadDone {
        session: u32,
        began: Moment,
        read: Box<Read>,
    },
    Turn {
        session: u32,
        number: u64,
    },
    Poll {
        poll: u64,
    },
    CheckAt {
        check: u64,
    },
    CheckDone {
        check: u64,
        crashes: u32,
        found: Box<edgekeep_shared::verdict::Found>,
    },
    Hashed {
        edge: u32,
        call: u64,
        operation: Operation,
    },
    JobDone {
        origin: Box<Origin>,
        done: crate::database::Done,
    },
    Fail {
        edge: u32,
        call: u64,
    },
    /// A relay's next question.
    Follow,
}

impl Later {
    /// It needs the coordinator to run; what the database does goes on without it.
    pub(crate) const fn waits(&self) -> bool {
        !matches!(self, Self::BeatAt { .. } | Self::ReadAt { .. } | Self::CheckAt { .. })
    }
}

impl Coordinator {
    pub(crate) fn new(rng: &mut fastrand::Rng) -> Self {
        Self {
            clock: Clock::random(rng),
            life: 0,
            paused_until_us: 0,
            stays_until_us: 0,
            reader: Reader::default(),
            source: None,
            held: BTreeMap::new(),
            told: 0,
            checks: BTreeMap::new(),
            check_database: 0,
        }
    }

    pub(crate) fn held_polls(&self) -> usize {
        self.held.len()
    }

    /// What was published is in its place; these polls look again.
    pub(crate) fn published(&mut self, source: Source, published: Published) -> Vec<u64> {
        let Published { changed, moved_on } = published;
        let news = core::mem::replace(&mut self.told, source.change()) != source.change();
        self.source = Some(source);
        let behind = self.held.values().any(|poll| poll.behind);
        if !((changed || moved_on) && (news || behind)) {
            return vec![];
        }
        self.held.iter().filter(|(_, poll)| poll.on_change).map(|(number, _)| *number).collect()
    }
}

impl World {
    /// Its place: relays stand behind the coordinators.
    pub(crate) fn place(&self, number: u8) -> usize {
        match number.checked_sub(RELAY) {
            Some(relay) => usize::from(self.setup.coordinators) + usize::from(relay),
            None => usize::from(number),
        }
    }

    pub(crate) fn coordinator(&mut self, number: u8) -> &mut Coordinator {
        let place = self.place(number);
        &mut self.coordinators[place]
    }

    pub(crate) fn later(&mut self, coordinator: u8, in_us: u64, later: Later) {
        let life = self.coordinator(coordinator).life;
        self.at(in_us, Event::Coordinator { coordinator, life, later: Box::new(later) });
    }

    /// The way to or from the database.
    pub(crate) fn hop_us(&mut self) -> u64 {
        self.rng.u64(100..800)
    }

    pub(crate) fn moment(&self, coordinator: u8) -> Moment {
        self.coordinators[self.place(coordinator)].clock.moment(self.now_us)
    }

    pub(crate) fn asked(&mut self, coordinator: u8, edge: u32, call: u64, ask: Ask) {
        match ask {
            Ask::Feed(bytes) => {
                let Ok(question) = Question::decode(&bytes) else { return };
                self.poll(coordinator, edge, call, question);
            }
            Ask::Keys => self.reply(coordinator, edge, call, Reply::Keys),
            Ask::Check { nonce, token, renew } => self.check(coordinator, edge, call, nonce, &token, renew),
            Ask::Operate(operation) => {
                let in_us = if matches!(operation, Operation::Logout { .. }) { 0 } else { HASH_US };
                self.later(coordinator, in_us, Later::Hashed { edge, call, operation });
            }
        }
    }

    pub(crate) fn go_on(&mut self, coordinator: u8, later: Later) {
        let session = self.coordinator(coordinator).reader.session;
        match later {
            Later::Connect { session: of } if of == session => self.connect(coordinator),
            Later::BeatAt { session: of, began } if of == session => self.beat_at(coordinator, began),
            Later::BeatDone { session: of, began, xid } if of == session => {
                let every_us = BEAT_EVERY_US.min(u64::from(self.setup.bound_ms) * 1_000 / 8);
                let next_us = self.now_us + every_us;
                let reader = &mut self.coordinator(coordinator).reader;
                reader.durable_xid = reader.durable_xid.max(xid);
                (reader.beat_began, reader.next_beat_us) = (Some(began), next_us);
                self.read(coordinator);
            }
            Later::ReadAt { session: of, began } if of == session => self.read_at(coordinator, began),
            Later::ReadDone { session: of, began, read } if of == session => self.publish(coordinator, began, *read),
            Later::Turn { session: of, number } if of == session => {
                let now_us = self.now_us;
                let reader = &mut self.coordinator(coordinator).reader;
                if reader.waits_for != Some(number) {
                    return;
                }
                reader.waits_for = None;
                if core::mem::take(&mut reader.beat_wanted) || now_us >= reader.next_beat_us {
                    self.beat(coordinator);
                } else {
                    self.read(coordinator);
                }
            }
            Later::Connect { .. }
            | Later::BeatAt { .. }
            | Later::BeatDone { .. }
            | Later::ReadAt { .. }
            | Later::ReadDone { .. }
            | Later::Turn { .. } => {}
            Later::Poll { poll } => self.look(coordinator, poll),
            Later::CheckAt { check } => self.check_at(coordinator, check),
            Later::CheckDone { check, crashes, found } => self.check_done(coordinator, check, crashes, *found),
            Later::Hashed { edge, call, operation } => self.operate_at(coordinator, edge, call, operation),
            Later::JobDone { origin, done } => {
                self.poke(coordinator);
                self.job_done(coordinator, *origin, done);
            }
            Later::Follow => self.follow(coordinator),
            Later::Fail { edge, call } => self.reply(coordinator, edge, call, Reply::Problem(Code::Unavailable)),
        }
    }

    // The reader.

    /// The server that a new connection reaches.
    pub(crate) fn server(&self, coordinator: u8, last: usize) -> usize {
        let stays = self.coordinators[usize::from(coordinator)].stays_until_us > self.now_us;
        if stays { last } else { self.primary() }
    }

    fn connect(&mut self, coordinator: u8) {
        let last = self.coordinator(coordinator).reader.database;
        let database = self.server(coordinator, last);
        let epoch = self.databases[database].epoch;
        let place = self.coordinator(coordinator);
        place.reader.database = database;
        place.reader.waits_for = None;
        if place.reader.session_epoch != Some(epoch) {
            (place.reader.session_epoch, place.reader.durable_xid, place.source) = (Some(epoch), 0, None);
        }
        self.beat(coordinator);
    }

    fn beat(&mut self, coordinator: u8) {
        let (session, began) = (self.coordinator(coordinator).reader.session, self.moment(coordinator));
        let in_us = self.hop_us();
        self.later(coordinator, in_us, Later::BeatAt { session, began });
    }

    fn beat_at(&mut self, coordinator: u8, began: Moment) {
        let Reader { session, database, .. } = self.coordinator(coordinator).reader;
        let xid = if database == self.primary() {
            self.databases[database].write()
        } else if self.broken(Sabotage::HeartbeatElsewhere) {
            0
        } else {
            // Nothing can be committed here any more: the connection is given up.
            return self.reconnect(coordinator, BEAT_LIMIT_US);
        };
        let in_us = self.hop_us();
        self.later(coordinator, in_us, Later::BeatDone { session, began, xid });
    }

    fn reconnect(&mut self, coordinator: u8, in_us: u64) {
        let reader = &mut self.coordinator(coordinator).reader;
        reader.session += 1;
        let session = reader.session;
        self.later(coordinator, in_us, Later::Connect { session });
    }

    /// Connections to this server are gone.
    pub(crate) fn connections_break(&mut self, database: usize) {
        for coordinator in 0..self.setup.coordinators {
            if self.coordinator(coordinator).reader.database == database {
                let in_us = self.rng.u64(50_000..150_000);
                self.reconnect(coordinator, in_us);
            }
        }
    }

    fn read(&mut self, coordinator: u8) {
        let (now_us, began) = (self.now_us, self.moment(coordinator));
        let reader = &mut self.coordinator(coordinator).reader;
        reader.read_began_us = now_us;
        let session = reader.session;
        let in_us = self.hop_us();
        self.later(coordinator, in_us, Later::ReadAt { session, began });
    }

    fn read_at(&mut self, coordinator: u8, began: Moment) {
        let now_ms = self.database_ms();
        let place = &self.coordinators[usize::from(coordinator)];
        let (session, database) = (place.reader.session, &self.databases[place.reader.database]);
        if place.reader.session_epoch != Some(database.epoch) {
            return self.reconnect(coordinator, 50_000);
        }
        let (position, rows) = database.read(place.source.as_ref().map(Source::position), now_ms);
        let read = Read {
            epoch: database.epoch,
            cursors_from_epoch: 1,
            position,
            read_at_ms: now_ms + 1,
            settings: EdgeSettings {
                version: 1,
                site: "main".to_owned(),
                max_staleness_ms: self.setup.bound_ms,
                sessions_per_user: 1,
                password_min_chars: 15,
            },
            keys_version: 1,
            rows,
        };
        let in_us = self.hop_us();
        self.later(coordinator, in_us, Later::ReadDone { session, began, read: Box::new(read) });
    }

    fn publish(&mut self, coordinator: u8, began: Moment, mut read: Read) {
        if self.broken(Sabotage::SerialCursor) {
            read.position.xip.clear();
        }
        let not_lowered = self.broken(Sabotage::XmaxNotLowered);
        let (fresh, now, now_us) = (self.rng.u64(..), self.moment(coordinator), self.now_us);
        let place = self.coordinator(coordinator);
        let Some(beat_began) = place.reader.beat_began else { return };
        place.reader.durable_xid = durable_after(place.reader.durable_xid, &read.rows);
        let durable_xid = if not_lowered { u64::MAX - 1 } else { place.reader.durable_xid };
        let behind = Behind { read_began: began, beat_began, durable_xid };
        let told = place.told;
        let mut source = place.source.take().unwrap_or_else(|| Source::load(fresh, &mut read, behind, told, now));
        let published = source.publish(read, behind, place.held.len(), fresh, now);
        let look = place.published(source, published);
        let waiting = !place.held.is_empty();
        let reader = &place.reader;
        let until_us =
            if waiting { reader.next_beat_us.min(reader.read_began_us + READ_EVERY_US) } else { reader.next_beat_us };
        self.stats.reads += 1;
        self.wait(coordinator, until_us.saturating_sub(now_us));
        for poll in look {
            self.look(coordinator, poll);
        }
    }

    fn wait(&mut self, coordinator: u8, in_us: u64) {
        let number = self.number();
        let reader = &mut self.coordinator(coordinator).reader;
        reader.waits_for = Some(number);
        let (session, poked) = (reader.session, core::mem::take(&mut reader.poked));
        self.later(coordinator, in_us, Later::Turn { session, number });
        if poked {
            self.poke(coordinator);
        }
    }

    /// Something was committed, or somebody waits: read at once.
    pub(crate) fn poke(&mut self, coordinator: u8) {
        let now_us = self.now_us;
        let reader = &mut self.coordinator(coordinator).reader;
        let session = reader.session;
        match reader.waits_for {
            Some(number) => {
                let in_us = (reader.read_began_us + READ_SPACING_US).saturating_sub(now_us);
                self.later(coordinator, in_us, Later::Turn { session, number });
            }
            None => reader.poked = true,
        }
    }

    // Polls.

    fn poll(&mut self, coordinator: u8, edge: u32, call: u64, question: Question) {
        let (now, poll) = (self.moment(coordinator), self.number());
        let place = self.coordinator(coordinator);
        let first = place.held.is_empty();
        let held = Held::new(place.source.as_ref(), now);
        place.held.insert(poll, HeldPoll { edge, call, question, held, on_change: false, behind: false });
        if first {
            self.poke(coordinator);
        }
        self.look(coordinator, poll);
    }

    pub(crate) fn look(&mut self, coordinator: u8, poll: u64) {
        let now = self.moment(coordinator);
        let (limit, age_hidden, last_page) =
            (self.setup.page_entries, self.broken(Sabotage::AgeNotStated), self.broken(Sabotage::CursorFromLastPage));
        let index = self.place(coordinator);
        let place = &mut self.coordinators[index];
        let Some(waiting) = place.held.get_mut(&poll) else { return };
        let (edge, call) = (waiting.edge, waiting.call);
        let source = place.source.as_ref();
        let reply = match (waiting.held.look(source, &waiting.question, now, false), source) {
            (Ok(Look::Wait(wait)), _) => {
                waiting.on_change = wait.on_change;
                waiting.behind |= wait.catch_up;
                let in_us = place.clock.when_us(wait.until).saturating_sub(self.now_us);
                if wait.catch_up {
                    place.reader.beat_wanted = true;
                    self.poke(coordinator);
                }
                return self.later(coordinator, in_us, Later::Poll { poll });
            }
            (Ok(Look::Answer(due)), Some(source)) => {
                let (entries, next) = source.page(&due, limit);
                let mut head = source.head(&waiting.question, &due, next, now);
                if age_hidden {
                    head.age_ms = 0;
                }
                if last_page && next.is_none() {
                    head.to = source.position().clone();
                }
                let mut bytes = encode_head(&head);
                bytes.extend_from_slice(&encode_body(&entries));
                self.stats.answer_bytes += bytes.len() as u64;
                Reply::Feed(bytes)
            }
            (Ok(Look::Answer(_)), None) | (Err(_), _) => Reply::Problem(Code::Unavailable),
        };
        place.held.remove(&poll);
        self.reply(coordinator, edge, call, reply);
    }

    /// Killed and started again.
    pub(crate) fn restart(&mut self, coordinator: u8) {
        let place = self.coordinator(coordinator);
        let cut: Vec<(u32, u64)> = place.held.values().map(|poll| (poll.edge, poll.call)).collect();
        place.life += 1;
        (place.source, place.held, place.checks, place.told) = (None, BTreeMap::new(), BTreeMap::new(), 0);
        place.paused_until_us = 0;
        place.reader = Reader { session: place.reader.session, database: place.reader.database, ..Reader::default() };
        for (edge, call) in cut {
            self.reply(coordinator, edge, call, Reply::Lost);
        }
        if coordinator >= RELAY {
            return self.restart_relay(coordinator);
        }
        self.reconnect(coordinator, 200_000);
    }
}
