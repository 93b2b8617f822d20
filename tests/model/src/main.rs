//! Prints a counterexample of a sabotaged world as JSON, to be kept under `paths/feed` or `paths/login`:
//! `cargo run -p edgekeep-model -- feed order serial_cursor`.

use anyhow::{Context as _, Result, bail};
use edgekeep_model::feed::{Feed, Scenario, scenarios};
use edgekeep_model::login::{self, Login};
use edgekeep_model::{Refuted, Sabotage, Saved, Step, refute};
use serde::Serialize;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, world, sabotage] = arguments.as_slice() else {
        bail!("usage: edgekeep-model feed|login WORLD SABOTAGE");
    };
    let broken: Sabotage = serde_json::from_value(sabotage.as_str().into()).context("no such sabotage")?;
    match model.as_str() {
        "feed" => {
            let scenario = scenarios::named(world).context("no such world")?;
            print(world, broken, refute(Feed::new(Scenario { reached: &[], ..scenario }, Some(broken))))
        }
        "login" => {
            let whole = login::named(world).context("no such world")?;
            print(world, broken, refute(Login { sabotage: Some(broken), ..whole }))
        }
        _ => bail!("no such model"),
    }
}

fn print<T: Serialize>(world: &str, sabotage: Sabotage, found: Option<Refuted<Step<T>>>) -> Result<()> {
    let found = found.context("it is not refuted in this world")?;
    let saved = Saved {
        story: String::new(),
        world: world.to_owned(),
        sabotage,
        guarantee: found.guarantee.to_owned(),
        steps: found.steps,
    };
    println!("{}", serde_json::to_string_pretty(&saved)?);
    Ok(())
}
