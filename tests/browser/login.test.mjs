// Signing in: the way in, and every way of being refused.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { picture } from './support/browser.mjs';
import {
  at,
  auditOf,
  door,
  endpoints,
  newPassword,
  newUser,
  sessionsOf,
  site,
  withWrongPassword,
} from './support/cluster.mjs';
import { signedIn, withDevices } from './support/devices.mjs';
import { untilFocused } from './support/looks.mjs';
import {
  assertAlert,
  assertNotice,
  assertOpens,
  onLogin,
  signIn,
  submit,
  submitLogin,
  textOf,
  useUpGuesses,
  where,
} from './support/pages.mjs';

test('a protected page leads to the form, and the form back to it', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const device = await open();
    const { page } = device;
    const target = `${site.session}?tab=a%20b&x=1`;
    await page.goto(at(target));
    assert.ok(onLogin(page));
    assert.equal(new URL(page.url()).searchParams.get('return_to'), target);
    await assertNotice(page, /sign in to continue/i);
    await submitLogin(page, user);
    assert.equal(where(page), target);
    assert.match(await textOf(page), new RegExp(user.name));
    await picture(page, 'flow-dashboard');

    // Nothing that a script or another site could take: HttpOnly, Secure, host-only, SameSite.
    const [cookie, ...others] = await device.sessionCookies();
    assert.deepEqual(others, []);
    assert.deepEqual(
      { httpOnly: cookie.httpOnly, secure: cookie.secure, sameSite: cookie.sameSite, path: cookie.path },
      { httpOnly: true, secure: true, sameSite: 'Lax', path: '/' },
    );
    assert.equal(await page.evaluate(() => document.cookie), '');
    assert.ok(cookie.value.length < 300, `a small cookie: ${cookie.value.length} bytes`);
  }));

test('every edge accepts the new session at once', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open);
    // Cookies do not know ports, so the browser takes its session along to the other edge's address.
    for (let edge = 0; edge < endpoints.edges.length; edge += 1) {
      const answer = await page.goto(at(site.session, edge));
      assert.equal(answer.status(), 200);
      assert.equal(where(page), site.session);
    }
  }));

test('a wrong password is said, the name is kept, and the next try works', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open();
    const answer = await signIn(page, withWrongPassword(user), at(site.session));
    assert.equal(answer.status(), 401);
    await assertAlert(page, /user name or password is wrong/i);
    const [name, password] = [page.getByLabel('User name'), page.getByLabel('Password', { exact: true })];
    assert.equal(await name.inputValue(), user.name);
    assert.equal(await password.inputValue(), '');
    assert.equal(await password.getAttribute('aria-invalid'), 'true');
    await untilFocused(page, 'Password');
    await picture(page, 'flow-wrong-password');

    await password.fill(user.password);
    await submit(page, 'Sign in');
    assert.equal(where(page), site.session);
  }));

test('an unknown name gets the same answer as a wrong password', () =>
  withDevices(async (open) => {
    const known = await newUser();
    const { page } = await open();
    const said = [];
    for (const name of [known.name, 'nobody-of-this-name']) {
      const answer = await signIn(page, { name, password: newPassword() });
      said.push([answer.status(), (await textOf(page)).replaceAll(name, '…')]);
    }
    assert.deepEqual(said[0], said[1]);
  }));

test('too many wrong passwords lock the account, say for how long, and end no session', () =>
  withDevices(async (open) => {
    const { user, page: inside } = await signedIn(open, at(site.session));
    const { page } = await open();
    await page.goto(door('/login'));
    await useUpGuesses(page, user);
    // Not even the right one now.
    const answer = await submitLogin(page, user);
    assert.equal(answer.status(), 429);
    assert.ok(Number(answer.headers()['retry-after']) > 0);
    await assertAlert(page, /too many failed attempts.*try again in \d+ (seconds|minutes)/is);
    assert.equal(await page.getByLabel('User name').inputValue(), user.name);
    await picture(page, 'flow-locked');

    // A stranger's guesses do not sign anybody out.
    await assertOpens(inside, site.strict);
    assert.equal((await sessionsOf(user)).length, 1);
  }));

test('a login leads to paths of this site only', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open();
    const hostile = [
      'https://evil.example/',
      '//evil.example/',
      '/\\evil.example/',
      'javascript:alert(1)',
      '/\t/evil.example',
      'evil.example',
    ];
    for (const target of hostile) {
      await signIn(page, user, door(`/login?return_to=${encodeURIComponent(target)}`));
      assert.equal(new URL(page.url()).origin, endpoints.edges[0].url, target);
      assert.equal(where(page), '/', target);
    }
  }));

test('a page that needs a role says so, and opens for whoever has it', () =>
  withDevices(async (open) => {
    const [plain, admin] = [await newUser(), await newUser(['admin'])];
    const { page } = await open();
    const answer = await signIn(page, plain, at(site.role));
    assert.equal(answer.status(), 403);
    assert.equal(where(page), site.role);
    const text = await textOf(page);
    assert.match(text, /role/i);
    assert.match(text, /ask/i, 'it says what to do next');
    await picture(page, 'flow-forbidden');

    // The page offers to sign in as somebody else, who ends up here.
    await page.getByRole('link', { name: /somebody else/ }).click();
    await page.waitForURL((url) => url.pathname.endsWith('/login'));
    await submitLogin(page, admin);
    assert.equal(where(page), site.role);
    // That login ended the session that its browser had before (design 2.1).
    assert.deepEqual(await sessionsOf(plain), []);
  }));

test('whoever is signed in already is told so by the form', () =>
  withDevices(async (open) => {
    const { user, page } = await signedIn(open);
    await page.goto(door(`/login?return_to=${site.session}`));
    assert.match(await textOf(page), new RegExp(`signed in as ${user.name}`, 'i'));
    await page.getByRole('link', { name: 'Continue' }).click();
    await page.waitForURL(at(site.session));
    assert.equal((await sessionsOf(user)).length, 1);
    assert.equal((await auditOf(user, 'login')).length, 1);
  }));

test('no answer of ours is kept by the browser, and none can be framed', () =>
  withDevices(async (open) => {
    const user = await newUser();
    const { page } = await open();
    const answers = [await page.goto(door('/login'))];
    await signIn(page, user);
    answers.push(await page.goto(door('/account')), await page.goto(door('/nothing')));
    for (const answer of answers) {
      assert.match(await answer.headerValue('content-security-policy'), /default-src 'none'.*frame-ancestors 'none'/);
    }
    // Not as a page: for what is no HTML a browser asks the site for its /favicon.ico.
    answers.push(await page.request.get(door('/session')));
    for (const answer of answers) {
      const headers = answer.headers();
      assert.equal(headers['cache-control'], 'no-store', answer.url());
      assert.match(headers['content-security-policy'], /default-src 'none'/, answer.url());
      assert.doesNotMatch(headers['content-security-policy'], /unsafe/);
      assert.equal(headers['x-content-type-options'], 'nosniff');
      assert.equal(headers['referrer-policy'], 'same-origin');
    }
  }));
