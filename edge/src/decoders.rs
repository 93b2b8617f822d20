//! What reads bytes from outside, for the tests of hostile input (`tests/hostile`). Not an interface.

pub use crate::csrf::Provenance;
pub use crate::doors::form_key::{of_header as idempotency_key_of_header, pre_session};
pub use crate::forms::{BodyKind, Fields, encode, query_value};
pub use crate::gateway::{must_go, sets_ours};
pub use crate::negotiate::{Audience, MAX_WAIT_S, Signs, wait_s};
