// What most sites do: the session lies in one place, and every request asks there.
export default {
  async fetch(request, env) {
    const answer = await env.SESSIONS.fetch("http://sessions/session", {
      headers: { cookie: request.headers.get("cookie") ?? "" },
    });
    if (answer.status !== 200) return new Response("Sign in first\n", { status: 401 });
    const session = await answer.json();
    return new Response(`Hello, ${session.name}\n`);
  },
};
