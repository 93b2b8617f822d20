// Every page in two sizes and both colour schemes: a picture of each for people, and for machines what can be
// computed: contrast, names, landmarks, sizes, no sideways scrolling, axe-core's rules.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { SCHEMES, SIZES, fillLogin, launch, picture, signIn, submit, textOf, withDevices } from './support/browser.mjs';
import { at, door, edgekeepJson, newPassword, newUser, site, until, withSetting } from './support/cluster.mjs';
import { assertGoodLooks } from './support/looks.mjs';

let browser;
/** A user who is locked: one for all sizes and schemes. */
let locked;
before(async () => {
  browser = await launch();
  locked = await newLockedUser();
});
after(() => browser?.close());

/** Locked for longer than these tests take. */
async function newLockedUser() {
  const user = await newUser();
  await withSetting('lockout_base_ms', 3_600_000, () =>
    withDevices(browser, async (open) => {
      const { guess_limit: limit } = await edgekeepJson(['settings', 'show']);
      const { page } = await open();
      await page.goto(door('/login'));
      for (let guess = 0; guess < limit; guess += 1) {
        await fillLogin(page, { ...user, password: newPassword() });
        await submit(page, 'Sign in');
      }
    }),
  );
  return user;
}

async function changePassword(page, current, next, again = next) {
  await page.getByLabel('Current password').fill(current);
  await page.getByLabel('New password', { exact: true }).fill(next);
  await page.getByLabel(/once more/).fill(again);
  await submit(page, 'Change password');
}

/** Every page there is: its name, what it says, and how one gets to it with a device that is nobody's yet. */
const PAGES = {
  login: [/sign in/i, (page) => page.goto(door('/login'))],
  'login-needed': [/sign in to continue/i, (page) => page.goto(at(`${site.session}?tab=1`))],
  'login-wrong': [/is wrong/i, async (page) => signIn(page, { ...(await newUser()), password: newPassword() })],
  'login-locked': [/too many failed attempts/i, (page) => signIn(page, locked)],
  'login-cookie-lost': [
    /cookie/i,
    async (page) => {
      await page.goto(door('/login'));
      await page.context().clearCookies();
      await fillLogin(page, await newUser());
      await submit(page, 'Sign in');
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
      await changePassword(page, user.password, newPassword());
    },
  ],
  'account-password-wrong': [
    /current password is wrong/i,
    async (page) => {
      await signIn(page, await newUser(), door('/account'));
      await changePassword(page, newPassword(), newPassword());
    },
  ],
  'account-password-mistyped': [
    /same twice/i,
    async (page) => {
      const user = await newUser();
      await signIn(page, user, door('/account'));
      await changePassword(page, user.password, newPassword(), newPassword());
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
  test(size, async (t) => {
    for (const [name, [says, go]] of Object.entries(PAGES)) {
      const look = () =>
        withDevices(browser, async (open) => {
          const { page } = await open(options);
          await go(page, open);
          assert.match(await textOf(page), says);
          for (const colorScheme of SCHEMES) {
            await page.emulateMedia({ colorScheme });
            await picture(page, `${name}-${size}-${colorScheme}`);
            await assertGoodLooks(page, `${size}, ${colorScheme}`, { touch: size === 'phone' });
          }
        });
      await t.test(name, () => (name === 'account-devices' ? withSetting('sessions_per_user', 2, look) : look()));
    }
  });
}

test('these checks see what they are meant to see', async () => {
  const page = await browser.newPage();
  await page.setContent(`<!doctype html><title>x</title><h1>One</h1><h1>Two</h1>
    <p style="color: #999">hard to read</p><input name="bare" style="border: 1px solid #eee">`);
  const faults = await assertGoodLooks(page, 'a bad page', { touch: true }).then(
    () => '',
    (error) => error.message,
  );
  await page.close();
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
});

test('at four times the text size nothing is cut off and nothing scrolls sideways', () =>
  withDevices(browser, async (open) => {
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
