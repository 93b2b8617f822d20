// Chromium, and a watch over everything that it complains about.
//
// A `Device` is a browser context: its own cookies, its own cache, as another computer would have. Whatever a page
// logs as an error, throws, fails to load or violates in its Content-Security-Policy fails the test in `close`;
// only the status of a document itself (401 after a wrong password) is no fault.

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

import { PATIENCE_MS, ROOT } from './cluster.mjs';

/** Where pictures go; what is in it is CI output. */
export const PICTURES = process.env.EDGEKEEP_TEST_SCREENSHOTS ?? join(ROOT, 'target/browser');

/** The sizes that pages are looked at in. */
export const SIZES = {
  phone: { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 },
  desktop: { viewport: { width: 1280, height: 800 } },
};
/** The colour schemes that pages are looked at in. */
export const SCHEMES = ['light', 'dark'];

function executable() {
  const named = process.env.EDGEKEEP_TEST_BROWSER ?? process.env.CHROMIUM_PATH;
  if (named) return named;
  for (const name of ['chromium', 'chromium-browser', 'google-chrome', 'google-chrome-stable', 'chrome']) {
    const found = spawnSync('which', [name], { encoding: 'utf8' });
    if (found.status === 0) return found.stdout.trim();
  }
  const own = chromium.executablePath();
  if (existsSync(own)) return own;
  throw new Error('there is no Chromium: name one with EDGEKEEP_TEST_BROWSER, or apt-get install chromium');
}

/** Starts a browser. Pages are kept for the back button as in ordinary use, which playwright would switch off. */
export async function launch() {
  return chromium.launch({
    executablePath: executable(),
    headless: true,
    ignoreDefaultArgs: ['--disable-back-forward-cache'],
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--no-first-run',
    ],
  });
}

/** One browser with its own cookies, and what it complained about. */
export class Device {
  /** @type {import('playwright-core').BrowserContext} */
  context;
  /** Complaints that fail the test. */
  complaints = [];

  /**
   * @param {import('playwright-core').Browser} browser
   * @param {import('playwright-core').BrowserContextOptions} options
   */
  static async open(browser, options = {}) {
    const device = new Device();
    device.context = await browser.newContext({ ...SIZES.desktop, ...options });
    device.context.setDefaultTimeout(PATIENCE_MS);
    device.scripts = options.javaScriptEnabled !== false;
    if (device.scripts) {
      await device.context.exposeBinding('edgekeepTestViolation', (_, text) => device.complaints.push(text));
      // Not part of the page, so its policy does not apply to this.
      await device.context.addInitScript(() => {
        document.addEventListener('securitypolicyviolation', (event) => {
          window.edgekeepTestViolation(`policy violation: ${event.violatedDirective} ${event.blockedURI}`);
        });
      });
    }
    device.context.on('page', (page) => device.watch(page));
    device.context.on('weberror', (error) => device.complaints.push(`thrown: ${error.error()}`));
    device.page = await device.context.newPage();
    return device;
  }

  /** @param {import('playwright-core').Page} page */
  watch(page) {
    const documents = new Set();
    page.on('response', (response) => {
      const request = response.request();
      if (request.isNavigationRequest()) documents.add(response.url());
      else if (response.status() >= 400) this.complaints.push(`${response.status()} for ${response.url()}`);
    });
    page.on('requestfailed', (request) => {
      const text = request.failure()?.errorText ?? '';
      // A second click, or leaving a page, ends what was under way.
      if (text !== 'net::ERR_ABORTED') this.complaints.push(`${text} for ${request.url()}`);
    });
    page.on('console', (message) => {
      if (!['error', 'warning'].includes(message.type())) return;
      const aboutDocument =
        message.text().startsWith('Failed to load resource: the server responded with a status of') &&
        documents.has(message.location().url);
      if (!aboutDocument) this.complaints.push(`${message.type()}: ${message.text()} (${message.location().url})`);
    });
  }

  /** Asserts that nothing was wrong, and ends it. */
  async close() {
    await this.context.close();
    assert.deepEqual(this.complaints, [], 'the browser complained');
  }

  /** Our cookies, of sessions only. */
  async sessionCookies() {
    const cookies = await this.context.cookies();
    return cookies.filter((cookie) => cookie.name.startsWith('__Host-edgekeep-'));
  }
}

/** Keeps a picture of the page. */
export async function picture(page, name) {
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`), fullPage: true, animations: 'disabled' });
}
