//! The feed on the wire: a question with a cursor, an answer with what lies past it (design 2.2).
//!
//! An answer states what it covers, how old it is and which question it answers, so that nothing
//! in between (cache, relay, retry) can extend its validity. Big-endian, strict: see [`crate::codec`].

use crate::codec::{Malformed, Reader, put_u48};
use crate::ids::{Nonce, UserId};
use crate::position::{MAX_IN_PROGRESS, Position};
use crate::revision::Revision;

const VERSION: u8 = 1;
/// Content type of questions and answers.
pub const CONTENT_TYPE: &str = "application/vnd.edgekeep.feed";
/// The most entries in one answer; more come in pages.
pub const MAX_ENTRIES: usize = 65_536;
/// Bytes of one entry.
pub const ENTRY_BYTES: usize = 8 + 8 + 6;
/// The longest question, in bytes.
pub const MAX_QUESTION_BYTES: usize = 64 + 2 * (10 + 8 * MAX_IN_PROGRESS) + 32;

/// "Proofs of this user with a lower revision (strictly) must ask first."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The user.
    pub user_id: UserId,
    /// The user's revision since the last raise.
    pub revision: Revision,
    /// Coordinator time until which some proof could need this entry.
    pub needed_until_ms: u64,
}

impl Entry {
    /// Two entries of one user as one: the maximum of each field. Commutative, associative, idempotent (G5).
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        debug_assert_eq!(self.user_id, other.user_id);
        Self {
            user_id: self.user_id,
            revision: self.revision.max(other.revision),
            needed_until_ms: self.needed_until_ms.max(other.needed_until_ms),
        }
    }
}

/// Where the next page of a long answer starts. Only the reader instance that gave it can continue it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PageToken {
    /// The reader that gave it.
    pub instance: u64,
    /// The position of the first page: what the whole answer will cover.
    pub to: Position,
    /// When the first page's read began, in milliseconds since that reader started.
    pub read_at_ms: u64,
    /// The last entry given: transaction id of its raise, and user.
    pub after: (u64, u64),
}

/// An edge's question: what is there past my cursor?
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Question {
    /// Echoed in the answer.
    pub nonce: Nonce,
    /// The epoch of the cursor; 0 without one.
    pub epoch: u16,
    /// What the view covers already; `None` loads everything.
    pub from: Option<Position>,
    /// The next page of an answer that was begun.
    pub page: Option<PageToken>,
    /// How long the coordinator may keep the question waiting while there is nothing new, in milliseconds.
    pub hold_ms: u32,
}

/// Everything in an answer but its entries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Head {
    /// As asked.
    pub nonce: Nonce,
    /// The epoch of `to`.
    pub epoch: u16,
    /// The answer is complete for a view that covers this; `None` for any view.
    pub from: Option<Position>,
    /// What a view covers with this answer.
    pub to: Position,
    /// How old the answer is: from the earlier of the last read's and the last committed heartbeat's start, in ms.
    pub age_ms: u32,
    /// How long the coordinator kept the question waiting, in milliseconds.
    pub held_ms: u32,
    /// Coordinator time of the read.
    pub read_at_ms: u64,
    /// Version of the key set at the read: a lease holds only with keys at least as new.
    pub keys_version: u64,
    /// Version of the settings at the read.
    pub settings_version: u64,
    /// The bound of G2 that binds this answer's lease, in milliseconds.
    pub max_staleness_ms: u32,
    /// Where the next page starts, if the answer goes on.
    pub next_page: Option<PageToken>,
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    /// What it covers and how old it is.
    pub head: Head,
    /// What lies past `from`.
    pub entries: Vec<Entry>,
}

fn put_position(out: &mut Vec<u8>, position: &Position) {
    out.extend_from_slice(&position.xmax.to_be_bytes());
    out.extend_from_slice(&(position.xip.len() as u16).to_be_bytes());
    for xid in &position.xip {
        out.extend_from_slice(&xid.to_be_bytes());
    }
}

fn read_position(reader: &mut Reader<'_>) -> Result<Position, Malformed> {
    let xmax = reader.u64()?;
    let count = usize::from(reader.u16()?);
    if count > MAX_IN_PROGRESS {
        return Err(reader.malformed());
    }
    let mut xip = Vec::with_capacity(count);
    for _ in 0..count {
        xip.push(reader.u64()?);
    }
    Position::new(xmax, xip).ok_or(reader.malformed())
}

fn put_optional<T>(out: &mut Vec<u8>, value: Option<&T>, put: impl FnOnce(&mut Vec<u8>, &T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

fn read_optional<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match reader.u8()? {
        0 => Ok(None),
        1 => read(reader).map(Some),
        _ => Err(reader.malformed()),
    }
}

fn put_page(out: &mut Vec<u8>, page: &PageToken) {
    out.extend_from_slice(&page.instance.to_be_bytes());
    put_position(out, &page.to);
    out.extend_from_slice(&page.read_at_ms.to_be_bytes());
    out.extend_from_slice(&page.after.0.to_be_bytes());
    out.extend_from_slice(&page.after.1.to_be_bytes());
}

fn read_page(reader: &mut Reader<'_>) -> Result<PageToken, Malformed> {
    Ok(PageToken {
        instance: reader.u64()?,
        to: read_position(reader)?,
        read_at_ms: reader.u64()?,
        after: (reader.u64()?, reader.u64()?),
    })
}

fn expect_version(reader: &mut Reader<'_>) -> Result<(), Malformed> {
    if reader.u8()? == VERSION { Ok(()) } else { Err(reader.malformed()) }
}

impl Question {
    /// The bytes of the question.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.nonce.0);
        out.extend_from_slice(&self.epoch.to_be_bytes());
        put_optional(&mut out, self.from.as_ref(), put_position);
        put_optional(&mut out, self.page.as_ref(), put_page);
        out.extend_from_slice(&self.hold_ms.to_be_bytes());
        out
    }

    /// Reads a question.
    ///
    /// # Errors
    /// When the bytes are not exactly one.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        expect_version(&mut reader)?;
        let question = Self {
            nonce: Nonce(reader.array()?),
            epoch: reader.u16()?,
            from: read_optional(&mut reader, read_position)?,
            page: read_optional(&mut reader, read_page)?,
            hold_ms: reader.u32()?,
        };
        reader.end()?;
        Ok(question)
    }
}

/// The bytes of an answer's head; the entries' bytes follow.
#[must_use]
pub fn encode_head(head: &Head) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.push(VERSION);
    out.extend_from_slice(&head.nonce.0);
    out.extend_from_slice(&head.epoch.to_be_bytes());
    put_optional(&mut out, head.from.as_ref(), put_position);
    put_position(&mut out, &head.to);
    out.extend_from_slice(&head.age_ms.to_be_bytes());
    out.extend_from_slice(&head.held_ms.to_be_bytes());
    put_u48(&mut out, head.read_at_ms.min((1 << 48) - 1));
    out.extend_from_slice(&head.keys_version.to_be_bytes());
    out.extend_from_slice(&head.settings_version.to_be_bytes());
    out.extend_from_slice(&head.max_staleness_ms.to_be_bytes());
    put_optional(&mut out, head.next_page.as_ref(), put_page);
    out
}

/// The bytes of an answer's entries: the same for every poll with the same cursor, so they are encoded once.
#[must_use]
pub fn encode_body(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 + entries.len() * ENTRY_BYTES);
    out.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    for entry in entries {
        out.extend_from_slice(&entry.user_id.0.to_be_bytes());
        out.extend_from_slice(&entry.revision.0.to_be_bytes());
        put_u48(&mut out, entry.needed_until_ms.min((1 << 48) - 1));
    }
    out
}

impl Answer {
    /// The bytes of the whole answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = encode_head(&self.head);
        out.extend_from_slice(&encode_body(&self.entries));
        out
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// When the bytes are not exactly one, or it has more than [`MAX_ENTRIES`].
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(bytes);
        expect_version(&mut reader)?;
        let head = Head {
            nonce: Nonce(reader.array()?),
            epoch: reader.u16()?,
            from: read_optional(&mut reader, read_position)?,
            to: read_position(&mut reader)?,
            age_ms: reader.u32()?,
            held_ms: reader.u32()?,
            read_at_ms: reader.u48()?,
            keys_version: reader.u64()?,
            settings_version: reader.u64()?,
            max_staleness_ms: reader.u32()?,
            next_page: read_optional(&mut reader, read_page)?,
        };
        let count = reader.u32()? as usize;
        if count > MAX_ENTRIES {
            return Err(reader.malformed());
        }
        let mut entries = Vec::with_capacity(count);
        for _ in 0..count {
            entries.push(Entry {
                user_id: UserId(reader.u64()?),
                revision: Revision(reader.u64()?),
                needed_until_ms: reader.u48()?,
            });
        }
        reader.end()?;
        Ok(Self { head, entries })
    }
}
