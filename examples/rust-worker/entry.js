// What the platform sees, where the worker is built by `cargo` and wasm-bindgen alone, as Edgekeep's own is (xtask's
// `wasm` module). With `worker-build` this file is not needed.
import { fetch } from "./index.js";

export default { fetch };
