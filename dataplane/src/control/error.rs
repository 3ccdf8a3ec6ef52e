//! Errors as the control socket tells them: a kind for programs, a message for people.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of failure; these names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request or the configuration it leads to is wrong.
    Invalid,
    /// No such virtual service, real server, flow or file.
    NotFound,
    /// There is one already.
    Exists,
    /// Too many connections, or a worker does not answer; to be tried again.
    Busy,
    /// The line is too long, or a table that was sized at start is full.
    TooLarge,
    /// The request's `v` is not spoken.
    UnsupportedVersion,
    /// The request's `op` is not known.
    UnknownOp,
    /// The change is possible only by a restart of the daemon.
    NeedsRestart,
    /// The caller may not use the socket, or the daemon may not write the file.
    Permission,
    /// Something else failed in the daemon.
    Internal,
}

impl ErrorCode {
    /// All of them, as documented.
    pub const ALL: &'static [ErrorCode] = &[
        ErrorCode::Invalid,
        ErrorCode::NotFound,
        ErrorCode::Exists,
        ErrorCode::Busy,
        ErrorCode::TooLarge,
        ErrorCode::UnsupportedVersion,
        ErrorCode::UnknownOp,
        ErrorCode::NeedsRestart,
        ErrorCode::Permission,
        ErrorCode::Internal,
    ];
}

/// Why a request was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// For programs.
    pub code: ErrorCode,
    /// For people; several lines when there are several reasons.
    pub message: String,
}

impl Error {
    /// An error of this kind.
    pub fn new(code: ErrorCode, message: impl fmt::Display) -> Error {
        Error { code, message: message.to_string() }
    }
}
