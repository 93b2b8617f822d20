// A signed token in a cookie, verified by `jose`. As its documentation advises: algorithm, issuer and audience are
// pinned, and the key is a CryptoKey that is imported once per isolate.
import { jwtVerify } from "jose";

let key;

async function secret(env) {
  const bytes = Uint8Array.from(atob(env.SECRET), (c) => c.charCodeAt(0));
  return crypto.subtle.importKey("raw", bytes, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
}

function cookie(request, name) {
  const header = request.headers.get("cookie") ?? "";
  for (const pair of header.split("; ")) {
    if (pair.startsWith(name) && pair[name.length] === "=") return pair.slice(name.length + 1);
  }
  return "";
}

export default {
  async fetch(request, env) {
    key ??= await secret(env);
    try {
      const { payload } = await jwtVerify(cookie(request, "session"), key, {
        algorithms: ["HS256"],
        issuer: "bench",
        audience: "main",
      });
      return new Response(`Hello, ${payload.name}\n`);
    } catch {
      return new Response("Sign in first\n", { status: 401 });
    }
  },
};
