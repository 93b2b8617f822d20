// Several devices, and ways out: who is signed out, where, and what they are told.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { fillLogin, launch, picture, signIn, submit, textOf, where, withDevices } from './support/browser.mjs';
import { at, door, edgekeep, endpoints, newUser, sessionsOf, site, until, withSetting } from './support/cluster.mjs';

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

const LAST_EDGE = endpoints.edges.length - 1;
const onLogin = (page) => new URL(page.url()).pathname === `${endpoints.auth_prefix}/login`;

/** Opens a protected page again and again until it leads to the login form (within the bound: G2). */
async function untilSignedOut(page, edge = 0) {
  await until('the page leads to the login form', async () => {
    await page.goto(at(site.session, edge));
    return onLogin(page);
  });
}

test('the second device signs the first one out, on every edge, and says why', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const [first, second] = [await open(), await open()];
    await signIn(first.page, user, at(site.session, 0));
    assert.equal(where(first.page), site.session);

    await signIn(second.page, user, at(site.session, LAST_EDGE));
    assert.equal(where(second.page), site.session);
    assert.equal((await sessionsOf(user)).length, 1);

    // A strict page knows at once; the others within the bound.
    await first.page.goto(at(site.strict));
    assert.ok(onLogin(first.page));
    assert.match(await first.page.getByRole('status').innerText(), /sign in on another device/i);
    await picture(first.page, 'flow-signed-in-elsewhere');
    await untilSignedOut(first.page, LAST_EDGE);
    assert.match(await first.page.getByRole('status').innerText(), /sign in on another device/i);

    // The second one goes on.
    await second.page.goto(at(site.strict));
    assert.equal(where(second.page), site.strict);

    // And back again: from the very form that gave the reason.
    await fillLogin(first.page, user);
    await submit(first.page, 'Sign in');
    assert.equal(where(first.page), site.session);
    await untilSignedOut(second.page);
    assert.equal((await sessionsOf(user)).length, 1);
  }));

test('signing out ends the session everywhere, for a stolen copy of the cookie too', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const [owner, thief] = [await open(), await open()];
    await signIn(owner.page, user, at(site.session));
    await thief.context.addCookies(await owner.context.cookies());
    await thief.page.goto(at(site.session, LAST_EDGE));
    assert.equal(where(thief.page), site.session, 'the copy works before');

    await owner.page.goto(door('/account'));
    await submit(owner.page, 'Sign out');
    assert.ok(onLogin(owner.page));
    assert.match(await owner.page.getByRole('status').innerText(), /you are signed out/i);
    assert.deepEqual(await owner.sessionCookies(), []);
    assert.deepEqual(await sessionsOf(user), []);
    await picture(owner.page, 'flow-signed-out');

    await owner.page.goto(at(site.session));
    assert.ok(onLogin(owner.page));
    await untilSignedOut(thief.page, LAST_EDGE);
    assert.match(await thief.page.getByRole('status').innerText(), /you are signed out/i);
  }));

test('the back button shows nothing private after signing out', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open();
    await signIn(page, user, at(site.session));
    assert.match(await textOf(page), new RegExp(user.name));
    await page.goto(door('/account'));
    await submit(page, 'Sign out');
    const ground = page.url();

    for (const steps of [1, 2]) {
      // As a person would: history, whatever it is served from. A page that is shown from memory does not load again.
      await page.evaluate((by) => history.go(-by), steps);
      await page.waitForURL((url) => url.href !== ground, { waitUntil: 'commit' });
      assert.ok(onLogin(page), `${steps} back: ${page.url()}`);
      assert.doesNotMatch(await page.content(), new RegExp(user.name), `${steps} back`);
      await page.goto(ground);
    }
  }));

test('signing out twice, or without a session, is no error', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page, context } = await open();
    await signIn(page, user);
    await page.goto(door('/account'));
    const other = await context.newPage();
    await other.goto(door('/account'));
    await submit(page, 'Sign out');
    await submit(other, 'Sign out');
    assert.ok(onLogin(other));
    assert.match(await other.getByRole('status').innerText(), /you are signed out/i);
  }));

test('where more sessions are allowed, the account page lists them and ends the others', () =>
  withSetting('sessions_per_user', 3, () =>
    withDevices(browser, async (open) => {
      const user = await newUser();
      const phone = await open({
        userAgent:
          'Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) ' +
          'Chrome/143.0.0.0 Mobile Safari/537.36',
      });
      const desk = await open();
      await signIn(phone.page, user, at(site.session));
      await until('two sessions are allowed', async () => {
        await signIn(desk.page, user, at(site.session));
        return (await sessionsOf(user)).length === 2;
      });
      await desk.page.goto(door('/account'));
      const list = desk.page.getByRole('list');
      assert.match(await list.innerText(), /Chrome on Android/);
      assert.match(await list.innerText(), /this one/);
      await picture(desk.page, 'flow-devices');
      await submit(desk.page, 'Sign out Chrome on Android');
      assert.match(await desk.page.getByRole('status').innerText(), /that device is signed out/i);
      assert.equal((await sessionsOf(user)).length, 1);
      await untilSignedOut(phone.page);
      assert.match(await phone.page.getByRole('status').innerText(), /you are signed out/i);
      await desk.page.goto(at(site.strict));
      assert.equal(where(desk.page), site.strict);
    }),
  ));

test('whoever lost a device signs out everywhere from any other, with the password', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const [lost, other] = [await open(), await open()];
    await signIn(lost.page, user, at(site.session));
    await other.page.goto(door('/login'));
    await other.page.getByRole('link', { name: /sign out everywhere/i }).click();
    await other.page.waitForURL(door('/logout-everywhere'));

    await fillLogin(other.page, { ...user, password: 'not the right one at all' });
    assert.equal((await submit(other.page, 'Sign out everywhere')).status(), 401);
    assert.match(await other.page.getByRole('alert').innerText(), /wrong/i);
    assert.equal((await sessionsOf(user)).length, 1);

    await fillLogin(other.page, user);
    await submit(other.page, 'Sign out everywhere');
    assert.ok(onLogin(other.page));
    assert.match(await other.page.getByRole('status').innerText(), /signed out everywhere/i);
    assert.deepEqual(await sessionsOf(user), []);
    await untilSignedOut(lost.page);
  }));

test('an administrator ends a session, and the person is told', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open();
    await signIn(page, user, at(site.session));
    await edgekeep(['session', 'revoke', user.name]);
    await untilSignedOut(page);
    assert.match(await page.getByRole('status').innerText(), /by an administrator/i);

    await signIn(page, user, at(site.session));
    await edgekeep(['user', 'disable', user.name]);
    await untilSignedOut(page);
    assert.match(await page.getByRole('status').innerText(), /disabled/i);
    // Whoever cannot sign in learns no more than with a wrong password.
    await fillLogin(page, user);
    assert.equal((await submit(page, 'Sign in')).status(), 401);
  }));

test('where the first device is to stay, the second one is refused, and told the way out', () =>
  withSetting('takeover', 'refuse_second', () =>
    withDevices(browser, async (open) => {
      const user = await newUser();
      const [first, second] = [await open(), await open()];
      await signIn(first.page, user, at(site.session));
      const answer = await signIn(second.page, user, at(site.session));
      assert.equal(answer.status(), 409);
      assert.match(await second.page.getByRole('alert').innerText(), /on another device.*sign out everywhere/is);
      await picture(second.page, 'flow-refused-second');
      await first.page.goto(at(site.strict));
      assert.equal(where(first.page), site.strict);

      await second.page.getByRole('link', { name: /sign out everywhere/i }).click();
      await second.page.waitForURL(door('/logout-everywhere'));
      await fillLogin(second.page, user);
      await submit(second.page, 'Sign out everywhere');
      await fillLogin(second.page, user);
      await submit(second.page, 'Sign in');
      assert.equal(where(second.page), '/');
      await untilSignedOut(first.page);
    }),
  ));
