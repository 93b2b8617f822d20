//! Users: devices that sign in and out, change passwords and browse, thieves with copies of their cookies, people who
//! guess, and administrators.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use edgekeep_tests::client::Jar;
use edgekeep_tests::random_hex;

use super::asking::{Edges, Texts};
use super::recorder::{Random, Recorder};
use crate::history::{Action, Attempt, NewSecret, Outcome, Route, Secret, SessionNo, Why};

/// Cookies that a thief keeps of one user.
const STOLEN: usize = 6;

/// What all clients of one user share.
pub struct Account {
    /// The name.
    pub name: String,
    /// The number in the history.
    pub number: u32,
    known: Mutex<Known>,
}

struct Known {
    /// By number.
    passwords: Vec<String>,
    /// Which are likely to be right, the likeliest last.
    believed: Vec<u32>,
    /// The newest last.
    cookies: Vec<(SessionNo, Jar)>,
}

impl Account {
    /// A user with this first password.
    #[must_use]
    pub fn new(number: u32, name: String, password: String) -> Self {
        let known = Known { passwords: vec![password], believed: vec![0], cookies: Vec::new() };
        Self { name, number, known: Mutex::new(known) }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all clients share.
pub struct Clients<'a> {
    /// Where everything is written down.
    pub recorder: &'a Recorder,
    /// The edges, through their links.
    pub edges: Vec<SocketAddr>,
    /// The users.
    pub accounts: Vec<Account>,
    /// The command line.
    pub cli: PathBuf,
    /// Everybody goes home.
    pub stop: AtomicBool,
    /// The next idempotency key or wrong password.
    pub next: AtomicU32,
    /// The seed.
    pub seed: u64,
}

/// One client of one user.
struct One<'a> {
    clients: &'a Clients<'a>,
    account: &'a Account,
    number: u32,
    edges: Edges,
    random: Random,
    jar: Jar,
    session: Option<SessionNo>,
}

/// What a client does.
#[derive(Clone, Copy, Debug)]
enum Role {
    Quiet,
    Device,
    Thief,
    Guesser,
}

/// An operation with a password, as it can be sent again.
#[derive(Clone)]
struct Sent {
    action: Action,
    texts: Texts,
    jar: Jar,
}

impl Clients<'_> {
    /// Starts everybody; returns when all have gone home.
    pub fn run(&self) {
        std::thread::scope(|scope| {
            let mut number = 0;
            for account in &self.accounts {
                // The first user is a quiet one, whose sessions last until they expire.
                let roles: &[Role] = if account.number == 0 {
                    &[Role::Quiet]
                } else {
                    &[Role::Device, Role::Device, Role::Thief, Role::Thief, Role::Guesser]
                };
                for role in roles {
                    number += 1;
                    let random = Random::new(self.seed, 1_000 + u64::from(number));
                    let edges = Edges::new(&self.edges);
                    let jar = Jar::default();
                    let mut one = One { clients: self, account, number, edges, random, jar, session: None };
                    scope.spawn(move || match role {
                        Role::Quiet => one.browse(),
                        Role::Device => one.use_device(),
                        Role::Thief => one.steal(),
                        Role::Guesser => one.guess(),
                    });
                }
            }
            for administrator in 0..2 {
                scope.spawn(move || self.administer(administrator));
            }
        });
    }

    fn going(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn number(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    fn administer(&self, administrator: u32) {
        let mut random = Random::new(self.seed, 500 + u64::from(administrator));
        let mine: Vec<&Account> =
            self.accounts.iter().filter(|account| account.number > 0 && account.number % 2 == administrator).collect();
        while self.going() && !mine.is_empty() {
            let account = *random.pick(&mine);
            let action = match random.below(8) {
                0 | 1 => Action::Revoke,
                2 => Action::Disable,
                3 | 4 => Action::Unlock,
                _ => Action::SetRole { role: random.one_in(2) },
            };
            self.command(administrator, account, action);
            std::thread::sleep(Duration::from_millis(100 + random.below(900)));
            if action == Action::Disable {
                self.command(administrator, account, Action::Enable);
            }
        }
    }

    /// Runs it until it is done: an outcome that is unknown is asked for again.
    fn command(&self, administrator: u32, account: &Account, action: Action) {
        let name = account.name.as_str();
        let arguments: &[&str] = match action {
            Action::Disable => &["user", "disable", name],
            Action::Enable => &["user", "enable", name],
            Action::Revoke => &["session", "revoke", name],
            Action::Unlock => &["user", "unlock", name],
            Action::SetRole { role: true } => &["user", "roles", name, "admin"],
            _ => &["user", "roles", name, ""],
        };
        for _ in 0..30 {
            let sent_us = self.recorder.now_us();
            let done = xtask::users::edgekeep(&self.cli, arguments, "").is_ok();
            let outcome = if done { Outcome::Done } else { Outcome::Unknown { status: 1 } };
            let (who, times) = ((account.number, 900 + administrator), (sent_us, self.recorder.now_us()));
            self.recorder.record(who, 255, times, action, outcome, false);
            if done {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

impl One<'_> {
    fn edge(&mut self) -> usize {
        let count = self.edges.count() as u64;
        usize::try_from(self.random.below(count)).unwrap_or(0)
    }

    fn pause(&mut self, longest_ms: u64) {
        std::thread::sleep(Duration::from_millis(self.random.below(longest_ms) + 1));
    }

    fn texts(&self, key: u32) -> Texts {
        Texts { name: self.account.name.clone(), key: format!("k{key}"), ..Texts::default() }
    }

    /// A password that is likely to be right, or one that is not.
    fn password(&mut self, wrong: bool) -> (Secret, String) {
        if wrong {
            let number = self.clients.number();
            return (Secret::Wrong(number), format!("wrong-{number}-{}", random_hex(8)));
        }
        let known = self.account.known();
        let believed = *self.random.pick(&known.believed);
        (Secret::Chosen(believed), known.passwords[believed as usize].clone())
    }

    fn check(&mut self) {
        let Some(session) = self.session else { return };
        let route = self.route();
        let mut jar = std::mem::take(&mut self.jar);
        if matches!(self.open(session, route, &mut jar), Outcome::Unknown { .. }) {
            self.pause(40);
        }
        if jar.session_names().is_empty() {
            self.session = None;
        } else if route == Route::Lease {
            // A thief takes the proof as it is now.
            if let Some(stolen) = self.account.known().cookies.iter_mut().find(|(number, _)| *number == session) {
                stolen.1 = jar.clone();
            }
        }
        self.jar = jar;
    }

    fn route(&mut self) -> Route {
        match self.random.below(10) {
            0 | 1 => Route::Strict,
            2 => Route::Role,
            3 => Route::StrictRole,
            _ => Route::Lease,
        }
    }

    fn open(&mut self, session: SessionNo, route: Route, jar: &mut Jar) -> Outcome {
        let edge = self.edge();
        // The key is not sent with a page; it says which of two pages it is.
        let key = if self.random.one_in(3) { "page" } else { "" };
        let texts = Texts { key: key.to_owned(), ..Texts::default() };
        let action = Action::Check { session, route };
        self.edges.ask(self.clients.recorder, (self.account.number, self.number), edge, action, &texts, jar)
    }

    /// Sends it until somebody knows what came of it, mostly.
    fn insist(&mut self, sent: &Sent) {
        for times in 0..12 {
            let outcome = self.deliver(sent);
            match outcome {
                Outcome::Unknown { .. } if self.clients.going() && !(times > 2 && self.random.one_in(12)) => {}
                _ => return,
            }
            self.pause(300);
        }
    }

    fn deliver(&mut self, sent: &Sent) -> Outcome {
        let (edge, who) = (self.edge(), (self.account.number, self.number));
        let mut jar = sent.jar.clone();
        let outcome = self.edges.ask(self.clients.recorder, who, edge, sent.action, &sent.texts, &mut jar);
        self.learn(sent, outcome, jar);
        outcome
    }

    fn learn(&mut self, sent: &Sent, outcome: Outcome, jar: Jar) {
        let mut known = self.account.known();
        if let Action::ChangePassword { new: NewSecret::Good(new), .. } = sent.action {
            match outcome {
                Outcome::SignedIn { .. } => known.believed = vec![new],
                Outcome::Refused(Why::Gone) => known.believed.push(new),
                Outcome::Unknown { .. } if !known.believed.contains(&new) => known.believed.push(new),
                _ => {}
            }
        }
        if let Some(Secret::Chosen(tried)) = sent.action.attempt().map(|attempt| attempt.secret) {
            match (outcome, sent.action) {
                // A change that nobody knew of, or one that a promotion has lost: people try what they had before.
                (Outcome::Refused(Why::Credentials), _) => {
                    let other = self.random.below(known.passwords.len() as u64);
                    known.believed.push(u32::try_from(other).unwrap_or(0));
                }
                (Outcome::SignedIn { .. }, Action::Login { .. }) => known.believed = vec![tried],
                _ => {}
            }
        }
        let many = known.believed.len().saturating_sub(4);
        known.believed.drain(..many);
        if let Outcome::SignedIn { session, .. } = outcome {
            known.cookies.retain(|(number, _)| *number != session);
            known.cookies.push((session, jar.clone()));
            let many = known.cookies.len().saturating_sub(STOLEN);
            known.cookies.drain(..many);
            (self.session, self.jar) = (Some(session), jar);
        }
    }

    fn login(&mut self, wrong: bool, present: bool) {
        let (secret, password) = self.password(wrong);
        let key = self.clients.number();
        let presents = self.session.filter(|_| present);
        let jar = if presents.is_some() { self.jar.clone() } else { Jar::default() };
        let action = Action::Login { attempt: Attempt { key, secret }, presents };
        let sent = Sent { action, texts: Texts { password, ..self.texts(key) }, jar };
        if self.random.one_in(6) {
            self.twice_at_once(&sent);
        }
        self.insist(&sent);
        if self.random.one_in(20) {
            // A replay, when it is long over or not.
            self.pause(500);
            self.deliver(&sent);
        }
    }

    /// The same through two edges at once. Another client in the history, for each is one thing at a time.
    fn twice_at_once(&mut self, sent: &Sent) {
        let (clients, account, number) = (self.clients, self.account, self.number + 10_000);
        let edge = self.edge();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut jar = sent.jar.clone();
                let mut edges = Edges::new(&clients.edges);
                let who = (account.number, number);
                edges.ask(clients.recorder, who, edge, sent.action, &sent.texts, &mut jar);
            });
            self.deliver(sent);
        });
    }

    fn logout(&mut self) {
        let Some(session) = self.session.take() else { return };
        let jar = std::mem::take(&mut self.jar);
        let key = self.clients.number();
        let sent = Sent { action: Action::Logout { session }, texts: self.texts(key), jar };
        self.insist(&sent);
    }

    fn logout_everywhere(&mut self) {
        let wrong = self.random.one_in(4);
        let (secret, password) = self.password(wrong);
        let key = self.clients.number();
        let action = Action::LogoutEverywhere { attempt: Attempt { key, secret } };
        let sent = Sent { action, texts: Texts { password, ..self.texts(key) }, jar: Jar::default() };
        self.insist(&sent);
    }

    fn change_password(&mut self, too_short: bool) {
        let Some(by) = self.session else { return };
        let wrong = !too_short && self.random.one_in(4);
        let (secret, password) = self.password(wrong);
        let key = self.clients.number();
        let (new, new_password) = if too_short {
            (NewSecret::TooShort, "short".to_owned())
        } else {
            let text = format!("password-{}", random_hex(12));
            let mut known = self.account.known();
            known.passwords.push(text.clone());
            (NewSecret::Good(u32::try_from(known.passwords.len() - 1).unwrap_or(0)), text)
        };
        let action = Action::ChangePassword { attempt: Attempt { key, secret }, new, by };
        let texts = Texts { password, new_password, ..self.texts(key) };
        let sent = Sent { action, texts, jar: self.jar.clone() };
        self.insist(&sent);
    }

    /// A device of somebody who is in a hurry.
    fn use_device(&mut self) {
        while self.clients.going() {
            self.pause(60);
            if self.session.is_none() {
                // The other device has it now, for a while.
                self.pause(2_500);
                let wrong = self.random.one_in(20);
                self.login(wrong, false);
                continue;
            }
            match self.random.below(160) {
                0 | 1 => self.login(false, true),
                2 => self.login(false, false),
                3..=5 => self.logout(),
                8 => self.logout_everywhere(),
                9 => self.change_password(false),
                10 => self.change_password(true),
                _ => self.check(),
            }
        }
    }

    /// Somebody who signs in and reads, and is away for a while now and then.
    fn browse(&mut self) {
        while self.clients.going() {
            if self.session.is_none() {
                self.login(false, false);
            }
            self.check();
            self.pause(40);
            if self.random.one_in(2_000) {
                for _ in 0..220 {
                    if self.clients.going() {
                        std::thread::sleep(Duration::from_millis(100));
                    }
                }
            }
        }
    }

    /// Somebody with copies of cookies, old and new.
    fn steal(&mut self) {
        while self.clients.going() {
            let stolen = {
                let known = self.account.known();
                let newest = known.cookies.len().saturating_sub(1);
                let at = if !self.random.one_in(4) {
                    newest
                } else {
                    usize::try_from(self.random.below(STOLEN as u64)).unwrap_or(0)
                };
                known.cookies.get(at.min(newest)).cloned()
            };
            if let Some((session, mut jar)) = stolen {
                let route = self.route();
                if !matches!(self.open(session, route, &mut jar), Outcome::Accepted { .. }) {
                    self.pause(40);
                }
            }
            self.pause(6);
        }
    }

    /// Somebody who guesses, sometimes many at once.
    fn guess(&mut self) {
        while self.clients.going() {
            let at_once = if self.random.one_in(3) { 8 } else { 1 + self.random.below(3) };
            let guesses: Vec<(Secret, String, u32, usize)> = (0..at_once)
                .map(|_| {
                    let (secret, password) = self.password(true);
                    (secret, password, self.clients.number(), self.edge())
                })
                .collect();
            let (clients, account) = (self.clients, self.account);
            std::thread::scope(|scope| {
                for (place, (secret, password, key, edge)) in (20_000..).zip(guesses) {
                    let texts = Texts { password, ..self.texts(key) };
                    let number = self.number + place;
                    scope.spawn(move || {
                        let mut edges = Edges::new(&clients.edges);
                        let action = Action::Login { attempt: Attempt { key, secret }, presents: None };
                        let who = (account.number, number);
                        edges.ask(clients.recorder, who, edge, action, &texts, &mut Jar::default());
                    });
                }
            });
            self.pause(8_000);
        }
    }
}
