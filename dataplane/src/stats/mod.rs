//! Counters, verdicts and drop reasons: one list makes enum, text and JSON.
//!
//! # Threading
//! Every [`Counter`] has one writer (a worker, or the slow path); anybody may read at any time.
//!
//! # Invariant
//! For each worker, once a burst is done:
//! `rx_packets + taken_over + injected = forwarded + punted + handed_over + held + sum(dropped)`.
//! `handed_over` and `taken_over` cancel out over all workers; `held` is the number of packets
//! (fragments that came before their first) waiting in a worker.
#![forbid(unsafe_code)]

mod accounts;
mod counter;
mod list;
mod table;

pub use accounts::Accounts;
pub use counter::Counter;
pub use list::{DropReason, Event, Kind};
pub use table::{
    Counts, Forwarded, Half, PortStats, RealStats, Rounds, ServiceStats, Stats, Traffic,
};
