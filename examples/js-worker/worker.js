// Any worker can ask Edgekeep's gate about its own requests: a service binding to the Edgekeep worker, with the entry
// point "Check". See wrangler.toml and config.capnp beside this file. No network is involved: both run on one machine,
// and while the gate's lease holds it answers from memory.

export default {
  async fetch(request, env) {
    // Headers and address decide; the body stays here.
    const question = new Request(request.url, { method: request.method, headers: request.headers });
    const checked = await env.EDGEKEEP.check(question);
    const response = checked.allowed ? await answer(request, checked.user) : refuse(request, checked);
    // A renewed proof of the session travels on the answer, which nobody may then store.
    for (const cookie of checked.set_cookies) {
      response.headers.append("Set-Cookie", cookie);
    }
    response.headers.set("Cache-Control", "no-store");
    return response;
  },
};

async function answer(request, user) {
  return new Response(user ? `Hello, ${user.name}. Your roles: ${user.roles.join(", ")}\n` : "Hello, whoever you are.\n");
}

function refuse(request, checked) {
  // A person opens a page: to the login form, which leads back here and says why the session is not there.
  if (checked.login && request.headers.get("Sec-Fetch-Mode") === "navigate") {
    return new Response(null, { status: 303, headers: { Location: checked.login } });
  }
  // 401, 403, …; or 503 when nobody can know right now.
  const headers = { "Content-Type": "application/problem+json" };
  if (checked.problem.retry_after_s) {
    headers["Retry-After"] = String(checked.problem.retry_after_s);
  }
  return new Response(JSON.stringify(checked.problem), { status: checked.status, headers });
}
