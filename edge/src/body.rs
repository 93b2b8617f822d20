//! Reading the body of a request to one of our own doors: never more than the cap, never longer than the deadline.

use edgekeep_shared::problem::{Code, Problem};
use js_sys::Uint8Array;
use wasm_bindgen::JsCast;
use web_sys::{ReadableStreamDefaultReader, Request};

use crate::forms::MAX_BODY_BYTES;
use crate::{clock, js};

/// A client has this long to send its body.
const DEADLINE_MS: u32 = 10_000;

/// The body's bytes.
///
/// # Errors
/// `too_large` past the cap; `invalid_request` when it does not arrive in time.
pub async fn read(request: &Request, declared_bytes: Option<&str>) -> Result<Vec<u8>, Problem> {
    if declared_bytes.and_then(|length| length.parse::<u64>().ok()).is_some_and(|length| length > MAX_BODY_BYTES as u64)
    {
        return Err(too_large());
    }
    let Some(stream) = request.body() else { return Ok(Vec::new()) };
    let reader = ReadableStreamDefaultReader::new(&stream).map_err(|_| broken())?;
    let read = read_all(&reader).await;
    if read.is_err() {
        // Tell the client to stop; whether that reaches it does not matter.
        let _ = reader.cancel();
    }
    read
}

async fn read_all(reader: &ReadableStreamDefaultReader) -> Result<Vec<u8>, Problem> {
    let started_ms = clock::now_ms();
    let mut bytes = Vec::new();
    loop {
        let left_ms = DEADLINE_MS.saturating_sub(clock::since_ms(started_ms));
        let chunk = js::within(&reader.read(), left_ms).await.map_err(|_| broken())?;
        let chunk = chunk.ok_or_else(|| Problem::new(Code::InvalidRequest, "The body did not arrive in time."))?;
        if js::property(&chunk, "done").is_some_and(|done| done.is_truthy()) {
            return Ok(bytes);
        }
        let value = js::property(&chunk, "value").ok_or_else(broken)?;
        let part: &Uint8Array = value.dyn_ref().ok_or_else(broken)?;
        if bytes.len() + part.length() as usize > MAX_BODY_BYTES {
            return Err(too_large());
        }
        bytes.extend_from_slice(&part.to_vec());
    }
}

fn too_large() -> Problem {
    Problem::new(Code::TooLarge, format!("The body has more than {MAX_BODY_BYTES} bytes."))
}

fn broken() -> Problem {
    Problem::new(Code::InvalidRequest, "The body could not be read.")
}
