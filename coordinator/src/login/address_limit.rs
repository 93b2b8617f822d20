//! Guesses per client address, apart from the lockout of accounts and outside of any transaction.
//!
//! A token bucket per IPv4 address or IPv6 /64, in the memory of one coordinator: it slows down one client that tries
//! many accounts. It protects no single account (that is the lockout's work, in the database), so it may forget: memory
//! is bounded by two generations of buckets, and the older one is dropped when the newer one is half the table.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::config::LoginConfig;

/// What a bucket belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    V4(u32),
    /// The first 64 bits: one network, however many addresses its owner walks through.
    V6(u64),
    /// What the trusted header says is no address: all of these share one bucket.
    Other,
}

impl Key {
    fn of(address: &str) -> Self {
        match address.trim().parse::<IpAddr>().map(|address| address.to_canonical()) {
            Ok(IpAddr::V4(address)) => Self::V4(address.to_bits()),
            Ok(IpAddr::V6(address)) => Self::V6((address.to_bits() >> 64) as u64),
            Err(_) => Self::Other,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// Guesses left, in thousandths.
    milli: u64,
    at: Instant,
}

#[derive(Default)]
struct Table {
    newer: HashMap<Key, Bucket>,
    older: HashMap<Key, Bucket>,
}

/// The buckets.
pub struct AddressLimit {
    per_minute: u64,
    burst_milli: u64,
    half_table: usize,
    table: Mutex<Table>,
}

impl AddressLimit {
    /// A limit as configured.
    #[must_use]
    pub fn new(config: &LoginConfig) -> Self {
        Self {
            per_minute: u64::from(config.address_per_minute),
            burst_milli: u64::from(config.address_burst) * 1000,
            half_table: config.address_table.div_ceil(2),
            table: Mutex::new(Table::default()),
        }
    }

    /// Takes one guess of this address.
    ///
    /// # Errors
    /// When none is left: milliseconds until there is one.
    pub fn take(&self, address: &str, now: Instant) -> Result<(), u64> {
        if self.per_minute == 0 {
            return Ok(());
        }
        let key = Key::of(address);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let full = Bucket { milli: self.burst_milli, at: now };
        let bucket = table.newer.get(&key).or_else(|| table.older.get(&key)).copied().unwrap_or(full);
        let elapsed_ms = u64::try_from(now.saturating_duration_since(bucket.at).as_millis()).unwrap_or(u64::MAX);
        // A guess is 1000 thousandths and a minute 60 000 ms, so one millisecond brings per_minute / 60 of them.
        let gained = elapsed_ms.saturating_mul(self.per_minute) / 60;
        let milli = bucket.milli.saturating_add(gained).min(self.burst_milli);
        let Some(left) = milli.checked_sub(1000) else {
            // The bucket stays as it was, so that fractions of a gain are not lost by asking often.
            return Err((1000 - milli).saturating_mul(60).div_ceil(self.per_minute));
        };
        if table.newer.len() >= self.half_table && !table.newer.contains_key(&key) {
            table.older = std::mem::take(&mut table.newer);
        }
        table.newer.insert(key, Bucket { milli: left, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limit(per_minute: u32, burst: u32, table: usize) -> AddressLimit {
        AddressLimit::new(&LoginConfig {
            address_per_minute: per_minute,
            address_burst: burst,
            address_table: table,
            ..LoginConfig::default()
        })
    }

    #[test]
    fn a_burst_then_a_rate() {
        let (limit, start) = (limit(60, 3, 64), Instant::now());
        for _ in 0..3 {
            limit.take("192.0.2.1", start).unwrap();
        }
        assert_eq!(limit.take("192.0.2.1", start), Err(1000));
        assert_eq!(limit.take("192.0.2.1", start + Duration::from_millis(400)), Err(600));
        limit.take("192.0.2.1", start + Duration::from_millis(1000)).unwrap();
        limit.take("192.0.2.2", start).unwrap();
    }

    #[test]
    fn one_network_is_one_client() {
        let (limit, start) = (limit(1, 1, 64), Instant::now());
        limit.take("2001:db8:0:1::1", start).unwrap();
        assert!(limit.take("2001:db8:0:1:ffff::2", start).is_err());
        limit.take("2001:db8:0:2::1", start).unwrap();
        limit.take("::ffff:192.0.2.1", start).unwrap();
        assert!(limit.take("192.0.2.1", start).is_err(), "the same address in another spelling");
        limit.take("nonsense", start).unwrap();
        assert!(limit.take("other nonsense", start).is_err());
    }

    #[test]
    fn addresses_are_remembered_while_there_is_room() {
        let (limit, start) = (limit(1, 1, 64), Instant::now());
        let take = |n: u32| limit.take(&std::net::Ipv4Addr::from_bits(n).to_string(), start);
        assert!((0..32).all(|n| take(n).is_ok()));
        assert!((0..32).all(|n| take(n).is_err()), "taking turns helps nobody");
    }

    #[test]
    fn memory_is_bounded_and_zero_is_off() {
        let start = Instant::now();
        let small = limit(1, 1, 64);
        for n in 0..10_000_u32 {
            let _ = small.take(&std::net::Ipv4Addr::from_bits(n).to_string(), start);
        }
        let table = small.table.lock().unwrap();
        assert!(table.newer.len() + table.older.len() <= 64);
        let off = limit(0, 1, 64);
        assert!((0..100).all(|_| off.take("192.0.2.1", start).is_ok()));
    }
}
