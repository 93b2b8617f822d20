//! What comes from under the prefix is what `docs/openapi/public.json` lists, or the test fails.
//!
//! [`crate::client::Client`] holds every answer of every end-to-end test against the file, more strictly than the file
//! asks of clients: the status, the media type, a required header or a field that is not listed fails, and so does a
//! header of those that the file knows where the file does not list it. A JSON request that was successful must have
//! been as described, too.
//!
//! That everything listed is served is `e2e_steady`'s part, by the names that [`check`] and [`listed`] give.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::http::{Request, Response};

const FILE: &str = include_str!("../../docs/openapi/public.json");
const PROBLEM: &str = "application/problem+json";

static CONTRACT: LazyLock<Contract> = LazyLock::new(|| Contract::read(FILE));

/// The file, ready to check.
struct Contract {
    prefix: String,
    /// By path and method, both as the file spells them.
    operations: BTreeMap<String, BTreeMap<String, Operation>>,
    /// Answers of no operation, by name.
    others: BTreeMap<&'static str, Answer>,
    /// Headers that the file names anywhere.
    headers: BTreeSet<String>,
}

struct Operation {
    json_body: Option<Validator>,
    answers: BTreeMap<u16, Answer>,
}

struct Answer {
    headers: BTreeMap<String, (bool, Validator)>,
    /// By media type; empty for an answer without a body.
    bodies: BTreeMap<String, Validator>,
    /// Codes that its problems may have.
    codes: Vec<String>,
}

/// Holds an answer against the file. Gives its name, as in [`listed`]; nothing if it did not come from under the
/// prefix, or belongs to no operation.
///
/// # Panics
/// If the file does not list what came.
#[track_caller]
pub fn check(request: &Request, response: &Response) -> Option<String> {
    CONTRACT.check(request, response).unwrap_or_else(|wrong| {
        panic!(
            "docs/openapi/public.json and the edge differ at {} {}: {wrong}\n{} {:?}\n{}",
            request.method,
            request.target,
            response.status,
            response.headers,
            response.text()
        )
    })
}

/// Everything that the file lists: method, path, status, media type and, for problems, the code.
#[must_use]
pub fn listed() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (path, methods) in &CONTRACT.operations {
        for (method, operation) in methods {
            for (status, answer) in &operation.answers {
                if answer.bodies.is_empty() {
                    names.insert(name(method, path, *status, "", None));
                }
                for media in answer.bodies.keys() {
                    if media == PROBLEM {
                        names.extend(answer.codes.iter().map(|code| name(method, path, *status, media, Some(code))));
                    } else {
                        names.insert(name(method, path, *status, media, None));
                    }
                }
            }
        }
    }
    names
}

fn name(method: &str, path: &str, status: u16, media: &str, code: Option<&str>) -> String {
    let parts = [method, path, &status.to_string(), media, code.unwrap_or_default()];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

impl Contract {
    fn read(text: &str) -> Self {
        let mut file: Value = serde_json::from_str(text).expect("JSON");
        close(&mut file);
        let mut operations = BTreeMap::new();
        for (path, item) in file["paths"].as_object().expect("paths") {
            let methods = item.as_object().expect("operations").iter();
            let methods = methods.map(|(method, it)| (method.to_uppercase(), Operation::read(&file, it)));
            operations.insert(path.clone(), methods.collect());
        }
        let others = ["InvalidAddress", "MethodNotAllowed", "NotFound"];
        let others = others.map(|name| (name, Answer::read(&file, &file["components"]["responses"][name])));
        let prefix = file["servers"][0]["url"].as_str().expect("a prefix").to_owned();
        let mut headers = BTreeSet::new();
        names_of_headers(&file["paths"], &mut headers);
        names_of_headers(&file["components"]["responses"], &mut headers);
        Self { prefix, operations, others: others.into(), headers }
    }

    fn check(&self, request: &Request, response: &Response) -> Result<Option<String>, String> {
        let path = request.target.split(['?', '#']).next().unwrap_or_default();
        let Some(path) = path.strip_prefix(&self.prefix).filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            return Ok(None);
        };
        if path == "/fault/panic" && response.status == 500 {
            // Only the build with fault injection has this door, and the runtime answers in its place.
            return Ok(None);
        }
        let path = path.strip_suffix('/').unwrap_or(path);
        let method = if request.method == "HEAD" { "GET" } else { &request.method };
        let Some(methods) = self.operations.get(path) else {
            let other = if response.status == 404 { "NotFound" } else { "InvalidAddress" };
            let status = if other == "NotFound" { 404 } else { 400 };
            return self.others[other].check(request, response, status, &self.headers).map(|_| None);
        };
        let Some(operation) = methods.get(method) else {
            return self.others["MethodNotAllowed"].check(request, response, 405, &self.headers).map(|_| None);
        };
        let answer = operation.answers.get(&response.status).ok_or("the status is not listed")?;
        let media = answer.check(request, response, response.status, &self.headers)?;
        if let (Some(schema), true, true) = (&operation.json_body, response.status < 400, is_json(request)) {
            let body = serde_json::from_slice(&request.body).map_err(|error| format!("the request: {error}"))?;
            valid(schema, &body).map_err(|wrong| format!("the request: {wrong}"))?;
        }
        let code = response.code().filter(|_| media == PROBLEM);
        Ok(Some(name(method, path, response.status, &media, code.as_deref())))
    }
}

impl Operation {
    fn read(file: &Value, operation: &Value) -> Self {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"];
        let answers = operation["responses"].as_object().expect("responses").iter();
        let answers = answers.map(|(status, answer)| (status.parse().expect("a status"), Answer::read(file, answer)));
        Self { json_body: body.is_object().then(|| compile(file, body)), answers: answers.collect() }
    }
}

impl Answer {
    fn read(file: &Value, answer: &Value) -> Self {
        let answer = resolve(file, answer);
        let entries = |value: &Value| value.as_object().cloned().unwrap_or_default().into_iter();
        let headers = entries(&answer["headers"]).map(|(name, header)| {
            let header = resolve(file, &header);
            (name.to_ascii_lowercase(), (header["required"] == true, compile(file, &header["schema"])))
        });
        let bodies = entries(&answer["content"]).map(|(media, content)| (media, compile(file, &content["schema"])));
        let schema = &answer["content"][PROBLEM]["schema"];
        let alternatives = schema["oneOf"].as_array().cloned().unwrap_or_else(|| vec![schema.clone()]);
        let codes = alternatives.iter().filter_map(|one| one["properties"]["code"]["enum"].as_array()).flatten();
        let codes = codes.filter_map(Value::as_str).map(str::to_owned).collect();
        Self { headers: headers.collect(), bodies: bodies.collect(), codes }
    }

    /// The media type of an answer that is as described; empty without a body.
    fn check(
        &self,
        request: &Request,
        response: &Response,
        status: u16,
        known: &BTreeSet<String>,
    ) -> Result<String, String> {
        if response.status != status {
            return Err(format!("the status is {status} or nothing that is listed"));
        }
        for (name, (required, schema)) in &self.headers {
            let mut values = response.all(name).peekable();
            if *required && values.peek().is_none() {
                return Err(format!("the header {name} is missing"));
            }
            values.try_for_each(|value| valid(schema, &json!(value))).map_err(|wrong| format!("{name}: {wrong}"))?;
        }
        let unlisted = known.iter().find(|name| response.header(name).is_some() && !self.headers.contains_key(*name));
        if let Some(name) = unlisted {
            return Err(format!("the header {name} is not listed here"));
        }
        let media = response.header("Content-Type").unwrap_or_default().split(';').next().unwrap_or_default().trim();
        let Some(schema) = self.bodies.get(media) else {
            let nothing = self.bodies.is_empty() && media.is_empty() && response.body.is_empty();
            return if nothing { Ok(String::new()) } else { Err(format!("the media type {media:?} is not listed")) };
        };
        if request.method == "HEAD" {
            let empty = response.body.is_empty();
            return if empty { Ok(media.to_owned()) } else { Err("an answer to HEAD has no body".to_owned()) };
        }
        let body = if media.ends_with("json") {
            serde_json::from_slice(&response.body).map_err(|error| error.to_string())?
        } else {
            json!(response.text())
        };
        valid(schema, &body)?;
        if media == PROBLEM {
            agrees(&body, response)?;
        }
        Ok(media.to_owned())
    }
}

/// What a schema cannot say: a problem repeats the status, its code and `Retry-After`.
fn agrees(problem: &Value, response: &Response) -> Result<(), String> {
    let code = problem["code"].as_str();
    let kind = code.map_or_else(|| "about:blank".to_owned(), |code| format!("urn:edgekeep:problem:{code}"));
    let retry_after = problem["retry_after_s"].as_u64().map(|seconds| seconds.to_string());
    if problem["status"] != response.status {
        Err("the problem has another status".to_owned())
    } else if problem["type"] != kind {
        Err("the problem's type is not that of its code".to_owned())
    } else if retry_after.as_deref() != response.header("Retry-After") {
        Err("retry_after_s and Retry-After differ".to_owned())
    } else {
        Ok(())
    }
}

fn is_json(request: &Request) -> bool {
    let content_type = request.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("Content-Type"));
    content_type.is_some_and(|(_, value)| value == "application/json")
}

fn resolve(file: &Value, value: &Value) -> Value {
    match value["$ref"].as_str() {
        Some(target) => file.pointer(target.trim_start_matches('#')).expect("a reference of the file").clone(),
        None => value.clone(),
    }
}

/// Clients must take fields that they do not know; the tests do not, so that a new one is listed before it is served.
fn close(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            if fields.get("type").is_some_and(|kind| kind == "object") && fields.contains_key("properties") {
                fields.entry("additionalProperties").or_insert(json!(false));
            }
            fields.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

fn compile(file: &Value, schema: &Value) -> Validator {
    let mut root = schema.clone();
    // Where its references lead.
    root["components"] = json!({"schemas": file["components"]["schemas"]});
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&root).unwrap_or_else(|error| panic!("{schema} is no schema: {error}"))
}

fn valid(schema: &Validator, value: &Value) -> Result<(), String> {
    let wrong: Vec<String> =
        schema.iter_errors(value).map(|it| format!("{it} at {:?}", it.instance_path().as_str())).collect();
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
}

fn names_of_headers(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                match value.as_object().filter(|_| field == "headers") {
                    Some(headers) => names.extend(headers.keys().map(|name| name.to_ascii_lowercase())),
                    None => names_of_headers(value, names),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names_of_headers(item, names)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const SESSION: &str = r#"{"user":{"name":"a","roles":[]},"session":{"id":"00000000000000000000000000000000",
        "authenticated_at":"2026-01-01T00:00:00Z","expires_at":"2026-01-01T00:00:00Z","idle_expires_at":"2026-01-01T00:00:00Z"},
        "check":{"how":"local","view_age_ms":1,"max_staleness_ms":5000}}"#;

    fn answer(status: u16, media: &str, body: &str) -> Response {
        let headers = vec![("Content-Type".into(), media.into()), ("Cache-Control".into(), "no-store".into())];
        Response { status, headers, body: body.into(), sent: Instant::now(), received: Instant::now() }
    }

    fn said(request: &Request, response: &Response) -> Result<Option<String>, String> {
        CONTRACT.check(request, response)
    }

    #[track_caller]
    fn refused(response: &Response, why: &str) {
        let wrong = said(&Request::get("/auth/session"), response).expect_err("it differs");
        assert!(wrong.contains(why), "{wrong}");
    }

    #[test]
    fn what_is_listed_passes_and_has_a_name() {
        let (request, good) = (Request::get("/auth/session"), answer(200, "application/json", SESSION));
        assert_eq!(said(&request, &good), Ok(Some("GET /session 200 application/json".to_owned())));
        assert!(listed().contains("GET /session 200 application/json"));
        assert!(listed().contains("POST /login 303"));
        assert!(listed().contains("POST /password 401 application/problem+json no_session"));
        assert_eq!(said(&Request::get("/authors"), &answer(418, "x/y", "")), Ok(None), "it is the site's");
    }

    #[test]
    fn what_is_not_listed_fails() {
        refused(&answer(200, "application/json", &SESSION.replace("\"how\"", "\"new\":1,\"how\"")), "'new'");
        refused(&answer(200, "application/json", &SESSION.replace("\"roles\":[]", "\"roles\":[],\"x\":0")), "'x'");
        refused(&answer(200, "application/json", &SESSION.replace("\"name\":\"a\",", "")), "\"name\" is a required");
        refused(&answer(200, "application/json", &SESSION.replace("local", "guessed")), "guessed");
        refused(&answer(200, "application/json", &SESSION.replacen("01-01T", "13-01T", 1)), "date-time");
        refused(&answer(200, "text/html", SESSION), "media type");
        refused(&answer(204, "application/json", SESSION), "not listed");
        let mut stored = answer(200, "application/json", SESSION);
        stored.headers.retain(|(name, _)| name != "Cache-Control");
        refused(&stored, "cache-control is missing");
        let mut led = answer(200, "application/json", SESSION);
        led.headers.push(("Location".into(), "/".into()));
        refused(&led, "location is not listed here");
        led.headers[2] = ("Set-Cookie".into(), "a=b".into());
        refused(&led, "set-cookie");
        let elsewhere = said(&Request::get("/auth/nothing"), &answer(200, "application/json", SESSION));
        assert!(elsewhere.is_err(), "there is no such address");
    }

    #[test]
    fn a_problem_has_a_code_of_its_operation_and_agrees_with_its_status() {
        let problem = |code: &str, status: u16, more: &str| {
            let problem =
                r#"{"type":"urn:edgekeep:problem:CODE","title":"t","status":401,"detail":"d","code":"CODE"MORE}"#;
            let body = problem.replace("CODE", code).replace("MORE", more);
            let mut answer = answer(status, PROBLEM, &body);
            answer.headers.push(("WWW-Authenticate".into(), "Cookie realm=\"edgekeep\"".into()));
            answer
        };
        let request = Request::get("/auth/session");
        let name = said(&request, &problem("no_session", 401, r#","reason":"none""#));
        assert_eq!(name, Ok(Some("GET /session 401 application/problem+json no_session".to_owned())));
        refused(&problem("no_session", 401, ""), "\"reason\" is a required");
        refused(&problem("no_session", 401, r#","reason":"tired""#), "tired");
        refused(&problem("invalid_credentials", 401, r#","reason":"none""#), "invalid_credentials");
        let mut other = problem("no_session", 401, r#","reason":"none""#);
        other.body = other.text().replace(":problem:no_session", ":problem:locked").into();
        refused(&other, "type");
        other.body = other.text().replace("locked", "no_session").replace("\"status\":401", "\"status\":403").into();
        refused(&other, "status");
    }
}
