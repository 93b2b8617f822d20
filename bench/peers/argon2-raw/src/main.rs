//! `argon2-raw THREADS MS`: hashes with the coordinator's default parameters, one after the other on each thread, and
//! prints `<hashes> <seconds> <median milliseconds of one>`. Each thread keeps its block of memory: the fastest there is.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};

/// OWASP's minimum for Argon2id, and Edgekeep's default.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok()).ok_or("argon2-raw THREADS MS");
    let (threads, length) = (number()?, Duration::from_millis(number()?));
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(32)).map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let workers: Vec<_> = (0..threads)
        .map(|thread| {
            let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
            std::thread::spawn(move || {
                let mut memory = vec![Block::default(); argon2.params().block_count()];
                let (mut out, mut times) = ([0; 32], Vec::new());
                while begun.elapsed() < length {
                    let one = Instant::now();
                    let salt = [thread as u8; 16];
                    if argon2.hash_password_into_with_memory(b"correct horse", &salt, &mut out, &mut memory).is_err() {
                        break;
                    }
                    times.push(one.elapsed().as_secs_f64() * 1e3);
                }
                times
            })
        })
        .collect();
    let mut times: Vec<f64> = workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect();
    times.sort_by(f64::total_cmp);
    let median = times.get(times.len() / 2).ok_or("no hash")?;
    println!("{} {:.6} {median:.3}", times.len(), begun.elapsed().as_secs_f64());
    Ok(())
}
