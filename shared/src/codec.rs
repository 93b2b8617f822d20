//! Reading fixed layouts strictly: every byte is accounted for, and one value has one encoding.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// base64url without padding (RFC 4648 section 5); refuses padding, other alphabets and non-zero trailing bits.
pub const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(false),
);

/// Bytes as base64url text.
#[must_use]
pub fn to_base64url(bytes: &[u8]) -> String {
    BASE64URL.encode(bytes)
}

/// The bytes of the one base64url spelling, or nothing.
#[must_use]
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text).ok()
}

/// The input is shorter, longer or other than its layout says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed at byte {at}")]
pub struct Malformed {
    /// Offset of the first byte that does not fit.
    pub at: usize,
}

/// A cursor over bytes that fails rather than reads past the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The error for what was read last.
    #[must_use]
    pub const fn malformed(&self) -> Malformed {
        Malformed { at: self.at }
    }

    /// The next `len` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(self.malformed())?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// At the end.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    /// A big-endian 16-bit integer.
    ///
    /// # Errors
    /// When fewer than two bytes are left.
    pub fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    /// A big-endian 32-bit integer.
    ///
    /// # Errors
    /// When fewer than four bytes are left.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A big-endian 48-bit integer: milliseconds until the year 10889.
    ///
    /// # Errors
    /// When fewer than six bytes are left.
    pub fn u48(&mut self) -> Result<u64, Malformed> {
        let mut wide = [0; 8];
        wide[2..].copy_from_slice(self.take(6)?);
        Ok(u64::from_be_bytes(wide))
    }

    /// A big-endian 64-bit integer.
    ///
    /// # Errors
    /// When fewer than eight bytes are left.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// UTF-8 text behind a one-byte length.
    ///
    /// # Errors
    /// When it is cut short or not UTF-8.
    pub fn short_text(&mut self) -> Result<&'a str, Malformed> {
        let len = usize::from(self.u8()?);
        let start = self.malformed();
        core::str::from_utf8(self.take(len)?).map_err(|_| start)
    }

    /// All bytes were read.
    ///
    /// # Errors
    /// When some are left.
    pub fn end(&self) -> Result<(), Malformed> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.malformed()) }
    }
}

/// Appends a big-endian 48-bit integer; higher bits are an error of the caller.
pub fn put_u48(out: &mut Vec<u8>, value: u64) {
    debug_assert!(value < 1 << 48);
    out.extend_from_slice(&value.to_be_bytes()[2..]);
}

/// Appends a field with its length in front, so that two different lists of fields never give the same bytes.
pub fn put_length_prefixed(out: &mut Vec<u8>, field: &[u8]) {
    out.extend_from_slice(&(field.len() as u64).to_be_bytes());
    out.extend_from_slice(field);
}
