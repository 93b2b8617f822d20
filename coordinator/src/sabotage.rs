//! Rules that are broken on purpose, one at a time, so that `cargo xtask torture` can show that it would notice.
//!
//! Only the feature `sabotage` compiles them in; it is no default, a release build with it does not compile, and
//! `cargo xtask test torture` looks for [`VARIABLE`]'s name in what ships. Without the feature [`breaks`] is a constant.

#[cfg(all(feature = "sabotage", not(debug_assertions)))]
compile_error!("the feature `sabotage` breaks guarantees on purpose and is not for release builds");

/// A rule that can be broken. `EDGEKEEP_TEST_SABOTAGE` names it as in [`Rule::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A session ends, and the user's revision is not raised.
    EndRaisesNothing,
    /// Each failure takes two places.
    CountedTwice,
    /// Failures take no place.
    NotCounted,
    /// A check is answered from what an earlier one has read.
    OldRead,
    /// Each delivery of an attempt is another attempt.
    KeyNotUnique,
    /// A commit whose outcome is unknown is reported as done.
    DoubtIsDone,
}

impl Rule {
    /// All rules and their names.
    pub const ALL: [(Self, &'static str); 6] = [
        (Self::EndRaisesNothing, "end-raises-nothing"),
        (Self::CountedTwice, "counted-twice"),
        (Self::NotCounted, "not-counted"),
        (Self::OldRead, "old-read"),
        (Self::KeyNotUnique, "key-not-unique"),
        (Self::DoubtIsDone, "doubt-is-done"),
    ];
}

/// This build breaks this rule.
#[cfg(not(feature = "sabotage"))]
#[must_use]
pub const fn breaks(_: Rule) -> bool {
    false
}

#[cfg(feature = "sabotage")]
pub use broken::{VARIABLE, breaks, remembered};

#[cfg(feature = "sabotage")]
mod broken {
    use std::collections::HashMap;
    use std::sync::{LazyLock, Mutex, PoisonError};
    use std::time::{Duration, Instant};

    use edgekeep_shared::api::CheckAnswer;

    use super::Rule;

    /// Names the rule. A name that does not exist breaks nothing, and the torture of such a build would pass: so it is
    /// said loudly.
    pub const VARIABLE: &str = "EDGEKEEP_TEST_SABOTAGE";

    static CHOSEN: LazyLock<Option<Rule>> = LazyLock::new(|| {
        let name = std::env::var(VARIABLE).ok()?;
        let rule = Rule::ALL.into_iter().find(|(_, known)| *known == name).map(|(rule, _)| rule);
        tracing::warn!(name, known = rule.is_some(), "this build breaks a rule on purpose");
        rule
    });

    /// This build breaks this rule.
    #[must_use]
    pub fn breaks(rule: Rule) -> bool {
        *CHOSEN == Some(rule)
    }

    static ANSWERS: LazyLock<Mutex<HashMap<String, (Instant, CheckAnswer)>>> = LazyLock::new(Mutex::default);

    /// For so long an old answer is given.
    const OLD: Duration = Duration::from_millis(1_500);

    /// The answer that was given for this proof a moment ago; or this one is remembered.
    pub fn remembered(token: &str, fresh: Option<&CheckAnswer>) -> Option<CheckAnswer> {
        let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
        match fresh {
            Some(answer) => {
                answers.insert(token.to_owned(), (Instant::now(), answer.clone()));
                None
            }
            None => answers.get(token).filter(|(at, _)| at.elapsed() < OLD).map(|(_, answer)| answer.clone()),
        }
    }
}
