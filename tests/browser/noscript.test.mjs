// The whole way with JavaScript switched off.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { at, door, newPassword, newUser, sessionsOf, site, withWrongPassword } from './support/cluster.mjs';
import { withDevices } from './support/devices.mjs';
import { assertNotice, changePassword, onLogin, submit, submitLogin, where } from './support/pages.mjs';

test('signing in, changing the password and signing out need no script', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open({ javaScriptEnabled: false });
    await page.goto(at(site.session));
    assert.ok(onLogin(page));
    assert.equal((await submitLogin(page, withWrongPassword(user))).status(), 401);
    await submitLogin(page, user);
    assert.equal(where(page), site.session);

    await page.goto(door('/account'));
    const next = newPassword();
    await changePassword(page, { current: user.password, next });
    await assertNotice(page, /password was changed/i);

    await submit(page, 'Sign out');
    assert.ok(onLogin(page));
    assert.deepEqual(await sessionsOf(user), []);
    await page.goto(at(site.session));
    await submitLogin(page, { ...user, password: next });
    assert.equal(where(page), site.session);
  }));
