//! What all commands of `shunt` are given: the socket, and how to print.

use std::path::PathBuf;

use super::client::Client;
use super::failure::Failure;

/// What all commands share.
pub(super) struct Context {
    pub(super) socket: PathBuf,
    pub(super) json: bool,
}

impl Context {
    /// A connection to the daemon.
    pub(super) fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.socket)
    }
}
