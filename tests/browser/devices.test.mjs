// Several devices, and ways out: who is signed out, where, and what they are told.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { picture } from './support/browser.mjs';
import {
  at,
  door,
  edgekeep,
  endpoints,
  newUser,
  sessionsOf,
  site,
  until,
  withSetting,
  withWrongPassword,
} from './support/cluster.mjs';
import { signInBeside, signedIn, withDevices } from './support/devices.mjs';
import {
  assertAlert,
  assertNotice,
  assertOpens,
  onLogin,
  signIn,
  submit,
  submitLogin,
  textOf,
  where,
} from './support/pages.mjs';

const LAST_EDGE = endpoints.edges.length - 1;

/** Opens a protected page again and again until it leads to the login form (within the bound: G2). */
async function untilSignedOut(page, edge = 0) {
  await until('the page leads to the login form', async () => {
    await page.goto(at(site.session, edge));
    return onLogin(page);
  });
}

test('the second device signs the first one out, on every edge, and says why', () =>
  withDevices(async (open) => {
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
    await assertNotice(first.page, /sign in on another device/i);
    await picture(first.page, 'flow-signed-in-elsewhere');
    await untilSignedOut(first.page, LAST_EDGE);
    await assertNotice(first.page, /sign in on another device/i);

    // The second one goes on.
    await assertOpens(second.page, site.strict);

    // And back again: from the very form that gave the reason.
    await submitLogin(first.page, user);
    assert.equal(where(first.page), site.session);
    await untilSignedOut(second.page);
    assert.equal((await sessionsOf(user)).length, 1);
  }));

test('signing out ends the session everywhere, for a stolen copy of the cookie too', () =>
  withDevices(async (open) => {
    const { user, device: owner } = await signedIn(open, at(site.session));
    const thief = await open();
    await thief.context.addCookies(await owner.context.cookies());
    await thief.page.goto(at(site.session, LAST_EDGE));
    assert.equal(where(thief.page), site.session, 'the copy works before');

    await owner.page.goto(door('/account'));
    await submit(owner.page, 'Sign out');
    assert.ok(onLogin(owner.page));
    await assertNotice(owner.page, /you are signed out/i);
    assert.deepEqual(await owner.sessionCookies(), []);
    assert.deepEqual(await sessionsOf(user), []);
    await picture(owner.page, 'flow-signed-out');

    await owner.page.goto(at(site.session));
    assert.ok(onLogin(owner.page));
    await untilSignedOut(thief.page, LAST_EDGE);
    await assertNotice(thief.page, /you are signed out/i);
  }));

test('the back button shows nothing private after signing out', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open, at(site.session));
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
  withDevices(async (open) => {
    const { page, context } = await signedIn(open, door('/account'));
    const other = await context.newPage();
    await other.goto(door('/account'));
    await submit(page, 'Sign out');
    await submit(other, 'Sign out');
    assert.ok(onLogin(other));
    await assertNotice(other, /you are signed out/i);
  }));

test('where more sessions are allowed, the account page lists them and ends the others', () =>
  withSetting('sessions_per_user', 3, () =>
    withDevices(async (open) => {
      const user = await newUser();
      const phone = await open({
        userAgent:
          'Mozilla/5.0 (Linux; Android 16; Pixel 9) AppleWebKit/537.36 (KHTML, like Gecko) ' +
          'Chrome/143.0.0.0 Mobile Safari/537.36',
      });
      const desk = await open();
      await signIn(phone.page, user, at(site.session));
      await signInBeside(desk.page, user, at(site.session));
      await desk.page.goto(door('/account'));
      const list = desk.page.getByRole('list');
      assert.match(await list.innerText(), /Chrome on Android/);
      assert.match(await list.innerText(), /this one/);
      await picture(desk.page, 'flow-devices');
      await submit(desk.page, 'Sign out Chrome on Android');
      await assertNotice(desk.page, /that device is signed out/i);
      assert.equal((await sessionsOf(user)).length, 1);
      await untilSignedOut(phone.page);
      await assertNotice(phone.page, /you are signed out/i);
      await assertOpens(desk.page, site.strict);
    }),
  ));

test('whoever lost a device signs out everywhere from any other, with the password', () =>
  withDevices(async (open) => {
    const { user, page: lost } = await signedIn(open, at(site.session));
    const other = await open();
    await other.page.goto(door('/login'));
    await other.page.getByRole('link', { name: /sign out everywhere/i }).click();
    await other.page.waitForURL(door('/logout-everywhere'));

    const refused = await submitLogin(other.page, withWrongPassword(user), 'Sign out everywhere');
    assert.equal(refused.status(), 401);
    await assertAlert(other.page, /wrong/i);
    assert.equal((await sessionsOf(user)).length, 1);

    await submitLogin(other.page, user, 'Sign out everywhere');
    assert.ok(onLogin(other.page));
    await assertNotice(other.page, /signed out everywhere/i);
    assert.deepEqual(await sessionsOf(user), []);
    await untilSignedOut(lost);
  }));

test('an administrator ends a session, and the person is told', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open, at(site.session));
    await edgekeep(['session', 'revoke', user.name]);
    await untilSignedOut(page);
    await assertNotice(page, /by an administrator/i);

    await signIn(page, user, at(site.session));
    await edgekeep(['user', 'disable', user.name]);
    await untilSignedOut(page);
    await assertNotice(page, /disabled/i);
    // Whoever cannot sign in learns no more than with a wrong password.
    assert.equal((await submitLogin(page, user)).status(), 401);
  }));

test('where the first device is to stay, the second one is refused, and told the way out', () =>
  withSetting('takeover', 'refuse_second', () =>
    withDevices(async (open) => {
      const { user, page: first } = await signedIn(open, at(site.session));
      const second = await open();
      const answer = await signIn(second.page, user, at(site.session));
      assert.equal(answer.status(), 409);
      await assertAlert(second.page, /on another device.*sign out everywhere/is);
      await picture(second.page, 'flow-refused-second');
      await assertOpens(first, site.strict);

      await second.page.getByRole('link', { name: /sign out everywhere/i }).click();
      await second.page.waitForURL(door('/logout-everywhere'));
      await submitLogin(second.page, user, 'Sign out everywhere');
      await submitLogin(second.page, user);
      assert.equal(where(second.page), '/');
      await untilSignedOut(first);
    }),
  ));
