//! From a [`Reply`] to the platform's `Response`, with the headers that every answer of ours carries.

use wasm_bindgen::JsValue;
use web_sys::{Headers, Response, ResponseInit};

use crate::headers;
use crate::reply::Reply;

/// The response for a reply of our own. `head` leaves the body out.
#[must_use]
pub fn response(reply: &Reply, https: bool, head: bool) -> JsValue {
    match try_response(reply, https, head) {
        Ok(response) => response.into(),
        // Not reachable with our own statuses and headers; the platform turns a non-response into a 500.
        Err(_) => JsValue::UNDEFINED,
    }
}

fn try_response(reply: &Reply, https: bool, head: bool) -> Result<Response, JsValue> {
    let headers = Headers::new()?;
    for (name, value) in headers::security(https) {
        headers.set(name, value)?;
    }
    for (name, value) in &reply.headers {
        headers.append(name, value)?;
    }
    let init = ResponseInit::new();
    init.set_status(reply.status);
    init.set_headers_headers(&headers);
    let body = if head { None } else { reply.body.as_deref() };
    Response::new_with_opt_str_and_init(body, &init)
}
