// Forms that are sent twice, too late, from elsewhere, or not at all.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { fillLogin, launch, picture, signIn, submit, textOf, where, withDevices } from './support/browser.mjs';
import {
  at,
  auditOf,
  door,
  edgekeepJson,
  endpoints,
  newPassword,
  newUser,
  sessionsOf,
  site,
  withoutCoordinators,
} from './support/cluster.mjs';

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

const loginsOf = async (user) => (await auditOf(user)).filter((entry) => entry.action === 'login');

test('a form that is sent again before its answer came makes one session', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open();
    await page.goto(door(`/login?return_to=${site.session}`));
    await fillLogin(page, user);
    const { x, y, width, height } = await page.getByRole('button', { name: 'Sign in' }).boundingBox();
    // Nothing is answered while the coordinators stand still, so all deliveries are under way together.
    await withoutCoordinators(async () => {
      for (let click = 0; click < 3; click += 1) {
        const sent = page.waitForRequest((request) => request.method() === 'POST');
        await page.mouse.click(x + width / 2, y + height / 2);
        await sent;
      }
    });
    await page.waitForURL(at(site.session));
    assert.equal((await sessionsOf(user)).length, 1);
    assert.equal((await loginsOf(user)).length, 1, 'three deliveries are one login');
    await page.goto(at(site.strict));
    assert.equal(where(page), site.strict, 'the session that the browser holds is the one');
  }));

test('a double click makes one session', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open();
    await page.goto(door(`/login?return_to=${site.session}`));
    await fillLogin(page, user);
    await page.getByRole('button', { name: 'Sign in' }).dblclick();
    await page.waitForURL(at(site.session));
    assert.equal((await sessionsOf(user)).length, 1);
    assert.equal((await loginsOf(user)).length, 1);
  }));

test('the same form sent again from history is the same login, not another', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page, context } = await open();
    await page.goto(door('/login'));
    const form = await page.locator('form').evaluate((element) => Object.fromEntries(new FormData(element)));
    await fillLogin(page, user);
    await submit(page, 'Sign in');
    const [before] = await sessionsOf(user);

    // What a browser does when a person goes back and confirms that the form is sent again.
    const again = await context.newPage();
    await again.goto(door('/login'));
    await again.locator('[name=form_key]').evaluate((field, key) => (field.value = key), form.form_key);
    await fillLogin(again, user);
    await submit(again, 'Sign in');
    assert.equal((await loginsOf(user)).length, 1);
    const [now, ...others] = await sessionsOf(user);
    assert.deepEqual([now?.id, others.length], [before.id, 0]);
  }));

test('reloading the page of a failure counts no further failure', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open();
    const { guess_limit: limit } = await edgekeepJson(['settings', 'show']);
    await signIn(page, { ...user, password: newPassword() });
    for (let time = 0; time < limit + 1; time += 1) {
      assert.equal((await page.reload()).status(), 401);
    }
    await fillLogin(page, user);
    await submit(page, 'Sign in');
    assert.equal(where(page), '/');
  }));

test('a form whose cookie is gone says what to do, and the next try works', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page, context } = await open();
    await page.goto(door(`/login?return_to=${site.session}`));
    await context.clearCookies();
    await fillLogin(page, user);
    const answer = await submit(page, 'Sign in');
    assert.equal(answer.status(), 400);
    assert.match(await page.getByRole('alert').innerText(), /cookie.*try again/is);
    assert.equal(await page.getByLabel('User name').inputValue(), user.name);
    assert.deepEqual(await sessionsOf(user), []);
    await picture(page, 'flow-stale-form');
    await fillLogin(page, user);
    await submit(page, 'Sign in');
    assert.equal(where(page), site.session);
  }));

test('a form that was made for another browser is worth nothing here', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const [attacker, victim] = [await open(), await open()];
    await attacker.page.goto(door('/login'));
    const key = await attacker.page.locator('[name=form_key]').inputValue();
    await victim.page.goto(door('/login'));
    await victim.page.locator('[name=form_key]').evaluate((field, value) => (field.value = value), key);
    await fillLogin(victim.page, user);
    assert.equal((await submit(victim.page, 'Sign in')).status(), 400);
    assert.deepEqual(await sessionsOf(user), []);
  }));

test('forms in two tabs both work, and the later login is the one', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const device = await open();
    const [one, two] = [device.page, await device.context.newPage()];
    await one.goto(door('/login'));
    await two.goto(door('/login'));
    await fillLogin(one, user);
    await submit(one, 'Sign in');
    await fillLogin(two, user);
    await submit(two, 'Sign in');
    assert.equal((await device.sessionCookies()).length, 1);
    assert.equal((await sessionsOf(user)).length, 1);
    // Both tabs are one browser: both are signed in.
    for (const page of [one, two]) {
      await page.goto(at(site.strict));
      assert.equal(where(page), site.strict);
    }
  }));

test('another site can neither sign anybody in nor out', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const device = await open();
    const { page, context } = device;
    await signIn(page, user, at(site.session));
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
      const answered = page.waitForNavigation();
      await page.getByRole('button', { name: 'Win' }).click();
      const answer = await answered;
      assert.equal(answer.status(), 403, path);
      assert.match(await textOf(page), /another site/i);
      await context.unroute(evil);
    }
    assert.equal((await sessionsOf(user)).length, 1);
    await page.goto(at(site.strict));
    assert.equal(where(page), site.strict);
  }));

test('a form without its fields is stopped by the browser, and by the server', () =>
  withDevices(browser, async (open) => {
    const { page } = await open();
    await page.goto(door('/login'));
    await page.getByRole('button', { name: 'Sign in' }).click();
    assert.ok(await page.getByLabel('User name').evaluate((field) => field.matches(':invalid')));
    assert.equal(where(page), `${endpoints.auth_prefix}/login`);
    await page.locator('form').evaluate((form) => form.setAttribute('novalidate', ''));
    const answer = await submit(page, 'Sign in');
    assert.equal(answer.status(), 400);
    assert.match(await page.getByRole('alert').innerText(), /username is missing/i);
  }));
