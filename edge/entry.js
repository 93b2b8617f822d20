// What the platform sees. `index.js` is what wasm-bindgen made of the crate; `cargo xtask build` puts it beside this file.
import { WorkerEntrypoint } from "cloudflare:workers";
import { check, handle } from "./index.js";

// The gateway: synchronous first, so no async function around it.
export default { fetch: handle };

// For other workers, through a service binding with `entrypoint: "Check"`:
//   const checked = await env.EDGEKEEP.check(request);
//   // { allowed: true, user: { id, name, roles, session_id } | null, how, view_age_ms, set_cookies }
//   // { allowed: false, status, problem, login: "/auth/login?…" | null, set_cookies }
export class Check extends WorkerEntrypoint {
  async check(request) {
    return JSON.parse(await check(request, this.env, this.ctx));
  }
}
