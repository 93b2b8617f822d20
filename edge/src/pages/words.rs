//! What pages and problems say, in one place and in one tone.

use edgekeep_shared::problem::{Code, Problem, Reason};

/// What to tell a person whose session is not there.
#[must_use]
pub const fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::None => "Please sign in to continue.",
        Reason::Invalid => "Your browser sent a session that is not valid. Please sign in.",
        Reason::Expired => "Your session has expired. Please sign in again.",
        Reason::SignedOut => "You are signed out.",
        Reason::SignedInElsewhere => {
            "You were signed out because your account was used to sign in on another device. \
             If that was not you, sign in and change your password."
        }
        Reason::PasswordChanged => "You were signed out because the password of your account was changed.",
        Reason::Disabled => "You were signed out because this account is disabled.",
        Reason::Revoked => "You were signed out by an administrator.",
    }
}

/// A waiting time as people say it.
#[must_use]
pub fn wait(seconds: u32) -> String {
    let (value, unit) = match seconds {
        0..=1 => return "a moment".to_owned(),
        2..=89 => (seconds, "seconds"),
        90..=5_399 => (seconds.div_ceil(60), "minutes"),
        _ => (seconds.div_ceil(3_600), "hours"),
    };
    format!("{value} {unit}")
}

/// What to tell a person about a problem with a form that they sent.
#[must_use]
pub fn about(problem: &Problem) -> String {
    let again = problem.retry_after_s.map(wait);
    match (problem.code, again) {
        (Code::InvalidCredentials, _) => "User name or password is wrong. Check both and try again.".to_owned(),
        (Code::Locked, Some(again)) => {
            format!("Too many failed attempts for this account. Try again in {again}.")
        }
        (Code::Locked, None) => {
            "Too many failed attempts for this account. An administrator has to unlock it.".to_owned()
        }
        (Code::RateLimited, again) => format!(
            "Too many attempts from your network. Try again in {}.",
            again.unwrap_or_else(|| "a moment".to_owned())
        ),
        (Code::Overloaded, again) => format!(
            "Too many people are signing in right now. Try again in {}.",
            again.unwrap_or_else(|| "a moment".to_owned())
        ),
        (Code::Unavailable, again) => format!(
            "Sign-in is unavailable right now. Nothing is lost; try again in {}.",
            again.unwrap_or_else(|| "a moment".to_owned())
        ),
        (Code::LoginInFlight, _) => "This sign-in is still being worked on. Try again in a moment.".to_owned(),
        (Code::SignedInElsewhere, _) => {
            "You are signed in on another device. Sign out there, or sign out everywhere, and try again.".to_owned()
        }
        (Code::SessionEnded, _) => match problem.reason {
            Some(reason) => format!("The session of this sign-in has ended. {}", why(reason)),
            None => "The session of this sign-in has ended. Please sign in again.".to_owned(),
        },
        (Code::CrossSite, _) => {
            "Your browser says that this form was sent from another site, so nothing was done. Please try again here."
                .to_owned()
        }
        _ => problem.detail.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(wait(1), "a moment");
        assert_eq!(wait(45), "45 seconds");
        assert_eq!(wait(90), "2 minutes");
        assert_eq!(wait(3_600), "60 minutes");
        assert_eq!(wait(5_400), "2 hours");
    }

    #[test]
    fn every_problem_says_something() {
        for code in Code::ALL {
            for problem in [Problem::new(code, "detail"), Problem::new(code, "detail").retry_after_s(60)] {
                assert!(!about(&problem).is_empty(), "{code:?}");
            }
        }
        let locked = Problem::new(Code::Locked, "").retry_after_s(60);
        assert_eq!(about(&locked), "Too many failed attempts for this account. Try again in 60 seconds.");
        assert!(about(&Problem::new(Code::Locked, "")).contains("administrator"));
    }
}
