//! Bodies: whoever reads them next must not be able to see another value than we did.

use edgekeep_edge::decoders::{BodyKind, Fields, encode, query_value};
use edgekeep_shared::api::{
    CheckRequest, EndSessionRequest, KeysRequest, LoginRequest, LogoutEverywhereRequest, LogoutRequest,
    PasswordRequest, SessionsRequest,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::texts;

pub fn form_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "username=J%C3%BCrgen+M&password=a%2Bb%26c%3D+&form_key=abc",
        "username=ann&password=x&username=bob",
        "a=&b&=c&&d=1",
        "return_to=%2Fdashboard%3Fa%3D1",
        "a=%ff",
        "a=%4",
    ])
}

pub fn form(bytes: &[u8]) -> bool {
    if let Ok(query) = core::str::from_utf8(bytes) {
        let theirs = |value: &str| form_urlencoded::parse(bytes).any(|(name, other)| name == "a" && other == value);
        assert!(query_value(query, "a").is_none_or(|value| theirs(&value)), "a value that a browser would not see");
        let encoded = format!("a={}", encode(query));
        assert_eq!(query_value(&encoded, "a").as_deref(), Some(query), "encode is undone");
    }
    let Ok(fields) = Fields::read(BodyKind::Form, bytes) else { return false };
    let mut names = Vec::new();
    for (name, value) in form_urlencoded::parse(bytes) {
        assert_eq!(fields.get(&name), Some(&*value), "another reader sees another value");
        assert!(!names.contains(&name), "a field that is given twice");
        names.push(name);
    }
    let again: Vec<String> = names.iter().map(|name| pair(name, fields.get(name).unwrap_or_default())).collect();
    assert_eq!(
        Fields::read(BodyKind::Form, again.join("&").as_bytes()).as_ref(),
        Ok(&fields),
        "written again the same"
    );
    for name in names {
        let twice = [bytes, b"&", pair(&name, "x").as_bytes()].concat();
        assert!(Fields::read(BodyKind::Form, &twice).is_err(), "given once more it is refused");
    }
    true
}

fn pair(name: &str, value: &str) -> String {
    format!("{}={}", encode(name), encode(value))
}

pub fn json_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"username":"ann","password":"p\"\u00e4"}"#,
        r#"{"a":"1","b":2,"c":null,"d":[{}],"e":{"f":"g"},"h":true,"i":1.5}"#,
        r#"{"a":"1","\u0061":"2"}"#,
        r#" { } "#,
        r#"{"a":"\ud83d\ude00"}"#,
        r#"["a"]"#,
    ])
}

pub fn json(bytes: &[u8]) -> bool {
    let Ok(fields) = Fields::read(BodyKind::Json, bytes) else { return false };
    let theirs = match serde_json::from_slice::<Value>(bytes) {
        Ok(Value::Object(theirs)) => theirs,
        // Limits of the other reader, met in a value that nobody asked for: a number or a depth that it does not hold.
        Err(limit) if limit.to_string().starts_with("number out of range") => return true,
        Err(limit) if limit.to_string().starts_with("recursion limit") => return true,
        other => panic!("another reader sees no object: {other:?}"),
    };
    for (name, value) in &theirs {
        assert_eq!(fields.get(name), value.as_str(), "another reader sees another value");
        // Once more in front, as text and as something else.
        let rest = bytes.iter().position(|byte| *byte == b'{').map_or(bytes, |at| &bytes[at + 1..]);
        for other in ["\"x\"", "0"] {
            let front = format!("{{{}:{other},", Value::from(name.as_str()));
            let twice = [front.as_bytes(), rest].concat();
            assert!(Fields::read(BodyKind::Json, &twice).is_err(), "given once more it is refused");
        }
    }
    true
}

pub fn api_seeds() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"username":"ann","password":"p","idempotency_key":"k","presented":["1.a"],"client":{"address":"192.0.2.1","user_agent":"u"},"wait_s":3}"#,
        r#"{"username":"ann","password":"p","idempotency_key":"k"}"#,
        r#"{"tokens":["1.a","1.b"],"wait_s":null}"#,
        r#"{"token":"1.a","current_password":"p","new_password":"q","idempotency_key":"k","client":{}}"#,
        r#"{"nonce":"00112233445566778899aabbccddeeff","token":"1.a","renew":true}"#,
        r#"{"token":"1.a"}"#,
        r#"{"token":"1.a","session_id":"00112233445566778899aabbccddeeff"}"#,
        r#"{"nonce":"00112233445566778899aabbccddeeff"}"#,
        r#"{"nonce":"00112233445566778899AABBCCDDEEFF"}"#,
    ])
}

/// What a coordinator takes from edges.
pub fn api(bytes: &[u8]) -> bool {
    [
        strict::<LoginRequest>(bytes),
        strict::<LogoutRequest>(bytes),
        strict::<LogoutEverywhereRequest>(bytes),
        strict::<PasswordRequest>(bytes),
        strict::<CheckRequest>(bytes),
        strict::<SessionsRequest>(bytes),
        strict::<EndSessionRequest>(bytes),
        strict::<KeysRequest>(bytes),
    ]
    .contains(&true)
}

/// What is accepted is written the same way again, and one more field, new or known, is refused.
fn strict<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> bool {
    let Ok(request) = serde_json::from_slice::<T>(bytes) else { return false };
    let written = serde_json::to_value(&request).expect("our own types are JSON");
    let text = written.to_string();
    let again = serde_json::from_str::<T>(&text).expect("what we write we can read");
    assert_eq!(serde_json::to_value(&again).expect("our own types are JSON"), written);
    let Value::Object(fields) = &written else { panic!("a request is an object") };
    for name in fields.keys().map(String::as_str).chain(["zz"]) {
        let more = format!("{{\"{name}\":{},{}", fields.get(name).unwrap_or(&Value::Null), &text[1..]);
        assert!(serde_json::from_str::<T>(&more).is_err(), "{name} once more is refused");
    }
    if let Ok(Value::Object(theirs)) = serde_json::from_slice::<Value>(bytes) {
        for (name, value) in theirs {
            let ours = fields.get(&name).unwrap_or(&Value::Null);
            let defaulted = value.as_object().is_some_and(|client| client.len() < 2) || value.is_null();
            assert!(defaulted || *ours == value, "{name}: another reader sees another value");
        }
    }
    true
}
