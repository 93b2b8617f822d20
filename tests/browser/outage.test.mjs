// What a person sees while an edge cannot know (G8): a page that says so, never a login form for a session that may
// be fine, never a lost cookie; and that all is well again by itself.
//
// The coordinators are stopped with SIGSTOP, as a network would that swallows everything.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SIZES, picture } from './support/browser.mjs';
import { at, auditOf, door, sessionsOf, site, until, withoutCoordinators } from './support/cluster.mjs';
import { signedIn, withDevices } from './support/devices.mjs';
import { assertGoodLooks } from './support/looks.mjs';
import { assertAlert, assertNotice, fillLogin, submit, submitLogin, textOf, where } from './support/pages.mjs';

test('an outage is said, gives no login form and no answer, and one login remains one', () =>
  withDevices(async (open) => {
    const { user, device, page } = await signedIn(open, at(site.session));
    const [cookie] = await device.sessionCookies();
    const stranger = await open({ ...SIZES.phone, colorScheme: 'dark' });
    await stranger.page.goto(door('/login'));

    await withoutCoordinators(async () => {
      // A strict page cannot be decided at all; the others once the bound has passed.
      const answer = await page.goto(at(site.strict));
      assert.equal(answer.status(), 503);
      assert.ok(Number(answer.headers()['retry-after']) > 0);
      assert.match(await textOf(page), /not signed out/i);
      assert.equal(await page.getByLabel('Password').count(), 0, 'no login form');
      assert.equal(await page.getByRole('link', { name: 'Try again' }).getAttribute('href'), site.strict);
      await picture(page, 'message-unavailable-desktop-light');
      await assertGoodLooks(page, 'desktop, light');

      // Nobody gets in, and the form says so.
      const refused = await submitLogin(stranger.page, user);
      assert.equal(refused.status(), 503);
      await assertAlert(stranger.page, /unavailable/i);
      assert.equal(await stranger.page.getByLabel('User name').inputValue(), user.name);
      await picture(stranger.page, 'login-unavailable-phone-dark');
      await assertGoodLooks(stranger.page, 'phone, dark', { touch: true });

      await until('an ordinary page falls closed within the bound', async () => {
        const page_ = await page.goto(at(site.session));
        return page_.status() === 503;
      });
      assert.equal(where(page), site.session);
      assert.deepEqual((await device.sessionCookies()).map((c) => c.value), [cookie.value], 'the cookie stays');
    });

    // The form that got no answer is sent again. Whether the first delivery was decided in the end or not: it is one
    // login, and so the newest.
    await fillLogin(stranger.page, user);
    await until('logins work again', async () => {
      await stranger.page.getByLabel('Password').fill(user.password);
      return (await submit(stranger.page, 'Sign in')).status() === 200;
    });
    assert.equal(where(stranger.page), '/');
    assert.equal((await auditOf(user, 'login')).length, 2, 'the first device, and the second one once');
    assert.equal((await sessionsOf(user)).length, 1);

    // And the first device is told what happened, now that somebody knows.
    await until('strict pages are decided again', async () => (await page.goto(at(site.strict))).status() === 200);
    await assertNotice(page, /on another device/i);
  }));

test('an outage that ends signs nobody out', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open, at(site.strict));
    await withoutCoordinators(async () => assert.equal((await page.reload()).status(), 503));
    await until('it is over', async () => {
      await page.goto(at(site.strict));
      return (await page.getByRole('link', { name: 'Try again' }).count()) === 0;
    });
    assert.equal(where(page), site.strict);
    assert.match(await textOf(page), new RegExp(user.name));
  }));
