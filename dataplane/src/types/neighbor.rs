//! The states of a neighbor.

use serde::{Deserialize, Serialize};

/// A neighbor's state, RFC 4861 section 7.3.2 (its timers are used for ARP too).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NeighborState {
    /// Asked for, no answer yet.
    Incomplete,
    /// Confirmed lately.
    Reachable,
    /// Not confirmed lately; used, and about to be probed.
    Stale,
    /// Being asked again, by unicast; used meanwhile.
    Probe,
    /// Does not answer; asked again now and then.
    Failed,
    /// Configured.
    Static,
}

impl std::fmt::Display for NeighborState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            NeighborState::Incomplete => "incomplete",
            NeighborState::Reachable => "reachable",
            NeighborState::Stale => "stale",
            NeighborState::Probe => "probe",
            NeighborState::Failed => "failed",
            NeighborState::Static => "static",
        })
    }
}
