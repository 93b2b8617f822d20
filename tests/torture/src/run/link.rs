//! A link between two parts that can be broken, for HTTP and for Postgres alike. Of what passes it knows only whether a
//! `COMMIT` is in it ([`super::commits`]).

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::commits::Commits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Whole,
    /// Nothing passes, connections stay, nobody is told: half-open.
    Silent,
    /// Connections are closed, new ones too.
    Cut,
}

/// What happens to a question now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A question is thrown away and its connection closed.
    DropBefore,
    /// A question gets through; the answer is thrown away and the connection closed.
    DropAfter,
}

struct Lossy {
    what: Loss,
    /// Of questions that commit a session only.
    commits: bool,
    /// Every n-th question.
    every: u64,
    seen: u64,
    /// So many were lost.
    lost: u64,
}

type Trap = Box<dyn FnOnce() + Send>;

struct State {
    target: SocketAddr,
    mode: Mode,
    /// Every question waits for so long.
    questions_late: Duration,
    /// Every answer waits for so long.
    answers_late: Duration,
    lossy: Option<Lossy>,
    trap: Option<Trap>,
    streams: HashMap<u64, [TcpStream; 2]>,
    next: u64,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A link. It lives as long as the process.
#[derive(Clone)]
pub struct Link {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Link {
    /// A link to `target`.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            target,
            mode: Mode::Whole,
            questions_late: Duration::ZERO,
            answers_late: Duration::ZERO,
            lossy: None,
            trap: None,
            streams: HashMap::new(),
            next: 0,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let accepting = shared.clone();
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let shared = accepting.clone();
                // A connection to a part that is stopped may take a while.
                thread::spawn(move || shared.connect(near));
            }
        });
        Self { shared, address }
    }

    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.shared.lock());
        self.shared.changed.notify_all();
    }

    /// Nothing passes any more, and nobody is told.
    pub fn silence(&self) {
        self.with(|state| state.mode = Mode::Silent);
    }

    /// Closes all connections, and new ones too.
    pub fn cut(&self) {
        self.with(|state| {
            state.mode = Mode::Cut;
            state.close_all();
        });
    }

    /// Everything waits.
    pub fn delay(&self, questions: Duration, answers: Duration) {
        self.with(|state| (state.questions_late, state.answers_late) = (questions, answers));
    }

    /// Every n-th question is lost, or its answer.
    pub fn lose(&self, what: Loss, every: u64) {
        self.with(|state| state.lossy = Some(Lossy { what, commits: false, every, seen: 0, lost: 0 }));
    }

    /// Every `COMMIT` of a transaction that makes or ends a session is lost, or its acknowledgement.
    pub fn lose_commits(&self, what: Loss) {
        self.with(|state| state.lossy = Some(Lossy { what, commits: true, every: 1, seen: 0, lost: 0 }));
    }

    /// How many questions or answers were lost since that began.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lock().lossy.as_ref().map_or(0, |lossy| lossy.lost)
    }

    /// When the next answer comes, this is done before it is passed on.
    pub fn trap(&self, trap: impl FnOnce() + Send + 'static) {
        self.with(|state| state.trap = Some(Box::new(trap)));
    }

    /// From now on it leads elsewhere.
    pub fn lead_to(&self, target: SocketAddr) {
        self.with(|state| {
            state.target = target;
            state.close_all();
        });
    }

    /// Whole again. What waited passes now, late.
    pub fn mend(&self) {
        self.with(|state| {
            state.mode = Mode::Whole;
            (state.questions_late, state.answers_late) = (Duration::ZERO, Duration::ZERO);
            state.lossy = None;
            state.trap = None;
        });
    }

    /// Whole again, with new connections only.
    pub fn renew(&self) {
        self.mend();
        self.with(State::close_all);
    }
}

impl State {
    fn close_all(&mut self) {
        for stream in self.streams.drain().flat_map(|(_, streams)| streams) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Questions,
    Answers,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(self: Arc<Self>, near: TcpStream) {
        let target = {
            let state = self.lock();
            if state.mode == Mode::Cut {
                return;
            }
            state.target
        };
        let Ok(far) = TcpStream::connect_timeout(&target, Duration::from_secs(5)) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let copies = (near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone());
        let (Ok(near_too), Ok(far_too), Ok(near_kept), Ok(far_kept)) = copies else { return };
        let number = {
            let mut state = self.lock();
            if state.mode == Mode::Cut || state.target != target {
                return;
            }
            state.next += 1;
            let number = state.next;
            state.streams.insert(number, [near_kept, far_kept]);
            number
        };
        // The answer to the question before is to be lost.
        let lose = Arc::new(Mutex::new(false));
        let (questions, their_lose) = (self.clone(), lose.clone());
        let asking = thread::spawn(move || questions.pass(near, far, Side::Questions, &their_lose));
        self.pass(far_too, near_too, Side::Answers, &lose);
        let _ = asking.join();
        self.lock().streams.remove(&number);
    }

    /// Copies until either side ends.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, side: Side, lose: &Mutex<bool>) {
        let mut buffer = vec![0; 65_536];
        let mut commits = Commits::default();
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let commits = side == Side::Questions && commits.among(&buffer[..count]);
            if !self.may_pass(side, commits, lose) || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    fn may_pass(&self, side: Side, commits: bool, lose: &Mutex<bool>) -> bool {
        let mut lose = lose.lock().unwrap_or_else(PoisonError::into_inner);
        let mut state = self.lock();
        let late = match side {
            Side::Questions => {
                if let Some(lossy) = state.lossy.as_mut().filter(|lossy| commits || !lossy.commits) {
                    lossy.seen += 1;
                    if lossy.seen.is_multiple_of(lossy.every) {
                        lossy.lost += 1;
                        if lossy.what == Loss::DropBefore {
                            return false;
                        }
                        *lose = true;
                    }
                }
                state.questions_late
            }
            Side::Answers => {
                if std::mem::take(&mut *lose) {
                    return false;
                }
                if let Some(trap) = state.trap.take() {
                    trap();
                }
                state.answers_late
            }
        };
        drop(lose);
        if !late.is_zero() {
            drop(state);
            thread::sleep(late);
            state = self.lock();
        }
        let state = self.changed.wait_while(state, |state| state.mode == Mode::Silent);
        state.is_ok_and(|state| state.mode == Mode::Whole)
    }
}
