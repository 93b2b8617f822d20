// The pages as a person uses them: forms that are filled in and sent, and what a page then shows.

import assert from 'node:assert/strict';

import { at, door, edgekeepJson, endpoints, withWrongPassword } from './cluster.mjs';

/** Fills in the login form that is open, without sending it. */
export async function fillLogin(page, user) {
  await page.getByLabel('User name').fill(user.name);
  await page.getByLabel('Password', { exact: true }).fill(user.password);
}

/** Sends the form with this button and waits for the page that comes of it; gives the answer to the last request. */
export async function submit(page, button) {
  const answered = page.waitForNavigation({ waitUntil: 'load' });
  await page.getByRole('button', { name: button, exact: true }).click();
  return answered;
}

/** Fills in and sends the form that is open and asks for name and password; gives the answer to the last request. */
export async function submitLogin(page, user, button = 'Sign in') {
  await fillLogin(page, user);
  return submit(page, button);
}

/** Signs in from an address that leads to the login form, wherever that then leads. */
export async function signIn(page, user, from = door('/login')) {
  await page.goto(from);
  return submitLogin(page, user);
}

/** Fails to sign in from the form that is open as often as an account allows: the next try meets the lock. */
export async function useUpGuesses(page, user) {
  const { guess_limit: limit } = await edgekeepJson(['settings', 'show']);
  for (let guess = 1; guess <= limit; guess += 1) {
    const answer = await submitLogin(page, withWrongPassword(user));
    assert.equal(answer.status(), 401, `guess ${guess}`);
  }
}

/** Fills in the account page's form for a new password, without sending it. */
export async function fillNewPassword(page, { current, next, again = next }) {
  await page.getByLabel('Current password').fill(current);
  await page.getByLabel('New password', { exact: true }).fill(next);
  await page.getByLabel(/once more/).fill(again);
}

/** The same, and sends it; gives the answer to the last request. */
export async function changePassword(page, passwords) {
  await fillNewPassword(page, passwords);
  return submit(page, 'Change password');
}

/** The open form's idempotency key, which no person sees. */
export function formKey(page) {
  return page.locator('[name=form_key]').inputValue();
}

/** Gives the open form another key. */
export async function setFormKey(page, key) {
  await page.locator('[name=form_key]').evaluate((field, value) => (field.value = value), key);
}

/** The path and query that a page shows. */
export function where(page) {
  const url = new URL(page.url());
  return url.pathname + url.search;
}

/** The page is the login form, whatever it was asked for. */
export function onLogin(page) {
  return new URL(page.url()).pathname === `${endpoints.auth_prefix}/login`;
}

/** The page's visible text. */
export function textOf(page) {
  return page.locator('body').innerText();
}

/** Asserts what the page tells in passing: why one is here, or what was done. */
export async function assertNotice(page, expected) {
  assert.match(await page.getByRole('status').innerText(), expected);
}

/** Asserts what the page says went wrong. */
export async function assertAlert(page, expected) {
  assert.match(await page.getByRole('alert').innerText(), expected);
}

/** Asserts that a path of the site opens, and does not lead elsewhere. */
export async function assertOpens(page, path, edge = 0) {
  await page.goto(at(path, edge));
  assert.equal(where(page), path);
}
