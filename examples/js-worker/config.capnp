# The same in raw workerd, after `cargo xtask build`:
#
#   export EDGE_CREDENTIAL="$(edgekeep edge add my-worker)"   # once; keep it where your secrets are
#   export COORDINATOR_URLS=http://127.0.0.1:8700
#   workerd serve examples/js-worker/config.capnp
#
# People sign in at the Edgekeep worker of the same host, to which /auth is routed. The end-to-end tests run this file.

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "js-worker", worker = .jsWorker),
    (name = "edgekeep-edge", worker = .edge),
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = "127.0.0.1:8788", http = (), service = "js-worker")],
);

const jsWorker :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  bindings = [(name = "EDGEKEEP", service = (name = "edgekeep-edge", entrypoint = "Check"))],
);

# It decides and has no origin behind it.
const edge :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  globalOutbound = "internet",
  modules = [
    (name = "entry.js", esModule = embed "../../target/worker/entry.js"),
    (name = "index.js", esModule = embed "../../target/worker/index.js"),
    (name = "index_bg.wasm", wasm = embed "../../target/worker/index_bg.wasm"),
    (name = "snippets/module0.js", esModule = embed "../../target/worker/snippets/module0.js"),
  ],
  bindings = [
    (name = "COORDINATOR_URLS", fromEnvironment = "COORDINATOR_URLS"),
    (name = "EDGE_CREDENTIAL", fromEnvironment = "EDGE_CREDENTIAL"),
    # What the worker's paths ask for.
    (name = "POLICY", text = embed "policy.json"),
  ],
);
