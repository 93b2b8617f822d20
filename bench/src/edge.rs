//! `edge`: S1, S2, S3 and S6. Workers side by side, each in a workerd of its own, driven in turns.
//!
//! What counts is requests per second of the worker's processor time: workerd has one thread, so on a machine with
//! nothing else to do that is its throughput, and on a busy one it is what stays true.

use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::Mac as _;
use serde_json::json;
use xtask::{command, paths, wasm};

use crate::http::request;
use crate::load::{Contender, Drive, Requests, Series, rounds};
use crate::results::Bench;
use crate::stats::Spread;
use crate::workerd::{Running, Worker, at};
use crate::world::World;
use crate::{cpu, peers, say};

const MEGABYTE: usize = 1_000_000;
/// Isolates that are started beside the first one, to tell an isolate's start from the process's.
const MORE_ISOLATES: usize = 8;
/// How often a start is measured.
const STARTS: usize = 5;
/// What the benchmark's own secrets are made of; they protect nothing.
const SECRET: [u8; 32] = [7; 32];

fn plain(name: &str, file: &str) -> Worker {
    Worker::script(name, paths::root().join("bench/workers/plain").join(file))
}

fn rust_worker(package: &str) -> Result<wasm::Bundle> {
    let folder = peers::folder().join("workers").join(package);
    wasm::build_crate(package, &[], &paths::root().join("bench/workers/entry.js"), &folder, true)
}

/// A token as the `jose` worker expects it.
fn jwt() -> String {
    let part = |value: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"iss": "bench", "aud": "main", "sub": "4821906573310842112", "name": "demo", "roles": ["admin"],
        "sid": "0123456789abcdef0123456789abcdef", "iat": 1_700_000_000, "exp": 4_000_000_000_u64});
    let signed = format!("{}.{}", part(json!({"alg": "HS256"})), part(claims));
    let mut mac = edgekeep_shared::keyring::keyed(&SECRET);
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

struct Asked {
    address: std::net::SocketAddr,
    pid: u32,
}

impl From<&Running> for Asked {
    fn from(running: &Running) -> Self {
        Self { address: running.address(), pid: running.part.pid() }
    }
}

fn contender(name: &str, asked: &Asked, sent: Vec<u8>, min_body_bytes: usize) -> Contender {
    Contender {
        name: name.into(),
        address: asked.address,
        requests: Requests::one(sent),
        status: 200,
        min_body_bytes: min_body_bytes as u64,
        pids: vec![asked.pid],
    }
}

fn get(target: &str, cookie: &str) -> Vec<u8> {
    request("GET", target, &[("Cookie", cookie)], b"")
}

/// `a ÷ b` in requests per second of processor time.
fn ratio(all: &[Series], a: &str, b: &str) -> Option<Spread> {
    let find = |name: &str| all.iter().find(|series| series.name == name);
    Spread::of_ratio(&find(a)?.per_cpu_second, &find(b)?.per_cpu_second)
}

const HELLO: &str = "JavaScript hello world";
const RUST_HELLO: &str = "Rust hello world";
const OURS: &str = "edgekeep: a worker behind the gate";
const DOOR: &str = "edgekeep: GET /auth/session";
const JOSE: &str = "JavaScript, JWT by jose";
const IRON: &str = "JavaScript, iron-session";
const CENTRAL: &str = "JavaScript, central session, loopback";
const CENTRAL_FAR: &str = "JavaScript, central session, 20 ms away";
const PROXY: &str = "JavaScript pass-through, no check";
const GATEWAY: &str = "edgekeep: gateway with full check";

/// Runs it.
///
/// # Errors
/// If a contender does not come up or answers wrongly.
pub fn run(drive: Drive, bench: &mut Bench) -> Result<()> {
    let mut world = World::start("edge", |options| options.edges = 0)?;
    let hello_binary = peers::build("axum-hello")?;
    let near = peers::axum_hello(&hello_binary, "axum hello", 0)?;
    let far = peers::axum_hello(&hello_binary, "axum hello 20 ms", 20)?;
    let origin_port = near.port;
    let _ = world.cluster.add_edge(|setup| setup.origin_url = format!("http://127.0.0.1:{origin_port}"))?;
    let cookie = world.cookie("demo")?;
    let edge = {
        let node = &world.cluster.edges[0];
        Asked { address: at(node.port), pid: node.part.pid() }
    };

    let (tools, folder) = (&world.tools, peers::folder().join("edge-workers"));
    let start = |worker: Worker, ready: &str| worker.start(tools, &folder, 1, ready);
    let hello = start(plain("hello", "hello.js"), "/")?;
    let rust_hello_bundle = rust_worker("bench-rust-hello")?;
    let rust_hello = start(Worker::bundle("rust-hello", &rust_hello_bundle), "/")?;
    let gated_bundle = rust_worker("bench-gated")?;
    let coordinators: Vec<String> = world.cluster.coordinators.iter().map(|node| node.url.clone()).collect();
    let edge_like = |worker: Worker| {
        worker
            .text("COORDINATOR_URLS", &coordinators.join(","))
            .text("EDGE_CREDENTIAL", world.cluster.edge_credential())
    };
    let gated = start(edge_like(Worker::bundle("gated", &gated_bundle)), "/")?;
    let proxy = start(plain("proxy", "proxy.js").service("ORIGIN", origin_port), "/")?;
    let central = start(plain("central", "central.js").service("SESSIONS", near.port), "/")?;
    let central_far = start(plain("central-far", "central.js").service("SESSIONS", far.port), "/")?;
    let secret = BASE64_STANDARD.encode(SECRET);
    let jose = start(Worker::script("jose", peers::bundle(tools, "jose")?).text("SECRET", &secret), "/")?;
    let iron_worker = peers::bundle(tools, "iron-session")?;
    let iron_password = "a password of the benchmark, that protects nothing";
    let mut seal = std::process::Command::new(&tools.node);
    seal.current_dir(peers::install("iron-session")?).arg("seal.mjs").env("PASSWORD", iron_password);
    let sealed = command::output(&mut seal, "")?;
    let iron = start(Worker::script("iron-session", iron_worker).text("PASSWORD", iron_password), "/")?;

    let token_cookie = format!("session={}", jwt());
    let sealed_cookie = format!("session={}", sealed.trim());
    let all = rounds(
        &[
            contender(HELLO, &(&hello).into(), get("/", &cookie), 5),
            contender(RUST_HELLO, &(&rust_hello).into(), get("/", &cookie), 5),
            contender(OURS, &(&gated).into(), get("/", &cookie), 5),
            contender(DOOR, &edge, get("/auth/session", &cookie), 100),
            contender(JOSE, &(&jose).into(), get("/", &token_cookie), 5),
            contender(IRON, &(&iron).into(), get("/", &sealed_cookie), 5),
            contender(CENTRAL, &(&central).into(), get("/", &token_cookie), 5),
            contender(PROXY, &(&proxy).into(), get("/dashboard", &cookie), 5),
            contender(GATEWAY, &edge, get("/dashboard", &cookie), 5),
        ],
        drive,
    )?;
    bench.table("A small answer", &all);
    let by_cpu = "requests per second of the worker's processor time";
    bench.note("S1", ratio(&all, OURS, HELLO), &[by_cpu]);
    bench.note("S1-door", ratio(&all, DOOR, HELLO), &[by_cpu]);
    bench.note("S2-jose", ratio(&all, OURS, JOSE), &[by_cpu]);
    bench.note("S2-ceiling", ratio(&all, HELLO, JOSE), &[by_cpu]);
    bench.note("S2-iron", ratio(&all, OURS, IRON), &[by_cpu]);
    bench.note("S2-central", ratio(&all, OURS, CENTRAL), &[by_cpu, "the session endpoint's own time is not counted"]);
    bench.note("S3", ratio(&all, GATEWAY, PROXY), &[by_cpu]);

    say("  1 MB answers and uploads");
    let upload = request("POST", "/echo", &[("Cookie", &cookie)], &vec![b'x'; MEGABYTE]);
    let large = rounds(
        &[
            contender(PROXY, &(&proxy).into(), get("/bytes", &cookie), MEGABYTE),
            contender(GATEWAY, &edge, get("/bytes", &cookie), MEGABYTE),
        ],
        Drive { connections: 2, ..drive },
    )?;
    bench.table("1 MB answers", &large);
    bench.note("S3-1mb", ratio(&large, GATEWAY, PROXY), &[by_cpu]);
    let uploads = rounds(
        &[contender(PROXY, &(&proxy).into(), upload.clone(), 5), contender(GATEWAY, &edge, upload, 5)],
        Drive { connections: 2, ..drive },
    )?;
    bench.table("1 MB uploads", &uploads);
    bench.note("S3-1mb-up", ratio(&uploads, GATEWAY, PROXY), &[by_cpu]);

    say("  latency of one client");
    let alone = rounds(
        &[
            contender(OURS, &(&gated).into(), get("/", &cookie), 5),
            contender(CENTRAL_FAR, &(&central_far).into(), get("/", &token_cookie), 5),
        ],
        Drive { connections: 1, ..drive },
    )?;
    bench.table("One client", &alone);
    bench.note(
        "S2-latency",
        Spread::of_ratio(&alone[1].median_ms, &alone[0].median_ms),
        &["wall-clock time, one client"],
    );

    say("  isolate start-up");
    let edge_bundle = wasm::build(true)?;
    bench.note("S6-size", Some(Spread::exactly(edge_bundle.wasm_gzip_bytes as f64 / 1000.0)), &["gzip -9"]);
    let ours = edge_like(Worker::bundle("start-ours", &edge_bundle))
        .text("ASSERTION_KEY", &BASE64_URL_SAFE_NO_PAD.encode(SECRET))
        .service("ORIGIN", origin_port);
    let rust = Worker::bundle("start-rust", &rust_hello_bundle);
    let script = plain("start-js", "hello.js");
    let mut each: [Vec<f64>; 3] = Default::default();
    for _ in 0..STARTS {
        for (times, (worker, path)) in each.iter_mut().zip([(&ours, "/auth/style.css"), (&rust, "/"), (&script, "/")]) {
            times.push(start_up_s(&world, worker, path)?);
        }
    }
    let [ours, rust, script] = each;
    if let Some(own) = Spread::of(&ours) {
        let what = format!("{:.1} ms of CPU for our isolate and its first answer", own.median * 1e3);
        let how = "the slope between one isolate in a process and several";
        bench.note("S6-start", Spread::of_ratio(&ours, &rust), &[&what, how]);
        bench.note("S6-start-js", Spread::of_ratio(&ours, &script), &[&what, how]);
    }
    Ok(())
}

/// Processor time of one more isolate and its first answer: what a process with many takes more than one with one.
fn start_up_s(world: &World, worker: &Worker, path: &str) -> Result<f64> {
    let folder = peers::folder().join("edge-workers");
    let mut total = [0.0; 2];
    for (total, copies) in total.iter_mut().zip([1, 1 + MORE_ISOLATES]) {
        let running = worker.start(&world.tools, &folder, copies, path)?;
        for port in &running.ports {
            let status = xtask::probe::status(*port, path, Duration::from_secs(10)).context("no answer")?;
            anyhow::ensure!(status == 200, "{} answered {status}", worker.name);
        }
        *total = cpu::seconds(&[running.part.pid()]);
    }
    Ok(((total[1] - total[0]) / MORE_ISOLATES as f64).max(1e-4))
}

/// Starts nothing of its own but a hello world and our gate, and asks each a few times: this code still works.
///
/// # Errors
/// If it does not.
pub fn smoke(bench: &mut Bench) -> Result<()> {
    let world = World::start("smoke", |_| {})?;
    let cookie = world.cookie("demo")?;
    let edge = Asked { address: at(world.cluster.edges[0].port), pid: world.cluster.edges[0].part.pid() };
    let hello = plain("hello", "hello.js").start(&world.tools, &peers::folder().join("smoke-workers"), 1, "/")?;
    let drive = Drive { rounds: 1, turn: Duration::from_millis(100), connections: 2 };
    let all = rounds(
        &[
            contender(HELLO, &(&hello).into(), get("/", &cookie), 5),
            contender(DOOR, &edge, get("/auth/session", &cookie), 100),
        ],
        drive,
    )?;
    bench.table("Smoke", &all);
    Ok(())
}
