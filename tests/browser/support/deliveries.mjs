// One form that reaches us more than once: real deliveries, each with an answer of its own.

import assert from 'node:assert/strict';

import { door, withoutCoordinators } from './cluster.mjs';
import { formKey, setFormKey } from './pages.mjs';

/** The page's form is the very same delivery as the other page's: it has its key. */
export async function copyFormKey(from, to) {
  await setFormKey(to, await formKey(from));
}

/**
 * Sends the open form of each page without waiting for an answer. Nothing is answered while the coordinators stand
 * still, so all deliveries are under way together. Gives the answers, in the order of the pages: what each page was
 * told first, not what that led to.
 * @param {import('playwright-core').Page[]} pages
 * @returns {Promise<import('playwright-core').Response[]>}
 */
export async function deliverTogether(pages, button) {
  const requests = await withoutCoordinators(async () => {
    const sent = [];
    for (const page of pages) {
      const [request] = await Promise.all([
        page.waitForRequest((each) => each.method() === 'POST'),
        page.getByRole('button', { name: button, exact: true }).click({ noWaitAfter: true }),
      ]);
      sent.push(request);
    }
    return sent;
  });
  return Promise.all(requests.map((request) => request.response()));
}

/**
 * The id of the session that an answer sets a cookie for, as an edge knows it that is shown this cookie alone.
 * @param {{headersArray(): any}} answer
 */
export async function answeredSession(answer) {
  const headers = await answer.headersArray();
  const cookies = headers
    .filter(({ name }) => name.toLowerCase() === 'set-cookie')
    .map(({ value }) => value.split(';')[0])
    .filter((pair) => pair.startsWith('__Host-edgekeep-') && !pair.endsWith('='));
  assert.equal(cookies.length, 1, `one session: ${cookies}`);
  const seen = await fetch(door('/session'), { headers: { cookie: cookies[0], accept: 'application/json' } });
  assert.equal(seen.status, 200, 'the session is current');
  return (await seen.json()).session.id;
}
