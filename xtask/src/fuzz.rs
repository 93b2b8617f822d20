//! `cargo xtask fuzz`: a decoder under libFuzzer for as long as one likes, on the stable toolchain.
//!
//! What a run finds stands in `target/fuzz-work/`: an input that violates an oracle (`crash-…`, the run then fails) or, in
//! the target's folder, inputs that reach more code. To keep those, minimised: `--keep` adds them to the committed corpus.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::cli::Fuzz;
use crate::{command, paths};

/// What makes the compiler note which code an input reaches, as cargo-fuzz asks for it.
const COVERAGE: [&str; 6] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];
/// The longest input kept in the corpus, in bytes: small ones are enough to reach every branch.
const MAX_KEPT_BYTES: u32 = 512;

/// Runs one target.
///
/// # Errors
/// If it cannot be built, or an oracle was violated.
pub fn run(options: &Fuzz) -> Result<()> {
    let (host, binary) = build()?;
    let work = paths::target().join("fuzz-work");
    let found = work.join(&options.target);
    command::run(
        command::cargo()
            .args(["run", "--quiet", "--package", "edgekeep-hostile", "--example", "seeds", "--"])
            .arg(&options.target)
            .arg(&found),
    )?;
    let corpus = paths::root().join("tests/hostile/corpus").join(&options.target);
    std::fs::create_dir_all(&corpus).with_context(|| format!("cannot create {}", corpus.display()))?;
    let fuzzer = |arguments: &[String]| {
        let mut fuzzer = std::process::Command::new(&binary);
        fuzzer.env("TARGET", &options.target).args(arguments).arg(format!("-artifact_prefix={}/", work.display()));
        fuzzer
    };
    crate::console::say(&format!("{} for {} s, built for {host}", options.target, options.seconds));
    let time = format!("-max_total_time={}", options.seconds);
    command::run(
        fuzzer(&[time, "-max_len=4096".into(), "-timeout=10".into(), "-print_final_stats=1".into()])
            .arg(&found)
            .arg(&corpus),
    )?;
    if options.keep {
        // The fewest inputs that reach code which the corpus does not reach yet; how often they reach it does not count.
        let fewest = ["-set_cover_merge=1".into(), "-use_counters=0".into(), format!("-max_len={MAX_KEPT_BYTES}")];
        command::run(fuzzer(&fewest).arg(&corpus).arg(&found))?;
    }
    Ok(())
}

/// Builds the harness; gives the host's name and the binary.
fn build() -> Result<(String, PathBuf)> {
    let version = command::output(std::process::Command::new("rustc").arg("-vV"), "")?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc does not name its host")?;
    let folder = paths::target().join("fuzz");
    let mut cargo = command::cargo();
    cargo
        .args(["build", "--release", "--manifest-path"])
        .arg(paths::root().join("fuzz/Cargo.toml"))
        // With a target named, build scripts and macros are built without coverage.
        .args(["--target", host, "--target-dir"])
        .arg(&folder)
        .env("RUSTFLAGS", COVERAGE.join(" "))
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    command::run(&mut cargo)?;
    let binary = folder.join(host).join("release/decoder");
    if !binary.exists() {
        bail!("{} was not built", binary.display());
    }
    Ok((host.to_owned(), binary))
}
