// Every page in two sizes and both colour schemes: a picture of each for people, and for machines what can be
// computed: contrast, names, landmarks, sizes, no sideways scrolling, axe-core's rules.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { SCHEMES, SIZES, fillLogin, launch, picture, signIn, submit, withDevices } from './support/browser.mjs';
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

async function newLockedUser() {
  const user = await newUser();
  const { guess_limit: limit } = await edgekeepJson(['settings', 'show']);
  await withDevices(browser, async (open) => {
    const { page } = await open();
    await page.goto(door('/login'));
    for (let guess = 0; guess < limit; guess += 1) {
      await fillLogin(page, { ...user, password: newPassword() });
      await submit(page, 'Sign in');
    }
  });
  return user;
}

/** Every page there is: its name, and how one gets to it with a device that is nobody's yet. */
const PAGES = {
  login: (page) => page.goto(door('/login')),
  'login-needed': (page) => page.goto(at(`${site.session}?tab=1`)),
  'login-wrong': async (page) => signIn(page, { ...(await newUser()), password: newPassword() }),
  'login-locked': (page) => signIn(page, locked),
  'login-cookie-lost': async (page) => {
    await page.goto(door('/login'));
    await page.context().clearCookies();
    await fillLogin(page, await newUser());
    await submit(page, 'Sign in');
  },
  'login-elsewhere': async (page, open) => {
    const user = await newUser();
    await signIn(page, user, at(site.session));
    const other = await open();
    await signIn(other.page, user, at(site.session));
    await page.goto(at(site.strict));
  },
  'login-again': async (page) => {
    await signIn(page, await newUser());
    await page.goto(door(`/login?return_to=${site.session}`));
  },
  'login-signed-out': async (page) => {
    await signIn(page, await newUser(), door('/account'));
    await submit(page, 'Sign out');
  },
  'logout-everywhere': (page) => page.goto(door('/logout-everywhere')),
  account: async (page) => signIn(page, await newUser(['admin', 'editor']), door('/account')),
  'account-devices': async (page, open) => {
    const user = await newUser();
    const other = await open();
    await signIn(other.page, user);
    await signIn(page, user, door('/account'));
  },
  'account-password-wrong': async (page) => {
    await signIn(page, await newUser(), door('/account'));
    const next = newPassword();
    await page.getByLabel('Current password').fill(newPassword());
    await page.getByLabel('New password', { exact: true }).fill(next);
    await page.getByLabel(/once more/).fill(next);
    await submit(page, 'Change password');
  },
  'message-forbidden': async (page) => signIn(page, await newUser(), at(site.role)),
  'message-not-found': (page) => page.goto(door('/nothing-here')),
  'message-bad-path': (page) => page.goto(at('/a%2fb')),
  'site-public': (page) => page.goto(at(site.public)),
  'site-session': async (page) => signIn(page, await newUser(['admin']), at(site.session)),
  'site-strict': async (page) => signIn(page, await newUser(), at(site.strict)),
};

for (const [size, options] of Object.entries(SIZES)) {
  for (const colorScheme of SCHEMES) {
    test(`${size}, ${colorScheme}`, async (t) => {
      for (const [name, go] of Object.entries(PAGES)) {
        const look = () =>
          withDevices(browser, async (open) => {
            const { page } = await open({ ...options, colorScheme });
            await go(page, open);
            await picture(page, `${name}-${size}-${colorScheme}`);
            await assertGoodLooks(page, { touch: size === 'phone' });
          });
        await t.test(name, () => (name === 'account-devices' ? withSetting('sessions_per_user', 2, look) : look()));
      }
    });
  }
}

test('at four times the text size nothing is cut off and nothing scrolls sideways', () =>
  withDevices(browser, async (open) => {
    // WCAG 1.4.10: 1280 pixels at 400 % are 320.
    const { page } = await open({ viewport: { width: 320, height: 256 } });
    await signIn(page, await newUser(['admin', 'editor', 'somewhat-longer-role-name']), door('/account'));
    for (const address of [door('/account'), at(site.session), at(site.role), door('/login')]) {
      await page.goto(address);
      await until('it is laid out', () => page.evaluate(() => document.readyState === 'complete'));
      const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
      assert.equal(over, 0, address);
    }
  }));
