//! Persistence: which real server the clients of a network are bound to.
//!
//! A template binds the new connections of a client network to one real server of a virtual
//! service while it lives. Its timer restarts with each of them. When it runs out while
//! connections that it began are in a flow table, it goes on by [`EXTENSION_MS`] at a time, so
//! that a client with a long connection finds its real server again. Follows
//! `ip_vs_sched_persist` in `ip_vs_core.c` and `ip_vs_conn_expire` in `ip_vs_conn.c`.
//!
//! # Threading
//! One [`Templates`] of each family for all workers, looked at when a packet has no flow only.
//! Every word of it is atomic; nobody waits for anybody. See `table` for how two that bind a
//! network at once agree.
//!
//! # Units
//! Spans are milliseconds, at most [`Tick::MAX_SPAN`](crate::types::Tick::MAX_SPAN).
//!
//! # Limits
//! [`BYTES_PER_TEMPLATE`] for each one there is room for, allocated at start; for IPv6, whose
//! networks do not fit a word, 32 more.
#![forbid(unsafe_code)]

mod entry;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use entry::Network;
pub use table::{BYTES_PER_TEMPLATE, Bound, EXTENSION_MS, Templates};

use crate::types::{RealId, ServiceId, Tick};

/// The clients of a virtual service that are one to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NetworkKey<A = Ipv4Addr> {
    /// The virtual service. Slots above 65535 have no templates; there are none.
    pub service: ServiceId,
    /// Their addresses, under the netmask.
    pub network: A,
}

/// The templates of both families, shared by whoever has one of these.
#[derive(Debug, Clone)]
pub struct AllTemplates {
    /// Those of IPv4 clients.
    pub v4: Arc<Templates>,
    /// Those of IPv6 clients.
    pub v6: Arc<Templates<Ipv6Addr>>,
}

impl AllTemplates {
    /// Room for about `capacity` templates of IPv4 clients, and an eighth of that of IPv6 clients.
    pub fn new(capacity: usize, seed: u64) -> AllTemplates {
        AllTemplates {
            v4: Arc::new(Templates::new(capacity, seed)),
            v6: Arc::new(Templates::new(capacity.div_ceil(8), seed)),
        }
    }

    /// Templates there are, among them some whose time is over.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many templates that are not over each real server has. Looks through all of both.
    pub fn count(&self, now: Tick) -> HashMap<RealId, u64> {
        let mut counts = self.v4.count(now);
        for (real, more) in self.v6.count(now) {
            *counts.entry(real).or_default() += more;
        }
        counts
    }

    /// Removes all templates that `gone` says so of, by virtual service and real server.
    pub fn forget(&self, gone: impl Fn(ServiceId, RealId) -> bool) {
        self.v4.forget(|key, real| gone(key.service, real));
        self.v6.forget(|key, real| gone(key.service, real));
    }
}

/// A template, copied out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template<A = Ipv4Addr> {
    /// Whose.
    pub key: NetworkKey<A>,
    /// The real server they are bound to.
    pub real: RealId,
    /// Milliseconds until it expires, or is extended.
    pub remaining_ms: u32,
    /// Flows there are that it bound.
    pub flows: u32,
    /// Whether one that it bound was established, as `IP_VS_CTPL_S_ASSURED` of LVS.
    pub assured: bool,
}
