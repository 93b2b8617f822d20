// The account page: what it says, and changing the password.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch, picture, signIn, submit, textOf, where, withDevices } from './support/browser.mjs';
import {
  at,
  door,
  edgekeepJson,
  endpoints,
  newPassword,
  newUser,
  sessionsOf,
  site,
  until,
  withSetting,
} from './support/cluster.mjs';
import { untilFocused } from './support/looks.mjs';

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

async function change(page, { current, next, again = next }) {
  await page.getByLabel('Current password').fill(current);
  await page.getByLabel('New password', { exact: true }).fill(next);
  await page.getByLabel(/once more/).fill(again);
  return submit(page, 'Change password');
}

test('it says who, since when and with what, and needs a session', () =>
  withDevices(browser, async (open) => {
    const user = await newUser(['admin']);
    const { page } = await open();
    await signIn(page, user, door('/account'));
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
    withDevices(browser, async (open) => {
      const user = await newUser();
      const [here, there] = [await open(), await open()];
      await signIn(there.page, user, at(site.session));
      await until('two sessions are allowed', async () => {
        await signIn(here.page, user, door('/account'));
        return (await sessionsOf(user)).length === 2;
      });
      const [before] = await here.sessionCookies();
      const next = newPassword();
      await change(here.page, { current: user.password, next });
      assert.equal(new URL(here.page.url()).pathname, `${endpoints.auth_prefix}/account`);
      assert.match(await here.page.getByRole('status').innerText(), /password was changed/i);
      await picture(here.page, 'flow-password-changed');
      const [after, ...others] = await here.sessionCookies();
      assert.deepEqual(others, []);
      assert.notEqual(after.name, before.name, 'the session is a new one');
      assert.equal((await sessionsOf(user)).length, 1);

      await there.page.goto(at(site.strict));
      assert.match(await there.page.getByRole('status').innerText(), /password of your account was changed/i);
      assert.equal((await signIn(there.page, user)).status(), 401, 'the old password is gone');
      await signIn(there.page, { ...user, password: next }, at(site.session));
      assert.equal(where(there.page), site.session);
    }),
  ));

test('a password is not changed by whoever does not know it', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open();
    await signIn(page, user, door('/account'));
    const answer = await change(page, { current: newPassword(), next: newPassword() });
    assert.equal(answer.status(), 401);
    assert.match(await page.getByRole('alert').innerText(), /current password is wrong/i);
    await picture(page, 'flow-password-refused');
    // The page that says so has the form again, and the session goes on.
    const next = newPassword();
    await change(page, { current: user.password, next });
    assert.match(await page.getByRole('status').innerText(), /password was changed/i);
  }));

test('a new password that is too short, too common or mistyped is refused with what to do', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    // Without scripts a browser still checks lengths: switched off here so that the server has to.
    const { page } = await open();
    await signIn(page, user, door('/account'));
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
      await page.evaluate(() => document.querySelector('[name=new_password]').form.setAttribute('novalidate', ''));
      const answer = await change(page, { current: user.password, next, again });
      assert.equal(answer.status(), 400, next);
      assert.match(await page.getByRole('alert').innerText(), expected);
    }
    assert.equal((await signIn(page, user)).status(), 200, 'the password is the old one');
  }));

test('a change that is sent twice happens once', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open();
    await signIn(page, user, door('/account'));
    const next = newPassword();
    await page.getByLabel('Current password').fill(user.password);
    await page.getByLabel('New password', { exact: true }).fill(next);
    await page.getByLabel(/once more/).fill(next);
    await page.getByRole('button', { name: 'Change password' }).dblclick();
    await page.waitForURL(/changed=password/);
    assert.match(await page.getByRole('status').innerText(), /password was changed/i);
    assert.equal((await sessionsOf(user)).length, 1);
    await page.goto(at(site.strict));
    assert.equal(where(page), site.strict);
  }));
