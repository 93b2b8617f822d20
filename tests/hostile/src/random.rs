//! Seeded randomness and mutation: the same seed gives the same bytes, on every machine.

/// A small generator (SplitMix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// One sequence per seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number below `end`, which is above 0.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A byte.
    pub const fn byte(&mut self) -> u8 {
        self.next() as u8
    }

    /// One of these.
    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Pieces that decoders trip over.
const PIECES: [&[u8]; 58] = [
    b"",
    b"%",
    b"%2f",
    b"%5C",
    b"%25",
    b"%2e",
    b"%00",
    b"%0a",
    b"%25%32%66",
    b"%u002f",
    b"/",
    b"//",
    b"/../",
    b"/./",
    b"..",
    b"\\",
    b";",
    b"; ",
    b"=",
    b"&",
    b"?",
    b"#",
    b":",
    b"@",
    b",",
    b"\"",
    b"'",
    b"\0",
    b"\r\n",
    b"\t",
    b" ",
    b"+",
    b"*",
    b"**",
    b"{",
    b"}",
    b"[",
    b"]",
    b"null",
    b"0",
    b"-1",
    b"99999999999999999999",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc3\xa9",
    b"\xe2\x80\x8b",
    b"\xef\xbb\xbf",
    b"\xef\xbc\x8f",
    b"__Host-edgekeep-",
    b"__host-EDGEKEEP-",
    b"wait=",
    b"q=0",
    b"\\u0061",
    b"https://",
    b"evil.test",
    b"session",
    b"public",
];

/// One input made into another: one to six changes, with pieces of `others` spliced in.
#[must_use]
pub fn mutated(random: &mut Random, input: &[u8], others: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=random.below(6) {
        mutate(random, &mut bytes, others);
    }
    bytes.truncate(8_192);
    bytes
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
    let len = bytes.len();
    let at = random.below(len + 1);
    match random.below(10) {
        0 if len > 0 => bytes[random.below(len)] ^= 1 << random.below(8),
        1 if len > 0 => bytes[random.below(len)] = random.byte(),
        2 if len > 0 => bytes.truncate(random.below(len)),
        3 if len > 0 => {
            // A part goes, or stands there twice.
            let (from, to) = (random.below(len), random.below(len) + 1);
            let (from, to) = (from.min(to), from.max(to));
            let part = bytes[from..to].to_vec();
            if random.below(2) == 0 {
                bytes.drain(from..to);
            } else {
                bytes.splice(at..at, part);
            }
        }
        4 if len > 1 => bytes.swap(random.below(len), random.below(len)),
        5 if len > 0 => {
            // A number goes up or down by a little.
            let place = random.below(len);
            bytes[place] = bytes[place].wrapping_add(random.below(9) as u8).wrapping_sub(4);
        }
        6 => bytes.insert(at, b' ' + (random.below(95) as u8)),
        7 if !others.is_empty() => {
            let other = random.of(others);
            let cut = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[cut..]);
        }
        8 if len > 0 => {
            // The same character in another spelling.
            let place = random.below(len);
            let escaped = format!("%{:02x}", bytes[place]);
            bytes.splice(place..=place, escaped.into_bytes());
        }
        _ => {
            let piece = *random.of(&PIECES);
            bytes.splice(at..at, piece.iter().copied());
        }
    }
}
