//! What can be broken on purpose, each in one place of the shell around the real code.

use serde::{Deserialize, Serialize};

/// A broken variant that the checker must catch within a fixed number of seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sabotage {
    /// The lease counts from when the answer arrived.
    LeaseFromReceipt,
    /// A later page is applied to a view that was reset in between.
    PartialAnswerIntoResetView,
    /// A long answer covers what the reader had seen at its last page.
    CursorFromLastPage,
    /// A proof is signed for longer than the row's `proof_until`.
    SignedBeyondProofUntil,
    /// What the coordinator said is acted upon whenever it arrives, without asking the gate again.
    RenewalNotRechecked,
    /// A position is "the highest transaction id seen": what was still open below it is forgotten.
    SerialCursor,
    /// A position counts transaction ids as seen that are not known durable.
    XmaxNotLowered,
    /// An answer's age is not stated.
    AgeNotStated,
    /// Heartbeats reach the new primary while reads go to the old one.
    HeartbeatElsewhere,
    /// A renewal writes its session back if it is gone.
    UpsertOnRenewal,
    /// A session is told to have expired although a renewal that began in time may still commit.
    ExpiredWithoutLock,
    /// "Nobody can know" is answered as "signed out".
    OutageSignsOut,
    /// A relay states its answers as old as they were when they reached it.
    RelayAgeNotAdded,
    /// A relay publishes the first page of several as if it were all.
    RelayPublishesHalf,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::LeaseFromReceipt,
        Self::PartialAnswerIntoResetView,
        Self::CursorFromLastPage,
        Self::SignedBeyondProofUntil,
        Self::RenewalNotRechecked,
        Self::SerialCursor,
        Self::XmaxNotLowered,
        Self::AgeNotStated,
        Self::HeartbeatElsewhere,
        Self::UpsertOnRenewal,
        Self::ExpiredWithoutLock,
        Self::OutageSignsOut,
        Self::RelayAgeNotAdded,
        Self::RelayPublishesHalf,
    ];

    /// The guarantees that it breaks. It is found only as one of them: whatever else goes wrong in its world (a 503 while
    /// nothing is disturbed, say) does not show that this was noticed.
    #[must_use]
    pub const fn breaks(self) -> &'static [&'static str] {
        match self {
            Self::LeaseFromReceipt
            | Self::PartialAnswerIntoResetView
            | Self::CursorFromLastPage
            | Self::SignedBeyondProofUntil
            | Self::RenewalNotRechecked
            | Self::SerialCursor
            | Self::XmaxNotLowered
            | Self::AgeNotStated
            | Self::HeartbeatElsewhere
            | Self::RelayAgeNotAdded
            | Self::RelayPublishesHalf => &["G2"],
            Self::UpsertOnRenewal | Self::ExpiredWithoutLock => &["G5"],
            Self::OutageSignsOut => &["G8"],
        }
    }
}
