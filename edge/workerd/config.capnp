# Edgekeep's edge on your own machine, in raw workerd. An example to copy:
#
#   cargo xtask build
#   export EDGE_CREDENTIAL="$(edgekeep edge add my-edge)"   # once; keep it where your secrets are
#   export ASSERTION_KEY=...                                # 32 random bytes as base64url; your site has the same
#   workerd serve edge/workerd/config.capnp                 # npm's `workerd` package has the binary
#
# One process is one thread. For more, start several with `--socket-fd edge=N` on one listening socket, or put them
# behind one load balancer: sessions are good at all of them.

using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),

    # The protected site. It must not be reachable past the edge.
    (name = "origin", external = (address = "127.0.0.1:8900", http = ())),

    # How the edge reaches coordinators. "private" allows addresses such as 10.0.0.0/8 and loopback.
    (name = "internet", network = (
      allow = ["public", "private"],
      tlsOptions = (trustBrowserCas = true),
    )),
  ],

  # Browsers keep Edgekeep's cookies over HTTPS only (and on localhost). Either end TLS in front of this, or here:
  #   (name = "edge", address = "*:443", service = "edge", https = (tlsOptions = (keypair = (
  #     privateKey = embed "key.pem", certificateChain = embed "certificate.pem"))))
  sockets = [
    (name = "edge", address = "127.0.0.1:8787", http = (), service = "edge"),
  ],
);

const edge :Workerd.Worker = (
  compatibilityDate = "2026-11-01",
  globalOutbound = "internet",

  # Paths are relative to this file. entry.js must be the first.
  modules = [
    (name = "entry.js", esModule = embed "../../target/worker/entry.js"),
    (name = "index.js", esModule = embed "../../target/worker/index.js"),
    (name = "index_bg.wasm", wasm = embed "../../target/worker/index_bg.wasm"),
    (name = "snippets/module0.js", esModule = embed "../../target/worker/snippets/module0.js"),
  ],

  bindings = [
    (name = "ORIGIN", service = "origin"),

    # Separated by commas, in the order of preference.
    (name = "COORDINATOR_URLS", text = "http://127.0.0.1:8700"),

    # Secrets stand in the environment, in no file.
    (name = "EDGE_CREDENTIAL", fromEnvironment = "EDGE_CREDENTIAL"),
    (name = "ASSERTION_KEY", fromEnvironment = "ASSERTION_KEY"),

    # Who may see what. The most specific path wins; what is not listed needs a session.
    (name = "POLICY", text = embed "../../examples/site/policy.json"),

    # Our own doors: /auth/login, /auth/logout, /auth/session, /auth/account …
    (name = "AUTH_PREFIX", text = "/auth"),

    # The one header that names the client's address, if a proxy of yours in front of this always sets it itself.
    # Anything else would let clients choose their address. Without it there is no limit per address.
    # (name = "CLIENT_ADDRESS_HEADER", text = "X-Real-IP"),

    # workerd itself limits no invocation's questions.
    (name = "SUBREQUEST_LIMIT", text = "10000"),

    # Where TLS ends in front of this process:
    # (name = "PUBLIC_SCHEME", text = "https"),
  ],
);
