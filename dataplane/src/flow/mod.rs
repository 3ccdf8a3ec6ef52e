//! The flow table: one [`Shard`] per worker, which remembers the real server of each flow.
//!
//! Layer `flow`, imports `types` (and `arch` for prefetch) only. Real servers are opaque ids
//! here, so their connection counts are the caller's business: every flow that leaves a shard,
//! for whatever reason, is handed back exactly once as a [`Removed`].
//!
//! # Use
//!
//! A burst goes through the shard in stages, so that memory latency is paid for all its packets
//! at once:
//!
//! 1. [`hash`](Table::hash) each key and [`prefetch_bucket`](Table::prefetch_bucket),
//! 2. packet by packet: [`pass`](Table::pass), and if that says nothing [`lookup`](Table::lookup),
//!    then [`touch`](Table::touch) or [`insert`](Table::insert) before the next packet's lookup.
//!
//! The last stage is sequential on purpose. Two packets of one new flow in a burst must get one
//! real server, and an insertion may evict a flow that a later packet of the burst belongs to;
//! by the order above both are right without a second look.
//!
//! ```
//! use dataplane::flow::{Event, FlowFlags, Lookup, Shard, State, Transition};
//! use dataplane::hash::Seed;
//! use dataplane::types::{FlowKey, Protocol, RealId, Tick};
//!
//! let mut shard = Shard::new(1000, Seed::new(0x5eed)).unwrap();
//! let now = Tick(0);
//! let key = FlowKey {
//!     client: [198, 51, 100, 7].into(),
//!     vip: [192, 0, 2, 1].into(),
//!     client_port: 40000,
//!     vip_port: 443,
//!     protocol: Protocol::Tcp,
//! };
//! let hash = shard.hash(&key);
//! assert_eq!(shard.lookup(&key, hash, now), Lookup::Miss);
//!
//! let state = State::opening(Event::Syn);
//! let flow = shard.insert(key, hash, RealId(3), state, FlowFlags::NONE, now).flow;
//! let change = shard.touch(flow, Event::Ack, now.after(20));
//! assert_eq!(change, Transition::Changed { from: State::SynReceived, to: State::Established });
//! assert_eq!(shard.get(flow).real, RealId(3));
//! ```
//!
//! # Threading
//!
//! A shard has one owner, the worker, and no interior mutability: nobody else reads it. What the
//! control plane wants (a listing, a flush) the worker does for it in bounded steps between
//! bursts, by [`scan`](Table::scan) and [`sweep`](Table::sweep).
//!
//! # Time
//!
//! [`Tick`](crate::types::Tick) is a parameter of every call that needs it. Expiry is lazy (a
//! lookup that meets an expired flow removes it) plus the sweep. A deadline that has passed looks
//! ahead again 24 days later, so the sweep must come round in less; it should come round within
//! a minute or so, because expired flows count as connections until they are found.
//!
//! # Limits
//!
//! Size is fixed at construction: 64 bytes a flow, 128 for IPv6 ([`Shard6`]), eight for each real
//! server and four for each owner.
//! No call but the constructor allocates, none blocks, panics, logs or reads a clock.
#![forbid(unsafe_code)]

mod bucket;
mod evict;
mod fill;
mod hash;
mod newcomers;
mod record;
mod shares;
mod state;
mod sweep;
mod table;
#[cfg(test)]
mod tests;
mod touch;

pub use hash::{Packed, TableKey};
pub use record::{
    Cause, Counters, Flow, FlowFlags, FlowRef, Inserted, Lookup, NewShardError, Passed, Removed,
};
pub use state::{Event, State, Timeouts, Transition};
pub use sweep::Swept;
pub use table::{Shard, Shard6, Table};
