//! The least that a Rust worker can do: a synchronous answer through the thin entry that the edge has.

use wasm_bindgen::prelude::*;
use web_sys::{Request, Response};

/// Answers every request.
///
/// # Errors
/// If the platform cannot make a response.
#[wasm_bindgen]
pub fn handle(_request: Request, _env: JsValue, _context: JsValue) -> Result<Response, JsValue> {
    Response::new_with_opt_str(Some("Hello, world\n"))
}
