// A site to protect. Plain Node.js; `jose` verifies who is asking, `ws` speaks WebSocket.
//
// It must be reachable by edges only: whoever reaches it past them still cannot pretend to be anybody (the assertion
// is signed), but sees what is public here.

import { createServer } from "node:http";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { WebSocketServer } from "ws";

import { assertionKey, identify } from "./identity.mjs";
import { ICON, STYLE, learned, page } from "./pages.mjs";

const HOST = process.env.HOST ?? "127.0.0.1";
const PORT = Number(process.env.PORT ?? 8900);
const SITE = process.env.SITE ?? "main";
const KEY = assertionKey(process.env.ASSERTION_KEY);

/** The most bytes that `/bytes` sends. */
const MAX_BYTES = 1 << 30;
/** The most seconds that `/stream` takes. */
const MAX_STREAM_S = 60;

const SECURITY = {
  "content-security-policy":
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
};

function send(response, status, type, body, headers = {}) {
  response.writeHead(status, { "content-type": type, "content-length": Buffer.byteLength(body), ...SECURITY, ...headers });
  response.end(body);
}

const html = (response, status, parts) => send(response, status, "text/html; charset=utf-8", page(parts));
const json = (response, value) => send(response, 200, "application/json", `${JSON.stringify(value, null, 2)}\n`);

/** Every header as it arrived: pairs, in order, repeated ones too. */
function headerPairs(request) {
  const pairs = [];
  for (let i = 0; i < request.rawHeaders.length; i += 2) pairs.push([request.rawHeaders[i], request.rawHeaders[i + 1]]);
  return pairs;
}

async function bodyLength(request) {
  let length = 0;
  for await (const chunk of request) length += chunk.length;
  return length;
}

const INTRODUCTION = `<p>Everybody may read this page. The others ask who you are, and the edge in front of this site
answers for it: this site has no passwords and no sessions of its own.</p>
<p>Sign in here, then on another device: this one is signed out, and says why.</p>
<h2>What to try</h2>
<ul class="cards">
<li><a href="/dashboard">Dashboard</a><p>For anybody who is signed in.</p></li>
<li><a href="/admin">Admin</a><p>For the role <code>admin</code>; others are told what is missing.</p></li>
<li><a href="/strict">Strict</a><p>Asks the database each time: signed out means at once.</p></li>
<li><a href="/recent">Recent</a><p>Asks for a password that was typed in the last five minutes.</p></li>
</ul>`;

const PAGES = {
  "/dashboard": ["Your dashboard", "<p>You see this because you are signed in.</p>"],
  "/admin": ["For administrators", "<p>You see this because you have the role <code>admin</code>.</p>"],
  "/strict": [
    "Checked just now",
    "<p>Your session was looked up in the database during this very request, and not a moment before.</p>",
  ],
  "/recent": ["Signed in lately", "<p>You typed your password within the last five minutes.</p>"],
};

async function answer(request, response) {
  const url = new URL(request.url, "http://site");
  const path = url.pathname.length > 1 ? url.pathname.replace(/\/$/, "") : url.pathname;
  const identity = await identify(request, KEY, SITE);
  const claims = identity.verified ? identity.claims : null;

  if (path === "/") return html(response, 200, { title: "Welcome to Harbour", path, claims, main: INTRODUCTION });
  if (path === "/assets/style.css") return send(response, 200, "text/css", STYLE, { "cache-control": "public, max-age=300" });
  if (path === "/assets/icon.svg") return send(response, 200, "image/svg+xml", ICON, { "cache-control": "public, max-age=300" });
  if (path === "/echo" || path.startsWith("/echo/")) {
    return json(response, {
      method: request.method,
      path: request.url,
      headers: headerPairs(request),
      body_bytes: await bodyLength(request),
      assertion: identity.verified ? { verified: true, claims } : { verified: false, why: identity.why },
    });
  }

  // The edge lets nobody through to these without a session. Whoever comes another way is told no.
  if (claims === null) {
    const main = "<p>This page can only be reached through the edge, signed in.</p>";
    return html(response, 403, { title: "Not this way", path, claims, main });
  }
  if (path === "/stream") return stream(url, response);
  if (path === "/bytes") return bytes(url, response);
  const known = PAGES[path];
  if (known) return html(response, 200, { title: known[0], path, claims, main: known[1] + learned(claims) });
  html(response, 404, { title: "Not found", path, claims, main: "<p>There is no such page.</p>" });
}

/** `/stream?n=5&ms=200`: n lines, one every `ms` milliseconds. */
async function stream(url, response) {
  const ms = Math.min(Number(url.searchParams.get("ms") ?? 200) || 0, 10_000);
  const count = Math.min(Number(url.searchParams.get("n") ?? 5) || 0, Math.floor((MAX_STREAM_S * 1000) / Math.max(ms, 1)));
  response.writeHead(200, { "content-type": "text/plain; charset=utf-8", ...SECURITY });
  async function* lines() {
    for (let i = 1; i <= count; i += 1) {
      yield `${i} of ${count}\n`;
      if (i < count) await new Promise((resolve) => setTimeout(resolve, ms));
    }
  }
  await pipeline(Readable.from(lines()), response);
}

/** `/bytes?n=1000000`: so many zero bytes. */
async function bytes(url, response) {
  const length = Math.min(Number(url.searchParams.get("n") ?? 0) || 0, MAX_BYTES);
  response.writeHead(200, { "content-type": "application/octet-stream", "content-length": length, ...SECURITY });
  const chunk = Buffer.alloc(64 * 1024);
  async function* chunks() {
    for (let left = length; left > 0; left -= chunk.length) yield left < chunk.length ? chunk.subarray(0, left) : chunk;
  }
  await pipeline(Readable.from(chunks(), { objectMode: false }), response);
}

const server = createServer((request, response) => {
  answer(request, response).catch((error) => {
    // A client that went away is no news.
    if (!["ERR_STREAM_PREMATURE_CLOSE", "ECONNRESET"].includes(error.code)) console.error(error);
    if (!response.headersSent) send(response, 500, "text/plain", "Something went wrong.\n");
    else response.destroy();
  });
});

const sockets = new WebSocketServer({ noServer: true, maxPayload: 1 << 20 });
server.on("upgrade", async (request, socket, head) => {
  socket.on("error", () => socket.destroy());
  const identity = await identify(request, KEY, SITE);
  if (new URL(request.url, "http://site").pathname !== "/ws" || !identity.verified) {
    socket.end("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    return;
  }
  sockets.handleUpgrade(request, socket, head, (client) => {
    client.send(`hello ${identity.claims.name}`);
    client.on("message", (message, binary) => client.send(message, { binary }));
  });
});

// Edges keep connections open between requests; closing first would race with their next request.
server.keepAliveTimeout = 120_000;
server.listen(PORT, HOST, () => console.log(`http://${HOST}:${server.address().port}`));
process.on("SIGTERM", () => process.exit(0));
