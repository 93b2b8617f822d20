// The whole way with JavaScript switched off.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { fillLogin, launch, submit, where, withDevices } from './support/browser.mjs';
import { at, door, endpoints, newPassword, newUser, sessionsOf, site } from './support/cluster.mjs';

let browser;
before(async () => (browser = await launch()));
after(() => browser?.close());

test('signing in, changing the password and signing out need no script', () =>
  withDevices(browser, async (open) => {
    const user = await newUser();
    const { page } = await open({ javaScriptEnabled: false });
    const login = `${endpoints.auth_prefix}/login`;
    await page.goto(at(site.session));
    assert.ok(where(page).startsWith(login));
    await fillLogin(page, { ...user, password: newPassword() });
    assert.equal((await submit(page, 'Sign in')).status(), 401);
    await fillLogin(page, user);
    await submit(page, 'Sign in');
    assert.equal(where(page), site.session);

    await page.goto(door('/account'));
    const next = newPassword();
    await page.getByLabel('Current password').fill(user.password);
    await page.getByLabel('New password', { exact: true }).fill(next);
    await page.getByLabel(/once more/).fill(next);
    await submit(page, 'Change password');
    assert.match(await page.getByRole('status').innerText(), /password was changed/i);

    await submit(page, 'Sign out');
    assert.ok(where(page).startsWith(login));
    assert.deepEqual(await sessionsOf(user), []);
    await page.goto(at(site.session));
    await fillLogin(page, { ...user, password: next });
    await submit(page, 'Sign in');
    assert.equal(where(page), site.session);
  }));
