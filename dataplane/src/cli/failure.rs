//! Why a command of `shunt` was not carried out, and so with which exit status it ends.

use std::io;

/// Why a command was not carried out.
pub(super) enum Failure {
    /// For the user.
    Refused(String),
    /// The command line lacks something.
    Usage(String),
    /// Reading or writing failed; also when a pipe's reader has gone.
    Io(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Io(error)
    }
}
