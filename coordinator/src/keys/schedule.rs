//! When signing keys are made, retire and go: pure.
//!
//! What this module guarantees:
//! - A key signs only after it was announced for the whole announcement time (except the first, and one made because
//!   no other may sign: an edge that does not know it asks for the keys).
//! - Exactly one key signs at a time: of those that may, the one that began last.
//! - A retired key verifies on: only [`plan`]'s caller, which looks at the sessions that could hold its proofs, drops it.

use edgekeep_shared::ids::KeyId;

/// A key's times, in coordinator milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTimes {
    /// Named in tokens.
    pub id: KeyId,
    /// It may sign from here on.
    pub signs_from_ms: u64,
    /// It was taken out of signing; it still verifies.
    pub retired: bool,
    /// Its proofs must renew.
    pub withdrawn: bool,
}

impl KeyTimes {
    const fn usable(&self) -> bool {
        !self.retired && !self.withdrawn
    }
}

/// How keys rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// A key signs for so long, in milliseconds.
    pub every_ms: u64,
    /// A key is known to edges for so long before it signs, in milliseconds.
    pub announce_ms: u64,
}

/// The announcement as configured, and at least twice the bound: by then every edge with a lease has the key.
#[must_use]
pub fn announce_ms(configured_ms: u64, max_staleness_ms: u64) -> u64 {
    configured_ms.max(2 * max_staleness_ms)
}

/// What there is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Make a key that signs from this moment on.
    pub make_from_ms: Option<u64>,
    /// These have a successor that signs: they retire.
    pub retire: Vec<KeyId>,
}

/// The key that signs at `now_ms`: of those that may, the one that began last (of two, the higher id).
#[must_use]
pub fn signer(keys: &[KeyTimes], now_ms: u64) -> Option<KeyTimes> {
    keys.iter()
        .filter(|key| key.usable() && key.signs_from_ms <= now_ms)
        .max_by_key(|key| (key.signs_from_ms, key.id))
        .copied()
}

/// A key that is announced and does not sign yet.
fn next(keys: &[KeyTimes], now_ms: u64) -> Option<KeyTimes> {
    keys.iter().filter(|key| key.usable() && key.signs_from_ms > now_ms).min_by_key(|key| key.signs_from_ms).copied()
}

/// What the schedule asks for at `now_ms`; `at_once`: an administrator wants the next key now.
#[must_use]
pub fn plan(keys: &[KeyTimes], now_ms: u64, rotation: Rotation, at_once: bool) -> Plan {
    let signer = signer(keys, now_ms);
    let announced = now_ms.saturating_add(rotation.announce_ms);
    let make_from_ms = match (signer, next(keys, now_ms)) {
        // Nothing could be signed before it: announcing it would only make everybody wait.
        (None, None) => Some(now_ms),
        (None, Some(_)) => None,
        (Some(_), Some(_)) => None,
        (Some(_), None) if at_once => Some(announced),
        (Some(signer), None) => {
            let ends = signer.signs_from_ms.saturating_add(rotation.every_ms);
            (ends <= announced).then(|| announced.max(ends))
        }
    };
    let retire = signer.map_or_else(Vec::new, |signer| {
        keys.iter()
            .filter(|key| key.usable() && key.id != signer.id && key.signs_from_ms <= signer.signs_from_ms)
            .map(|key| key.id)
            .collect()
    });
    Plan { make_from_ms, retire }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROTATION: Rotation = Rotation { every_ms: 1_000, announce_ms: 100 };

    fn key(id: u32, signs_from_ms: u64) -> KeyTimes {
        KeyTimes { id: KeyId(id), signs_from_ms, retired: false, withdrawn: false }
    }

    #[test]
    fn the_first_key_signs_at_once() {
        assert_eq!(plan(&[], 50, ROTATION, false), Plan { make_from_ms: Some(50), retire: vec![] });
    }

    #[test]
    fn a_successor_is_announced_before_it_signs_and_its_predecessor_retires_after() {
        let keys = [key(1, 0)];
        assert_eq!(plan(&keys, 899, ROTATION, false), Plan::default());
        assert_eq!(plan(&keys, 900, ROTATION, false).make_from_ms, Some(1_000));
        // A coordinator that slept through the moment still announces for the whole time.
        assert_eq!(plan(&keys, 5_000, ROTATION, false).make_from_ms, Some(5_100));
        let keys = [key(1, 0), key(2, 1_000)];
        assert_eq!(plan(&keys, 950, ROTATION, false), Plan::default());
        assert_eq!(signer(&keys, 999).unwrap().id, KeyId(1));
        assert_eq!(signer(&keys, 1_000).unwrap().id, KeyId(2));
        assert_eq!(plan(&keys, 1_000, ROTATION, false), Plan { make_from_ms: None, retire: vec![KeyId(1)] });
    }

    #[test]
    fn on_demand_makes_one_successor_and_no_second() {
        assert_eq!(plan(&[key(1, 0)], 10, ROTATION, true).make_from_ms, Some(110));
        assert_eq!(plan(&[key(1, 0), key(2, 110)], 20, ROTATION, true), Plan::default());
    }

    #[test]
    fn withdrawn_and_retired_keys_sign_nothing() {
        let withdrawn = KeyTimes { withdrawn: true, ..key(2, 20) };
        let retired = KeyTimes { retired: true, ..key(3, 30) };
        assert_eq!(signer(&[key(1, 10), withdrawn, retired], 40).unwrap().id, KeyId(1));
        assert_eq!(signer(&[withdrawn, retired], 40), None);
        assert_eq!(plan(&[withdrawn, retired], 40, ROTATION, false).make_from_ms, Some(40));
    }

    #[test]
    fn the_announcement_covers_the_bound_twice() {
        assert_eq!(announce_ms(60_000, 5_000), 60_000);
        assert_eq!(announce_ms(60_000, 600_000), 1_200_000);
    }
}
