//! Passwords: by prompt, twice; or one line of standard input when that is no terminal.

use std::io::{BufRead as _, IsTerminal as _, Read as _};

use anyhow::{Context as _, bail};
use zeroize::Zeroizing;

use crate::password::{MAX_PASSWORD_BYTES, Password};

/// Asks for a new password.
pub(super) fn new_password(name: &str) -> anyhow::Result<Password> {
    let stdin = std::io::stdin();
    let typed = if stdin.is_terminal() {
        let first = Zeroizing::new(rpassword::prompt_password(format!("New password for {name}: "))?);
        let again = Zeroizing::new(rpassword::prompt_password("The same again: ")?);
        if *first != *again {
            bail!("the two passwords differ");
        }
        first
    } else {
        let mut line = Zeroizing::new(String::new());
        // One byte more than the longest password, and its line break: what is too long is refused, not cut.
        stdin.lock().take(MAX_PASSWORD_BYTES as u64 + 3).read_line(&mut line).context("standard input")?;
        let end = line.trim_end_matches('\n').trim_end_matches('\r').len();
        line.truncate(end);
        if line.is_empty() {
            bail!("no password on standard input: one line was expected");
        }
        line
    };
    Ok(Password::new(typed.to_string())?)
}
