//! The descriptions are of what is served: every route, every field, every code, both ways.

use std::collections::BTreeSet;

use edgekeep::http::routes::{Caller, ROUTES};
use edgekeep_shared::api::*;
use edgekeep_shared::ids::{KeyId, Nonce, SessionId, UserId};
use edgekeep_shared::problem::{Code, Problem, Reason};
use serde::Serialize;
use serde_json::Value;

const COORDINATOR: &str = include_str!("../../../docs/openapi/coordinator.json");
const PUBLIC: &str = include_str!("../../../docs/openapi/public.json");
/// The edge's table of doors. It is a wasm crate, so its table is read as text.
const DOORS: &str = include_str!("../../../edge/src/doors/mod.rs");

fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn names(value: &Value) -> BTreeSet<String> {
    value.as_object().map(|object| object.keys().cloned().collect()).unwrap_or_default()
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The codes that an answer's text names.
fn told_codes(response: &Value) -> Vec<Code> {
    let text = response["description"].as_str().expect("a description");
    Code::ALL.into_iter().filter(|code| text.contains(&format!("`{}`", code.as_str()))).collect()
}

/// The codes that the schema of a problem is narrowed to.
fn narrowed_codes(schema: &Value) -> BTreeSet<String> {
    let one = [schema.clone()];
    let alternatives = schema["oneOf"].as_array().map_or(&one[..], Vec::as_slice);
    alternatives.iter().flat_map(|one| texts(&one["properties"]["code"]["enum"])).collect()
}

/// What a reference leads to.
fn resolve<'a>(description: &'a Value, value: &'a Value) -> &'a Value {
    let target = value["$ref"].as_str().and_then(|target| description.pointer(target.trim_start_matches('#')));
    target.unwrap_or(value)
}

/// `METHOD path`
fn operations(description: &Value) -> BTreeSet<String> {
    let paths = description["paths"].as_object().expect("paths");
    paths
        .iter()
        .flat_map(|(path, item)| names(item).into_iter().map(move |method| format!("{} {path}", method.to_uppercase())))
        .collect()
}

#[test]
fn the_coordinators_routes_are_the_described_ones() {
    let description = parse(COORDINATOR);
    let served: BTreeSet<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
    assert_eq!(served, operations(&description));
    for route in ROUTES {
        let operation = &description["paths"][route.path][route.method.to_lowercase()];
        let secured = operation["security"].as_array().is_some_and(|security| !security.is_empty());
        assert_eq!(secured, route.caller != Caller::Anyone, "{}", route.path);
        assert_eq!(operation["responses"]["401"].is_object(), secured, "{}", route.path);
    }
}

#[test]
fn the_edges_doors_are_the_described_ones() {
    let table = DOORS.split_once("pub const METHODS").expect("the table").1.split_once("];").expect("its end").0;
    let mut served = BTreeSet::new();
    for line in table.lines().filter_map(|line| line.trim().strip_prefix("(\"")) {
        let (path, rest) = line.split_once('"').expect("a path");
        let methods: &[&str] = match rest.trim_matches([',', ' ', ')']) {
            "READ" => &["GET"],
            "POST" => &["POST"],
            "READ_AND_POST" => &["GET", "POST"],
            other => panic!("methods {other}"),
        };
        served.extend(methods.iter().map(|method| format!("{method} {path}")));
    }
    assert_eq!(served, operations(&parse(PUBLIC)));
}

#[test]
fn codes_statuses_and_reasons_are_the_described_ones() {
    for (description, public) in [(parse(COORDINATOR), false), (parse(PUBLIC), true)] {
        let schemas = &description["components"]["schemas"];
        let codes: BTreeSet<String> = Code::ALL.iter().map(|code| code.as_str().to_owned()).collect();
        assert_eq!(texts(&schemas["Code"]["enum"]), codes);
        let reasons = texts(&schemas["Reason"]["enum"]);
        assert!(reasons.iter().all(|reason| Reason::from_name(reason).is_some()) && reasons.len() == 8);
        for item in description["paths"].as_object().expect("paths").values() {
            for operation in item.as_object().expect("operations").values() {
                for (status, response) in operation["responses"].as_object().expect("responses") {
                    let response = resolve(&description, response);
                    let told = told_codes(response);
                    assert!(told.iter().all(|code| code.status().to_string() == *status), "{status}: {told:?}");
                    // In the public description the schema says the same as the text.
                    let schema = &response["content"]["application/problem+json"]["schema"];
                    let told = told.iter().map(|code| code.as_str().to_owned()).collect();
                    assert!(!public || narrowed_codes(schema) == told, "{status}: {schema}");
                }
            }
        }
    }
}

/// Every field that a value of this type has is described, and every described field that must be there is.
fn matches<T: Serialize>(schemas: &Value, name: &str, value: &T) {
    let fields = names(&serde_json::to_value(value).expect("JSON"));
    let schema = &schemas[name];
    let (described, required) = (names(&schema["properties"]), texts(&schema["required"]));
    assert!(fields.is_subset(&described), "{name}: {fields:?} has more than {described:?}");
    assert!(required.is_subset(&fields), "{name}: {required:?} has more than {fields:?}");
    // The samples are complete, so nothing is described that does not exist.
    assert_eq!(fields, described, "{name}");
}

#[test]
fn fields_are_the_described_ones() {
    let description = parse(COORDINATOR);
    let schemas = &description["components"]["schemas"];
    let text = String::new;
    let session = Session { id: SessionId([1; 16]), authenticated_at_ms: 1, expires_at_ms: 2, idle_expires_at_ms: 3 };
    let client = Client { address: Some(text()), user_agent: text() };
    matches(schemas, "Session", &session);
    matches(schemas, "Client", &client);
    matches(
        schemas,
        "LoginRequest",
        &LoginRequest {
            username: text(),
            password: text(),
            idempotency_key: text(),
            presented: vec![],
            client: client.clone(),
            wait_s: Some(1),
        },
    );
    matches(
        schemas,
        "LoginAnswer",
        &LoginAnswer {
            token: text(),
            user_id: UserId(1),
            name: text(),
            roles: vec![],
            session: session.clone(),
            previous_ends_everywhere_at_ms: None,
            now_ms: 0,
        },
    );
    matches(schemas, "LogoutRequest", &LogoutRequest { tokens: vec![], wait_s: Some(1) });
    matches(schemas, "SignedOutAnswer", &SignedOutAnswer { effective_at_ms: 0, effective_everywhere: true, now_ms: 0 });
    matches(
        schemas,
        "LogoutEverywhereRequest",
        &LogoutEverywhereRequest {
            username: text(),
            password: text(),
            idempotency_key: text(),
            client: client.clone(),
            wait_s: Some(1),
        },
    );
    matches(
        schemas,
        "PasswordRequest",
        &PasswordRequest {
            token: text(),
            current_password: text(),
            new_password: text(),
            idempotency_key: text(),
            client,
            wait_s: Some(1),
        },
    );
    matches(schemas, "CheckRequest", &CheckRequest { nonce: Nonce([0; 16]), token: text(), renew: true });
    let verdicts = [
        CheckVerdict::Current {
            token: Some(text()),
            revision: 1,
            roles: vec![],
            session: session.clone(),
            name: text(),
            user_id: UserId(1),
        },
        CheckVerdict::Ended { reason: Reason::Expired },
        CheckVerdict::Unknown,
    ];
    for (place, verdict) in verdicts.into_iter().enumerate() {
        let alternatives = serde_json::json!({ "it": schemas["CheckVerdict"]["oneOf"][place] });
        matches(&alternatives, "it", &verdict);
        matches(
            schemas,
            "CheckAnswer",
            &CheckAnswer {
                nonce: Nonce([0; 16]),
                epoch: 1,
                age_ms: 0,
                read_at_ms: 0,
                keys_version: 1,
                max_staleness_ms: 1,
                verdict,
            },
        );
    }
    matches(schemas, "SessionsRequest", &SessionsRequest { token: text() });
    let item = SessionItem { session, last_seen_at_ms: 0, device: text(), this_one: true };
    matches(schemas, "SessionItem", &item);
    matches(schemas, "SessionsAnswer", &SessionsAnswer { sessions: vec![item], sessions_per_user: 1, now_ms: 0 });
    matches(schemas, "EndSessionRequest", &EndSessionRequest { token: text(), session_id: SessionId([1; 16]) });
    matches(schemas, "KeysRequest", &KeysRequest { nonce: Nonce([0; 16]) });
    let key = Key { id: KeyId(1), secret: text(), withdrawn: false };
    matches(schemas, "Key", &key);
    matches(
        schemas,
        "KeysAnswer",
        &KeysAnswer {
            nonce: Nonce([0; 16]),
            version: 1,
            keys: vec![key],
            site: text(),
            form_secret: text(),
            sessions_per_user: 1,
            password_min_chars: 8,
            now_ms: 0,
        },
    );
    let problem = Problem::new(Code::Locked, "").retry_after_s(1).reason(Reason::Revoked);
    for description in [parse(COORDINATOR), parse(PUBLIC)] {
        matches(&description["components"]["schemas"], "Problem", &problem);
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn walk(root: &Value, value: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    if let ("$ref", Some(target)) = (name.as_str(), field.as_str()) {
                        let pointer = target.strip_prefix('#').expect("a local reference");
                        assert!(root.pointer(pointer).is_some(), "{target}");
                    }
                    walk(root, field);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| walk(root, item)),
            _ => {}
        }
    }
    for description in [parse(COORDINATOR), parse(PUBLIC)] {
        walk(&description, &description);
    }
}
