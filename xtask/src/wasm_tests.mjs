// Runs one test binary of wasm32-unknown-unknown in V8: `node wasm_tests.mjs TESTS.wasm TESTS.json`.
//
// On this target Rust's test harness has no output, and a panic is a trap. So xtask has put a call at the start of
// every test that says its number; from that and from where a trap happens we know how each test went. A test that
// was reported once is told to return at once, so that a new instance can go on behind a failure.
import { readFileSync } from "node:fs";

Error.stackTraceLimit = 100;
const [, , file, testsFile] = process.argv;
/** `[{ name, skippable }]`; a test's number is its place. */
const tests = JSON.parse(readFileSync(testsFile, "utf8"));
const module = await WebAssembly.compile(readFileSync(file));
const reported = new Set();
let passed = 0;
let failed = 0;

/** Where a trap happened, as far as it is our own code: names are those of functions, outermost last. */
function where(trap) {
  const names = [...trap.stack.matchAll(/^ +at (?:[^ ]*\.wasm\.)?(.*) \(wasm:/gm)].map((match) => match[1]);
  return names.filter((name) => !/^<?(core|std|alloc|test|compiler_builtins|__rust|rust_|main$)/.test(name)).slice(0, 8);
}

/** One instance, from its start to its end or to the first test that traps. */
function run() {
  let memory;
  let current = null;
  let began = 0;
  const finish = (how) => {
    if (current === null) return;
    if (!reported.has(current)) {
      reported.add(current);
      const ms = performance.now() - began;
      console.log(`test ${tests[current].name} ... ${how}${ms > 1000 ? ` (${(ms / 1000).toFixed(1)} s)` : ""}`);
      if (how === "ok") passed += 1;
      else failed += 1;
    }
    current = null;
  };
  const imports = {
    edgekeep: {
      enter(number) {
        finish("ok");
        if (reported.has(number) && tests[number].skippable) return 1;
        current = number;
        began = performance.now();
        return 0;
      },
    },
    env: {
      // Seeds of property tests.
      __getrandom_v03_custom(pointer, length) {
        crypto.getRandomValues(new Uint8Array(memory.buffer, pointer, length));
        return 0;
      },
    },
  };
  const instance = new WebAssembly.Instance(module, imports);
  memory = instance.exports.memory;
  try {
    instance.exports.main(0, 0);
  } catch (trap) {
    if (/std::process::exit/.test(trap.stack)) {
      // The harness's own end: all tests have run, and one that gives a `Result` has given an error. Which one, the
      // harness has told nobody.
      finish("ok");
      failed += 1;
      console.log("FAILED: a test returned an error; run it on the host, or make it panic, to see which");
      return true;
    }
    const again = current === null || reported.has(current);
    finish("FAILED");
    console.log(where(trap).map((name) => `    in ${name}`).join("\n"));
    if (again) throw trap;
    return false;
  }
  finish("ok");
  return true;
}

while (!run());
// A test that the harness ignored was never entered.
const ignored = tests.length - reported.size;
console.log(
  `test result: ${failed === 0 ? "ok" : "FAILED"}. ${passed} passed; ${failed} failed; ${ignored} ignored; 0 measured`,
);
process.exitCode = failed === 0 ? 0 : 1;
