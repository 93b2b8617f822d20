//! Every target on its corpus and on seeded mutations of it: the same bytes at every run.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)] // a failed expectation is a failed test

use edgekeep_hostile::random::{Random, mutated};
use edgekeep_hostile::{corpus, target};

/// Mutations per target. They take a second or two; `cargo xtask fuzz` goes on for as long as one likes.
const MUTATIONS: usize = 60_000;

/// Runs a target; the input that violates an oracle stands in the output of the failing test.
fn run(name: &str) {
    let target = target(name).expect("a target");
    let inputs = corpus::inputs(target);
    let (mut accepted, mut refused) = (0, 0);
    let mut one = |bytes: &[u8]| {
        let outcome = std::panic::catch_unwind(|| (target.run)(bytes));
        let Ok(accepts) = outcome else { panic!("{name}: violated by {:?} ({})", bytes, bytes.escape_ascii()) };
        if accepts { accepted += 1 } else { refused += 1 }
    };
    inputs.iter().for_each(|input| one(input));
    let mut random = Random::new(name.len() as u64);
    for _ in 0..MUTATIONS {
        let input = random.of(&inputs).clone();
        one(&mutated(&mut random, &input, &inputs));
    }
    assert!(accepted > 0 && refused > 0, "{name}: {accepted} accepted, {refused} refused: one side was never seen");
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })*

        #[test]
        fn no_target_is_forgotten() {
            let here = [$(stringify!($name)),*];
            assert_eq!(edgekeep_hostile::TARGETS.map(|target| target.name), here);
            for target in &edgekeep_hostile::TARGETS {
                assert!(corpus::folder(target).is_dir(), "{} has no corpus", target.name);
            }
        }
    };
}

targets!(
    accept,
    api_json,
    cookie_header,
    credential,
    feed_answer,
    feed_question,
    form,
    form_key,
    header_name,
    idempotency_key,
    json,
    origin,
    path,
    policy,
    prefer,
    return_to,
    token,
    token_payload,
    user_name,
);
