//! A value that writes change, each at some instant between its beginning and its end: password, role, enabled or not.

use std::collections::HashMap;
use std::hash::Hash;

use crate::history::{NEVER, Us};

/// One write.
#[derive(Clone, Copy, Debug)]
pub struct Write<V> {
    /// It happened not before this.
    pub from_us: Us,
    /// It had happened by then, if it happens at all.
    pub by_us: Us,
    /// It has happened.
    pub certain: bool,
    /// The new value.
    pub value: V,
}

/// See [`Register::all`].
type UpTo<V> = (Us, (V, Us), Option<(V, Us)>);

/// What the value can have been, and when.
#[derive(Clone, Debug)]
pub struct Register<V> {
    /// Of each value: when it can first have come, and until when one of those up to here can have lasted.
    of_value: HashMap<V, Vec<(Us, Us)>>,
    /// Of all: beginning, then the value that can have lasted longest, then the best of another value.
    all: Vec<UpTo<V>>,
}

impl<V: Copy + Eq + Hash> Register<V> {
    /// Begins with a value.
    #[must_use]
    pub fn new(initial: V, mut writes: Vec<Write<V>>) -> Self {
        writes.push(Write { from_us: 0, by_us: 0, certain: false, value: initial });
        writes.sort_by_key(|write| write.from_us);
        // The earliest end of a certain write that began at or after each one.
        let mut certain: Vec<(Us, Us)> =
            writes.iter().filter(|write| write.certain).map(|write| (write.from_us, write.by_us)).collect();
        for at in (1..certain.len()).rev() {
            certain[at - 1].1 = certain[at - 1].1.min(certain[at].1);
        }
        let lasts_until = |write: &Write<V>| {
            let next = certain.partition_point(|(from, _)| *from < write.by_us);
            certain.get(next).map_or(NEVER, |(_, by)| *by)
        };
        let mut of_value: HashMap<V, Vec<(Us, Us)>> = HashMap::new();
        let mut all: Vec<UpTo<V>> = Vec::new();
        for write in &writes {
            let until = lasts_until(write);
            let list = of_value.entry(write.value).or_default();
            let before = list.last().map_or(0, |(_, until)| *until);
            list.push((write.from_us, until.max(before)));
            let (best, second) = match all.last() {
                None => ((write.value, until), None),
                Some((_, best, second)) if best.0 == write.value => ((best.0, best.1.max(until)), *second),
                Some((_, best, _)) if until > best.1 => ((write.value, until), Some(*best)),
                Some((_, best, second)) => {
                    let better = second.is_none_or(|second| second.0 == write.value || until > second.1);
                    let kept = second.map_or(0, |second| if second.0 == write.value { second.1 } else { 0 });
                    (*best, if better { Some((write.value, until.max(kept))) } else { *second })
                }
            };
            all.push((write.from_us, best, second));
        }
        Self { of_value, all }
    }

    /// It can have had this value at some instant of this stretch.
    #[must_use]
    pub fn possible(&self, value: V, from_us: Us, until_us: Us) -> bool {
        let Some(list) = self.of_value.get(&value) else { return false };
        let begun = list.partition_point(|(from, _)| *from <= until_us);
        begun.checked_sub(1).is_some_and(|at| list[at].1 >= from_us)
    }

    /// It had this value in all of this stretch, whatever else is true.
    #[must_use]
    pub fn certain(&self, value: V, from_us: Us, until_us: Us) -> bool {
        let begun = self.all.partition_point(|(from, ..)| *from <= until_us);
        let Some((_, best, second)) = begun.checked_sub(1).map(|at| self.all[at]) else { return false };
        let other = if best.0 == value { second.map(|second| second.1) } else { Some(best.1) };
        other.is_none_or(|until| until < from_us) && self.possible(value, from_us, until_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(from_us: Us, by_us: Us, value: u32) -> Write<u32> {
        Write { from_us, by_us, certain: true, value }
    }

    fn maybe(from_us: Us, by_us: Us, value: u32) -> Write<u32> {
        Write { from_us, by_us, certain: false, value }
    }

    #[test]
    fn a_certain_write_ends_the_value_before_it() {
        let register = Register::new(0, vec![write(10, 20, 1)]);
        assert!(register.certain(0, 0, 9) && register.certain(1, 21, 99));
        assert!(register.possible(0, 15, 16) && register.possible(1, 15, 16) && !register.certain(1, 15, 16));
        assert!(!register.possible(0, 21, 99) && !register.possible(1, 0, 9));
    }

    #[test]
    fn a_write_that_may_have_happened_makes_nothing_certain() {
        let register =
            Register::new(0, vec![maybe(10, 1_000, 1), write(30, 40, 2), write(50, 60, 2), write(2_000, 2_010, 2)]);
        assert!(register.possible(0, 35, 36) && !register.possible(0, 41, 99));
        assert!(register.possible(1, 900, 901), "it may come late");
        assert!(!register.certain(2, 61, 99) && register.certain(2, 2_011, 9_999));
    }

    #[test]
    fn the_same_value_twice_stays_certain() {
        let register = Register::new(0, vec![write(10, 20, 1), maybe(30, 99, 1), write(50, 60, 1)]);
        assert!(register.certain(1, 25, 999));
    }
}
