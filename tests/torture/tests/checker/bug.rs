//! What can be broken in the simulated system, and the randomness of its seeds.

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "see the tests' names")]
pub enum Bug {
    LeaseTooLong,
    StrictFromOldRead,
    KeyNotUnique,
    CountedTwice,
    RefusalCounted,
    SlidingExpiry,
    CommitCancelled,
    LogoutUnheard,
    ReplayResurrects,
    NoLimit,
    TwoSessions,
    WrongReason,
    RefusesValid,
    RoleTooOld,
    DisabledSignsIn,
    SilentInCalm,
    WrongIsRight,
    RightIsWrong,
    AuditLost,
    StoredTwice,
    LoginLost,
    CookieDroppedByOutage,
    CookieDroppedByPage,
}

/// SplitMix64.
pub struct Random(pub u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
