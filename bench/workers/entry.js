// What the platform sees; `index.js` is what wasm-bindgen made of the crate.
import { handle } from "./index.js";

export default { fetch: handle };
