//! What is probed, and for whom.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::machine::{Machine, State};
use crate::snapshot::check::CheckSpec;
use crate::types::{NeighborId, RealId, ServiceKey};
use crate::vocabulary::ForwardMethod;

/// A real server of a virtual service.
pub type Subject = (ServiceKey, IpAddr);

/// What one probe finds out about. Subjects with the same target are probed once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// How it is probed.
    pub check: Arc<CheckSpec>,
    /// RIP.
    pub real: IpAddr,
    /// Forwarding method.
    pub method: ForwardMethod,
    /// GRE's checksum and key.
    pub gre: (bool, Option<u32>),
    /// VIP and L4 port.
    pub to: SocketAddr,
}

impl Target {
    /// Whether what is known of `other` holds for this one: only the pace is another.
    pub(super) fn is_like(&self, other: &Target) -> bool {
        self.check.kind == other.check.kind
            && (self.real, self.method, self.gre, self.to)
                == (other.real, other.method, other.gre, other.to)
    }
}

/// How a probe gets to its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via {
    /// It leaves as a packet of a client to this real server would.
    pub real: RealId,
    /// The next hop.
    pub neighbor: NeighborId,
    /// A DIP of the VIP's family; without one there is no probe.
    pub from: Option<IpAddr>,
}

/// Something new about a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct News {
    /// Which one.
    pub subject: Subject,
    /// What is known of it now.
    pub machine: Machine,
}

impl News {
    /// Its state.
    pub const fn state(&self) -> State {
        self.machine.state()
    }
}
