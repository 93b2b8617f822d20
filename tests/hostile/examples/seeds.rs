//! Writes a target's seeds into a folder, a file each: where a coverage-guided run begins.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a developer's tool")]

fn main() {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(folder)) = (arguments.next(), arguments.next()) else { panic!("usage: seeds TARGET FOLDER") };
    let target = edgekeep_hostile::target(&name).unwrap_or_else(|| {
        panic!("{name} is not one of {:?}", edgekeep_hostile::TARGETS.map(|target| target.name));
    });
    std::fs::create_dir_all(&folder).expect("a folder");
    for (number, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(format!("{folder}/seed-{number:02}"), seed).expect("a file");
    }
}
