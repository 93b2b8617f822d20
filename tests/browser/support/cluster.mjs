// The running cluster, as `endpoints.json` describes it, and the `edgekeep` command line on its database.
//
// Every test makes users of its own, so no test can be upset by another one's lockout or sign-out.

import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The checkout. */
export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../../..');

/** What is running where: `cargo xtask test browser` says so, else the cluster of `cargo xtask dev` is taken. */
export const endpoints = readEndpoints();

function readEndpoints() {
  const path =
    process.env.EDGEKEEP_TEST_ENDPOINTS ?? process.env.EDGEKEEP_ENDPOINTS ?? join(ROOT, 'target/dev/endpoints.json');
  if (!existsSync(path)) {
    throw new Error(`no cluster: ${path} is not there. Start one with: cargo xtask dev --raw --edges 2`);
  }
  return JSON.parse(readFileSync(path, 'utf8'));
}

/** Address of a path on an edge. */
export function at(path, edge = 0) {
  return endpoints.edges[edge].url + path;
}

/** Address of one of our own doors. */
export function door(path, edge = 0) {
  return at(endpoints.auth_prefix + path, edge);
}

/** Paths of the example site by what they ask for: `public`, `session`, `role`, `strict`, `echo`. */
export const site = endpoints.origin.paths;

/**
 * Runs the command line with `input` on its standard input and gives what it printed.
 * @param {string[]} args
 */
export function edgekeep(args, input = '') {
  return new Promise((resolve, reject) => {
    const env = { ...process.env };
    // The command line refuses variables with its prefix that it does not know.
    delete env.EDGEKEEP_ENDPOINTS;
    const child = spawn(endpoints.edgekeep, args, { env, stdio: ['pipe', 'pipe', 'pipe'] });
    let out = '';
    let err = '';
    child.stdout.on('data', (chunk) => (out += chunk));
    child.stderr.on('data', (chunk) => (err += chunk));
    child.on('error', reject);
    child.on('close', (status) => {
      if (status === 0) resolve(out);
      else reject(new Error(`edgekeep ${args.join(' ')} ended with ${status}: ${err || out}`));
    });
    child.stdin.on('error', () => {});
    child.stdin.end(input);
  });
}

/** The same, reading JSON. */
export async function edgekeepJson(args) {
  return JSON.parse(await edgekeep([...args, '--json']));
}

/** A password that nobody else has: long enough, and not on a list of common ones. */
export function newPassword() {
  return `${randomBytes(12).toString('base64url')} browser test`;
}

/**
 * Makes a user that only this test knows.
 * @param {string[]} roles
 * @returns {Promise<{name: string, password: string}>}
 */
export async function newUser(roles = []) {
  const user = { name: `t-${randomBytes(6).toString('hex')}`, password: newPassword() };
  const args = ['user', 'add', user.name];
  if (roles.length > 0) args.push('--roles', roles.join(','));
  await edgekeep(args, `${user.password}\n`);
  return user;
}

/** The user, with a password that is not theirs. */
export function withWrongPassword(user) {
  return { ...user, password: newPassword() };
}

/** The user's current sessions, as the database has them. */
export async function sessionsOf(user) {
  return edgekeepJson(['session', 'list', user.name]);
}

/** What the audit log has of one kind of action of the user, oldest first: `login`, `password_change` … */
export async function auditOf(user, action) {
  return (await edgekeepJson(['audit', '--user', user.name])).filter((entry) => entry.action === action);
}

/** Changes a setting of the whole deployment for the time of `work`. Tests run one after the other. */
export async function withSetting(name, value, work) {
  const before = (await edgekeepJson(['settings', 'show']))[name];
  await edgekeep(['settings', 'set', `${name}=${value}`]);
  try {
    return await work();
  } finally {
    await edgekeep(['settings', 'set', `${name}=${before}`]);
  }
}

/** Stops the coordinators (SIGSTOP: whoever asks them waits) for the time of `work`. */
export async function withoutCoordinators(work) {
  for (const { pid } of endpoints.coordinators) process.kill(pid, 'SIGSTOP');
  try {
    return await work();
  } finally {
    for (const { pid } of endpoints.coordinators) process.kill(pid, 'SIGCONT');
  }
}

/** How long anything may take before a test gives up. Generous: two cores may be building something else. */
export const PATIENCE_MS = 30_000;

/**
 * Waits until `look` gives something true, and gives that. Looks again at once or after a moment, never retries an
 * action: `look` only looks.
 * @template T
 * @param {() => Promise<T>} look
 * @returns {Promise<T>}
 */
export async function until(what, look, patienceMs = PATIENCE_MS) {
  const deadline = performance.now() + patienceMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > deadline) throw new Error(`it did not happen within ${patienceMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
