//! A TCP proxy that breaks links: between a client and an edge, or between an edge and a coordinator.
//!
//! Bytes pass unchanged until a fault is asked for. Rules look at requests (HTTP/1.1, one at a time per connection, as
//! browsers, our client and workerd send them): a request always gets through to the other side; what a rule loses or
//! holds is the answer.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::PATIENCE;

/// What becomes of answers to the requests that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The request gets through; when the answer comes it is thrown away and the connection is closed.
    LoseAnswer,
    /// The request gets through; the answer waits until [`Proxy::release`].
    HoldAnswer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Whole,
    /// Nothing passes, connections stay: a network that has gone silent.
    Silent,
    /// Connections are closed, new ones too.
    Cut,
    /// The proxy is being dropped.
    Gone,
}

#[derive(Debug)]
struct Rule {
    /// What the request begins with, such as `POST /v1/login`.
    starts: String,
    fault: Fault,
    left: usize,
}

#[derive(Debug)]
struct State {
    link: Link,
    rules: Vec<Rule>,
    /// Answers that came and were lost or held.
    caught: usize,
    /// Grows with each release.
    releases: usize,
    streams: Vec<TcpStream>,
    requests: Vec<String>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    target: SocketAddr,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running proxy. Dropping it cuts the link.
#[derive(Debug)]
pub struct Proxy {
    shared: Arc<Shared>,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Proxy {
    /// A proxy in front of `target`.
    #[must_use]
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = State {
            link: Link::Whole,
            rules: Vec::new(),
            caught: 0,
            releases: 0,
            streams: Vec::new(),
            requests: Vec::new(),
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), target });
        let accepting = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let link = accepting.lock().link;
                match link {
                    Link::Gone => return,
                    Link::Cut => drop(stream),
                    Link::Whole | Link::Silent => accepting.clone().connect(stream),
                }
            }
        });
        Self { shared, address }
    }

    /// Its address as a URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn set(&self, link: Link) {
        let mut state = self.shared.lock();
        state.link = link;
        if matches!(link, Link::Cut | Link::Gone) {
            for stream in state.streams.drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        self.shared.changed.notify_all();
    }

    /// Nothing passes any more, and nobody is told.
    pub fn silence(&self) {
        self.set(Link::Silent);
    }

    /// Closes all connections, and new ones too.
    pub fn cut(&self) {
        self.set(Link::Cut);
    }

    /// The link is whole again. What waited in a silent one passes now.
    pub fn mend(&self) {
        self.set(Link::Whole);
    }

    /// The next `times` answers to requests that begin with `starts` meet this fault.
    pub fn rule(&self, starts: &str, fault: Fault, times: usize) {
        self.shared.lock().rules.push(Rule { starts: starts.into(), fault, left: times });
    }

    /// Lets go of all answers that are held.
    pub fn release(&self) {
        let mut state = self.shared.lock();
        state.releases += 1;
        state.rules.retain(|rule| rule.fault != Fault::HoldAnswer);
        self.shared.changed.notify_all();
    }

    /// Waits until so many answers have been caught.
    ///
    /// # Panics
    /// If they are not in time.
    pub fn wait_caught(&self, count: usize) {
        let state = self.shared.lock();
        let (state, timeout) =
            self.shared.changed.wait_timeout_while(state, PATIENCE, |state| state.caught < count).expect("no poison");
        assert!(!timeout.timed_out(), "caught {} answers, not {count}; saw {:?}", state.caught, state.requests);
    }

    /// How many requests began with this.
    #[must_use]
    pub fn seen(&self, starts: &str) -> usize {
        self.shared.lock().requests.iter().filter(|request| request.starts_with(starts)).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Link::Gone);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

/// What the requests' side tells the answers' side of a connection.
#[derive(Debug, Default)]
struct Pending(Mutex<Option<Fault>>);

impl Pending {
    fn set(&self, fault: Option<Fault>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    fn get(&self) -> Option<Fault> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn connect(self: Arc<Self>, near: TcpStream) {
        let Ok(far) = TcpStream::connect(self.target) else { return };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let copies = (near.try_clone(), far.try_clone(), near.try_clone(), far.try_clone());
        let (Ok(near_too), Ok(far_too), Ok(near_kept), Ok(far_kept)) = copies else { return };
        self.lock().streams.extend([near_kept, far_kept]);
        let pending = Arc::new(Pending::default());
        let (requests, their_pending) = (self.clone(), pending.clone());
        thread::spawn(move || requests.pass(near, far, |bytes| requests.on_request(&their_pending, bytes)));
        thread::spawn(move || {
            let shared = self.clone();
            self.pass(far_too, near_too, |_| shared.on_answer(&pending));
        });
    }

    /// Copies until either side ends. `look` sees all bytes before they pass and says whether they may.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8]) -> bool) {
        let mut buffer = vec![0; 65_536];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if !look(&buffer[..count]) || !self.passable() || to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }

    /// Waits while the link is silent; says whether it is whole.
    fn passable(&self) -> bool {
        let state = self.lock();
        let state = self.changed.wait_while(state, |state| state.link == Link::Silent);
        state.is_ok_and(|state| state.link == Link::Whole)
    }

    fn on_request(&self, pending: &Pending, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(256)]);
        let line = text.lines().next().unwrap_or_default();
        // More of a body that was begun says nothing new.
        if line.contains(" HTTP/1.1") {
            let mut state = self.lock();
            state.requests.push(line.to_owned());
            let rule = state.rules.iter_mut().find(|rule| rule.left > 0 && line.starts_with(&rule.starts));
            pending.set(rule.map(|rule| {
                rule.left -= 1;
                rule.fault
            }));
        }
        true
    }

    fn on_answer(&self, pending: &Pending) -> bool {
        let Some(fault) = pending.get() else { return true };
        pending.set(None);
        let mut state = self.lock();
        state.caught += 1;
        self.changed.notify_all();
        match fault {
            Fault::LoseAnswer => false,
            Fault::HoldAnswer => {
                let before = state.releases;
                let waiting = |state: &mut State| state.releases == before && state.link != Link::Gone;
                drop(self.changed.wait_while(state, waiting));
                true
            }
        }
    }
}
