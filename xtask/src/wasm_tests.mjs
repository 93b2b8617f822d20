// Runs one test binary of wasm32-unknown-unknown in V8: `node wasm_tests.mjs TESTS.wasm NAMES.json`.
//
// On this target Rust's test harness has no output, and a panic is a trap. So xtask has put a call at the start of
// every test that says its number; from that and from where a trap happens we know how each test went. A test that
// was reported once is told to return at once, so that a new instance can go on behind a failure.
import { readFileSync } from "node:fs";

const [, , file, namesFile] = process.argv;
const names = JSON.parse(readFileSync(namesFile, "utf8"));
const module = await WebAssembly.compile(readFileSync(file));
const reported = new Set();
let passed = 0;
let failed = 0;

/** One instance, from its start to its end or to the first test that traps. */
function run() {
  let memory;
  let current = null;
  let began = 0;
  const finish = (how) => {
    if (current === null) return;
    reported.add(current);
    const ms = performance.now() - began;
    console.log(`test ${names[current]} ... ${how}${ms > 1000 ? ` (${(ms / 1000).toFixed(1)} s)` : ""}`);
    current = null;
  };
  const imports = {
    edgekeep: {
      enter(number) {
        if (current !== null) {
          finish("ok");
          passed += 1;
        }
        if (reported.has(number)) return 1;
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
    if (current === null) throw trap;
    finish("FAILED");
    failed += 1;
    const frames = trap.stack.split("\n").filter((line) => !/core::panic|std::panic|rust_panic|__rust/.test(line));
    console.log(frames.slice(0, 12).join("\n"));
    return false;
  }
  if (current !== null) {
    finish("ok");
    passed += 1;
  }
  return true;
}

while (!run());
// A test that the harness ignored was never entered.
const ignored = names.length - reported.size;
console.log(
  `test result: ${failed === 0 ? "ok" : "FAILED"}. ${passed} passed; ${failed} failed; ${ignored} ignored; 0 measured`,
);
process.exitCode = failed === 0 ? 0 : 1;
