//! Health checks: which real servers serve, found out by the way their traffic goes.
//!
//! A probe is a packet from the DIP to the VIP and L4 port of a virtual service. It leaves as a
//! client's packet to that real server would: same forwarding method, headers, next hop and port.
//! So its answer proves the way there, decapsulation, the VIP on the real server, its listener, and
//! the way back.
//!
//! [`Machine`] makes a state of results, [`Set`] knows which probe is due when and what came of it,
//! and the [numbers](Numbers) of a probe tell its answers from forged ones.
//!
//! # Threading
//! One thread owns a [`Set`]. Every call is given the time and finishes without waiting; there is no
//! clock, no thread and no I/O in here. [`Numbers`] may be read by all.
//!
//! # Units
//! Time is [`crate::types::Millis`] since start and does not go backwards (if it does, probes are
//! late).
//!
//! # Limits
//! Nothing grows by what comes from the wire: a target has [`MAX_CONNECTIONS`] connections at most,
//! the oldest of which is forgotten for a new one, and a connection sends [`MAX_ANSWERS`] answers.
//!
//! # RFCs
//! RFC 9293 (TCP), 6864 (identification of IPv4), 6335 (dynamic L4 ports).
#![forbid(unsafe_code)]

mod connection;
mod machine;
mod numbers;
mod segment;
mod set;
mod source_ports;
mod standing;
mod target;
mod timers;

pub use connection::MAX_ANSWERS;
pub use machine::{Machine, Pace, Reason, State};
pub use numbers::{Numbers, Tuple};
pub use segment::{HOPS, MAX_PACKET_LEN, Segment};
pub use set::{Heard, MAX_CONNECTIONS, PER_POLL, Set};
pub use source_ports::{FIRST_SOURCE_PORT, LAST_SOURCE_PORT, QUIET};
pub use standing::standings;
pub use target::{News, Subject, Target, Via};
