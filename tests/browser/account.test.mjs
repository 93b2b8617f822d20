// The account page: what it says, and changing the password.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { picture } from './support/browser.mjs';
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
  withSetting,
} from './support/cluster.mjs';
import { answeredSession, copyFormKey, deliverTogether } from './support/deliveries.mjs';
import { signInBeside, signedIn, withDevices } from './support/devices.mjs';
import { untilFocused } from './support/looks.mjs';
import {
  assertAlert,
  assertNotice,
  assertOpens,
  changePassword,
  fillNewPassword,
  signIn,
  textOf,
  where,
} from './support/pages.mjs';

test('it says who, since when and with what, and needs a session', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open, door('/account'), ['admin']);
    assert.equal(where(page), `${endpoints.auth_prefix}/account`);
    const text = await textOf(page);
    for (const expected of [user.name, 'admin', 'Chrome on Linux', 'UTC']) assert.match(text, new RegExp(expected));
    const since = await page.locator('time').first().getAttribute('datetime');
    const [session] = (await sessionsOf(user)).map((item) => Date.parse(item.authenticated_at));
    assert.ok(Math.abs(Date.parse(since) - session) < 1_000, `${since}`);
    await picture(page, 'flow-account');

    // Whoever is signed in need not type their name again to sign out everywhere.
    await page.getByRole('link', { name: 'Sign out everywhere' }).click();
    await page.waitForURL(door('/logout-everywhere'));
    assert.equal(await page.getByLabel('User name').inputValue(), user.name);
    await untilFocused(page, 'Password');
  }));

test('a changed password makes a new session and ends all others', () =>
  withSetting('sessions_per_user', 2, () =>
    withDevices(async (open) => {
      const user = await newUser();
      const [here, there] = [await open(), await open()];
      await signIn(there.page, user, at(site.session));
      await signInBeside(here.page, user, door('/account'));
      const [before] = await here.sessionCookies();
      const next = newPassword();
      await changePassword(here.page, { current: user.password, next });
      assert.equal(new URL(here.page.url()).pathname, `${endpoints.auth_prefix}/account`);
      await assertNotice(here.page, /password was changed/i);
      await picture(here.page, 'flow-password-changed');
      const [after, ...others] = await here.sessionCookies();
      assert.deepEqual(others, []);
      assert.notEqual(after.name, before.name, 'the session is a new one');
      assert.equal((await sessionsOf(user)).length, 1);

      await there.page.goto(at(site.strict));
      await assertNotice(there.page, /password of your account was changed/i);
      assert.equal((await signIn(there.page, user)).status(), 401, 'the old password is gone');
      await signIn(there.page, { ...user, password: next }, at(site.session));
      assert.equal(where(there.page), site.session);
    }),
  ));

test('a password is not changed by whoever does not know it', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open, door('/account'));
    const answer = await changePassword(page, { current: newPassword(), next: newPassword() });
    assert.equal(answer.status(), 401);
    await assertAlert(page, /current password is wrong/i);
    await picture(page, 'flow-password-refused');
    // The page that says so has the form again, and the session goes on.
    const next = newPassword();
    await changePassword(page, { current: user.password, next });
    await assertNotice(page, /password was changed/i);
  }));

test('a new password that is too short, too common or mistyped is refused with what to do', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open, door('/account'));
    const { password_min_chars: least } = await edgekeepJson(['settings', 'show']);

    await page.getByLabel('New password', { exact: true }).pressSequentially('short');
    const stopped = await page.getByLabel('New password', { exact: true }).evaluate((field) => field.validity.tooShort);
    assert.ok(stopped, 'the browser says it before anything is sent');

    const cases = [
      { next: 'a'.repeat(least - 1), expected: new RegExp(`${least}`) },
      { next: 'passwordpassword', expected: /tried first.*choose another/is },
      { next: newPassword(), again: newPassword(), expected: /same twice/i },
    ];
    for (const { next, again, expected } of cases) {
      await page.goto(door('/account'));
      // Without scripts a browser still checks lengths: switched off here so that the server has to.
      await page.evaluate(() => document.querySelector('[name=new_password]').form.setAttribute('novalidate', ''));
      const answer = await changePassword(page, { current: user.password, next, again });
      assert.equal(answer.status(), 400, next);
      await assertAlert(page, expected);
    }
    assert.equal((await signIn(page, user)).status(), 200, 'the password is the old one');
  }));

test('a change that is delivered twice at once happens once, and both answers are its session', () =>
  withDevices(async (open) => {
    const { user, device, page } = await signedIn(open, door('/account'));
    const [before] = await device.sessionCookies();
    const other = await device.context.newPage();
    await other.goto(door('/account'));
    await copyFormKey(page, other);
    const next = newPassword();
    for (const each of [page, other]) await fillNewPassword(each, { current: user.password, next });
    const answers = await deliverTogether([page, other], 'Change password');
    assert.deepEqual(answers.map((answer) => answer.status()), [303, 303]);
    for (const each of [page, other]) {
      await each.waitForURL(/changed=password/);
      await assertNotice(each, /password was changed/i);
    }
    const sessions = await sessionsOf(user);
    assert.equal(sessions.length, 1);
    for (const answer of answers) assert.equal(await answeredSession(answer), sessions[0].id);
    const [after, ...others] = await device.sessionCookies();
    assert.deepEqual(others, []);
    assert.notEqual(after.name, before.name, 'the session is a new one');
    await assertOpens(page, site.strict);
    assert.equal((await auditOf(user, 'password_change')).length, 1, 'two deliveries are one change');
  }));
