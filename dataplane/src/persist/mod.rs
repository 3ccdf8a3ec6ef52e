//! Persistence: which real server the clients of a network are bound to.
//!
//! A template binds the new connections of a client network to one real server of a virtual
//! service while it lives. Its timer restarts with each of them. When it runs out while
//! connections that it began are in a flow table, it goes on by [`EXTENSION_MS`] at a time, so
//! that a client with a long connection finds its real server again. Follows
//! `ip_vs_sched_persist` in `ip_vs_core.c` and `ip_vs_conn_expire` in `ip_vs_conn.c`.
//!
//! # Threading
//! One [`Templates`] for all workers, looked at when a packet has no flow only. Every word of it
//! is atomic; nobody waits for anybody. See `table` for how two that bind a network at once agree.
//!
//! # Units
//! Spans are milliseconds, at most [`Tick::MAX_SPAN`](crate::types::Tick::MAX_SPAN).
//!
//! # Limits
//! [`BYTES_PER_TEMPLATE`] for each one there is room for, allocated at start.
#![forbid(unsafe_code)]

mod entry;
mod table;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use table::{BYTES_PER_TEMPLATE, Bound, EXTENSION_MS, Templates};

use crate::types::{RealId, ServiceId};

/// The clients of a virtual service that are one to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkKey {
    /// The virtual service. Slots above 65535 have no templates; there are none.
    pub service: ServiceId,
    /// Their addresses, under the netmask.
    pub network: Ipv4Addr,
}

/// A template, copied out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    /// Whose.
    pub key: NetworkKey,
    /// The real server they are bound to.
    pub real: RealId,
    /// Milliseconds until it expires, or is extended.
    pub remaining_ms: u32,
    /// Flows there are that it bound.
    pub flows: u32,
}
