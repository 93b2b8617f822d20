//! Where things lie, and files that only their owner may read.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context as _, Result};

/// The checkout.
///
/// As cargo says when it runs us or a test of ours; what was compiled in is for binaries that are started directly,
/// and would be wrong in a checkout that was moved together with its `target/`.
#[must_use]
pub fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let parent = |folder: &Path| folder.parent().map(Path::to_path_buf);
        let running = std::env::var_os("CARGO_MANIFEST_DIR").and_then(|folder| parent(Path::new(&folder)));
        let built = Path::new(env!("CARGO_MANIFEST_DIR"));
        running
            .filter(|root| root.join("xtask/Cargo.toml").exists())
            .or_else(|| parent(built))
            .unwrap_or_else(|| built.to_path_buf())
    })
}

/// Where this project keeps what it makes, apart from cargo's own output. `wrangler.toml` names a place in here, so
/// it does not move with `CARGO_TARGET_DIR`.
#[must_use]
pub fn target() -> PathBuf {
    root().join("target")
}

/// Creates a folder, and those above it, that only its owner may enter.
///
/// # Errors
/// If the folder cannot be created.
pub fn private_folder(folder: &Path) -> Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot create {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file that only its owner may read, in one step: readers see the old text or the new one.
///
/// # Errors
/// If the file cannot be written.
pub fn write_private(path: &Path, text: &str) -> Result<()> {
    write_with_mode(path, text, 0o600)
}

/// Writes a script that only its owner may read and run.
///
/// # Errors
/// If the file cannot be written.
pub fn write_script(path: &Path, text: &str) -> Result<()> {
    write_with_mode(path, text, 0o700)
}

fn write_with_mode(path: &Path, text: &str, mode: u32) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        drop(file);
        fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// `count` random bytes.
///
/// # Errors
/// If the system has no randomness to give.
pub fn random_bytes(count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(bytes)
}

/// A password nobody guesses, of letters and digits that are hard to mix up: 24 of 32, 120 bits.
///
/// # Errors
/// If the system has no randomness to give.
pub fn random_password() -> Result<String> {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let letters: Vec<char> = random_bytes(24)?.iter().map(|byte| LETTERS[usize::from(byte % 32)] as char).collect();
    let groups: Vec<String> = letters.chunks(6).map(|group| group.iter().collect()).collect();
    Ok(groups.join("-"))
}
