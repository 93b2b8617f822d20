//! Counterexamples that are kept are walked step by step: they still break the broken world, and nothing breaks on the
//! same way in the whole one, as far as it is possible there.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)] // a failed expectation is a failed test

use edgekeep_model::feed::{Feed, scenarios};
use edgekeep_model::login::{self, Login};
use edgekeep_model::{Sabotage, Saved, Step, Walk, walk};
use serde::de::DeserializeOwned;
use stateright::Model;

fn saved<T: DeserializeOwned>(folder: &str) -> Vec<(String, Saved<T>)> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("paths").join(folder);
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let read = |file: std::path::PathBuf| {
        let text = std::fs::read_to_string(&file).expect("a file");
        let path = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        (file.display().to_string(), path)
    };
    files.map(read).collect()
}

/// Walks each path in both worlds; says how many there were.
fn walked<T, M>(folder: &str, world: impl Fn(&str, Option<Sabotage>) -> M) -> usize
where
    T: DeserializeOwned,
    M: Model<Action = Step<T>>,
    Step<T>: Clone + std::fmt::Debug + PartialEq,
{
    let all = saved::<T>(folder);
    for (file, path) in &all {
        let broken = walk(&world(&path.world, Some(path.sabotage)), &path.steps);
        let Walk { broke: Some((guarantee, at)), .. } = broken else {
            panic!("{file} breaks nothing any more ({broken:?}): find it anew");
        };
        assert_eq!((guarantee, at), (path.guarantee.as_str(), path.steps.len()), "{file}");
        let whole = walk(&world(&path.world, None), &path.steps);
        assert_eq!(whole.broke, None, "{file}");
        assert_eq!(whole.walked, path.possible_when_whole, "{file}: steps that are possible in the whole world");
    }
    all.len()
}

#[test]
fn kept_counterexamples_of_the_feed() {
    let world = |name: &str, sabotage| Feed::new(scenarios::named(name).expect("a world"), sabotage);
    assert!(walked("feed", world) >= 4);
}

#[test]
fn kept_counterexamples_of_the_login() {
    let world = |name: &str, sabotage| Login { sabotage, ..login::named(name).expect("a world") };
    assert!(walked("login", world) >= 2);
}
