//! Edgekeep's edge worker: decides about every request in front of a site, for workerd and Cloudflare Workers.
//!
//! ```text
//! request ─▶ path rules ─▶ one of our doors (login, logout, …) ─▶ answer
//!                      └─▶ route policy ─▶ guard (shared::gate) ─▶ origin, with identity
//!                                                             └─▶ refusal, login form, 503
//! ```
//!
//! What it guarantees is decided in `shared/`; this crate is the I/O around it and holds to four rules:
//!
//! - **Synchronous first**: while the lease holds nothing is awaited before the origin is asked ([`worker::handle`]), and
//!   what needs no waiting at all is answered without a promise ([`at_once`]).
//! - **Statics can vanish**: an empty [`state`] means "cannot know" (G8), never "nothing revoked".
//! - **Nothing of Rust crosses requests**: work that several requests wait for is a JavaScript promise ([`flight`]).
//! - **Every wait has a deadline**, and after every await the gate looks again ([`guard`]).
//!
//! Another Rust worker uses the gate alone through [`Gate`]; any worker can through the service entry point `Check`.

mod assertion;
mod body;
mod clock;
pub mod config;
mod coordinator;
mod csrf;
#[doc(hidden)]
pub mod decoders;
mod doors;
#[cfg(feature = "fault-injection")]
mod fault;
mod feed;
mod flight;
mod forms;
mod gate;
mod gateway;
mod guard;
mod headers;
mod incoming;
pub mod js;
mod keys;
mod negotiate;
mod pages;
mod refuse;
mod reply;
mod respond;
mod state;
pub mod worker;

pub use edgekeep_shared::problem::Problem;
pub use gate::{Checked, Gate};
pub use js::at_once;
