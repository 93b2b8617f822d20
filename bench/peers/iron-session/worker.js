// A sealed cookie, opened by `iron-session`.
import { getIronSession } from "iron-session";

export default {
  async fetch(request, env) {
    const session = await getIronSession(request, new Response(), { password: env.PASSWORD, cookieName: "session" });
    if (!session.name) return new Response("Sign in first\n", { status: 401 });
    return new Response(`Hello, ${session.name}\n`);
  },
};
