//! The targets, by what they read.

mod bodies;
mod cookies;
mod feed;
mod headers;
mod names;
mod paths;
mod tokens;

use crate::Target;

/// All of them.
pub const TARGETS: [Target; 19] = [
    Target { name: "accept", seeds: headers::accept_seeds, run: headers::accept },
    Target { name: "api_json", seeds: bodies::api_seeds, run: bodies::api },
    Target { name: "cookie_header", seeds: cookies::seeds, run: cookies::header },
    Target { name: "credential", seeds: tokens::credential_seeds, run: tokens::credential },
    Target { name: "feed_answer", seeds: feed::answer_seeds, run: feed::answer },
    Target { name: "feed_question", seeds: feed::question_seeds, run: feed::question },
    Target { name: "form", seeds: bodies::form_seeds, run: bodies::form },
    Target { name: "form_key", seeds: tokens::form_key_seeds, run: tokens::form_key },
    Target { name: "header_name", seeds: names::header_seeds, run: names::header },
    Target { name: "idempotency_key", seeds: headers::key_seeds, run: headers::key },
    Target { name: "json", seeds: bodies::json_seeds, run: bodies::json },
    Target { name: "origin", seeds: headers::origin_seeds, run: headers::origin },
    Target { name: "path", seeds: paths::path_seeds, run: paths::path },
    Target { name: "policy", seeds: paths::policy_seeds, run: paths::policy },
    Target { name: "prefer", seeds: headers::prefer_seeds, run: headers::prefer },
    Target { name: "return_to", seeds: paths::return_to_seeds, run: paths::return_to },
    Target { name: "token", seeds: tokens::seeds, run: tokens::token },
    Target { name: "token_payload", seeds: tokens::payload_seeds, run: tokens::payload },
    Target { name: "user_name", seeds: names::user_seeds, run: names::user },
];

/// Seeds from texts.
fn texts(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}
