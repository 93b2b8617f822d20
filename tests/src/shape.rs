//! The shapes that clients may rely on (design 3), checked field by field.

use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::http::Response;

/// A time as RFC 3339 has it, in UTC; milliseconds since the Unix epoch.
#[track_caller]
#[must_use]
pub fn time_ms(value: &Value) -> i64 {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no time"));
    assert!(text.ends_with('Z'), "{text} is not in UTC");
    let time = OffsetDateTime::parse(text, &Rfc3339).unwrap_or_else(|error| panic!("{text}: {error}"));
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).expect("a time of these years")
}

/// The object has exactly these fields.
#[track_caller]
pub fn assert_fields(value: &Value, fields: &[&str]) {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    let mut found: Vec<&str> = object.keys().map(String::as_str).collect();
    let mut wanted = fields.to_vec();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{value}");
}

/// The answer is this problem, in the shape of RFC 9457 and of ours.
#[track_caller]
pub fn assert_problem(response: &Response, status: u16, code: &str) {
    let text = response.text();
    assert_eq!((response.status, response.code().as_deref()), (status, Some(code)), "{text}");
    assert_eq!(response.header("Content-Type"), Some("application/problem+json"), "{text}");
    assert_eq!(response.header("Cache-Control"), Some("no-store"), "{text}");
    let problem = response.json();
    assert_eq!(problem["type"], format!("urn:edgekeep:problem:{code}"));
    assert_eq!(problem["status"], status);
    for field in ["title", "detail"] {
        assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field} of {text}");
    }
    let known = ["type", "title", "status", "detail", "code", "retry_after_s", "reason"];
    let strange = problem.as_object().expect("an object").keys().find(|field| !known.contains(&field.as_str()));
    assert_eq!(strange, None, "{text}");
    let in_header = response.header("Retry-After").map(|seconds| seconds.parse::<u64>().expect("seconds"));
    assert_eq!(problem["retry_after_s"].as_u64(), in_header, "{text}");
    if status == 503 || code == "rate_limited" {
        assert!(in_header.is_some(), "Retry-After is missing: {text}");
    }
    let has_reason = matches!(code, "no_session" | "session_ended");
    assert_eq!(problem["reason"].is_string(), has_reason, "{text}");
}

/// The answer says that there is no session, for this reason.
#[track_caller]
pub fn assert_no_session(response: &Response, reason: &str) {
    assert_problem(response, 401, "no_session");
    assert_eq!(response.json()["reason"], reason);
}
