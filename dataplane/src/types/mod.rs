//! Newtypes that several layers share: addresses, keys, slot numbers, time, and packets on their
//! way between threads.
//!
//! Layer `types`, imports nothing. No clock, no I/O; no allocation but for what people read.
#![forbid(unsafe_code)]

mod any_key;
mod ids;
mod key;
mod key6;
mod mac;
mod millis;
mod netmask;
mod ports;
mod punt;
mod tick;

pub use any_key::AnyFlowKey;
pub use ids::{NeighborId, PortId, RealId, ServiceId, WorkerId};
pub use key::{FlowKey, Protocol, ServiceKey, Tuple};
pub use key6::FlowKey6;
pub use mac::{Mac, ParseMacError};
pub use millis::Millis;
pub use netmask::Netmask;
pub use ports::{Ports, ServiceAddress};
pub use punt::{Punt, PuntReason};
pub use tick::Tick;
