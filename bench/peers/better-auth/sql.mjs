// Runs the SQL on standard input against DATABASE_URL and prints the last result's rows as JSON: there is no psql in the
// Postgres that comes from npm.
import { readFileSync } from "node:fs";
import pg from "pg";

const client = new pg.Client({ connectionString: process.env.DATABASE_URL });
await client.connect();
const results = [await client.query(readFileSync(0, "utf8"))].flat();
console.log(JSON.stringify(results.at(-1).rows));
await client.end();
