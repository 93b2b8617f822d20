-- Room in each page for the next version of its rows. None of these updates changes an indexed column, so with room a new
-- version stays in its page and needs no entry in any index ("heap-only tuples"). Only pages that are written from now on
-- have it; the others get it as they are cleaned up.

-- Renewed every few minutes.
ALTER TABLE session SET (fillfactor = 80);
-- Two versions with each login.
ALTER TABLE subject_state SET (fillfactor = 80);
-- Reserved, then settled a moment later, and given its receipt.
ALTER TABLE attempt SET (fillfactor = 70);
-- `last_login_at`.
ALTER TABLE users SET (fillfactor = 90);
