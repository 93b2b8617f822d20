// Everything with the keyboard alone: order, visible focus, Enter.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SCHEMES } from './support/browser.mjs';
import { at, door, newPassword, newUser, sessionsOf, site } from './support/cluster.mjs';
import { withDevices } from './support/devices.mjs';
import { focused, untilFocused } from './support/looks.mjs';
import { onLogin, signIn, where } from './support/pages.mjs';

/** Presses Tab until the page's end; gives the names of what had the focus, each of which must show it. */
async function tour(page) {
  const names = [];
  // From the top: where a page has put the cursor somewhere, a click into its margin takes it away.
  if (await focused(page)) await page.mouse.click(2, 2);
  assert.equal(await focused(page), null);
  for (;;) {
    await page.keyboard.press('Tab');
    const now = await focused(page);
    if (!now) return names;
    assert.ok(now.outlinePx >= 2, `the focus on "${now.name}" shows: ${now.outlinePx}px`);
    assert.notEqual(now.outline, 'rgba(0, 0, 0, 0)', now.name);
    assert.ok(now.onScreen, `"${now.name}" is on the screen`);
    names.push(now.name);
    assert.ok(names.length < 50, `no end: ${names}`);
  }
}

/** Presses Tab until something with this name has the focus. */
async function tabTo(page, name) {
  for (let presses = 0; presses < 50; presses += 1) {
    await page.keyboard.press('Tab');
    const now = await focused(page);
    if (now?.name === name) return;
  }
  assert.fail(`no way to ${name} with Tab`);
}

async function afterKey(page, key) {
  const answered = page.waitForNavigation({ waitUntil: 'load' });
  await page.keyboard.press(key);
  return answered;
}

test('signing in, reading, signing out: with keys only', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open();
    await page.goto(at(site.session));
    await untilFocused(page, 'User name');
    await page.keyboard.type(user.name);
    await page.keyboard.press('Tab');
    assert.equal((await focused(page)).name, 'Password');
    await page.keyboard.type(newPassword());
    await afterKey(page, 'Enter');
    // After the failure the cursor is where one goes on.
    await untilFocused(page, 'Password');
    await page.keyboard.type(user.password);
    await afterKey(page, 'Enter');
    assert.equal(where(page), site.session);

    await page.goto(door('/account'));
    await tabTo(page, 'Sign out');
    await afterKey(page, 'Enter');
    assert.deepEqual(await sessionsOf(user), []);
    assert.ok(onLogin(page));
  }));

for (const colorScheme of SCHEMES) {
  test(`Tab goes through the pages in reading order, and the focus always shows: ${colorScheme}`, () =>
    withDevices(async (open) => {
      const user = await newUser();
      const { page } = await open({ colorScheme });
      await page.goto(door('/login'));
      await untilFocused(page, 'User name');
      const form = await tour(page);
      assert.deepEqual(form.slice(0, 3), ['User name', 'Password', 'Sign in']);
      await page.goto(door('/logout-everywhere'));
      await untilFocused(page, 'User name');
      assert.deepEqual((await tour(page)).slice(0, 3), ['User name', 'Password', 'Sign out everywhere']);
      await signIn(page, user, door('/account'));
      const account = await tour(page);
      const expected = ['Sign out', 'Current password', 'New password', 'New password, once more', 'Change password'];
      assert.deepEqual(account.filter((name) => expected.includes(name)), expected);
      await page.goto(at(site.role));
      assert.ok((await tour(page)).length >= 1, 'a refusal has a way out');
      for (const path of [site.public, site.session]) {
        await page.goto(at(path));
        assert.equal((await tour(page))[0], 'Skip to content');
      }
    }));
}

test('a button answers to the space bar, a link to Enter', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open();
    await page.goto(door('/login'));
    await untilFocused(page, 'User name');
    await page.keyboard.type(user.name);
    await page.keyboard.press('Tab');
    await page.keyboard.type(user.password);
    await tabTo(page, 'Sign in');
    await afterKey(page, 'Space');
    assert.equal(where(page), '/');
    await page.goto(at(site.role));
    await tabTo(page, 'Back to the site');
    await afterKey(page, 'Enter');
    assert.equal(where(page), '/');
  }));
