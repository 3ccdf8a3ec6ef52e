//! The states of one of the director's own IPv6 addresses.

use serde::{Deserialize, Serialize};

/// Whether an IPv6 address of a port may be used, RFC 4862 section 5.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AddressState {
    /// Not yet: others are being asked whether they have it.
    Tentative,
    /// It is used.
    Ready,
    /// Another station has it: not used.
    Duplicate,
}

impl std::fmt::Display for AddressState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            AddressState::Tentative => "tentative",
            AddressState::Ready => "ready",
            AddressState::Duplicate => "duplicate",
        })
    }
}
