//! The path rules: what the gate decides on is what the origin will see (design 2.4; CVE-2021-32637).
//!
//! Servers disagree about encoded slashes, backslashes, dot segments, path parameters and double
//! encoding. A path that any two of them could read differently is refused with 400 before a policy is looked up.

use std::borrow::Cow;

/// The longest path, in characters.
pub const MAX_PATH_CHARS: usize = 4_096;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Over [`MAX_PATH_CHARS`].
    #[error("the path is too long")]
    TooLong,
    /// No leading slash, or a character that is not visible ASCII.
    #[error("the path has characters that are not allowed unencoded")]
    Characters,
    /// `%` without two hexadecimal digits, or bytes that are not UTF-8.
    #[error("the path is not validly percent-encoded")]
    Encoding,
    /// `%2F`, `%5C`, a backslash, or `%25xx`.
    #[error("the path has an encoded slash, a backslash, or is encoded twice")]
    Ambiguous,
    /// `//`.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.` or `..`, encoded or not, or another segment of nothing but dots and spaces.
    #[error("the path has a dot segment")]
    DotSegment,
    /// `;`, encoded or not.
    #[error("the path has a path parameter")]
    Parameter,
    /// NUL or another control character.
    #[error("the path has a control character")]
    Control,
}

/// The decoded path, if every server reads it alike. The raw path is what is forwarded.
///
/// # Errors
/// See [`PathError`].
pub fn check(raw: &str) -> Result<Cow<'_, str>, PathError> {
    let bytes = raw.as_bytes();
    if bytes.len() > MAX_PATH_CHARS {
        return Err(PathError::TooLong);
    }
    if bytes.first() != Some(&b'/') {
        return Err(PathError::Characters);
    }
    let decoded = if bytes.contains(&b'%') { Cow::Owned(decode(bytes)?) } else { Cow::Borrowed(raw) };
    if !bytes.iter().all(u8::is_ascii_graphic) {
        return Err(PathError::Characters);
    }
    for c in decoded.chars() {
        match c {
            '\\' => return Err(PathError::Ambiguous),
            ';' => return Err(PathError::Parameter),
            c if c.is_control() => return Err(PathError::Control),
            _ => {}
        }
    }
    if decoded.contains("//") {
        return Err(PathError::EmptySegment);
    }
    // Some systems drop dots and spaces at a segment's end, so what is nothing else is `.` or `..` to them (`..%20`, `...`).
    let dots = |segment: &str| !segment.is_empty() && segment.trim_end_matches(['.', ' ']).is_empty();
    if decoded.split('/').any(dots) {
        return Err(PathError::DotSegment);
    }
    Ok(decoded)
}

fn decode(bytes: &[u8]) -> Result<String, PathError> {
    let digit = |at: usize| bytes.get(at).and_then(|c| (*c as char).to_digit(16)).map(|digit| digit as u8);
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            decoded.push(bytes[at]);
            at += 1;
            continue;
        }
        let (Some(high), Some(low)) = (digit(at + 1), digit(at + 2)) else { return Err(PathError::Encoding) };
        let byte = high << 4 | low;
        if byte == b'/' || byte == b'\\' {
            return Err(PathError::Ambiguous);
        }
        decoded.push(byte);
        at += 3;
    }
    // Looked for in what was decoded: the digits of an inner escape may have been escaped themselves (`%25%32%66`).
    let escape = |part: &[u8]| part[0] == b'%' && part[1].is_ascii_hexdigit() && part[2].is_ascii_hexdigit();
    if decoded.windows(3).any(escape) {
        return Err(PathError::Ambiguous);
    }
    String::from_utf8(decoded).map_err(|_| PathError::Encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_pass() {
        for (raw, decoded) in
            [("/", "/"), ("/a/b.c", "/a/b.c"), ("/%61dmin", "/admin"), ("/caf%C3%A9", "/café"), ("/a%25", "/a%")]
        {
            assert_eq!(check(raw).as_deref(), Ok(decoded), "{raw}");
        }
    }

    #[test]
    fn every_path_that_two_servers_could_read_differently_is_refused() {
        use PathError::*;
        for (raw, error) in [
            ("", Characters),
            ("a", Characters),
            ("/a b", Characters),
            ("/é", Characters),
            ("/a%2fb", Ambiguous),
            ("/a%5Cb", Ambiguous),
            ("/a\\b", Ambiguous),
            ("/%252e", Ambiguous),
            ("/%2561dmin", Ambiguous),
            ("/a%25%32%66b", Ambiguous),
            ("/a%252%66b", Ambiguous),
            ("/a%25%32fb", Ambiguous),
            ("/assets/%25%32%65%25%32%65", Ambiguous),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/./a", DotSegment),
            ("/a/..", DotSegment),
            ("/%2e%2E/a", DotSegment),
            ("/a/.%2e/b", DotSegment),
            ("/a/..%20/b", DotSegment),
            ("/a/...", DotSegment),
            ("/%20/a", DotSegment),
            ("/a;b", Parameter),
            ("/a%3Bb", Parameter),
            ("/public;/admin", Parameter),
            ("/%00", Control),
            ("/%0a", Control),
            ("/%7F", Control),
            ("/%C2%80", Control),
            ("/%", Encoding),
            ("/%4", Encoding),
            ("/%zz", Encoding),
            ("/%ff", Encoding),
            ("/%C0%AF", Encoding),
        ] {
            assert_eq!(check(raw).unwrap_err(), error, "{raw}");
        }
        assert!(check(&format!("/{}", "x".repeat(MAX_PATH_CHARS - 1))).is_ok());
        assert_eq!(check(&format!("/{}", "x".repeat(MAX_PATH_CHARS))).unwrap_err(), PathError::TooLong);
    }
}
