//! From a [`Reply`] to the platform's `Response`, with the headers that every answer of ours carries.

use std::cell::RefCell;

use wasm_bindgen::JsValue;
use web_sys::{Headers, Response};

use crate::headers;
use crate::js::{self, JsFailure, Lines};
use crate::reply::Reply;

thread_local! {
    /// The headers of all answers of ours, without and with TLS: made once in an isolate.
    static SHARED: RefCell<[Option<Headers>; 2]> = const { RefCell::new([None, None]) };
}

/// The response for a reply of our own. `head` leaves the body out.
#[must_use]
pub fn response(reply: &Reply, https: bool, head: bool) -> JsValue {
    match try_response(reply, https, head) {
        Ok(response) => response.into(),
        // Not reachable with our own statuses and headers; the platform turns a non-response into a 500.
        Err(_) => JsValue::UNDEFINED,
    }
}

fn try_response(reply: &Reply, https: bool, head: bool) -> Result<Response, JsFailure> {
    let mut more = Lines::default();
    for (name, value) in &reply.headers {
        more.pair(name, value);
    }
    let body = if head { None } else { reply.body.as_deref() };
    js::answer_of(reply.status, body, &shared_headers(https)?, &more)
}

fn shared_headers(https: bool) -> Result<Headers, JsFailure> {
    if let Some(headers) = SHARED.with_borrow(|shared| shared[usize::from(https)].clone()) {
        return Ok(headers);
    }
    let mut pairs = Lines::default();
    for (name, value) in headers::security(https) {
        pairs.pair(name, value);
    }
    let headers = js::shared_headers(&pairs)?;
    SHARED.with_borrow_mut(|shared| shared[usize::from(https)] = Some(headers.clone()));
    Ok(headers)
}
