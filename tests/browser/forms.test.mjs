// Forms that are sent twice, too late, from elsewhere, or not at all.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { picture } from './support/browser.mjs';
import {
  at,
  auditOf,
  door,
  edgekeepJson,
  endpoints,
  newUser,
  sessionsOf,
  site,
  withWrongPassword,
  withoutCoordinators,
} from './support/cluster.mjs';
import { answeredSession, copyFormKey, deliverTogether } from './support/deliveries.mjs';
import { signedIn, withDevices } from './support/devices.mjs';
import {
  assertAlert,
  assertNotice,
  assertOpens,
  fillLogin,
  formKey,
  onLogin,
  setFormKey,
  signIn,
  submit,
  submitLogin,
  textOf,
  where,
} from './support/pages.mjs';

const LAST_EDGE = endpoints.edges.length - 1;

test('a form that is sent again before its answer came makes one session', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open();
    await page.goto(door(`/login?return_to=${site.session}`));
    await fillLogin(page, user);
    const { x, y, width, height } = await page.getByRole('button', { name: 'Sign in' }).boundingBox();
    // What an impatient person does, or one who double-clicks: Chromium makes a request of each click (but one of two
    // in the same instant), and gives up those before the last. Whether those were decided as well nobody here can
    // tell; the next tests have deliveries that are all answered.
    await withoutCoordinators(async () => {
      for (let click = 0; click < 3; click += 1) {
        const sent = page.waitForRequest((request) => request.method() === 'POST');
        await page.mouse.click(x + width / 2, y + height / 2);
        await sent;
      }
    });
    await page.waitForURL(at(site.session));
    assert.equal((await sessionsOf(user)).length, 1);
    assert.equal((await auditOf(user, 'login')).length, 1, 'three deliveries are one login');
    // The session that the browser holds is the one.
    await assertOpens(page, site.strict);
  }));

for (const [place, edge] of [['at one edge', 0], ['at two edges', LAST_EDGE]]) {
  test(`a form that is delivered twice at once, ${place}, is one login, and both answers are its session`, () =>
    withDevices(async (open) => {
      const user = await newUser();
      const { page, context } = await open();
      const other = await context.newPage();
      await page.goto(door(`/login?return_to=${site.session}`));
      await other.goto(door(`/login?return_to=${site.session}`, edge));
      await copyFormKey(page, other);
      for (const each of [page, other]) await fillLogin(each, user);
      const answers = await deliverTogether([page, other], 'Sign in');
      await page.waitForURL(at(site.session));
      await other.waitForURL(at(site.session, edge));

      const sessions = await sessionsOf(user);
      assert.equal(sessions.length, 1);
      for (const answer of answers) assert.equal(await answeredSession(answer), sessions[0].id);
      assert.equal((await auditOf(user, 'login')).length, 1, 'two deliveries are one login');
      await assertOpens(page, site.strict);
      await assertOpens(other, site.strict, edge);
    }));
}

test('a form whose answer was lost is sent again, and is the same login', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page, context } = await open();
    await page.goto(door(`/login?return_to=${site.session}`));
    await fillLogin(page, user);
    const cookies = await context.cookies();
    let lost;
    await page.route(
      door('/login'),
      async (route) => {
        // Delivered and answered; what the browser gets instead leaves it where it is, and as it was.
        lost = await route.fetch({ maxRedirects: 0 });
        await context.clearCookies();
        await context.addCookies(cookies);
        await route.fulfill({ status: 204 });
      },
      { times: 1 },
    );
    const nothing = page.waitForResponse((response) => response.status() === 204);
    await page.getByRole('button', { name: 'Sign in' }).click({ noWaitAfter: true });
    await nothing;
    const [session] = await sessionsOf(user);
    assert.equal(await answeredSession(lost), session.id);

    const [again] = await deliverTogether([page], 'Sign in');
    await page.waitForURL(at(site.session));
    assert.equal(await answeredSession(again), session.id);
    assert.equal((await sessionsOf(user)).length, 1);
    assert.equal((await auditOf(user, 'login')).length, 1, 'two deliveries are one login');
  }));

test('a form to sign out everywhere that is delivered twice at once is answered twice and happens once', () =>
  withDevices(async (open) => {
    const { user, page: signedInPage } = await signedIn(open, at(site.session));
    const { page, context } = await open();
    const other = await context.newPage();
    for (const each of [page, other]) await each.goto(door('/logout-everywhere'));
    await copyFormKey(page, other);
    for (const each of [page, other]) await fillLogin(each, user);
    const answers = await deliverTogether([page, other], 'Sign out everywhere');
    assert.deepEqual(answers.map((answer) => answer.status()), [303, 303]);
    for (const each of [page, other]) {
      await each.waitForURL((url) => url.pathname.endsWith('/login'));
      await assertNotice(each, /signed out everywhere/i);
    }
    assert.deepEqual(await sessionsOf(user), []);
    assert.equal((await auditOf(user, 'logout_everywhere')).length, 1, 'two deliveries are one sign-out');
    await signedInPage.goto(at(site.strict));
    assert.ok(onLogin(signedInPage));
  }));

test('the same form sent again from history is the same login, not another', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page, context } = await open();
    await page.goto(door('/login'));
    const key = await formKey(page);
    await submitLogin(page, user);
    const [before] = await sessionsOf(user);

    // What a browser does when a person goes back and confirms that the form is sent again.
    const again = await context.newPage();
    await again.goto(door('/login'));
    await setFormKey(again, key);
    await submitLogin(again, user);
    assert.equal((await auditOf(user, 'login')).length, 1);
    const [now, ...others] = await sessionsOf(user);
    assert.deepEqual([now?.id, others.length], [before.id, 0]);
  }));

test('reloading the page of a failure counts no further failure', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open();
    const { guess_limit: limit } = await edgekeepJson(['settings', 'show']);
    await signIn(page, withWrongPassword(user));
    for (let time = 0; time < limit + 1; time += 1) {
      assert.equal((await page.reload()).status(), 401);
    }
    await submitLogin(page, user);
    assert.equal(where(page), '/');
  }));

test('a form whose cookie is gone says what to do, and the next try works', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page, context } = await open();
    await page.goto(door(`/login?return_to=${site.session}`));
    await context.clearCookies();
    const answer = await submitLogin(page, user);
    assert.equal(answer.status(), 400);
    await assertAlert(page, /cookie.*try again/is);
    assert.equal(await page.getByLabel('User name').inputValue(), user.name);
    assert.deepEqual(await sessionsOf(user), []);
    await picture(page, 'flow-stale-form');
    await submitLogin(page, user);
    assert.equal(where(page), site.session);
  }));

test('a form that was made for another browser is worth nothing here', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const [attacker, victim] = [await open(), await open()];
    await attacker.page.goto(door('/login'));
    await victim.page.goto(door('/login'));
    await copyFormKey(attacker.page, victim.page);
    assert.equal((await submitLogin(victim.page, user)).status(), 400);
    assert.deepEqual(await sessionsOf(user), []);
  }));

test('forms in two tabs both work, and the later login is the one', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const device = await open();
    const [one, two] = [device.page, await device.context.newPage()];
    await one.goto(door('/login'));
    await two.goto(door('/login'));
    await submitLogin(one, user);
    await submitLogin(two, user);
    assert.equal((await device.sessionCookies()).length, 1);
    assert.equal((await sessionsOf(user)).length, 1);
    // Both tabs are one browser: both are signed in.
    for (const page of [one, two]) {
      await assertOpens(page, site.strict);
    }
  }));

test('another site can neither sign anybody in nor out', () =>
  withDevices(async (open) => {
    const { user, page, context } = await signedIn(open, at(site.session));
    const evil = 'http://evil.example/';
    for (const [path, fields] of [
      ['/logout', ''],
      ['/login', `<input name="username" value="x"><input name="password" value="y"><input name="form_key" value="z">`],
      ['/logout-everywhere', `<input name="username" value="x"><input name="password" value="y">`],
    ]) {
      await context.route(evil, (route) =>
        route.fulfill({
          contentType: 'text/html',
          body:
            '<!doctype html><link rel="icon" href="data:,">' +
            `<form method="post" action="${door(path)}">${fields}<button>Win</button></form>`,
        }),
      );
      await page.goto(evil);
      const answer = await submit(page, 'Win');
      assert.equal(answer.status(), 403, path);
      assert.match(await textOf(page), /another site/i);
      await context.unroute(evil);
    }
    assert.equal((await sessionsOf(user)).length, 1);
    await assertOpens(page, site.strict);
  }));

test('a form without its fields is stopped by the browser, and by the server', () =>
  withDevices(async (open) => {
    const { page } = await open();
    await page.goto(door('/login'));
    await page.getByRole('button', { name: 'Sign in' }).click();
    assert.ok(await page.getByLabel('User name').evaluate((field) => field.matches(':invalid')));
    assert.equal(where(page), `${endpoints.auth_prefix}/login`);
    await page.locator('form').evaluate((form) => form.setAttribute('novalidate', ''));
    const answer = await submit(page, 'Sign in');
    assert.equal(answer.status(), 400);
    await assertAlert(page, /username is missing/i);
  }));
