//! A worker behind the gate as a library: it greets who is signed in, and refuses others.

use edgekeep_edge::{Checked, Gate, at_once};
use wasm_bindgen::prelude::*;
use web_sys::{Request, Response, ResponseInit};

/// Answers every request: at once where the gate knows without asking.
#[wasm_bindgen]
pub fn handle(request: Request, env: JsValue, context: JsValue) -> JsValue {
    at_once(async move {
        let (status, text) = match Gate::check(&request, &env, &context).await {
            Checked::Allow { identity: Some(user), .. } => (200, format!("Hello, {}\n", user.name)),
            Checked::Allow { .. } => (200, "Hello\n".to_owned()),
            Checked::Deny { .. } => (401, "Sign in first\n".to_owned()),
            _ => (503, "Try again\n".to_owned()),
        };
        let init = ResponseInit::new();
        init.set_status(status);
        Response::new_with_opt_str_and_init(Some(&text), &init).map_or(JsValue::UNDEFINED, JsValue::from)
    })
}
