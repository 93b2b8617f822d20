// What anyone must be able to see and use: contrast computed from the styles, names, landmarks, sizes, and axe-core's
// rules on top.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';

import { until } from './cluster.mjs';

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** WCAG 2.2 AA for text of any size here; 1.4.3 would allow 3 for large text. */
const TEXT_CONTRAST = 4.5;
/** WCAG 2.2 AA for what shows where a field is, and for the focus (1.4.11). */
const SHAPE_CONTRAST = 3;
/** Smallest height of what is meant to be touched, in CSS pixels (2.5.5; links in text are exempt). */
const TOUCH_PX = 44;

/**
 * Asserts all of it for the page that is open, in the colour scheme that is on. `what` says which, for the failure.
 * @param {import('playwright-core').Page} page
 */
export async function assertGoodLooks(page, what, { touch = false } = {}) {
  const faults = [
    ...(await page.evaluate(structureFaults)),
    ...(await page.evaluate(contrastFaults, { TEXT_CONTRAST, SHAPE_CONTRAST })),
    ...(touch ? await page.evaluate(touchFaults, TOUCH_PX) : []),
    ...(await axeFaults(page)),
  ];
  assert.deepEqual(faults, [], `${what}: ${page.url()}`);
}

async function axeFaults(page) {
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(AXE);
  const results = await page.evaluate(() =>
    window.axe.run(document, {
      runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
      resultTypes: ['violations'],
    }),
  );
  return results.violations.flatMap((violation) =>
    violation.nodes.map((node) => `axe ${violation.id}: ${violation.help}: ${node.html.slice(0, 160)}`),
  );
}

function structureFaults() {
  const faults = [];
  const count = (selector) => document.querySelectorAll(selector).length;
  if (!document.documentElement.lang) faults.push('no lang');
  if (!document.title.trim()) faults.push('no title');
  if (count('h1') !== 1) faults.push(`${count('h1')} h1`);
  if (count('main') !== 1) faults.push(`${count('main')} main`);
  if (!document.querySelector('meta[name=viewport]')) faults.push('no viewport');
  if (count('script') > 0) faults.push('a script');
  // Taking a picture leaves empty ones behind.
  for (const styled of document.querySelectorAll('[style]:not([style=""]), style')) {
    faults.push(`an inline style: ${styled.outerHTML}`);
  }
  if (document.documentElement.scrollWidth > document.documentElement.clientWidth) faults.push('scrolls sideways');
  for (const field of document.querySelectorAll('input, select, textarea')) {
    if (field.type === 'hidden' || field.hidden) continue;
    const label = [...(field.labels ?? [])].map((label) => label.innerText.trim()).join(' ');
    if (!label) faults.push(`no label: ${field.outerHTML}`);
    if (!field.autocomplete) faults.push(`no autocomplete: ${field.outerHTML}`);
    const text = parseFloat(getComputedStyle(field).fontSize);
    if (text < 16) faults.push(`a phone zooms into ${field.name}: ${text}px`);
  }
  return faults;
}

function touchFaults(least) {
  return [...document.querySelectorAll('button, input:not([type=hidden], [hidden]), a.button')]
    .filter((element) => element.getBoundingClientRect().height < least)
    .map((element) => `too low to touch: ${element.outerHTML.slice(0, 120)}`);
}

/** Runs in the page. */
function contrastFaults({ TEXT_CONTRAST, SHAPE_CONTRAST }) {
  const canvas = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
  // Whatever notation a style is computed to, a pixel of it is red, green, blue and alpha.
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => [...[0, 1, 2].map((i) => top[i] * top[3] + under[i] * (1 - top[3])), 1];
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.push(rgba(getComputedStyle(at).backgroundColor));
    const dark = matchMedia('(prefers-color-scheme: dark)').matches;
    return layers.reduceRight((under, layer) => over(layer, under), dark ? [18, 18, 18, 1] : [255, 255, 255, 1]);
  };
  const luminance = (color) => {
    const [r, g, b] = color.slice(0, 3).map((value) => {
      const v = value / 255;
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [light, dark] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (light + 0.05) / (dark + 0.05);
  };
  const faults = [];
  const check = (what, color, under, least) => {
    const found = contrast(over(rgba(color), under), under);
    if (found < least) faults.push(`contrast ${found.toFixed(2)} of ${what}`);
  };
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim();
    const element = texts.currentNode.parentElement;
    if (text && element.checkVisibility()) {
      check(`"${text.slice(0, 40)}"`, getComputedStyle(element).color, ground(element), TEXT_CONTRAST);
    }
  }
  for (const field of document.querySelectorAll('input:not([type=hidden], [hidden])')) {
    const style = getComputedStyle(field);
    check(`what is typed into ${field.name}`, style.color, ground(field), TEXT_CONTRAST);
    check(`the border of ${field.name}`, style.borderTopColor, ground(field.parentElement), SHAPE_CONTRAST);
  }
  return faults;
}

/**
 * Waits until what has this name has the focus: pages move it when they are drawn, a moment after they are loaded.
 * @param {import('playwright-core').Page} page
 */
export async function untilFocused(page, name) {
  await until(`${name} has the focus`, async () => (await focused(page))?.name === name);
}

/**
 * What has the focus, and how that shows: its name, and the contrast of its outline with what lies around it.
 * @param {import('playwright-core').Page} page
 */
export async function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const style = getComputedStyle(element);
    const label = element.labels?.[0]?.innerText ?? element.getAttribute('aria-label') ?? element.innerText;
    return {
      name: label.trim(),
      tag: element.localName,
      outlinePx: style.outlineStyle === 'none' ? 0 : parseFloat(style.outlineWidth),
      outline: style.outlineColor,
      text: style.color,
      onScreen: (() => {
        const box = element.getBoundingClientRect();
        return box.top >= 0 && box.left >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
      })(),
    };
  });
}
