//! The tests of `shared/` again, the very same ones, compiled for wasm32-unknown-unknown and run in V8.
//!
//! That target has no standard output, no exit status and no unwinding, so Rust's harness runs there but cannot say
//! how it went. It is made to tell: the host's build of the same tests lists their names, and at the start of each of
//! these functions a call to the outside is put into the wasm (see `wasm_tests.mjs`). No attribute, no other harness
//! and no bindings are needed in `shared/`.
//!
//! What this finds is what differs in wasm32, above all 32-bit `usize`. Panic messages do not reach the outside: the
//! trap's stack says where it was.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use walrus::ir::{BrIf, Call, Const, Drop, Value};
use walrus::{FunctionKind, ModuleConfig, ValType};

use crate::artifacts::{self, Built};
use crate::node::Tools;
use crate::suites::count::{self, Count};
use crate::{command, paths, wasm};

/// Random seeds of property tests come from an import, instead of from bindings generated for JavaScript.
const FLAGS: &str = "--cfg getrandom_backend=\"custom\" -Clink-arg=--import-undefined";
/// An optimiser would put tests into their callers, where they are not found any more.
const NOT_OPTIMISED: &str = "profile.dev.package.edgekeep-shared.opt-level=0";

/// Builds and runs them.
///
/// # Errors
/// If they cannot be built or run; failing tests are in the count.
pub fn run() -> Result<Count> {
    wasm::ensure_target()?;
    let tools = Tools::ensure(false)?;
    let build = |for_wasm: bool| -> Result<Vec<Built>> {
        let mut cargo = command::cargo();
        cargo.args(["test", "--package", "edgekeep-shared", "--lib", "--tests", "--no-run"]);
        if for_wasm {
            cargo.args(["--config", NOT_OPTIMISED, "--target", wasm::TARGET]);
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", format!("{FLAGS} {}", wasm::FEATURES));
        }
        let built = artifacts::cargo_build(&mut cargo, "edgekeep-shared")?;
        Ok(built.into_iter().filter(|built| built.test).collect())
    };
    let native = build(false)?;
    let folder = paths::target().join("wasm-tests");
    fs::create_dir_all(&folder)?;
    let mut total = Count::default();
    for built in build(true)? {
        let host = native.iter().find(|other| other.target == built.target && other.kind == built.kind);
        let host = host.with_context(|| format!("{} has no tests on the host", built.target))?;
        let names = list(host.executable.as_deref().context("a test without an executable")?)?;
        println!("\n     Running {} ({} tests) on {}", built.target, names.len(), wasm::TARGET);
        let instrumented = folder.join(format!("{}.wasm", built.target));
        let list_file = folder.join(format!("{}.json", built.target));
        let file = built.executable.context("a test without an executable")?;
        let tests = instrument(&file, &built.target, &names, &instrumented)?;
        fs::write(&list_file, serde_json::to_string(&tests)?)?;
        let mut node = Command::new(&tools.node);
        node.arg(paths::root().join("xtask/src/wasm_tests.mjs")).arg(&instrumented).arg(&list_file);
        total += count::run(&mut node)?;
        // The very same tests: one that is not there has not passed.
        total.failed += u32::try_from(names.len() - tests.len())?;
    }
    if total.passed == 0 {
        bail!("no test ran on wasm32");
    }
    Ok(total)
}

/// The names of a native test binary's tests.
fn list(binary: &Path) -> Result<BTreeSet<String>> {
    let text = command::output(Command::new(binary).args(["--list", "--format", "terse"]), "")?;
    Ok(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// What `wasm_tests.mjs` is told of a test.
#[derive(Serialize)]
struct Test {
    name: String,
    /// It takes and gives nothing, so that it may return at once. (One that gives a `Result` writes it somewhere.)
    skippable: bool,
}

/// Puts a call at the start of every test. Gives the tests in the order of their numbers.
fn instrument(wasm: &Path, target: &str, names: &BTreeSet<String>, to: &Path) -> Result<Vec<Test>> {
    let mut module = ModuleConfig::new()
        .generate_dwarf(false)
        .parse_file(wasm)
        .with_context(|| format!("cannot read {}", wasm.display()))?;
    let kind = module.types.add(&[ValType::I32], &[ValType::I32]);
    let (enter, _) = module.add_import_func("edgekeep", "enter", kind);
    let prefix = format!("{}::", target.replace('-', "_"));
    let mut tests: Vec<Test> = Vec::new();
    let ids: Vec<_> = module.funcs.iter_local().map(|(id, _)| id).collect();
    for id in ids {
        let type_id = module.funcs.get(id).ty();
        let nothing = module.types.params(type_id).is_empty() && module.types.results(type_id).is_empty();
        let function = module.funcs.get_mut(id);
        let Some(mangled) = &function.name else { continue };
        let full = format!("{:#}", rustc_demangle::demangle(mangled));
        // For the stacks of traps.
        function.name = Some(full.clone());
        let Some(name) = full.strip_prefix(&prefix).filter(|name| names.contains(*name)) else { continue };
        let FunctionKind::Local(local) = &mut function.kind else { continue };
        let number = i32::try_from(tests.len())?;
        let entry = local.entry_block();
        let mut body = local.builder_mut().func_body();
        body.instr_at(0, Const { value: Value::I32(number) });
        body.instr_at(1, Call { func: enter });
        if nothing {
            // A jump out of the body is a return.
            body.instr_at(2, BrIf { block: entry });
        } else {
            body.instr_at(2, Drop {});
        }
        tests.push(Test { name: name.to_owned(), skippable: nothing });
    }
    for name in names {
        if !tests.iter().any(|test| &test.name == name) {
            println!("test {name} ... not in the wasm");
        }
    }
    module.emit_wasm_file(to)?;
    Ok(tests)
}
