# The same in raw workerd: start it as `workerd serve examples/js-worker/config.capnp` after `cargo xtask build`, with
# EDGE_CREDENTIAL in the environment and a coordinator at 127.0.0.1:8700.

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
    (name = "entry.js", esModule = embed "../../target/edge/entry.js"),
    (name = "index.js", esModule = embed "../../target/edge/index.js"),
    (name = "index_bg.wasm", wasm = embed "../../target/edge/index_bg.wasm"),
  ],
  bindings = [
    (name = "COORDINATOR_URLS", text = "http://127.0.0.1:8700"),
    (name = "EDGE_CREDENTIAL", fromEnvironment = "EDGE_CREDENTIAL"),
    (name = "POLICY", text = "{\"routes\":[{\"path\":\"/\",\"access\":\"public\"}]}"),
  ],
);
