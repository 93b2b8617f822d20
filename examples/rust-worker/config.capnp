# The worker in raw workerd, after
#
#   cargo build -p example-rust-worker --target wasm32-unknown-unknown --profile edge
#
# and wasm-bindgen, as `cargo xtask test deploy` does it into target/example-rust-worker. Then:
#
#   export EDGE_CREDENTIAL="$(edgekeep edge add my-worker)"   # once; keep it where your secrets are
#   export COORDINATOR_URLS=http://127.0.0.1:8700
#   workerd serve examples/rust-worker/config.capnp
#
# People sign in at the Edgekeep worker of the same host, to which /auth is routed. The end-to-end tests run this file.

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "rust-worker", worker = .rustWorker),
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = "127.0.0.1:8789", http = (), service = "rust-worker")],
);

const rustWorker :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  globalOutbound = "internet",
  modules = [
    (name = "entry.js", esModule = embed "../../target/example-rust-worker/entry.js"),
    (name = "index.js", esModule = embed "../../target/example-rust-worker/index.js"),
    (name = "index_bg.wasm", wasm = embed "../../target/example-rust-worker/index_bg.wasm"),
    (name = "snippets/inline0.js", esModule = embed "../../target/example-rust-worker/snippets/inline0.js"),
    (name = "snippets/module0.js", esModule = embed "../../target/example-rust-worker/snippets/module0.js"),
  ],
  bindings = [
    (name = "COORDINATOR_URLS", fromEnvironment = "COORDINATOR_URLS"),
    (name = "EDGE_CREDENTIAL", fromEnvironment = "EDGE_CREDENTIAL"),
    # What the worker's paths ask for.
    (name = "POLICY", text = embed "policy.json"),
  ],
);
