//! A worker that has its own handlers and asks Edgekeep's gate who is calling.
//!
//! It needs the bindings of `edgekeep_edge::config` (`COORDINATOR_URLS`, `EDGE_CREDENTIAL`, `POLICY`, …), but no
//! origin. People sign in at the Edgekeep worker of the same host, to which the prefix `/auth` is routed.

use edgekeep_edge::{Checked, Gate};
use edgekeep_shared::problem::Problem;
use worker::{Context, Env, Request, Response, Result, event};

/// Answers every request.
///
/// # Errors
/// When a header cannot be set, which headers made by the gate never cause.
#[event(fetch)]
async fn fetch(request: Request, env: Env, context: Context) -> Result<Response> {
    let checked = Gate::check(request.inner(), env.as_ref(), context.as_ref().as_ref()).await;
    let (response, set_cookies) = match checked {
        Checked::Allow { identity: Some(user), set_cookies, .. } => {
            (Response::ok(format!("Hello, {}. Your roles: {}\n", user.name, user.roles.join(", ")))?, set_cookies)
        }
        // A public route, and nobody that is known without asking.
        Checked::Allow { set_cookies, .. } => (Response::ok("Hello, whoever you are.\n")?, set_cookies),
        // A person opens a page: to the login form, which leads back here and says why.
        Checked::Deny { login: Some(login), set_cookies, .. } if is_navigation(&request) => {
            let response = Response::empty()?.with_status(303);
            response.headers().set("Location", &login)?;
            (response, set_cookies)
        }
        // 401, 403, …
        Checked::Deny { problem, set_cookies, .. } => (refuse(&problem)?, set_cookies),
        // Nobody can know right now: say so, and leave the cookies alone.
        Checked::Unknown { problem } => (refuse(&problem)?, Vec::new()),
        // What later versions may add is no permission.
        _ => (Response::error("The session cannot be checked.", 503)?, Vec::new()),
    };
    response.headers().set("Cache-Control", "no-store")?;
    for cookie in set_cookies {
        response.headers().append("Set-Cookie", &cookie)?;
    }
    Ok(response)
}

fn refuse(problem: &Problem) -> Result<Response> {
    let response = Response::from_json(problem)?.with_status(problem.status);
    response.headers().set("Content-Type", "application/problem+json")?;
    if let Some(seconds) = problem.retry_after_s {
        response.headers().set("Retry-After", &seconds.to_string())?;
    }
    Ok(response)
}

fn is_navigation(request: &Request) -> bool {
    request.headers().get("Sec-Fetch-Mode").ok().flatten().is_some_and(|mode| mode == "navigate")
}
