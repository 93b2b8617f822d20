//! Questions to the feed as edges ask them, and many of them held at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use edgekeep_shared::feed::{Answer, CONTENT_TYPE, Question};
use edgekeep_shared::follow::hold_ms;
use edgekeep_shared::ids::Nonce;
use edgekeep_shared::position::Position;

use crate::coordinator::{Coordinator, metric};
use crate::http::Connection;
use crate::workerd::at;

/// A cursor: the epoch and what is covered.
pub type Cursor = (u16, Position);

/// A question that may be kept for so long.
#[must_use]
pub fn question(cursor: Option<&Cursor>, hold_ms: u32) -> Question {
    let (epoch, from) = cursor.map_or((0, None), |(epoch, at)| (*epoch, Some(at.clone())));
    Question { nonce: Nonce([5; 16]), epoch, from, page: None, hold_ms }
}

/// Asks once; gives the answer and how long its body was.
///
/// # Errors
/// If it is refused.
pub fn poll(coordinator: &Coordinator, question: &Question) -> Result<(Answer, usize)> {
    let mut body = Vec::new();
    let sent = coordinator.ask("/v1/feed", CONTENT_TYPE, &question.encode());
    let answer = Connection::open(at(coordinator.port))?.exchange(&sent, Some(&mut body))?;
    anyhow::ensure!(answer.status == 200, "a poll was answered with {}", answer.status);
    Ok((Answer::decode(&body).context("not an answer")?, body.len()))
}

/// Follows the feed to its end; gives the cursor and how many entries came by.
///
/// # Errors
/// If it is refused.
pub fn follow(coordinator: &Coordinator) -> Result<(Cursor, usize)> {
    let mut asked = question(None, 0);
    let mut entries = 0;
    loop {
        let (answer, _) = poll(coordinator, &asked)?;
        entries += answer.entries.len();
        match answer.head.next_page {
            Some(page) => asked.page = Some(page),
            None => return Ok(((answer.head.epoch, answer.head.to), entries)),
        }
    }
}

/// How long the first answers and the last ones may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// A poll's thread does little.
const STACK_BYTES: usize = 128 * 1024;
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Polls that are held at a coordinator, each on a connection of its own, asked again when answered: what so many busy isolates
/// do. Dropping it ends them.
pub struct Polls {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    entries: AtomicU64,
    refused: AtomicU64,
}

/// What became of them.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Answers.
    pub answered: u64,
    /// Entries in them.
    pub entries: u64,
    /// Refusals (503); they asked again.
    pub refused: u64,
}

impl Polls {
    /// Holds so many, and waits until the coordinator says that it has them all.
    ///
    /// # Errors
    /// If it does not take them.
    pub fn hold(coordinator: &Coordinator, count: usize, max_staleness_ms: u32) -> Result<Self> {
        let (cursor, _) = follow(coordinator)?;
        let mut polls = Self { stop: Arc::default(), counts: Arc::default(), threads: Vec::new() };
        let longest_ms = hold_ms(Some(max_staleness_ms), None);
        for index in 0..count {
            // As edges do: up to a quarter shorter, so that they do not come all at once.
            let shorter_ms = longest_ms / 4 * u32::try_from(index * 7 % 100)? / 100;
            let asked = question(Some(&cursor), longest_ms - shorter_ms);
            let (coordinator, stop, counts) = (coordinator.clone(), polls.stop.clone(), polls.counts.clone());
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            polls.threads.push(thread.spawn(move || ask_again(&coordinator, asked, &stop, &counts))?);
        }
        let begun = Instant::now();
        while polls.held_at(coordinator)? < count as f64 * 0.9 {
            anyhow::ensure!(begun.elapsed() < PATIENCE, "the coordinator does not hold {count} polls");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(polls)
    }

    /// How many the coordinator holds now, as it says itself.
    ///
    /// # Errors
    /// If it does not tell.
    pub fn held_at(&self, coordinator: &Coordinator) -> Result<f64> {
        metric(coordinator.port, "edgekeep_feed_held_polls", "")
    }

    /// Ends them and tells what became of them.
    ///
    /// # Errors
    /// If one of them had ended before, or was answered wrongly.
    pub fn end(mut self) -> Result<Told> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow::anyhow!("a poll's thread panicked"))?.context("a held poll")?;
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { answered, entries, refused } = &*self.counts;
        Ok(Told { answered: count(answered), entries: count(entries), refused: count(refused) })
    }
}

impl Drop for Polls {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn ask_again(coordinator: &Coordinator, mut asked: Question, stop: &AtomicBool, counts: &Counts) -> Result<()> {
    let mut connection = Connection::open_small(at(coordinator.port))?;
    let mut body = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        body.clear();
        let sent = coordinator.ask("/v1/feed", CONTENT_TYPE, &asked.encode());
        match connection.exchange(&sent, Some(&mut body))?.status {
            200 => {}
            503 => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(REFUSED_PAUSE);
                continue;
            }
            other => anyhow::bail!("answered with {other}"),
        }
        let answer = Answer::decode(&body).context("not an answer")?;
        counts.answered.fetch_add(1, Ordering::Relaxed);
        counts.entries.fetch_add(answer.entries.len() as u64, Ordering::Relaxed);
        asked.page = answer.head.next_page;
        if asked.page.is_none() {
            (asked.epoch, asked.from) = (answer.head.epoch, Some(answer.head.to));
        }
    }
    Ok(())
}
