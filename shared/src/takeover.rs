//! Which slot a new session takes, and which sessions it ends (G1, design 2.3).
//!
//! The primary key of `session` is (user, slot) and a new session only ever takes a slot below
//! `sessions_per_user`: the schema itself then holds the number of current sessions down.

use serde::{Deserialize, Serialize};

/// What happens when no slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Takeover {
    /// The newest login wins; the oldest session ends.
    NewestWins,
    /// The second login is refused with `signed_in_elsewhere`.
    RefuseSecond,
}

/// A session that the user has, apart from those that the login's own request presents (they end in any case).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotUse {
    /// Its slot.
    pub slot: u32,
    /// When it began, coordinator time in milliseconds.
    pub authenticated_at_ms: u64,
    /// Its idle or absolute expiry has passed: the slot counts as free.
    pub expired: bool,
}

/// Where the new session goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Into this slot; the sessions in `ends` end as `signed_in_elsewhere`, an expired one in `slot` as `expired`.
    Slot {
        /// 0 to `sessions_per_user - 1`.
        slot: u32,
        /// Slots of live sessions that end, oldest first.
        ends: Vec<u32>,
    },
    /// Nowhere: `refuse_second` is in force.
    Refused,
}

/// Places a new session. `sessions_per_user` is at least 1.
#[must_use]
pub fn place(uses: &[SlotUse], sessions_per_user: u32, takeover: Takeover) -> Placement {
    let sessions_per_user = sessions_per_user.max(1);
    let mut live: Vec<_> = uses.iter().filter(|held| !held.expired).collect();
    live.sort_by_key(|held| (held.authenticated_at_ms, held.slot));
    let too_many = (live.len() + 1).saturating_sub(sessions_per_user as usize);
    if too_many > 0 && takeover == Takeover::RefuseSecond {
        return Placement::Refused;
    }
    let (ending, staying) = live.split_at(too_many);
    let ends = ending.iter().map(|held| held.slot).collect();
    // At most `sessions_per_user - 1` stay, so one of that many slots is free.
    let slot = (0..sessions_per_user).find(|slot| staying.iter().all(|held| held.slot != *slot)).unwrap_or(0);
    Placement::Slot { slot, ends }
}

/// Slots to end after `sessions_per_user` was lowered: the oldest excess.
#[must_use]
pub fn excess(uses: &[SlotUse], sessions_per_user: u32) -> Vec<u32> {
    let mut live: Vec<_> = uses.iter().filter(|held| !held.expired).collect();
    live.sort_by_key(|held| (held.authenticated_at_ms, held.slot));
    let too_many = live.len().saturating_sub(sessions_per_user.max(1) as usize);
    live[..too_many].iter().map(|held| held.slot).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(slot: u32, authenticated_at_ms: u64) -> SlotUse {
        SlotUse { slot, authenticated_at_ms, expired: false }
    }

    #[test]
    fn one_session_per_user() {
        assert_eq!(place(&[], 1, Takeover::RefuseSecond), Placement::Slot { slot: 0, ends: vec![] });
        assert_eq!(place(&[held(0, 5)], 1, Takeover::NewestWins), Placement::Slot { slot: 0, ends: vec![0] });
        assert_eq!(place(&[held(0, 5)], 1, Takeover::RefuseSecond), Placement::Refused);
        let expired = SlotUse { expired: true, ..held(0, 5) };
        assert_eq!(place(&[expired], 1, Takeover::RefuseSecond), Placement::Slot { slot: 0, ends: vec![] });
    }

    #[test]
    fn the_oldest_goes_and_the_slot_stays_below_the_limit() {
        let three = [held(0, 30), held(1, 10), held(2, 20)];
        assert_eq!(place(&three, 3, Takeover::NewestWins), Placement::Slot { slot: 1, ends: vec![1] });
        assert_eq!(place(&three, 1, Takeover::NewestWins), Placement::Slot { slot: 0, ends: vec![1, 2, 0] });
        assert_eq!(place(&three, 2, Takeover::NewestWins), Placement::Slot { slot: 1, ends: vec![1, 2] });
        assert_eq!(excess(&three, 1), vec![1, 2]);
        assert_eq!(excess(&three, 3), Vec::<u32>::new());
    }
}
