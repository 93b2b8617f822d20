//! Finds the `COMMIT`s that make or end sessions among what a coordinator sends to Postgres (protocol 3.0, without TLS).
//!
//! Statements are prepared: named once per connection, then called by that name, so names are remembered. Other `COMMIT`s are
//! not meant: there are so many heartbeats, reservations and renewals that a fault would meet nothing else. What is taken for
//! a message and is none (a start-up packet, the rest of a long message) does no harm: a fault misses its aim.

use std::collections::HashMap;

/// What a prepared statement does, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    Begin,
    ChangeSession,
    Commit,
}

impl Does {
    fn of(query: &[u8]) -> Option<Self> {
        let query = String::from_utf8_lossy(query).to_ascii_uppercase();
        match query.trim() {
            "BEGIN" => Some(Self::Begin),
            "COMMIT" => Some(Self::Commit),
            other => ["INSERT INTO SESSION ", "DELETE FROM SESSION "]
                .into_iter()
                .any(|change| other.contains(change))
                .then_some(Self::ChangeSession),
        }
    }
}

/// What one connection has said so far.
#[derive(Debug, Default)]
pub struct Commits {
    named: HashMap<Vec<u8>, Does>,
    changes_session: bool,
}

impl Commits {
    /// One of the messages in these bytes commits a transaction that makes or ends a session.
    pub fn among(&mut self, mut bytes: &[u8]) -> bool {
        let mut found = false;
        while let Some((kind, body, rest)) = message(bytes) {
            bytes = rest;
            match kind {
                // Parse: name, query.
                b'P' => {
                    let (name, rest) = text(body);
                    match Does::of(text(rest).0) {
                        Some(does) => drop(self.named.insert(name.to_vec(), does)),
                        None => drop(self.named.remove(name)),
                    }
                }
                // Bind: portal, name.
                b'B' => match self.named.get(text(text(body).1).0) {
                    Some(Does::Begin) => self.changes_session = false,
                    Some(Does::ChangeSession) => self.changes_session = true,
                    Some(Does::Commit) => found |= std::mem::take(&mut self.changes_session),
                    None => {}
                },
                _ => {}
            }
        }
        found
    }
}

/// The first message: its kind, its body, and what follows.
fn message(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let length = usize::try_from(u32::from_be_bytes(rest.first_chunk().copied()?)).ok()?;
    let (whole, after) = rest.split_at_checked(length)?;
    Some((*kind, whole.get(4..)?, after))
}

/// The text up to the first NUL, and what follows.
fn text(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    fn parse(name: &[u8], query: &[u8]) -> Vec<u8> {
        [of(b'P', &[name, b"\0", query, b"\0\0\0"].concat()), of(b'S', b"")].concat()
    }

    fn call(name: &[u8]) -> Vec<u8> {
        [of(b'B', &[b"\0", name, b"\0\0\0\0\0\0\0"].concat()), of(b'E', b"\0\0\0\0\0")].concat()
    }

    fn told() -> Commits {
        let mut commits = Commits::default();
        let all = [(b"1", &b"BEGIN"[..]), (b"2", b"COMMIT"), (b"3", b"INSERT INTO session (a)"), (b"4", b"SELECT 1")];
        for (name, query) in all {
            assert!(!commits.among(&parse(name, query)), "it is only named here");
        }
        commits
    }

    #[test]
    fn a_commit_that_makes_a_session_is_found_by_the_name_of_its_statement() {
        let mut commits = told();
        let bytes = [call(b"1"), call(b"4"), call(b"3")].concat();
        assert!(!commits.among(&bytes) && commits.among(&call(b"2")) && !commits.among(&call(b"2")));
        assert!(!Commits::default().among(&[call(b"3"), call(b"2")].concat()), "names belong to a connection");
    }

    #[test]
    fn other_commits_are_not_meant() {
        let mut commits = told();
        assert!(!commits.among(&[call(b"1"), call(b"4"), call(b"2")].concat()));
        // One that was rolled back, and then another one.
        assert!(!commits.among(&[call(b"1"), call(b"3"), call(b"1"), call(b"4"), call(b"2")].concat()));
        assert!(!commits.among(&of(b'Q', b"COMMIT\0")), "a heartbeat");
    }

    #[test]
    fn what_is_no_message_is_no_commit() {
        let mut commits = told();
        for bytes in
            [&b""[..], b"B", b"B\0\0\0", b"B\0\0\0\x01", b"B\xff\xff\xff\xff\0\x32\0", &[0, 0, 0, 8, 4, 210, 22]]
        {
            assert!(!commits.among(bytes), "{bytes:?}");
        }
    }
}
