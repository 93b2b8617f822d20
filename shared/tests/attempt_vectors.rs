//! Subjects and attempt ids against vectors made by another implementation.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_shared::attempt::{Operation, attempt_id};
use edgekeep_shared::ids::{from_hex, to_hex};
use edgekeep_shared::keyring::Secret;
use edgekeep_shared::subject::{canonical_name, subject};
use serde_json::Value;

#[test]
fn subjects_and_attempt_ids() {
    let vectors: Value = serde_json::from_str(include_str!("../vectors/attempt.json")).unwrap();
    let text = |value: &Value, field: &str| value[field].as_str().unwrap().to_owned();
    let key = Secret::from_hex(&text(&vectors, "key")).unwrap();
    for vector in vectors["subjects"].as_array().unwrap() {
        let canonical = canonical_name(&text(vector, "typed")).unwrap();
        assert_eq!(canonical, text(vector, "canonical"));
        assert_eq!(to_hex(&subject(&key, &canonical)), text(vector, "subject"));
    }
    for vector in vectors["attempts"].as_array().unwrap() {
        let operation = [Operation::Login, Operation::LogoutEverywhere, Operation::PasswordChange]
            .into_iter()
            .find(|operation| operation.as_str() == vector["operation"])
            .unwrap();
        let subject = from_hex(&text(vector, "subject")).unwrap();
        let passwords: Vec<_> = vector["passwords"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
        let id = attempt_id(&key, operation, &subject, &text(vector, "idempotency_key"), &passwords);
        assert_eq!(to_hex(&id), text(vector, "attempt_id"));
    }
}
