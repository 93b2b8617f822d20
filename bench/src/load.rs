//! Load over loopback: contenders take turns round by round, so that whatever else the machine does hits all alike.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::http::Connection;
use crate::stats::{Spread, quantile};
use crate::{cpu, say};

/// Requests per connection before each round that are not counted.
const WARM_UP: Duration = Duration::from_millis(150);

/// What is asked, and of whom.
#[derive(Clone, Debug)]
pub struct Contender {
    /// What people call it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// The requests; each is sent once before the first is sent again, by whichever connection is free.
    pub requests: Arc<Requests>,
    /// The status of every answer; another one ends the benchmark.
    pub status: u16,
    /// The least body that an answer may have.
    pub min_body_bytes: u64,
    /// The processes whose time counts, with all that they have started.
    pub pids: Vec<u32>,
}

/// Requests to be sent one after the other, over all rounds.
#[derive(Debug)]
pub struct Requests {
    all: Vec<Vec<u8>>,
    next: AtomicUsize,
}

impl Requests {
    /// These, in this order.
    #[must_use]
    pub fn new(all: Vec<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { all, next: AtomicUsize::new(0) })
    }

    /// One, again and again.
    #[must_use]
    pub fn one(request: Vec<u8>) -> Arc<Self> {
        Self::new(vec![request])
    }

    /// How many different ones there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The next one.
    #[must_use]
    pub fn next(&self) -> &[u8] {
        let at = self.next.fetch_add(1, Ordering::Relaxed);
        self.all.get(at % self.all.len().max(1)).map_or(&[], Vec::as_slice)
    }
}

impl Contender {
    /// Seconds of processor time that its processes have used until now.
    fn cpu_s(&self) -> f64 {
        let all: Vec<u32> = self.pids.iter().flat_map(|pid| cpu::family(*pid)).collect();
        // A process that ends (a connection that was idle for too long) leaves what it has used to its parent.
        cpu::seconds(&all) + all.iter().map(|pid| cpu::seconds_of_ended_children(*pid)).sum::<f64>()
    }
}

/// How to drive.
#[derive(Clone, Copy, Debug)]
pub struct Drive {
    /// How often each contender has its turn.
    pub rounds: usize,
    /// How long a turn is.
    pub turn: Duration,
    /// How many connections are busy at once.
    pub connections: usize,
}

/// What a contender did in each round.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The contender's name.
    pub name: String,
    /// Requests per second of wall-clock time.
    pub per_second: Vec<f64>,
    /// Requests per second of processor time of its processes.
    pub per_cpu_second: Vec<f64>,
    /// Median latency in milliseconds.
    pub median_ms: Vec<f64>,
    /// The 99th percentile of latency in milliseconds.
    pub p99_ms: Vec<f64>,
}

impl Series {
    /// Processor time per request in microseconds.
    #[must_use]
    pub fn cpu_us(&self) -> Option<Spread> {
        Spread::of(&self.per_cpu_second.iter().map(|rate| 1e6 / rate).collect::<Vec<_>>())
    }
}

/// Lets the contenders take turns.
///
/// # Errors
/// If one of them answers anything but what it should.
pub fn rounds(contenders: &[Contender], drive: Drive) -> Result<Vec<Series>> {
    rounds_with(contenders, drive, || Ok(()))
}

/// The same with one more turn at the end of each round, for what is not asked over HTTP.
///
/// # Errors
/// If one of them answers anything but what it should, or the turn fails.
pub fn rounds_with(
    contenders: &[Contender],
    drive: Drive,
    mut more: impl FnMut() -> Result<()>,
) -> Result<Vec<Series>> {
    let mut all: Vec<Series> =
        contenders.iter().map(|one| Series { name: one.name.clone(), ..Series::default() }).collect();
    for round in 0..drive.rounds {
        for (contender, series) in contenders.iter().zip(&mut all) {
            turn(contender, drive.connections, WARM_UP).with_context(|| contender.name.clone())?;
            let turn = turn(contender, drive.connections, drive.turn).with_context(|| contender.name.clone())?;
            let count = turn.latencies_ms.len() as f64;
            series.per_second.push(count / turn.wall_s);
            anyhow::ensure!(turn.cpu_s >= 0.0, "{}: a process ended in the middle of a turn", contender.name);
            series.per_cpu_second.push(count / turn.cpu_s.max(1e-3));
            series.median_ms.push(quantile(&turn.latencies_ms, 0.5).unwrap_or_default());
            series.p99_ms.push(quantile(&turn.latencies_ms, 0.99).unwrap_or_default());
        }
        more()?;
        say(&format!("  round {} of {}", round + 1, drive.rounds));
    }
    for series in &all {
        if let Some((wall, cpu)) = Spread::of(&series.per_second).zip(series.cpu_us()) {
            say(&format!("  {:<44} {:>9.0} /s   {:>8.1} µs of CPU", series.name, wall.median, cpu.median));
        }
    }
    Ok(all)
}

/// One contender's turn.
#[derive(Clone, Debug, Default)]
pub struct Turn {
    /// How long it took, in seconds.
    pub wall_s: f64,
    /// What its processes used meanwhile, in seconds.
    pub cpu_s: f64,
    /// Of every request.
    pub latencies_ms: Vec<f64>,
}

/// Drives one contender for a while.
///
/// # Errors
/// If it answers anything but what it should.
pub fn turn(contender: &Contender, connections: usize, length: Duration) -> Result<Turn> {
    let open: Vec<Connection> = (0..connections).map(|_| Connection::open(contender.address)).collect::<Result<_>>()?;
    let (cpu_before, begun) = (contender.cpu_s(), Instant::now());
    let until = begun + length;
    let workers: Vec<_> = open
        .into_iter()
        .map(|mut connection| {
            let contender = contender.clone();
            std::thread::spawn(move || -> Result<Vec<f64>> {
                let mut latencies = Vec::with_capacity(1 << 14);
                loop {
                    let sent = Instant::now();
                    let answer = connection.exchange(contender.requests.next(), None)?;
                    let now = Instant::now();
                    if answer.status != contender.status || answer.body_bytes < contender.min_body_bytes {
                        bail!("answered {} with {} bytes", answer.status, answer.body_bytes);
                    }
                    latencies.push((now - sent).as_secs_f64() * 1e3);
                    if now >= until {
                        return Ok(latencies);
                    }
                }
            })
        })
        .collect();
    let mut turn = Turn::default();
    for worker in workers {
        let latencies = worker.join().map_err(|_| anyhow::anyhow!("a connection's thread panicked"))?;
        turn.latencies_ms.extend(latencies?);
    }
    turn.wall_s = begun.elapsed().as_secs_f64();
    turn.cpu_s = contender.cpu_s() - cpu_before;
    Ok(turn)
}
