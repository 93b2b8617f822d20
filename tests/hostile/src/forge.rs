//! Forged session cookies: what somebody makes who has real ones, knows the format, and has no key.
//!
//! Every header made here is an attack: it never presents a genuine cookie under its own name, once, unchanged. So none
//! may be accepted.

use edgekeep_shared::codec::{from_base64url, to_base64url};
use edgekeep_shared::cookie::{COOKIE_PREFIX, MAX_LOOKED_AT, NAME_ID_CHARS, cookie_name};
use edgekeep_shared::ids::{KeyId, SiteId};
use edgekeep_shared::keyring::{RingKey, Secret};
use edgekeep_shared::token::sign;

use crate::keys::{Genuine, NEW_KEY, claims, key, many_genuine, token_of};
use crate::random::Random;

/// Where the fields of a payload begin and end: version, key id, site, user id, revision, session id, four times.
const FIELDS: [(usize, usize); 10] =
    [(0, 1), (1, 5), (5, 13), (13, 21), (21, 29), (29, 45), (45, 51), (51, 57), (57, 63), (63, 69)];
const MAC_BYTES: usize = 32;
const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// A way to forge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// One to eight bits of the decoded bytes flipped.
    Bits,
    /// Bytes of the decoded token overwritten.
    Bytes,
    /// Characters of the text replaced by others of the alphabet.
    Characters,
    /// Characters replaced by or joined with any other, also outside ASCII.
    AnyCharacter,
    /// The beginning of one token and the end of another, cut anywhere.
    Splice,
    /// Fields of one token in another, with the MAC of either.
    Fields,
    /// A higher revision, later times, another user: what one would like to be.
    Wishes,
    /// The name and roles of another token, or made up.
    Roles,
    /// Another key id: of the ring, withdrawn, or of nobody.
    KeyId,
    /// Really signed, by our keys, for another site.
    OtherSite,
    /// Signed with a key that one made oneself.
    OwnKey,
    /// Signed with our key for another purpose: no domain, or another one.
    OtherDomain,
    /// Signed by our key, with bytes too many or fields that do not fit: another encoding of the same claims.
    OtherEncoding,
    /// A MAC that is cut, empty, zero or repeated.
    Mac,
    /// The same bytes in another spelling of base64.
    Spelling,
    /// Cut short, as text or as bytes.
    Truncated,
    /// Made longer, as text or as bytes.
    Extended,
    /// Another version, or none.
    Version,
    /// A genuine value under another session's name, or one that is nobody's.
    OtherName,
    /// A name that some software reads as ours.
    LookAlikeName,
    /// A genuine cookie that comes twice, or beside a forged one of its name.
    Duplicate,
    /// A genuine cookie behind so many others that it is not looked at.
    Flooded,
    /// Quotes, attributes and separators around or in a genuine cookie.
    Punctuation,
}

/// All of them.
pub const WAYS: [Way; 23] = [
    Way::Bits,
    Way::Bytes,
    Way::Characters,
    Way::AnyCharacter,
    Way::Splice,
    Way::Fields,
    Way::Wishes,
    Way::Roles,
    Way::KeyId,
    Way::OtherSite,
    Way::OwnKey,
    Way::OtherDomain,
    Way::OtherEncoding,
    Way::Mac,
    Way::Spelling,
    Way::Truncated,
    Way::Extended,
    Way::Version,
    Way::OtherName,
    Way::LookAlikeName,
    Way::Duplicate,
    Way::Flooded,
    Way::Punctuation,
];

/// Makes forgeries.
#[derive(Clone, Debug)]
pub struct Forger {
    random: Random,
    genuine: Vec<Genuine>,
    /// The genuine tokens' bytes: payload and MAC.
    bytes: Vec<Vec<u8>>,
}

impl Forger {
    /// One sequence of forgeries per seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let genuine = many_genuine();
        let bytes = genuine.iter().map(|given| from_base64url(&given.value[2..]).expect("base64url")).collect();
        Self { random: Random::new(seed), genuine, bytes }
    }

    /// A forgery of this way: a `Cookie` header of nothing else.
    pub fn forge(&mut self, way: Way) -> String {
        loop {
            let at = self.random.below(self.genuine.len());
            let name = self.genuine[at].name.clone();
            let header = match way {
                Way::OtherName | Way::LookAlikeName | Way::Duplicate | Way::Flooded | Way::Punctuation => {
                    self.around(way, at)
                }
                Way::Spelling | Way::Version | Way::Characters | Way::AnyCharacter => {
                    format!("{name}={}", self.text(way, at))
                }
                Way::Truncated | Way::Extended if self.random.below(2) == 0 => {
                    format!("{name}={}", self.text(way, at))
                }
                _ => format!("{name}={}", self.token(way, at)),
            };
            // A change that changed nothing is no forgery.
            if !self.genuine.iter().any(|given| header == format!("{}={}", given.name, given.value)) {
                return header;
            }
        }
    }

    /// A `Cookie` header with this forgery in it: other cookies around it do not matter.
    pub fn among_others(&mut self, header: String) -> String {
        match self.random.below(4) {
            0 => format!("theme=dark; {header}"),
            1 => format!("{header}; _ga=GA1.2.3"),
            _ => header,
        }
    }

    fn other(&mut self, at: usize) -> usize {
        (at + 1 + self.random.below(self.genuine.len() - 1)) % self.genuine.len()
    }

    /// A token of other bytes.
    fn token(&mut self, way: Way, at: usize) -> String {
        let other = self.other(at);
        let mut bytes = self.bytes[at].clone();
        let payload = bytes.len() - MAC_BYTES;
        match way {
            Way::Bits => {
                for _ in 0..=self.random.below(8) {
                    let place = self.random.below(bytes.len());
                    bytes[place] ^= 1 << self.random.below(8);
                }
            }
            Way::Bytes => {
                for _ in 0..=self.random.below(6) {
                    let place = self.random.below(bytes.len());
                    bytes[place] = if self.random.below(3) == 0 { 0 } else { self.random.byte() };
                }
            }
            Way::Splice => {
                let cut = self.random.below(bytes.len());
                let from = if self.random.below(2) == 0 { cut } else { self.random.below(self.bytes[other].len()) };
                bytes.truncate(cut);
                bytes.extend_from_slice(&self.bytes[other][from.min(self.bytes[other].len())..]);
            }
            Way::Fields => {
                for _ in 0..=self.random.below(3) {
                    let (from, to) = *self.random.of(&FIELDS);
                    bytes[from..to].copy_from_slice(&self.bytes[other][from..to]);
                }
                if self.random.below(2) == 0 {
                    bytes.truncate(payload);
                    let theirs = &self.bytes[other];
                    bytes.extend_from_slice(&theirs[theirs.len() - MAC_BYTES..]);
                }
            }
            Way::Wishes => {
                let (from, to) = *self.random.of(&FIELDS[2..]);
                let by = 1 + self.random.below(200) as u8;
                let place = from + self.random.below(to - from);
                bytes[place] = bytes[place].wrapping_add(by);
            }
            Way::Roles => {
                let mac = bytes.split_off(payload);
                bytes.truncate(69);
                let name = ["ann", "admin", "zoë-1", "root"][self.random.below(4)];
                let roles = [&["admin"][..], &[], &["admin", "role-0"], &["role-1"]][self.random.below(4)];
                bytes.push(name.len() as u8);
                bytes.extend_from_slice(name.as_bytes());
                bytes.push(roles.len() as u8);
                for role in roles {
                    bytes.push(role.len() as u8);
                    bytes.extend_from_slice(role.as_bytes());
                }
                bytes.extend_from_slice(&mac);
            }
            Way::KeyId => {
                let id =
                    if self.random.below(2) == 0 { self.random.below(5) as u32 } else { self.random.next() as u32 };
                bytes[1..5].copy_from_slice(&id.to_be_bytes());
            }
            Way::OtherSite => {
                let site = SiteId::of(["Main", "main ", "other", "", "main\0"][self.random.below(5)]);
                let number = self.random.byte();
                let mut says = claims(at as u8);
                says.site = site;
                says.revision.0 += u64::from(number);
                return sign(&says, &key(1 + self.random.below(NEW_KEY as usize) as u32, false))
                    .expect("claims that fit");
            }
            Way::OwnKey => {
                let mut secret = [0; 32];
                secret.fill_with(|| self.random.byte());
                let mut payload = bytes[..payload].to_vec();
                if self.random.below(2) == 0 {
                    // Under an id that nobody has: the edge cannot know, the coordinator can.
                    payload[1..5].copy_from_slice(&(self.random.next() as u32).to_be_bytes());
                }
                return token_of(&RingKey::new(KeyId(0), &Secret(secret), false), &payload);
            }
            Way::OtherDomain => {
                use hmac::Mac as _;
                let domain: &[u8] = self.random.of::<&[u8]>(&[
                    b"",
                    b"edgekeep session token v1",
                    b"edgekeep session token v2\0",
                    b"edgekeep form key v1\0",
                    b"\0",
                ]);
                let id = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                let mut mac = key(id, false).hmac();
                mac.update(domain);
                let number = self.random.byte();
                bytes[28] = number;
                mac.update(&bytes[..payload]);
                bytes.truncate(payload);
                bytes.extend_from_slice(&mac.finalize().into_bytes());
            }
            Way::OtherEncoding => {
                let id = u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                bytes.truncate(payload);
                match self.random.below(5) {
                    0 => bytes.push(self.random.byte()),
                    1 => bytes[0] = 2 + self.random.byte() % 250,
                    2 => bytes[13..21].fill(0),
                    3 => bytes[69] = bytes[69].wrapping_add(1 + self.random.byte() % 250),
                    _ => {
                        bytes.truncate(69 + 1 + usize::from(bytes[69]));
                        // A role that no role can be.
                        bytes.extend_from_slice(&[1, 1, b'A' + self.random.byte() % 26]);
                    }
                }
                return token_of(&key(id, false), &bytes);
            }
            Way::Mac => {
                let mac = bytes.split_off(payload);
                match self.random.below(5) {
                    0 => bytes.extend_from_slice(&mac[..self.random.below(MAC_BYTES)]),
                    1 => bytes.extend_from_slice(&[0; MAC_BYTES]),
                    2 => bytes.extend_from_slice(&[0xff; MAC_BYTES]),
                    3 => bytes.extend((0..MAC_BYTES).map(|_| self.random.byte())),
                    _ => bytes.extend(mac.iter().rev()),
                }
            }
            Way::Truncated => bytes.truncate(self.random.below(bytes.len())),
            _ => bytes.extend((0..=self.random.below(40)).map(|_| self.random.byte())),
        }
        format!("1.{}", to_base64url(&bytes))
    }

    /// A genuine token in other characters.
    fn text(&mut self, way: Way, at: usize) -> String {
        let value = self.genuine[at].value.clone();
        let place = self.random.below(value.len());
        let any = |random: &mut Random| loop {
            if let Some(c) = char::from_u32(random.next() as u32 & if random.below(2) == 0 { 0x7f } else { 0x1_ffff })
                && !matches!(c, ';' | ' ' | '\t' | '\r' | '\n')
            {
                return c;
            }
        };
        match way {
            Way::Characters => {
                let mut text = value.into_bytes();
                for _ in 0..=self.random.below(4) {
                    let place = self.random.below(text.len());
                    text[place] = *self.random.of(ALPHABET);
                }
                String::from_utf8(text).expect("ASCII")
            }
            Way::AnyCharacter => {
                let keep = self.random.below(2);
                let c = any(&mut self.random);
                format!("{}{c}{}", &value[..place], &value[place + keep..])
            }
            Way::Spelling => match self.random.below(7) {
                0 => format!("{value}{}", "=".repeat(1 + self.random.below(3))),
                1 => value.replace('-', "+").replace('_', "/") + "=",
                2 => {
                    // The bits of the last character that no byte needs.
                    let mut text = value.into_bytes();
                    let last = text.len() - 1;
                    text[last] = *self.random.of(ALPHABET);
                    String::from_utf8(text).expect("ASCII")
                }
                3 => format!("{}%{:02X}{}", &value[..place], value.as_bytes()[place], &value[place + 1..]),
                4 => value.to_ascii_uppercase(),
                5 => value.to_ascii_lowercase(),
                _ => format!(
                    "{}{}{}",
                    &value[..place],
                    ["\u{200b}", "=", ".", "\0", "\u{a0}"][self.random.below(5)],
                    &value[place..]
                ),
            },
            Way::Version => {
                let rest = &value[2..];
                let version = *self
                    .random
                    .of(&["", "1", ".", "0.", "2.", "1..", "01.", "11.", "v1.", "1,", "١.", "1.1.", "-1.", "+1."]);
                format!("{version}{rest}")
            }
            Way::Truncated => value[..place].to_owned(),
            _ => {
                let tail: String =
                    (0..=self.random.below(600)).map(|_| char::from(*self.random.of(ALPHABET))).collect();
                if self.random.below(2) == 0 { value + &tail } else { tail + &value }
            }
        }
    }

    /// Genuine values, presented as they must not be.
    fn around(&mut self, way: Way, at: usize) -> String {
        let other = self.other(at);
        let Genuine { name, value } = self.genuine[at].clone();
        let (other_name, other_value) = (self.genuine[other].name.clone(), self.genuine[other].value.clone());
        let id = &name[COOKIE_PREFIX.len()..];
        match way {
            Way::OtherName => {
                let mut digits = id.to_owned().into_bytes();
                let changed = self.random.below(digits.len());
                digits[changed] = *self.random.of(b"0123456789abcdefABCDEFg");
                let changed = String::from_utf8(digits).expect("ASCII");
                let changed = if changed == id { "00000000".to_owned() } else { changed };
                match self.random.below(5) {
                    0 => format!("{other_name}={value}"),
                    1 => format!("{COOKIE_PREFIX}={value}"),
                    2 => format!("{COOKIE_PREFIX}{}={value}", &id[..self.random.below(NAME_ID_CHARS)]),
                    3 => format!("{COOKIE_PREFIX}{id}{}={value}", *self.random.of(&["0", " ", "\t", "_", ".", "00"])),
                    _ => format!("{COOKIE_PREFIX}{changed}={value}"),
                }
            }
            Way::LookAlikeName => {
                let prefix = *self.random.of(&[
                    "__host-edgekeep-",
                    "__HOST-EDGEKEEP-",
                    "__Host-Edgekeep-",
                    "_[Host-edgekeep-",
                    "__Host.edgekeep-",
                    "..Host-edgekeep-",
                    "__Secure-edgekeep-",
                    "edgekeep-",
                    "=__Host-edgekeep-",
                    "==__Host-edgekeep-",
                    "\u{200b}__Host-edgekeep-",
                    "\"__Host-edgekeep-",
                    "__Host-edgekeep_",
                    "__Host-edgekeep\u{2010}",
                    "__Ηost-edgekeep-",
                    "$__Host-edgekeep-",
                    "x=__Host-edgekeep-",
                    "%5f_Host-edgekeep-",
                    "__Host-edgekeep%2D",
                ]);
                format!("{prefix}{id}={value}")
            }
            Way::Duplicate => {
                let forged = match self.random.below(3) {
                    0 => value.clone(),
                    1 => other_value,
                    _ => self.token(Way::Bits, at),
                };
                let gap = "; a=1".repeat(self.random.below(4));
                if self.random.below(2) == 0 {
                    format!("{name}={value}{gap}; {name}={forged}")
                } else {
                    format!("{name}={forged}{gap}; {name}={value}")
                }
            }
            Way::Flooded => {
                let mut header = format!("{name}={value}");
                for _ in 0..MAX_LOOKED_AT + self.random.below(20) {
                    let session = edgekeep_shared::ids::SessionId(
                        self.random.next().to_be_bytes().repeat(2).try_into().expect("16"),
                    );
                    header.push_str(&format!("; {}=x", cookie_name(session)));
                }
                header
            }
            _ => {
                let sep = *self.random.of(&[",", " ", "&", "\u{a0}", "\0", "|", "\u{37e}", "\r", "\n"]);
                match self.random.below(6) {
                    0 => format!("{name}=\"{value}\""),
                    1 => format!("{name}={value}{sep}{other_name}={other_value}"),
                    2 => format!("a=1{sep}{name}={value}"),
                    3 => format!("{name}{sep}={value}"),
                    4 => format!("{name}={sep}x{value}"),
                    _ => format!("{name}={value}{sep}; Path=/").replacen(' ', "\u{a0}", 1),
                }
            }
        }
    }
}
