//! The permit queue and the threads behind it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use argon2::Block;
use edgekeep_shared::keyring::Secret;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Password;
use super::stored::{Live, Stored};
use crate::config::{Argon2Config, ConfigError, HashingConfig};
use crate::failure::Failure;

/// Hashes passwords, a bounded number at a time. Clones share everything.
#[derive(Clone)]
pub struct Hasher(Arc<Inner>);

struct Inner {
    live: Live,
    /// A hash of a random password with the live parameters: what names that nobody has are checked against.
    dummy: String,
    permits: Arc<Semaphore>,
    permit_count: usize,
    waiting: AtomicUsize,
    queue_length: usize,
    queue_deadline: Duration,
    /// Memory of finished hashes, at most one per permit: allocating and clearing 19 MiB each time would cost more than
    /// a tenth of the hash.
    memory: Mutex<Vec<Vec<Block>>>,
    evaluations: AtomicU64,
}

/// The right to run one hash. It belongs to the hashing task, not to the request: dropping the request frees nothing early.
pub struct Permit {
    _held: OwnedSemaphorePermit,
}

/// What a check of a password found.
pub struct Checked {
    /// It is the password.
    pub matches: bool,
    /// A hash of the new password, if one was given and the present one is right.
    pub new_hash: Option<String>,
    /// The stored hash is of other parameters than those in force, or of another system.
    pub stale: bool,
}

/// Leaves the queue, also when the waiting request is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hasher {
    /// A hasher with these parameters. Makes one hash (the dummy), so that impossible parameters fail at start.
    ///
    /// # Errors
    /// When the parameters are impossible or there is no randomness.
    pub fn new(argon2: &Argon2Config, hashing: &HashingConfig, pepper: Option<Secret>) -> Result<Self, ConfigError> {
        let live =
            Live::new(argon2, pepper).ok_or_else(|| ConfigError::new("argon2: these parameters are impossible"))?;
        let nobody = Password::new(edgekeep_shared::ids::to_hex(&random::<32>()?))
            .map_err(|error| ConfigError::new(error.to_string()))?;
        let dummy = live
            .hash(&nobody, random()?, &mut Vec::new())
            .ok_or_else(|| ConfigError::new("argon2: these parameters are impossible"))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let permit_count = if hashing.permits == 0 { cores } else { hashing.permits };
        Ok(Self(Arc::new(Inner {
            live,
            dummy,
            permits: Arc::new(Semaphore::new(permit_count)),
            permit_count,
            waiting: AtomicUsize::new(0),
            queue_length: hashing.queue_length,
            queue_deadline: Duration::from_millis(hashing.queue_deadline_ms),
            memory: Mutex::new(Vec::new()),
            evaluations: AtomicU64::new(0),
        })))
    }

    /// Waits for the right to run one hash, first come, first served.
    ///
    /// # Errors
    /// [`Failure::Overloaded`] when the queue is full or its deadline has passed.
    pub async fn permit(&self) -> Result<Permit, Failure> {
        let inner = &self.0;
        if let Ok(permit) = Arc::clone(&inner.permits).try_acquire_owned() {
            return Ok(Permit { _held: permit });
        }
        let ahead = inner.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&inner.waiting);
        if ahead >= inner.queue_length {
            return Err(Failure::Overloaded);
        }
        match tokio::time::timeout(inner.queue_deadline, Arc::clone(&inner.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Permit { _held: permit }),
            Ok(Err(_)) | Err(_) => Err(Failure::Overloaded),
        }
    }

    /// Checks a password against a stored hash, or against the dummy for a name that nobody has (which never matches).
    /// If it is right and `new` is given, hashes that too.
    ///
    /// # Errors
    /// When the hashing thread cannot run.
    pub async fn check(
        &self,
        permit: Permit,
        stored: Option<String>,
        password: Password,
        new: Option<Password>,
    ) -> Result<Checked, Failure> {
        self.0.evaluations.fetch_add(1, Ordering::Relaxed);
        let inner = Arc::clone(&self.0);
        let work = move || {
            let mut memory = inner.take_memory();
            // A hash that cannot be read is nobody's password, and costs the same work.
            let stored = stored.and_then(|text| {
                Stored::parse(&text)
                    .inspect_err(|error| tracing::error!(%error, "a stored password hash is useless"))
                    .ok()
            });
            let (matches, stale) = match stored {
                Some(stored) => (stored.matches(&password, &inner.live, &mut memory), stored.is_stale(&inner.live)),
                None => {
                    if let Ok(dummy) = Stored::parse(&inner.dummy) {
                        std::hint::black_box(dummy.matches(&password, &inner.live, &mut memory));
                    }
                    (false, false)
                }
            };
            let new_hash = match new {
                Some(new) if matches => Some(inner.live.hash(&new, random().ok()?, &mut memory)?),
                _ => None,
            };
            inner.give_memory(memory);
            // Not a moment longer: what comes next waits for the database, and others have hashing to do.
            drop(permit);
            Some(Checked { matches, new_hash, stale })
        };
        tokio::task::spawn_blocking(work).await.ok().flatten().ok_or(Failure::NotReady("hashing failed"))
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// When the hashing thread cannot run.
    pub async fn hash(&self, permit: Permit, password: Password) -> Result<String, Failure> {
        let inner = Arc::clone(&self.0);
        let work = move || {
            let mut memory = inner.take_memory();
            let hash = inner.live.hash(&password, random().ok()?, &mut memory);
            inner.give_memory(memory);
            drop(permit);
            hash
        };
        tokio::task::spawn_blocking(work).await.ok().flatten().ok_or(Failure::NotReady("hashing failed"))
    }

    /// The fingerprint that hashes made with the pepper carry. `None`: there is no pepper.
    #[must_use]
    pub fn pepper_fingerprint(&self) -> Option<&str> {
        self.0.live.key_id.as_deref()
    }

    /// How many passwords have been checked since the start (of known and unknown users).
    #[must_use]
    pub fn evaluations(&self) -> u64 {
        self.0.evaluations.load(Ordering::Relaxed)
    }

    /// How many logins wait for a permit right now.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.0.waiting.load(Ordering::Relaxed)
    }

    /// How many hashes run right now.
    #[must_use]
    pub fn running(&self) -> usize {
        self.0.permit_count.saturating_sub(self.0.permits.available_permits())
    }
}

impl Inner {
    fn take_memory(&self) -> Vec<Block> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_memory(&self, mut blocks: Vec<Block>) {
        // An imported hash may have needed far more: do not keep that for ever.
        blocks.truncate(self.live.params.block_count());
        blocks.shrink_to_fit();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.len() < self.permit_count {
            memory.push(blocks);
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], ConfigError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| ConfigError::new(format!("the operating system gives no random bytes: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hasher(queue_length: usize) -> Hasher {
        let hashing = HashingConfig { permits: 1, queue_length, queue_deadline_ms: 100 };
        Hasher::new(&Argon2Config { memory_kib: 1024, passes: 1, lanes: 1 }, &hashing, None).unwrap()
    }

    fn password(text: &str) -> Password {
        Password::new(text.into()).unwrap()
    }

    #[tokio::test]
    async fn right_wrong_and_nobody() {
        let hasher = hasher(8);
        let right = password("correct horse battery");
        let hash = hasher.hash(hasher.permit().await.unwrap(), right.clone()).await.unwrap();
        for (stored, typed, matches) in [
            (Some(hash.clone()), right.clone(), true),
            (Some(hash.clone()), password("wrong horse battery"), false),
            (None, right.clone(), false),
            (Some("nonsense".into()), right.clone(), false),
        ] {
            let checked = hasher.check(hasher.permit().await.unwrap(), stored, typed, None).await.unwrap();
            assert_eq!(checked.matches, matches);
            assert!(!checked.stale);
        }
        assert_eq!(hasher.evaluations(), 4);
        let new = Some(password("another horse battery"));
        let permit = hasher.permit().await.unwrap();
        let checked = hasher.check(permit, Some(hash.clone()), password("wrong"), new.clone()).await.unwrap();
        assert!(checked.new_hash.is_none(), "no work for a wrong password");
        let checked = hasher.check(hasher.permit().await.unwrap(), Some(hash), right, new).await.unwrap();
        assert!(checked.new_hash.is_some());
    }

    #[tokio::test]
    async fn the_queue_is_bounded_in_length_and_time() {
        let hasher = hasher(1);
        let held = hasher.permit().await.unwrap();
        let (late, full) = tokio::join!(hasher.permit(), hasher.permit());
        assert!(matches!((late, full), (Err(Failure::Overloaded), Err(Failure::Overloaded))));
        assert_eq!(hasher.waiting(), 0);
        drop(held);
        hasher.permit().await.unwrap();
    }
}
