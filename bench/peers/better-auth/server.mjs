// Better Auth on Node with Postgres: PORT, CONNECTIONS, DATABASE_URL, and COOKIE_CACHE=1 for sessions in the cookie.
// As its documentation advises for speed: a pool, joins, no rate limit of its own in a benchmark.
import { createServer } from "node:http";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { toNodeHandler } from "better-auth/node";
import pg from "pg";

const port = Number(process.env.PORT);
const options = {
  baseURL: `http://127.0.0.1:${port}`,
  secret: "a secret of the benchmark that protects nothing at all",
  database: new pg.Pool({ connectionString: process.env.DATABASE_URL, max: Number(process.env.CONNECTIONS) }),
  emailAndPassword: { enabled: true },
  session: { cookieCache: { enabled: process.env.COOKIE_CACHE === "1", maxAge: 3600 } },
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  advanced: { database: { joins: true } },
};
if (process.env.MIGRATE === "1") await (await getMigrations(options)).runMigrations();
const handler = toNodeHandler(betterAuth(options));
createServer((request, response) => {
  if (request.url === "/ready") return response.end("ready\n");
  return handler(request, response);
}).listen(port, "127.0.0.1");
