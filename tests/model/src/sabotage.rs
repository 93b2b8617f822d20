//! What can be broken on purpose, each in one place of the shell around the real code.

use serde::{Deserialize, Serialize};

/// A broken variant that the checker must refute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sabotage {
    /// A position is "the highest transaction id seen": what was still open below it is forgotten.
    SerialCursor,
    /// A position counts transaction ids as seen that are not known durable; after a crash they are handed out again.
    XmaxNotLowered,
    /// The first page of an answer is taken for all of it.
    CursorFromFirstPage,
    /// A long answer covers what the reader had seen at its last page.
    CursorFromLastPage,
    /// The last page of an answer that was begun is applied to a view that was reset in between.
    PartialAnswerIntoResetView,
    /// A view that has heard nothing is taken for one in which nothing is revoked.
    ColdViewIsEmpty,
    /// The lease counts from when the answer arrived.
    LeaseFromReceipt,
    /// The lease is the whole bound: no margin for clocks that run at different rates.
    NoClockMargin,
    /// A clock that was stepped back is read on.
    StepBackIgnored,
    /// An answer's age is not stated.
    AgeNotStated,
    /// A relay counts the age of what it heard from when it heard it.
    RelayAgeFromReceipt,
    /// A relay takes the last answer of its upstream for all that there is.
    RelayTakesTheLastForAll,
    /// A relay that restarts goes on from the position that it had, without what it had heard.
    RelayKeepsItsCursor,
    /// The way back counts as held, though the answer had left by then.
    ReturnCountsAsHeld,
    /// The heartbeat runs on another connection than the read: it reaches the new primary, the read the old one.
    HeartbeatElsewhere,
    /// Revisions do not grow with the epoch: after a failover that lost a raise, a number is given out again.
    EqualRevisionsAfterFailover,
    /// What the coordinator said is acted upon whenever it arrives, without asking the gate again.
    RenewalNotRechecked,
    /// A proof is signed for longer than the row's `proof_until`.
    SignedBeyondProofUntil,
    /// `proof_until` is committed after the proof was signed.
    SignedBeforeCommit,
    /// A later raise overwrites `needed_until` instead of taking the greater.
    NeededUntilOverwritten,
    /// The first raise after a failover is needed for as long as the sessions that the new primary knows.
    LostNotCovered,
    /// Signing out everywhere revokes the sessions that the new primary knows, not one that the failover lost.
    LostNotReached,
    /// Revision and roles of a renewal are read before the locks.
    ReadBeforeLock,
    /// Entries are kept for a fixed time after the raise instead of until `needed_until`.
    EntryKeptByAge,
    /// A renewal writes its session back if it is gone.
    UpsertOnRenewal,
    /// A strict route is decided from memory.
    StrictFromMemory,
    /// "Nobody can know" is answered as "signed out".
    OutageSignsOut,
    /// The password is hashed first, the attempt counted when it has failed.
    CheckBeforeCount,
    /// A right password clears earlier failures also where it makes no session.
    EverySuccessClears,
    /// The settling transaction does not look whether the password was changed since it was read.
    PasswordNotRechecked,
    /// A success clears the places of attempts that are under way.
    SuccessClearsOthers,
    /// A coordinator's time runs ahead of the others' by the first wait: a run begins before its wait is over.
    RunBeforeItsWait,
    /// The runs since the last success are not remembered: every wait is the first one, and no failure needs an administrator.
    RunsForgotten,
    /// The lock is checked before the attempt is looked up: a replay of an outcome is answered with "locked".
    LockBeforeLookup,
    /// Settling does not check that the attempt is unsettled.
    SettleUnguarded,
    /// Session and settling are two transactions.
    SettledApart,
    /// A retry with the same key inserts an attempt of its own.
    RetryIsNewAttempt,
    /// A retry takes an attempt over while its owner is at work, and both settle.
    TakenOverTooEarly,
}
