//! The committed corpus: a folder per target, a file per input. Coverage-guided runs add to it, minimised.

use std::path::PathBuf;

use crate::Target;

/// The folder of a target's inputs.
#[must_use]
pub fn folder(target: &Target) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/corpus")).join(target.name)
}

/// Seeds and committed inputs, in an order that never changes.
#[must_use]
pub fn inputs(target: &Target) -> Vec<Vec<u8>> {
    let mut inputs = (target.seeds)();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder(target)).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.sort();
    inputs.extend(files.iter().map(|file| std::fs::read(file).expect("a file of the corpus can be read")));
    inputs
}
