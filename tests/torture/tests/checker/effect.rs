//! What operations do in the simulated system, each at one instant.

use edgekeep_torture::history::{Action, NewSecret, Outcome, Reason, Route, Secret, SessionNo, Us, Why};

use crate::bug::Bug;
use crate::system::World;
use crate::user::{Key, MS, RULES, Session, signed_in};

impl World {
    pub fn effect(&mut self, number: u32, action: Action, sent: Us, now: Us) -> Outcome {
        let bug = self.bug;
        match action {
            Action::Check { session, route } => self.check(number, session, route, sent, now),
            Action::Login { attempt, presents } => self.attempt(number, (0, attempt, None), presents, None, now),
            Action::LogoutEverywhere { attempt } => self.attempt(number, (1, attempt, None), None, None, now),
            Action::ChangePassword { attempt, new, by } => {
                self.attempt(number, (2, attempt, Some(new)), None, Some(by), now)
            }
            Action::Logout { session } => {
                let cancelled = bug == Some(Bug::CommitCancelled) && self.random.one_in(2);
                let user = &mut self.users[number as usize];
                let state = user.now();
                if !cancelled && (state.current == Some(session) || state.beside == Some(session)) {
                    user.sessions.get_mut(&session).unwrap().unheard = bug == Some(Bug::LogoutUnheard);
                    user.end(now, Reason::SignedOut);
                }
                Outcome::Done
            }
            Action::Disable | Action::Enable | Action::Revoke | Action::Unlock | Action::SetRole { .. } => {
                let user = &mut self.users[number as usize];
                match action {
                    Action::Disable => user.end(now, Reason::Disabled),
                    Action::Revoke => user.end(now, Reason::Revoked),
                    Action::Unlock => {
                        (user.failures, user.locked_until) = (0, 0);
                        user.account.unlocked_ms.push(now / MS);
                    }
                    _ => {}
                }
                let mut state = user.now();
                match action {
                    Action::Disable => state.enabled = false,
                    Action::Enable => state.enabled = true,
                    Action::SetRole { role } => state.role = role,
                    _ => {}
                }
                if action == Action::Revoke {
                    user.log("sessions_revoked", None, None, None);
                }
                user.change(now, state);
                Outcome::Done
            }
        }
    }

    fn check(&mut self, number: u32, session: SessionNo, route: Route, sent: Us, now: Us) -> Outcome {
        let bug = self.bug;
        let bound = RULES.bound_us;
        let lag = self.random.below(bound - 1);
        // What a lease knows is as old as the bound, a strict route's answer is from within the request.
        let mut seen_at =
            if route.is_strict() { sent + self.random.below(now - sent + 1) } else { now.saturating_sub(lag) };
        match bug {
            Some(Bug::LeaseTooLong) if !route.is_strict() => seen_at = now.saturating_sub(lag + bound),
            Some(Bug::StrictFromOldRead) if route.is_strict() => {
                seen_at = sent.saturating_sub(self.random.below(500) * MS)
            }
            _ => {}
        }
        let wrong = bug == Some(Bug::RefusesValid) && self.random.one_in(200);
        let user = &mut self.users[number as usize];
        let seen = user.at(seen_at);
        let known = user.sessions.get_mut(&session).unwrap();
        // A newer session than the view is no older view's business (G7).
        let unseen = known.born > seen_at;
        let expired = now >= (known.born + RULES.absolute_us).min(known.used + RULES.idle_us);
        let alive = seen.current == Some(session) || seen.beside == Some(session) || unseen || known.unheard;
        if wrong {
            return Outcome::Refused(Why::NoSession(Reason::Revoked));
        }
        if expired && bug != Some(Bug::SlidingExpiry) {
            return Outcome::Refused(Why::NoSession(Reason::Expired));
        }
        if !alive
            || route.is_strict()
                && known.ended.is_some()
                && !unseen
                && seen.current != Some(session)
                && seen.beside != Some(session)
        {
            let reason = known.ended.unwrap_or(Reason::Revoked);
            let said = if bug == Some(Bug::WrongReason) { Reason::PasswordChanged } else { reason };
            return Outcome::Refused(Why::NoSession(said));
        }
        if bug == Some(Bug::SlidingExpiry) {
            known.expires_at_ms += 1;
        }
        known.used = known.used.max(now);
        let role_at = if bug == Some(Bug::RoleTooOld) { user.at(now.saturating_sub(3 * bound)) } else { seen };
        if route.needs_role() && !role_at.role {
            return Outcome::Refused(Why::Forbidden);
        }
        Outcome::Accepted { saw: Some((session, user.sessions[&session].expires_at_ms)) }
    }

    fn attempt(
        &mut self,
        number: u32,
        key: Key,
        presents: Option<SessionNo>,
        by: Option<SessionNo>,
        now: Us,
    ) -> Outcome {
        let bug = self.bug;
        let chance = self.random.one_in(3);
        let next = SessionNo(u32::try_from(self.history.sessions.len()).unwrap());
        let user = &mut self.users[number as usize];
        let (kind, attempt, new) = key;
        if let Some(settled) = user.settled.get(&key)
            && !(bug == Some(Bug::KeyNotUnique) && chance)
        {
            return match *settled {
                Err(()) => Outcome::Refused(Why::Credentials),
                Ok(None) => Outcome::Done,
                Ok(Some(session)) if user.now().current == Some(session) => signed_in(user, session),
                Ok(Some(session)) if bug == Some(Bug::ReplayResurrects) && chance => {
                    user.end(now, Reason::SignedInElsewhere);
                    let mut state = user.now();
                    state.current = Some(session);
                    user.change(now, state);
                    signed_in(user, session)
                }
                Ok(Some(_)) => Outcome::Refused(Why::Gone),
            };
        }
        if now < user.locked_until {
            return Outcome::Refused(Why::Locked);
        }
        let state = user.now();
        let right = match attempt.secret {
            Secret::Chosen(n) => n == state.password && !(bug == Some(Bug::RightIsWrong) && chance),
            Secret::Wrong(_) => bug == Some(Bug::WrongIsRight) && chance,
        };
        if kind == 2 && state.current != by {
            return Outcome::Refused(Why::NoSession(Reason::SignedOut));
        }
        if new == Some(NewSecret::TooShort) {
            if bug == Some(Bug::RefusalCounted) {
                user.fail(now, bug);
            }
            return Outcome::Refused(Why::Invalid);
        }
        let operation = ["login", "logout_everywhere", "password_change"][usize::from(kind)];
        if !right || !state.enabled && bug != Some(Bug::DisabledSignsIn) {
            user.settled.insert(key, Err(()));
            user.fail(now, bug);
            user.log("refused", None, None, Some("invalid_credentials"));
            for _ in 0..if bug == Some(Bug::StoredTwice) { 2 } else { 1 } {
                user.store(now, operation, "invalid_credentials", None);
            }
            return Outcome::Refused(Why::Credentials);
        }
        if kind == 1 {
            user.end(now, Reason::SignedOut);
            user.settled.insert(key, Ok(None));
            user.log(operation, None, None, Some("succeeded"));
            user.store(now, operation, "succeeded", None);
            return Outcome::Done;
        }
        (user.failures, user.locked_until) = (0, 0);
        let keep = bug == Some(Bug::TwoSessions) && chance;
        if !keep {
            let presented = presents.is_some() && state.current == presents;
            let reason = if kind == 2 {
                Reason::PasswordChanged
            } else if presented {
                Reason::SignedOut
            } else {
                Reason::SignedInElsewhere
            };
            user.end(now, reason);
        }
        let lost = bug == Some(Bug::LoginLost) && chance;
        let mut state = user.now();
        if keep {
            state.beside = state.current;
        }
        if !lost {
            state.current = Some(next);
        }
        if let Some(NewSecret::Good(n)) = new {
            state.password = n;
        }
        user.change(now, state);
        let expires_at_ms = (now + RULES.absolute_us) / MS;
        let ended = lost.then_some(Reason::Revoked);
        user.sessions.insert(next, Session { born: now, used: now, expires_at_ms, ended, unheard: false });
        user.settled.insert(key, Ok(Some(next)));
        if !(bug == Some(Bug::AuditLost) && chance || lost) {
            user.log(operation, Some(next), None, Some("succeeded"));
        }
        user.store(now, operation, "succeeded", Some(next));
        self.history.sessions.push(format!("s{}", next.0));
        signed_in(&self.users[number as usize], next)
    }
}
