//! Which guarantees a history breaks. Pure; per user; n log n in the number of operations.
//!
//! | rule | module | found when |
//! |---|---|---|
//! | G1 | [`lives`] | two sessions of a user were current at the same instant, or accepted beyond the bound |
//! | G2, G3, G5 | [`lives`] | a session is accepted that had certainly ended: by the bound (lease) or at all (strict) |
//! | expiry | [`lives`] | an expiry moves, or a session is accepted after it |
//! | G4, passwords | [`attempts`] | deliveries of one attempt differ; a wrong password is right, or a right one wrong |
//! | G6, lock | [`guesses`] | more than F evaluated in a run; locked by fewer than F |
//! | G7, G8 | [`refusals`] | a session is refused that nothing can have ended, or for a reason that cannot be |
//! | G8 | [`refusals`] | "cannot know" while everything was up |
//! | G8 | [`refusals`] | an answer that cannot know, or that accepts the session, clears its cookie |
//! | roles | [`refusals`] | a role that cannot have been held is accepted, or one that was certainly held refused |
//! | by a loss | [`loss`] | one of these, and it is gone when what an asynchronous standby has lost is taken for unknown |
//! | G9, audit | [`audit`] | the database's final state and its audit log are no history that clients can have seen |
//!
//! A request counts from when it was sent, an ending from when its answer was there. An outcome that nobody knows may
//! have happened at any time after it was sent, or never: it excuses refusals and never proves an ending. So all that is
//! reported is certain, and some of what is wrong goes unseen; [`audit`] sees more, with the database's own order.

pub mod attempts;
pub mod audit;
pub mod guesses;
pub mod lives;
pub mod loss;
pub mod refusals;
pub mod register;
pub mod user;

use std::collections::BTreeMap;

use crate::history::{History, Operation};
use user::User;

/// A broken guarantee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which: `G1` to `G9`, `expiry`, `password`, `lock`, `role`, `audit`.
    pub rule: &'static str,
    /// In words.
    pub text: String,
    /// The operations that show it, by their place in the history.
    pub operations: Vec<u32>,
}

impl Violation {
    fn new(rule: &'static str, text: impl Into<String>, operations: &[&Operation]) -> Self {
        Self { rule, text: text.into(), operations: operations.iter().map(|op| op.id).collect() }
    }

    /// The rule, the words, and the operations in full.
    #[must_use]
    pub fn explained(&self, history: &History) -> String {
        let mut text = format!("{}: {}", self.rule, self.text);
        for id in &self.operations {
            if let Some(op) = history.operations.iter().find(|op| op.id == *id) {
                text.push_str(&format!("\n    {op}"));
            }
        }
        text
    }
}

/// What the checker says of a run.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Guarantees that the system has broken.
    pub violations: Vec<Violation>,
    /// Those that are broken because a promotion has lost what was acknowledged; empty where none has.
    pub by_loss: Vec<Violation>,
    /// What was set aside for that; its history is empty here.
    pub forgiven: Option<loss::Forgiven>,
}

/// Checks a history, and the database's final state with it.
#[must_use]
pub fn judge(history: &History, database: Option<&audit::Accounts>) -> Verdict {
    let all = |history: &History| {
        let mut found = check(history);
        found.extend(database.into_iter().flat_map(|database| audit::check(history, database)));
        found
    };
    let Some(mut forgiven) = loss::forgiven(history) else {
        return Verdict { violations: all(history), by_loss: Vec::new(), forgiven: None };
    };
    let (by_loss, violations) = (all(history), all(&forgiven.history));
    forgiven.history = History::new(history.rules);
    Verdict { violations, by_loss, forgiven: Some(forgiven) }
}

/// All violations of a history, user by user.
#[must_use]
pub fn check(history: &History) -> Vec<Violation> {
    let mut found = Vec::new();
    for user in users(history).values() {
        found.extend(check_user(user));
    }
    found
}

/// Operations by user, with what follows from them.
#[must_use]
pub fn users(history: &History) -> BTreeMap<u32, User<'_>> {
    let mut by_user: BTreeMap<u32, Vec<&Operation>> = BTreeMap::new();
    for op in &history.operations {
        by_user.entry(op.user).or_default().push(op);
    }
    by_user.into_iter().map(|(user, ops)| (user, User::new(history, ops))).collect()
}

fn check_user(user: &User<'_>) -> Vec<Violation> {
    let mut found = attempts::check(user);
    found.extend(guesses::check(user));
    let lives = lives::Lives::new(user);
    found.extend(lives.check(user));
    found.extend(refusals::check(user, &lives));
    found
}
