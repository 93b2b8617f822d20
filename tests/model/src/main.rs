//! Prints a counterexample of a sabotaged world as JSON, to be kept under `paths/feed` or `paths/login`:
//! `cargo run -p edgekeep-model -- feed order serial_cursor`.

use anyhow::{Context as _, Result, bail};
use edgekeep_model::feed::{Feed, Scenario, scenarios};
use edgekeep_model::login::{self, Login};
use edgekeep_model::{Refuted, Sabotage, Saved, Step, refute, walk};
use serde::Serialize;
use stateright::Model;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [model, world, sabotage] = arguments.as_slice() else {
        bail!("usage: edgekeep-model feed|login WORLD SABOTAGE");
    };
    let broken: Sabotage = serde_json::from_value(sabotage.as_str().into()).context("no such sabotage")?;
    match model.as_str() {
        "feed" => {
            let scenario = scenarios::named(world).context("no such world")?;
            let found = refute(Feed::new(Scenario { reached: &[], ..scenario }, Some(broken)));
            let whole = scenarios::named(world).context("no such world")?;
            print(world, broken, found, &Feed::new(whole, None))
        }
        "login" => {
            let whole = login::named(world).context("no such world")?;
            print(
                world,
                broken,
                refute(Login { sabotage: Some(broken), ..whole }),
                &login::named(world).context("no such world")?,
            )
        }
        _ => bail!("no such model"),
    }
}

fn print<T, M>(world: &str, sabotage: Sabotage, found: Option<Refuted<Step<T>>>, whole: &M) -> Result<()>
where
    T: Serialize,
    M: Model<Action = Step<T>>,
    Step<T>: Clone + std::fmt::Debug + PartialEq,
{
    let found = found.context("it is not refuted in this world")?;
    let saved = Saved {
        story: String::new(),
        world: world.to_owned(),
        sabotage,
        guarantee: found.guarantee.to_owned(),
        possible_when_whole: walk(whole, &found.steps).walked,
        steps: found.steps,
    };
    println!("{}", serde_json::to_string_pretty(&saved)?);
    Ok(())
}
