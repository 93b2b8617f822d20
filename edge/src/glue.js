// What would cost many crossings between WebAssembly and JavaScript, in one each. A crossing with a string costs about as
// much as verifying a proof does. Nothing is decided here: `gateway.rs`, `incoming.rs` and `respond.rs` say what is done.
// Lists are lines: no header's name or value can have a line break (RFC 9110 section 5.5).

const lines = (text) => (text === "" ? [] : text.split("\n"));

// Names and values in turns.
const put = (headers, pairs, how) => {
  const all = lines(pairs);
  for (let at = 0; at + 1 < all.length; at += 2) headers[how](all[at], all[at + 1]);
};

// What every decision needs: method, address, and the `Cookie` header on a line of its own.
export const headOf = (request) =>
  `${request.method} ${request.url}\n${request.headers.get("cookie") ?? ""}`;

const encoder = new TextEncoder();

// The same as UTF-8 in `bytes`: how many there are, or 0 if it has no room. The platform copies it in one go, where a
// string that is handed over is copied character by character, until V8 has compiled that loop after thousands of requests.
export const headInto = (request, bytes) => {
  const head = headOf(request);
  const { read, written } = encoder.encodeInto(head, bytes);
  return read < head.length ? 0 : written;
};

export const namesOf = (request) => [...request.headers.keys()].join("\n");

// The request as the origin gets it: at another address if one is given, without some headers and with others.
// The original as "init" keeps its body as it is.
export const onward = (request, url, noStore, without, having) => {
  const moved = url === undefined ? request : new Request(url, request);
  const onward = new Request(moved, noStore ? { redirect: "manual", cache: "no-store" } : { redirect: "manual" });
  for (const name of lines(without)) onward.headers.delete(name);
  put(onward.headers, having, "set");
  return onward;
};

// What `then` makes of the answer, or of why there is none: it failed, or it has not begun in time. One promise, and
// `then` is called once. No abort signal: that would cut long bodies and WebSockets later.
export const begun = (answer, ms, then) =>
  new Promise((resolve, reject) => {
    let waiting = true;
    const end = (response, failure) => {
      if (!waiting) return;
      waiting = false;
      clearTimeout(timer);
      try {
        resolve(then(response, failure));
      } catch (broken) {
        reject(broken);
      }
    };
    const timer = setTimeout(() => end(undefined, new Error(`no answer within ${ms} ms`)), ms);
    answer.then(
      (response) => end(response, undefined),
      (failure) => end(undefined, failure),
    );
  });

// Status, whether it sets cookies, whether it has one of these headers, and after a space its `Cache-Control` if it has one.
export const factsOf = ({ status, headers }, others) => {
  const cookies = headers.has("set-cookie") ? "cookies" : "none";
  const other = lines(others).some((name) => headers.has(name)) ? "others" : "none";
  const control = headers.get("cache-control");
  return `${status} ${cookies} ${other}${control === null ? "" : ` ${control}`}`;
};

// The origin's answer with other headers; its body is handed on as it is.
export const changed = (response, without, having, more) => {
  const changed = new Response(response.body, response);
  for (const name of lines(without)) changed.headers.delete(name);
  put(changed.headers, having, "set");
  put(changed.headers, more, "append");
  return changed;
};

// An answer of our own: the headers that all of them have, and more. All before the body is there, or the platform would
// add a `Content-Type` of its own.
export const answer = (status, body, shared, more) => {
  const headers = new Headers(shared);
  put(headers, more, "append");
  return new Response(body, { status, headers });
};

export const headersOf = (pairs) => {
  const headers = new Headers();
  put(headers, pairs, "set");
  return headers;
};
