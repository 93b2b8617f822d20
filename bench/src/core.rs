//! `core`: S4 and S5. The code of `shared/` in wasm, in workerd: checks among a million revocations against a bare
//! HMAC of the same bytes, the memory that they take, and the cold sync that loads them.

use anyhow::{Context as _, Result};
use xtask::node::Tools;
use xtask::{paths, wasm};

use crate::http::{Connection, request};
use crate::load::{Contender, Drive, Requests, rounds};
use crate::peers;
use crate::results::Bench;
use crate::stats::Spread;
use crate::workerd::{Running, Worker};

const REVOCATIONS: u64 = 1_000_000;
/// Checks in one request, so that the request itself does not count.
const AT_ONCE: u64 = 20_000;

fn ask(running: &Running, target: &str) -> Result<Vec<f64>> {
    let mut body = Vec::new();
    let answer = Connection::open(running.address())?.exchange(&request("GET", target, &[], b""), Some(&mut body))?;
    let text = String::from_utf8(body)?;
    anyhow::ensure!(answer.status == 200, "{target} answered {}: {text}", answer.status);
    text.split_whitespace().map(|number| number.parse().context("not a number")).collect()
}

/// Runs it.
///
/// # Errors
/// If the worker does not come up or its work fails.
pub fn run(drive: Drive, bench: &mut Bench) -> Result<()> {
    let tools = Tools::ensure(false)?;
    let folder = peers::folder().join("workers/bench-core");
    let bundle = wasm::build_crate("bench-core", &[], &paths::root().join("bench/workers/entry.js"), &folder, true)?;
    let start = || Worker::bundle("core", &bundle).start(&tools, &peers::folder().join("core"), 1, "/memory?0");

    // Memory, each in an isolate of its own: wasm memory never shrinks, so afterwards it tells its peak.
    let slots = *ask(&start()?, &format!("/table?{REVOCATIONS}"))?.first().context("no slots")?;
    let running = start()?;
    let before = *ask(&running, "/memory?0")?.first().context("no memory")?;
    let loaded = ask(&running, &format!("/load?{REVOCATIONS}"))?;
    anyhow::ensure!(loaded.get(1) == Some(&(REVOCATIONS as f64)), "the view has {loaded:?}");
    bench.note("S5-bytes", Some(Spread::exactly(slots / REVOCATIONS as f64)), &["bytes of the table's slots"]);
    let peak = (loaded[0] - before) / slots;
    bench.note("S5-peak", Some(Spread::exactly(peak)), &["growth of the wasm's memory; holds the pages' encoder too"]);

    let contender = |name: &str, target: String| Contender {
        name: name.into(),
        address: running.address(),
        requests: Requests::one(request("GET", &target, &[], b"")),
        status: 200,
        min_body_bytes: 1,
        pids: vec![running.part.pid()],
    };
    let checks = rounds(
        &[
            contender("bare HMAC-SHA-256, 20,000 times", format!("/hmac?{AT_ONCE}")),
            contender("edgekeep: parse, verify, look up, 20,000 times", format!("/check?{AT_ONCE}")),
            contender("edgekeep: the gate's whole decision, 20,000 times", format!("/gate?{AT_ONCE}")),
        ],
        Drive { connections: 1, ..drive },
    )?;
    bench.table("Checks among a million revocations", &checks);
    let [hmac, check, gate] = checks.as_slice() else { anyhow::bail!("three contenders") };
    let one_us = |series: &crate::load::Series| series.cpu_us().map_or(0.0, |all| all.median / AT_ONCE as f64);
    let each = format!(
        "one HMAC {:.2} µs, one check {:.2} µs, one decision {:.2} µs",
        one_us(hmac),
        one_us(check),
        one_us(gate)
    );
    bench.note("S4", Spread::of_ratio(&hmac.per_cpu_second, &check.per_cpu_second), &[&each]);
    bench.note("S4-gate", Spread::of_ratio(&hmac.per_cpu_second, &gate.per_cpu_second), &[]);

    let syncs = rounds(
        &[
            contender("encoding a million revocations", format!("/encode?{REVOCATIONS}")),
            contender("edgekeep: encoding, decoding and merging them", format!("/load?{REVOCATIONS}")),
        ],
        Drive { connections: 1, ..drive },
    )?;
    bench.table("Cold sync", &syncs);
    let [encode, load] = syncs.as_slice() else { anyhow::bail!("two contenders") };
    let seconds: Vec<f64> = load
        .per_cpu_second
        .iter()
        .zip(&encode.per_cpu_second)
        .map(|(load, encode)| 1.0 / load - 1.0 / encode)
        .collect();
    bench.note("S5-sync", Spread::of(&seconds), &["in wasm, without the network; the encoder's share is taken off"]);
    Ok(())
}
