//! The edge worker's bundle: cargo, then wasm-bindgen as a library, then one folder that serves raw workerd and
//! wrangler alike.
//!
//! `target/worker/` holds `entry.js` (from `edge/entry.js`), `index.js` (the generated glue), `index_bg.wasm` and, if
//! a crate brings any, `snippets/`. Every file has the same name in every build.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

use crate::{artifacts, command, console, paths};

/// The target that workers are built for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// A built worker.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// Its folder.
    pub folder: PathBuf,
    /// Modules beside `entry.js`, relative to the folder, sorted.
    pub modules: Vec<PathBuf>,
    /// Size of the wasm, in bytes.
    pub wasm_bytes: u64,
    /// The same as gzip sends it.
    pub wasm_gzip_bytes: u64,
}

impl Bundle {
    /// A bundle that was built before.
    ///
    /// # Errors
    /// If there is none in `folder`.
    pub fn read(folder: &Path) -> Result<Self> {
        let wasm =
            fs::read(folder.join("index_bg.wasm")).with_context(|| format!("no worker in {}", folder.display()))?;
        let mut modules: Vec<PathBuf> = vec!["index.js".into(), "index_bg.wasm".into()];
        if let Ok(snippets) = fs::read_dir(folder.join("snippets")) {
            for snippet in snippets {
                modules.push(Path::new("snippets").join(snippet?.file_name()));
            }
        }
        modules.sort();
        let wasm_gzip_bytes = gzip_size(&wasm)?;
        Ok(Self { folder: folder.into(), modules, wasm_bytes: wasm.len() as u64, wasm_gzip_bytes })
    }

    /// The sizes, for people.
    #[must_use]
    pub fn sizes(&self) -> String {
        let kilobytes = |bytes: u64| (bytes as f64) / 1000.0;
        format!("wasm {:.1} kB, gzip {:.1} kB", kilobytes(self.wasm_bytes), kilobytes(self.wasm_gzip_bytes))
    }
}

/// Builds the worker that ships into `target/worker`.
///
/// # Errors
/// If any step fails.
pub fn build(quiet: bool) -> Result<Bundle> {
    build_crate("edgekeep-edge", &[], &paths::root().join("edge/entry.js"), &paths::target().join("worker"), quiet)
}

/// Builds the worker with doors that break it on purpose, for tests, into `target/worker-fault-injection`.
///
/// # Errors
/// If any step fails.
pub fn build_with_faults(quiet: bool) -> Result<Bundle> {
    let folder = paths::target().join("worker-fault-injection");
    build_crate("edgekeep-edge", &["fault-injection"], &paths::root().join("edge/entry.js"), &folder, quiet)
}

/// Builds the example of a Rust worker into `target/example-rust-worker`.
///
/// # Errors
/// If any step fails.
pub fn build_example(quiet: bool) -> Result<Bundle> {
    let (entry, folder) =
        (paths::root().join("examples/rust-worker/entry.js"), paths::target().join("example-rust-worker"));
    build_crate("example-rust-worker", &[], &entry, &folder, quiet)
}

/// Builds the worker whose leases last too long, for the torture of builds that break a rule, into
/// `target/worker-sabotage`.
///
/// # Errors
/// If any step fails.
pub fn build_sabotaged(quiet: bool) -> Result<Bundle> {
    let folder = paths::target().join("worker-sabotage");
    build_crate("edgekeep-edge", &["sabotage"], &paths::root().join("edge/entry.js"), &folder, quiet)
}

/// Builds the worker in `package`, with `entry` as its main module, into `folder`.
///
/// # Errors
/// If any step fails.
pub fn build_crate(package: &str, features: &[&str], entry: &Path, folder: &Path, quiet: bool) -> Result<Bundle> {
    ensure_target()?;
    let step = console::step(format!("building {package} for {TARGET}"), quiet);
    let mut cargo = command::cargo();
    cargo.args(["build", "--package", package, "--target", TARGET, "--profile", "edge"]);
    cargo.args(["--config", &flags()]);
    if !features.is_empty() {
        cargo.args(["--features", &features.join(",")]);
    }
    if quiet {
        cargo.arg("--quiet");
    }
    let built = artifacts::cargo_build(&mut cargo, package)?;
    let wasm = built
        .into_iter()
        .flat_map(|built| built.files)
        .find(|file| file.extension().is_some_and(|extension| extension == "wasm"))
        .with_context(|| format!("{package} built no wasm"))?;
    let bundle = bind(&wasm, entry, folder)?;
    step.done(&bundle.sizes());
    Ok(bundle)
}

/// What the workers' platform has beyond the target's defaults (Cloudflare documents it, V8 has had it since 9.1): SHA-256
/// takes a sixth less time with it.
pub const FEATURES: &str = "-Ctarget-feature=+simd128";

/// Cargo's setting of the compiler's flags: the platform's features; and this machine's paths are kept out of the wasm
/// (panics name files of crates), so that the same sources give the same bytes anywhere.
fn flags() -> String {
    let home = |variable: &str| std::env::var_os(variable).map(PathBuf::from);
    let cargo_home = home("CARGO_HOME").or_else(|| home("HOME").map(|home| home.join(".cargo")));
    let registry = cargo_home.map(|cargo_home| (cargo_home.join("registry/src"), "/registry"));
    let flags: Vec<_> = registry
        .into_iter()
        .chain([(paths::root().to_path_buf(), "/edgekeep")])
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()))
        .chain([FEATURES.to_owned()])
        .map(|flag| serde_json::json!(flag).to_string())
        .collect();
    format!("target.{TARGET}.rustflags=[{}]", flags.join(","))
}

/// Turns cargo's wasm into a bundle.
fn bind(wasm: &Path, entry: &Path, folder: &Path) -> Result<Bundle> {
    let mut bindgen = Bindgen::new();
    bindgen
        .input_path(wasm)
        .out_name("index")
        .module(true)
        .context("wasm-bindgen")?
        .typescript(false)
        .debug(false)
        .remove_name_section(true)
        .remove_producers_section(true)
        // A panic makes one 500, and the next request finds a fresh instance (design: no lease, cannot know).
        .reset_state_function(true)
        .force_enable_abort_handler(true);
    let mut output = bindgen.generate_output().context("wasm-bindgen")?;

    let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
    // wrangler does not know `import source` yet; raw workerd takes both.
    let mut glue = output.js().replace("import source wasmModule", "import wasmModule");
    let mut count = 0;
    for (id, texts) in output.snippets() {
        for (index, text) in texts.iter().enumerate() {
            let name = format!("snippets/inline{count}.js");
            count += 1;
            glue = glue.replace(&format!("./snippets/{id}/inline{index}.js"), &format!("./{name}"));
            files.insert(name.into(), text.clone().into_bytes());
        }
    }
    let mut locals: Vec<(&String, &String)> = output.local_modules().iter().collect();
    locals.sort();
    for (index, (path, text)) in locals.into_iter().enumerate() {
        let name = format!("snippets/module{index}.js");
        glue = glue.replace(&format!("./snippets/{path}"), &format!("./{name}"));
        files.insert(name.into(), text.clone().into_bytes());
    }
    let wasm = output.wasm_mut().emit_wasm();
    let wasm_gzip_bytes = gzip_size(&wasm)?;
    let wasm_bytes = wasm.len() as u64;
    files.insert("index.js".into(), glue.into_bytes());
    files.insert("index_bg.wasm".into(), wasm);

    let modules = files.keys().cloned().collect();
    let entry_text = fs::read(entry).with_context(|| format!("cannot read {}", entry.display()))?;
    files.insert("entry.js".into(), entry_text);
    for (name, bytes) in &files {
        write_if_changed(&folder.join(name), bytes)?;
    }
    Ok(Bundle { folder: folder.into(), modules, wasm_bytes, wasm_gzip_bytes })
}

/// Leaves a file alone that already says this: wrangler would load the worker again for nothing.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let new = path.with_extension("new");
    fs::write(&new, bytes)
        .and_then(|()| fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn gzip_size(bytes: &[u8]) -> Result<u64> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?.len() as u64)
}

/// Sees to it that Rust can build for [`TARGET`].
///
/// # Errors
/// If it cannot, and rustup is not there to install what is missing.
pub fn ensure_target() -> Result<()> {
    if has_target() {
        return Ok(());
    }
    let step = console::step(format!("installing Rust's {TARGET} target"), false);
    let added = command::run(Command::new("rustup").current_dir(paths::root()).args(["target", "add", TARGET]));
    if added.is_err() || !has_target() {
        bail!("Rust's {TARGET} target is missing; `rustup target add {TARGET}` would install it");
    }
    step.done("");
    Ok(())
}

fn has_target() -> bool {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let printed = Command::new(rustc)
        .current_dir(paths::root())
        .args(["--print", "target-libdir", "--target", TARGET])
        .stderr(Stdio::null())
        .output();
    printed.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}
