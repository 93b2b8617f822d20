// Who is asking. An edge says so in headers and signs it in one of them; only what is signed counts here.

import { jwtVerify } from "jose";

/** Reads the environment's key: 32 bytes as base64url, the same as the edges' `ASSERTION_KEY`. */
export function assertionKey(text) {
  const key = Buffer.from(text ?? "", "base64url");
  if (key.length !== 32) throw new Error("ASSERTION_KEY must be 32 bytes as base64url");
  return key;
}

/**
 * The identity that a request carries.
 *
 * @returns `{ verified: true, claims }`, or `{ verified: false, why }` with `why` null when there is no assertion at
 * all: a request of nobody in particular.
 */
export async function identify(request, key, site) {
  const assertion = request.headers["edgekeep-assertion"];
  if (assertion === undefined) return { verified: false, why: null };
  try {
    const { payload } = await jwtVerify(assertion, key, {
      // Pinned: what the token says about its own algorithm is never believed.
      algorithms: ["HS256"],
      typ: "JWT",
      issuer: "edgekeep",
      audience: site,
      requiredClaims: ["sub", "sid", "name", "roles", "iat", "exp"],
      // An assertion lives for seconds; this is for our clock against the database's.
      clockTolerance: 30,
    });
    return { verified: true, claims: payload };
  } catch (error) {
    return { verified: false, why: error.code ?? "unknown" };
  }
}
