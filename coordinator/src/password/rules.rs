//! Rules for new passwords (NIST SP 800-63B-4 3.1.1.2): a minimum length, no common or predictable ones, and no rules
//! about kinds of characters.

use std::collections::HashSet;
use std::path::Path;

use unicode_normalization::UnicodeNormalization as _;

use super::Password;
use crate::config::ConfigError;

/// Our own list.
const COMMON: &str = include_str!("common.txt");
/// Characters that must remain when the user's and the site's name are taken out of a password.
const CHARS_BESIDE_NAMES: usize = 8;
/// A password that is one piece again and again is refused when the piece has at most this many characters.
const REPEATED_PIECE_CHARS: usize = 4;
/// The largest extra list, in bytes.
const MAX_LIST_BYTES: u64 = 64 << 20;

/// Why a password cannot be chosen. The texts are shown to the person who chose it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Too few characters.
    #[error("The new password needs at least {min_chars} characters; it has {has}. A few unrelated words do well.")]
    Short {
        /// As set.
        min_chars: u32,
        /// Unicode characters after normalization.
        has: usize,
    },
    /// On the list.
    #[error("The new password is one of those that are tried first. Choose another one.")]
    Common,
    /// A short piece again and again, or a run of neighbouring characters.
    #[error("The new password only repeats or counts. Choose another one.")]
    Predictable,
    /// Little more than a name.
    #[error("The new password is little more than the user name or the name of this site. Choose another one.")]
    Name,
}

/// Passwords that nobody may choose.
#[derive(Debug)]
pub struct BlockList(HashSet<String>);

/// The form in which passwords are compared with the list.
fn folded(text: &str) -> String {
    text.nfc().flat_map(char::to_lowercase).collect()
}

/// Without digits, spaces and punctuation at the ends: `Password123!` is `password`.
fn core(folded: &str) -> &str {
    folded.trim_matches(|c: char| !c.is_alphabetic())
}

impl BlockList {
    /// Our list and, if named, another one: one password per line, `#` begins a comment line.
    ///
    /// # Errors
    /// When the file cannot be read or is over 64 MiB.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut list = Self(HashSet::new());
        list.add(COMMON);
        if let Some(path) = file {
            let problem =
                |text: String| ConfigError::new(format!("passwords.block_list_file: {}: {text}", path.display()));
            let size = std::fs::metadata(path).map_err(|error| problem(error.to_string()))?.len();
            if size > MAX_LIST_BYTES {
                return Err(problem(format!("over {MAX_LIST_BYTES} bytes")));
            }
            list.add(&std::fs::read_to_string(path).map_err(|error| problem(error.to_string()))?);
        }
        Ok(list)
    }

    fn add(&mut self, lines: &str) {
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        self.0.extend(lines.map(folded));
    }

    fn has(&self, folded: &str) -> bool {
        let core = core(folded);
        let core_counts = core.chars().count() >= 6;
        self.0.contains(folded) || (core_counts && self.0.contains(core))
    }

    /// Checks a new password for this user at this site.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn check(&self, new: &Password, min_chars: u32, user: &str, site: &str) -> Result<(), RuleError> {
        let normalized = new.normalized();
        let has = normalized.chars().count();
        if has < min_chars as usize {
            return Err(RuleError::Short { min_chars, has });
        }
        let folded = folded(&normalized);
        if self.has(&folded) {
            return Err(RuleError::Common);
        }
        if repeats(&folded) || counts(&folded) {
            return Err(RuleError::Predictable);
        }
        let mut rest = folded;
        for name in [user, site] {
            let name = self::folded(name);
            if name.chars().count() >= 3 {
                rest = rest.replace(&name, "");
            }
        }
        if rest.chars().count() < CHARS_BESIDE_NAMES { Err(RuleError::Name) } else { Ok(()) }
    }
}

/// One short piece again and again.
fn repeats(text: &str) -> bool {
    let chars: Vec<char> = text.chars().collect();
    (1..=REPEATED_PIECE_CHARS.min(chars.len().saturating_sub(1)))
        .any(|piece| chars.iter().zip(chars.iter().skip(piece)).all(|(a, b)| a == b))
}

/// A run of neighbours: `abcdefgh…`, `987654321…`.
fn counts(text: &str) -> bool {
    let codes: Vec<i64> = text.chars().map(|c| i64::from(u32::from(c))).collect();
    [1, -1].iter().any(|step| codes.len() > 1 && codes.windows(2).all(|pair| pair[1] - pair[0] == *step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(new: &str) -> Result<(), RuleError> {
        let list = BlockList::load(None).unwrap();
        list.check(&Password::new(new.into()).unwrap(), 15, "margarete", "Intranet")
    }

    #[test]
    fn long_unrelated_words_and_any_script_are_fine() {
        for good in [
            "tulip-anchor-seventeen",
            "mein Fahrrad hat drei Klingeln",
            "ひらがなでもいいとおもいますよね",
            "margarete likes her garden",
            "zq8!mfWv0Lr#2xPt",
            &"many words ".repeat(40),
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn length_counts_characters_after_normalization() {
        assert!(matches!(check("e\u{301}e\u{301}short12345"), Err(RuleError::Short { has: 12, .. })));
        assert_eq!(check("ééééé-und-zehn1"), Ok(()));
    }

    #[test]
    fn what_is_tried_first_is_refused() {
        for (bad, why) in [
            ("correct horse battery staple", RuleError::Common),
            ("CorrectHorseBatteryStaple!!", RuleError::Common),
            ("1234567890123456", RuleError::Common),
            ("!!!Password2024!!!", RuleError::Common),
            ("lalalalalalalalala", RuleError::Predictable),
            ("bcdefghijklmnopqr", RuleError::Predictable),
            ("margaretemargarete", RuleError::Name),
            ("Intranet-2024-margarete", RuleError::Name),
        ] {
            assert_eq!(check(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn an_extra_list_is_read() {
        let path = std::env::temp_dir().join(format!("edgekeep-block-list-{}", std::process::id()));
        std::fs::write(&path, "# ours\nOur Product Is Great\n").unwrap();
        let list = BlockList::load(Some(&path)).unwrap();
        std::fs::remove_file(&path).unwrap();
        let new = Password::new("our product is great".into()).unwrap();
        assert_eq!(list.check(&new, 15, "ann", "main"), Err(RuleError::Common));
        assert!(BlockList::load(Some(&path)).is_err());
    }
}
