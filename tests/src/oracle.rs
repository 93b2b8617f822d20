//! When was a cookie last accepted? A probe asks every edge for a protected page, over and over, with one cookie.
//!
//! Guarantee that its report is used for (G2): a request whose answer was "accepted" was decided about after it was
//! sent, so no accepted request may have been *sent* later than the bound after the revocation's receipt, which is never
//! earlier than the moment when it became visible in the database.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::http::{Kept, Request};
use crate::{PATIENCE, print_figure};

/// A pause between two requests of one thread, so that the machine keeps some time for everybody else.
const PAUSE: Duration = Duration::from_millis(1);

/// What one request came to.
#[derive(Clone, Debug)]
pub struct Record {
    /// The edge's place in the list.
    pub edge: usize,
    /// Just before it was sent.
    pub sent: Instant,
    /// When the answer was there.
    pub received: Instant,
    /// The answer's status; 0 for none.
    pub status: u16,
    /// The problem's reason.
    pub reason: Option<String>,
    /// The answer touched cookies.
    pub set_cookie: bool,
    /// `Retry-After` was there.
    pub retry_after: bool,
}

/// Running requests.
pub struct Probe {
    stop: Arc<AtomicBool>,
    records: Arc<Mutex<Vec<Record>>>,
    threads: Vec<JoinHandle<()>>,
    edges: usize,
}

impl Probe {
    /// Starts to ask these edges for `target` with these cookies.
    #[must_use]
    pub fn start(edges: &[SocketAddr], target: &str, cookies: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let records = Arc::new(Mutex::new(Vec::new()));
        let request = Request::get(target).header("Cookie", cookies);
        let threads = edges.iter().enumerate().map(|(edge, address)| {
            let (stop, records, request, address) = (stop.clone(), records.clone(), request.clone(), *address);
            thread::spawn(move || {
                let mut connection = Kept::new(address);
                while !stop.load(Ordering::Relaxed) {
                    let record = ask(&mut connection, &request, edge);
                    lock(&records).push(record);
                    thread::sleep(PAUSE);
                }
            })
        });
        let threads = threads.collect();
        Self { stop, records, threads, edges: edges.len() }
    }

    /// Waits until every edge has answered with this status to a request sent after `from`.
    ///
    /// # Panics
    /// If they do not in time; with what each said last.
    #[track_caller]
    pub fn wait_for(&self, status: u16, from: Instant) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let records = lock(&self.records);
            let of = |edge: usize| records.iter().rev().filter(move |record| record.edge == edge);
            if (0..self.edges).all(|edge| of(edge).any(|record| record.status == status && record.sent > from)) {
                return;
            }
            if Instant::now() >= deadline {
                let last: Vec<_> = (0..self.edges).map(|edge| of(edge).next()).collect();
                panic!("not every edge answered {status}; the last answers, at {:?}: {last:#?}", Instant::now());
            }
            drop(records);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Stops asking and gives what came of it.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
        let records = std::mem::take(&mut *lock(&self.records));
        Report { records, edges: self.edges }
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn ask(connection: &mut Kept, request: &Request, edge: usize) -> Record {
    let sent = Instant::now();
    match connection.send(request) {
        Ok(response) => Record {
            edge,
            sent: response.sent,
            received: response.received,
            status: response.status,
            reason: response.reason(),
            set_cookie: response.header("Set-Cookie").is_some(),
            retry_after: response.header("Retry-After").is_some(),
        },
        Err(_) => Record {
            edge,
            sent,
            received: Instant::now(),
            status: 0,
            reason: None,
            set_cookie: false,
            retry_after: false,
        },
    }
}

/// What a probe found.
#[derive(Debug)]
pub struct Report {
    /// All requests, in the order in which their answers came.
    pub records: Vec<Record>,
    edges: usize,
}

impl Report {
    /// How long after `receipt` the last request was sent that an edge still accepted; zero if none was.
    #[must_use]
    pub fn last_acceptance(&self, receipt: Instant) -> Duration {
        let accepted = self.records.iter().filter(|record| record.status == 200);
        accepted.map(|record| record.sent.saturating_duration_since(receipt)).max().unwrap_or_default()
    }

    /// G2 and G5: nothing is accepted that was sent later than the bound after the receipt, and an edge that has
    /// refused never accepts again. Prints the figure.
    pub fn assert_revoked(&self, what: &str, receipt: Instant, bound: Duration) {
        let last = self.last_acceptance(receipt);
        let after = self.records.iter().filter(|r| r.status == 200 && r.sent > receipt).count();
        print_figure(&format!(
            "{what}: last accepted request was sent {:.1} ms after the receipt ({after} of {} requests, {} edges)",
            last.as_secs_f64() * 1_000.0,
            self.records.len(),
            self.edges
        ));
        assert!(last <= bound, "{what}: accepted {last:?} after the receipt, the bound is {bound:?}");
        self.assert_never_again(what);
    }

    /// G5: no edge accepts a request that was sent after it had refused one with 401.
    pub fn assert_never_again(&self, what: &str) {
        for edge in 0..self.edges {
            let of_edge = || self.records.iter().filter(|record| record.edge == edge);
            let Some(refused) = of_edge().filter(|r| r.status == 401).map(|record| record.received).min() else {
                continue;
            };
            let again = of_edge().find(|record| record.status == 200 && record.sent > refused);
            assert!(again.is_none(), "{what}: edge {edge} accepted again after it had refused: {again:?}");
        }
    }

    /// Reasons that 401s gave, each once.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let refused = self.records.iter().filter(|record| record.status == 401);
        let mut reasons: Vec<String> = refused.map(|record| record.reason.clone().unwrap_or_default()).collect();
        reasons.sort();
        reasons.dedup();
        reasons
    }

    /// Statuses that came, each once.
    #[must_use]
    pub fn statuses(&self) -> Vec<u16> {
        let mut statuses: Vec<u16> = self.records.iter().map(|record| record.status).collect();
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}
