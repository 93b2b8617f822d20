// Every page in two sizes and both colour schemes: a picture of each for people, and for machines what can be
// computed: contrast, names, landmarks, sizes, no sideways scrolling, axe-core's rules.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SCHEMES, SIZES, picture } from './support/browser.mjs';
import { at, door, newPassword, newUser, site, until, withSetting, withWrongPassword } from './support/cluster.mjs';
import { withDevices } from './support/devices.mjs';
import { assertGoodLooks } from './support/looks.mjs';
import { changePassword, signIn, submit, submitLogin, textOf, useUpGuesses } from './support/pages.mjs';

/** A user who is locked for longer than these tests take: one for all of them. */
async function newLockedUser() {
  const user = await newUser();
  await withSetting('lockout_base_ms', 3_600_000, () =>
    withDevices(async (open) => {
      const { page } = await open();
      await page.goto(door('/login'));
      await useUpGuesses(page, user);
    }),
  );
  return user;
}
let locked;

/** Every page there is: its name, what it says, and how one gets to it with a device that is nobody's yet. */
const PAGES = {
  login: [/sign in/i, (page) => page.goto(door('/login'))],
  'login-needed': [/sign in to continue/i, (page) => page.goto(at(`${site.session}?tab=1`))],
  'login-wrong': [/is wrong/i, async (page) => signIn(page, withWrongPassword(await newUser()))],
  'login-locked': [/too many failed attempts/i, async (page) => signIn(page, await (locked ??= newLockedUser()))],
  'login-cookie-lost': [
    /cookie/i,
    async (page) => {
      await page.goto(door('/login'));
      await page.context().clearCookies();
      await submitLogin(page, await newUser());
    },
  ],
  'login-elsewhere': [
    /on another device/i,
    async (page, open) => {
      const user = await newUser();
      await signIn(page, user, at(site.session));
      const other = await open();
      await signIn(other.page, user, at(site.session));
      await page.goto(at(site.strict));
    },
  ],
  'login-again': [
    /signed in as/i,
    async (page) => {
      await signIn(page, await newUser());
      await page.goto(door(`/login?return_to=${site.session}`));
    },
  ],
  'login-signed-out': [
    /you are signed out/i,
    async (page) => {
      await signIn(page, await newUser(), door('/account'));
      await submit(page, 'Sign out');
    },
  ],
  'logout-everywhere': [/on all devices/i, (page) => page.goto(door('/logout-everywhere'))],
  account: [/admin, editor/, async (page) => signIn(page, await newUser(['admin', 'editor']), door('/account'))],
  'account-devices': [
    /this one/i,
    async (page, open) => {
      const user = await newUser();
      const other = await open();
      await signIn(other.page, user);
      await signIn(page, user, door('/account'));
    },
  ],
  'account-changed': [
    /was changed/i,
    async (page) => {
      const user = await newUser();
      await signIn(page, user, door('/account'));
      await changePassword(page, { current: user.password, next: newPassword() });
    },
  ],
  'account-password-wrong': [
    /current password is wrong/i,
    async (page) => {
      await signIn(page, await newUser(), door('/account'));
      await changePassword(page, { current: newPassword(), next: newPassword() });
    },
  ],
  'account-password-mistyped': [
    /same twice/i,
    async (page) => {
      const user = await newUser();
      await signIn(page, user, door('/account'));
      await changePassword(page, { current: user.password, next: newPassword(), again: newPassword() });
    },
  ],
  'message-forbidden': [/role/i, async (page) => signIn(page, await newUser(), at(site.role))],
  'message-not-found': [/not found/i, (page) => page.goto(door('/nothing-here'))],
  'message-bad-path': [/address/i, (page) => page.goto(at('/a%2fb'))],
  'site-public': [/everybody may read this/i, (page) => page.goto(at(site.public))],
  'site-session': [/signed by the edge/i, async (page) => signIn(page, await newUser(['admin']), at(site.session))],
  'site-strict': [/this very request/i, async (page) => signIn(page, await newUser(), at(site.strict))],
};

for (const [size, options] of Object.entries(SIZES)) {
  for (const [name, [says, go]] of Object.entries(PAGES)) {
    const look = () =>
      withDevices(async (open) => {
        const { page } = await open(options);
        await go(page, open);
        assert.match(await textOf(page), says);
        for (const colorScheme of SCHEMES) {
          await page.emulateMedia({ colorScheme });
          await picture(page, `${name}-${size}-${colorScheme}`);
          await assertGoodLooks(page, `${size}, ${colorScheme}`, { touch: size === 'phone' });
        }
      });
    test(`${name}, ${size}`, () => (name === 'account-devices' ? withSetting('sessions_per_user', 2, look) : look()));
  }
}

test('these checks see what they are meant to see', () =>
  withDevices(async (open) => {
    const { page } = await open();
    await page.setContent(`<!doctype html><title>x</title><h1>One</h1><h1>Two</h1>
      <p style="color: #999">hard to read</p><input name="bare" style="border: 1px solid #eee">`);
    const faults = await assertGoodLooks(page, 'a bad page', { touch: true }).then(
      () => '',
      (error) => error.message,
    );
    for (const expected of [
      'no lang',
      '2 h1',
      '0 main',
      'an inline style',
      'no label',
      'contrast 2.85 of',
      'the border of bare',
      'too low to touch',
      'axe label',
      'axe color-contrast',
    ]) {
      assert.ok(faults.includes(expected), `${expected} in ${faults}`);
    }
  }));

test('at four times the text size nothing is cut off and nothing scrolls sideways', () =>
  withDevices(async (open) => {
    // WCAG 1.4.10: 1280 pixels at 400 % are 320.
    const { page } = await open({ viewport: { width: 320, height: 256 } });
    await signIn(page, await newUser(['admin', 'editor', 'somewhat-longer-role-name']), door('/account'));
    for (const address of [door('/account'), at(site.session), at(site.role), door('/login')]) {
      await page.goto(address);
      await until('it is laid out', () => page.evaluate(() => document.readyState === 'complete'));
      const over = await page.evaluate(() => {
        const { scrollWidth, clientWidth } = document.documentElement;
        return scrollWidth - clientWidth;
      });
      assert.equal(over, 0, address);
    }
  }));
