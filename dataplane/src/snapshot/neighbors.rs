//! The Ethernet addresses of next hops, as workers read them.
//!
//! The slow path owns the neighbor table and publishes what workers need here: one 64-bit word
//! per neighbor, so that a change needs no new snapshot and no lock.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::spec::PortSpec;
use crate::types::{Mac, NeighborId, PortId};

/// What a worker does with a packet for a neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextHop {
    /// Send it to this Ethernet address.
    Known(Mac),
    /// Punt it ([`crate::types::PuntReason::Resolve`]).
    Unknown,
    /// Drop it: the neighbor does not answer.
    Failed,
}

/// One word per neighbor slot. Fixed size.
///
/// # Threading
/// The slow path writes, workers and control read. A word says all about its neighbor and nothing
/// about other memory, so relaxed ordering is enough.
#[derive(Debug)]
pub struct NextHops {
    words: Box<[AtomicU64]>,
}

/// A word without the topmost bit is the Ethernet address of a neighbor that is known.
const UNKNOWN: u64 = 1 << 63;
const FAILED: u64 = UNKNOWN + 1;

impl NextHops {
    /// `capacity` neighbors, all unknown.
    pub fn new(capacity: usize) -> NextHops {
        NextHops { words: (0..capacity).map(|_| AtomicU64::new(UNKNOWN)).collect() }
    }

    /// How many neighbors there is room for.
    pub fn capacity(&self) -> usize {
        self.words.len()
    }

    /// What to do with a packet for `neighbor` now.
    #[inline(always)]
    pub fn get(&self, neighbor: NeighborId) -> NextHop {
        match self.words.get(neighbor.index()).map_or(FAILED, |w| w.load(Relaxed)) {
            word if word < UNKNOWN => NextHop::Known(Mac::from_wire(word)),
            FAILED => NextHop::Failed,
            _ => NextHop::Unknown,
        }
    }

    /// What the packet path needs of it: the Ethernet address as [`Mac::to_wire`] has it, or
    /// `None` for any other state.
    #[inline(always)]
    pub fn known(&self, neighbor: NeighborId) -> Option<u64> {
        let word = self.words.get(neighbor.index())?.load(Relaxed);
        ((word as i64) >= 0).then_some(word)
    }

    /// Publishes; only called by the slow path, which sets a slot to [`NextHop::Unknown`] when its
    /// neighbor is no longer configured, before it acknowledges the snapshot.
    pub fn set(&self, neighbor: NeighborId, hop: NextHop) {
        if let Some(word) = self.words.get(neighbor.index()) {
            let value = match hop {
                NextHop::Known(mac) => mac.to_wire(),
                NextHop::Unknown => UNKNOWN,
                NextHop::Failed => FAILED,
            };
            word.store(value, Relaxed);
        }
    }
}

/// A next hop that the configuration needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborSpec {
    /// Its slot.
    pub id: NeighborId,
    /// Port it is behind.
    pub port: PortId,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, when configured.
    pub fixed: Option<Mac>,
}

/// A tunnel to a real server, by what its packets show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TunnelSpec {
    /// RIP: where the outer packets go.
    pub real: IpAddr,
    /// DIP: where they come from.
    pub dip: IpAddr,
    /// Whether they are GRE's; else IP stands in IP.
    pub gre: bool,
}

/// What the slow path needs of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Links {
    /// Ports in [`PortId`] order, with addresses of both families.
    pub ports: Vec<PortSpec>,
    /// Every VIP once, sorted: those of IPv4 first.
    pub vips: Vec<IpAddr>,
    /// Next hops.
    pub neighbors: Vec<NeighborSpec>,
    /// Tunnels, each once, sorted.
    pub tunnels: Vec<TunnelSpec>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_holds_each_state() {
        let hops = NextHops::new(2);
        let id = NeighborId(1);
        for hop in [
            NextHop::Known(Mac([0xff; 6])),
            NextHop::Known(Mac::ZERO),
            NextHop::Failed,
            NextHop::Unknown,
        ] {
            hops.set(id, hop);
            assert_eq!(hops.get(id), hop);
            let known = if let NextHop::Known(mac) = hop { Some(mac.to_wire()) } else { None };
            assert_eq!(hops.known(id), known);
        }
        assert_eq!(hops.get(NeighborId(2)), NextHop::Failed, "out of range is never sent to");
    }
}
