//! The words that operators and programs read and write: in the configuration file, on the control
//! socket, on the command line, in listings. Each enum here is a choice or a state by its name.
//!
//! Layer `vocabulary`, imports nothing. What a word does is said where it is done: schedulers in
//! `schedule`, forwarding methods in `forward`, states of neighbors and addresses in `slowpath`.
#![forbid(unsafe_code)]

mod address_state;
mod clip;
mod forward_method;
mod idle_mode;
mod named;
mod neighbor_state;
mod no_server;
mod scheduler;
mod scheduler_flags;

pub use address_state::AddressState;
pub use clip::clip;
pub use forward_method::ForwardMethod;
pub use idle_mode::IdleMode;
pub use neighbor_state::NeighborState;
pub use no_server::NoServer;
pub use scheduler::SchedulerKind;
pub use scheduler_flags::SchedulerFlags;
