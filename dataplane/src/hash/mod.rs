//! What spreads keys and draws numbers: the keyed hash of what outsiders choose, and a generator
//! of random numbers that are no secrets, and the mixers they are made of.
//!
//! Layer `hash`, imports nothing.
#![forbid(unsafe_code)]

pub mod mix;
mod random;
mod seed;

pub use random::Random;
pub use seed::Seed;
