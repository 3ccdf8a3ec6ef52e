//! The control plane's server and protocol. It speaks to workers only through [`plane::Plane`].
#![forbid(unsafe_code)]

mod codec;
mod controller;
mod edit;
mod error;
mod file;
mod lines;
mod peer;
pub mod plane;
pub mod protocol;
mod server;
mod socket;
mod tally;

pub use controller::Controller;
pub use server::{Server, ServerError, ServerSettings};
pub use socket::{Lock, Socket};
pub use tally::Rates;
