//! A worker behind the gate as a library: it greets who is signed in, and refuses others.

use edgekeep_edge::{Checked, Gate, at_once};
use wasm_bindgen::prelude::*;
use web_sys::{Request, Response, ResponseInit};

/// Answers every request: at once where the gate knows without asking.
#[wasm_bindgen]
pub fn handle(request: Request, env: JsValue, context: JsValue) -> JsValue {
    at_once(async move {
        let answer = match Gate::check(&request, &env, &context).await {
            Checked::Allow { identity: Some(user), .. } => {
                Response::new_with_opt_str(Some(&format!("Hello, {}\n", user.name)))
            }
            Checked::Allow { .. } => Response::new_with_opt_str(Some("Hello\n")),
            Checked::Deny { .. } => refusal(401, "Sign in first\n"),
            _ => refusal(503, "Try again\n"),
        };
        answer.map_or(JsValue::UNDEFINED, JsValue::from)
    })
}

fn refusal(status: u16, text: &str) -> Result<Response, JsValue> {
    let init = ResponseInit::new();
    init.set_status(status);
    Response::new_with_opt_str_and_init(Some(text), &init)
}
