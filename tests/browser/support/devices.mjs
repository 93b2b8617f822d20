// Devices for tests: of one browser, which the first test that asks for a device starts, and which ends with the tests.
//
// Not in a `before`: where no test is to run, Node runs `after` while `before` is still under way, and what that
// starts is never stopped.

import { after } from 'node:test';

import { Device, launch } from './browser.mjs';
import { door, newUser, sessionsOf, until } from './cluster.mjs';
import { signIn } from './pages.mjs';

/** @type {Promise<import('playwright-core').Browser> | undefined} */
let browser;
after(async () => (await browser)?.close());

/**
 * Runs `work` with devices that are opened as it asks for them, and closes them all.
 * @param {(open: (options?: object) => Promise<Device>) => Promise<void>} work
 */
export async function withDevices(work) {
  browser ??= launch();
  const devices = [];
  let failed = true;
  try {
    await work(async (options) => {
      const device = await Device.open(await browser, options);
      devices.push(device);
      return device;
    });
    failed = false;
  } finally {
    for (const device of devices) {
      // The first failure is the one to report.
      await (failed ? device.context.close() : device.close());
    }
  }
}

/** A new user on a new device, signed in from the address `from` and wherever that led. */
export async function signedIn(open, from = door('/login'), roles = []) {
  const user = await newUser(roles);
  const device = await open();
  await signIn(device.page, user, from);
  return { user, device, page: device.page, context: device.context };
}

/** Signs in beside the session that the user has elsewhere, as soon as all have heard that two are allowed. */
export async function signInBeside(page, user, from) {
  await until('two sessions are allowed', async () => {
    await signIn(page, user, from);
    return (await sessionsOf(user)).length === 2;
  });
}
