//! What spreads keys and draws numbers: the keyed hash of what outsiders choose, and a generator
//! of random numbers that are no secrets.
//!
//! Layer `hash`, imports nothing.
#![forbid(unsafe_code)]

mod random;
mod seed;

pub use random::Random;
pub use seed::Seed;
pub(crate) use seed::fold;
