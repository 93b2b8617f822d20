// The pictures of the documents, taken from a running cluster: `node tests/browser/screenshots.mjs`.
//
// They show people and not test users, so it makes `ann`, once; run it against a cluster of `cargo xtask dev --raw`.

import { mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';

import { Device, SIZES, launch } from './support/browser.mjs';
import { ROOT, at, door, edgekeep, newPassword, site } from './support/cluster.mjs';
import { signIn } from './support/pages.mjs';

const FOLDER = join(ROOT, 'docs/images');
/** The most that a picture may weigh, in bytes. */
const MOST = 150 * 1024;

async function take(page, name) {
  const path = join(FOLDER, `${name}.png`);
  await page.screenshot({ path, animations: 'disabled', caret: 'hide' });
  const { size } = statSync(path);
  if (size > MOST) throw new Error(`${path} has ${size} bytes`);
  console.log(`${path}: ${Math.ceil(size / 1024)} KiB`);
}

mkdirSync(FOLDER, { recursive: true });
const ann = { name: 'ann', password: newPassword() };
const made = edgekeep(['user', 'add', ann.name, '--roles', 'admin'], `${ann.password}\n`);
await made.catch(() => edgekeep(['user', 'passwd', ann.name], `${ann.password}\n`));

const browser = await launch();
try {
  const desk = await Device.open(browser, { viewport: { width: 1040, height: 640 }, colorScheme: 'light' });
  await desk.page.goto(door('/login'));
  await desk.page.getByLabel('User name').fill(ann.name);
  await take(desk.page, 'login');
  await signIn(desk.page, ann, at(site.session));
  await take(desk.page, 'dashboard');

  // The other device takes over; this one is told why.
  const phone = await Device.open(browser, { ...SIZES.phone, deviceScaleFactor: 1, colorScheme: 'dark' });
  await signIn(phone.page, ann, at(site.session));
  await desk.page.goto(at(site.strict));
  await desk.page.locator('[role=status]').waitFor();
  await take(desk.page, 'signed-in-elsewhere');
  await phone.page.goto(door('/account'));
  await take(phone.page, 'account-phone');
  for (const device of [desk, phone]) await device.close();
} finally {
  await browser.close();
}
