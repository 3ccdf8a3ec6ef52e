//! Shunt's data plane: a layer-4 load balancer for direct server return.
//!
//! A folder is a layer and imports go one way; `scripts/check` enforces the table in
//! `scripts/layers.txt`. `docs/architecture.md` tells the story.
//!
//! Everything but `dpdk`, `worker` and a corner of `daemon`
//! builds and is tested without libdpdk (`--no-default-features`).
#![deny(unsafe_code)]

pub mod arch;
pub mod cli;
pub mod config;
pub mod control;
pub mod flow;
pub mod forward;
pub mod hash;
pub mod health;
pub mod packet;
pub mod persist;
pub mod pipeline;
pub mod schedule;
pub mod slowpath;
pub mod snapshot;
pub mod stats;
pub mod types;
pub mod vocabulary;

#[cfg(feature = "dpdk")]
pub mod daemon;
#[cfg(feature = "dpdk")]
pub mod dpdk;
#[cfg(feature = "dpdk")]
pub mod worker;
