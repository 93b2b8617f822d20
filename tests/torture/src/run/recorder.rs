//! Where clients write down what they did and saw.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use edgekeep_shared::cookie::cookie_name;
use edgekeep_shared::ids::SessionId;

use crate::history::{Action, Calm, Isolated, Line, Lost, Operation, Outcome, Rules, SessionNo, Us};

/// Records of a run, on disk.
pub struct Recorder {
    began: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    file: BufWriter<File>,
    operations: u32,
    numbers: HashMap<String, SessionNo>,
    /// The names of their cookies, by number.
    cookies: Vec<Option<String>>,
}

impl Inner {
    fn write(&mut self, line: &Line) {
        line.write(&mut self.file).expect("room for the history");
    }
}

impl Recorder {
    /// An empty history in this file.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn new(rules: Rules, path: &Path) -> std::io::Result<Self> {
        let file = BufWriter::new(File::create(path)?);
        let mut inner = Inner { file, operations: 0, numbers: HashMap::new(), cookies: Vec::new() };
        inner.write(&Line::Rules(rules));
        Ok(Self { began: Instant::now(), inner: Mutex::new(inner) })
    }

    fn with<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        change(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Microseconds since the run began.
    #[must_use]
    pub fn now_us(&self) -> Us {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(Us::MAX)
    }

    /// The number of a session.
    #[must_use]
    pub fn session(&self, id: &str) -> SessionNo {
        self.with(|inner| {
            if let Some(number) = inner.numbers.get(id) {
                return *number;
            }
            let number = SessionNo(u32::try_from(inner.numbers.len()).unwrap_or(u32::MAX));
            inner.write(&Line::Session(id.to_owned()));
            inner.numbers.insert(id.to_owned(), number);
            inner.cookies.push(id.parse::<SessionId>().ok().map(cookie_name));
            number
        })
    }

    /// The name of a session's cookie.
    #[must_use]
    pub fn cookie_of(&self, session: SessionNo) -> Option<String> {
        self.with(|inner| inner.cookies.get(usize::try_from(session.0).ok()?).cloned().flatten())
    }

    /// Writes down one operation. `who`: the user and the client.
    pub fn record(
        &self,
        who: (u32, u32),
        edge: u8,
        (sent_us, returned_us): (Us, Us),
        action: Action,
        outcome: Outcome,
        cleared: bool,
    ) {
        let (user, client) = who;
        self.with(|inner| {
            let id = inner.operations;
            inner.operations += 1;
            let operation = Operation { id, user, client, edge, sent_us, returned_us, action, outcome, cleared };
            inner.write(&Line::Operation(operation));
        });
    }

    /// Everything was up in this stretch.
    pub fn calm(&self, from_us: Us, until_us: Us) {
        self.with(|inner| inner.write(&Line::Calm(Calm { from_us, until_us })));
    }

    /// This edge was isolated in this stretch.
    pub fn isolated(&self, edge: u8, from_us: Us, until_us: Us) {
        self.with(|inner| inner.write(&Line::Isolated(Isolated { edge, from_us, until_us })));
    }

    /// A promotion may have lost what was committed in this stretch.
    pub fn lost(&self, lost: Lost) {
        self.with(|inner| inner.write(&Line::Lost(lost)));
    }

    /// How many operations there are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.with(|inner| inner.operations)
    }

    /// All that was written is in the file.
    ///
    /// # Errors
    /// If it is not.
    pub fn flush(&self) -> std::io::Result<()> {
        self.with(|inner| inner.file.flush())
    }
}

/// SplitMix64: the same seed, the same choices.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// For this seed, and this one of those who share it.
    #[must_use]
    pub const fn new(seed: u64, stream: u64) -> Self {
        Self(seed ^ stream.wrapping_mul(0xD6E8_FEB8_6659_FD93))
    }

    /// A number below `limit`.
    pub const fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }

    /// True once in `n` times.
    pub const fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        let at = self.below(all.len() as u64);
        &all[usize::try_from(at).unwrap_or(0)]
    }
}
