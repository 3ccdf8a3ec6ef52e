//! Health checks against a simulated network and clock.
#![allow(clippy::unwrap_used)]

mod decisions;
mod forged;
mod many;
mod network;
mod oracle;
mod shared;
