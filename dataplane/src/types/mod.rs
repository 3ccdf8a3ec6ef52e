//! Newtypes every layer shares. No clock, no I/O; no allocation but for
//! what people read.
#![forbid(unsafe_code)]

mod address;
mod any_key;
mod clip;
mod flags;
mod ids;
mod key;
mod key6;
mod mac;
mod method;
mod millis;
mod neighbor;
mod netmask;
mod ports;
mod punt;
mod random;
mod seed;
mod tick;

pub use address::AddressState;
pub use any_key::AnyFlowKey;
pub use clip::clip;
pub use flags::SchedulerFlags;
pub use ids::{NeighborId, PortId, RealId, ServiceId, WorkerId};
pub use key::{FlowKey, Protocol, ServiceKey, Tuple};
pub use key6::FlowKey6;
pub use mac::{Mac, ParseMacError};
pub use method::{ForwardMethod, IdleMode, NoServer, SchedulerKind};
pub use millis::Millis;
pub use neighbor::NeighborState;
pub use netmask::Netmask;
pub use ports::{Ports, ServiceAddress};
pub use punt::{Punt, PuntReason};
pub use random::Random;
pub use seed::Seed;
pub(crate) use seed::fold;
pub use tick::Tick;
