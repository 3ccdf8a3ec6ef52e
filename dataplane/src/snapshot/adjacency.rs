//! How packets reach real servers, laid out for the packet path: an adjacency for each way out, and
//! which one each real server has.
//!
//! [`Snapshot`](super::Snapshot) says all about a real server; an [`Adjacency`] is what forwarding a
//! packet takes of it, in a cache line. Real servers refer to theirs by number, in four bytes each,
//! so that all of it stays small when there are many.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::{Real, Tunnel};
use crate::forward::FastRewrite;
use crate::types::{NeighborId, PortId, RealId};

/// How packets to a real server are rewritten, and where they go. Real servers with the same address,
/// of however many virtual services, share one, so that there are as many as machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(align(64))]
pub struct Adjacency {
    /// How packets are rewritten.
    pub rewrite: FastRewrite,
    /// Next hop on the egress port.
    pub neighbor: NeighborId,
    /// Egress port.
    pub port: PortId,
    /// The longest IPv4 packet, in bytes, that fits; 0 when `rewrite` is not for it.
    pub limit: u16,
}

const _: () = assert!(size_of::<Adjacency>() == 64);

impl Adjacency {
    pub(super) fn of(real: &Real) -> Adjacency {
        let (template, limit) = match &real.tunnel {
            None => (None, real.mtu),
            Some(Tunnel::Narrow(template)) => {
                (Some(template), real.mtu.saturating_sub(template.overhead()))
            }
            // Not by this rewrite: no packet fits.
            Some(Tunnel::Dual(_)) => (None, 0),
        };
        let (neighbor, port) = (real.neighbor, real.port);
        Adjacency { rewrite: FastRewrite::new(real.src_mac, template), neighbor, port, limit }
    }
}

/// Adjacencies, and which of them each real server has, by slot.
#[derive(Debug, Default)]
pub(super) struct Adjacencies {
    /// Four bytes a real server: those of ten thousand virtual services stay close.
    numbers: Box<[u32]>,
    adjacencies: Box<[Adjacency]>,
}

impl Adjacencies {
    #[inline(always)]
    pub(super) fn get(&self, id: RealId) -> Option<&Adjacency> {
        self.adjacencies.get(*self.numbers.get(id.index())? as usize)
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, id: RealId) {
        crate::arch::prefetch_at(&self.numbers, id.index());
    }
}

/// What [`Adjacencies`] are copied from; it changes with each real server.
#[derive(Debug, Clone, Default)]
pub(super) struct AdjacencyTable {
    numbers: Vec<u32>,
    adjacencies: Vec<Adjacency>,
    /// The number of each adjacency that is in use, and how many real servers use it.
    users: HashMap<Adjacency, (u32, u32)>,
    /// Numbers that nothing uses. Each snapshot has its own copy of what a number stood for, so they
    /// may stand for something else at once.
    free: Vec<u32>,
}

impl AdjacencyTable {
    /// No real server.
    const NONE: u32 = u32::MAX;

    /// Sets the adjacency of a real server.
    pub(super) fn set(&mut self, id: RealId, real: &Real) {
        self.remove(id);
        let adjacency = Adjacency::of(real);
        let (adjacencies, free) = (&mut self.adjacencies, &mut self.free);
        let (number, users) = self.users.entry(adjacency).or_insert_with(|| match free.pop() {
            Some(number) => {
                adjacencies[number as usize] = adjacency;
                (number, 0)
            }
            None => {
                adjacencies.push(adjacency);
                (adjacencies.len() as u32 - 1, 0)
            }
        });
        *users += 1;
        if self.numbers.len() <= id.index() {
            self.numbers.resize(id.index() + 1, Self::NONE);
        }
        self.numbers[id.index()] = *number;
    }

    /// A real server is no longer there.
    pub(super) fn remove(&mut self, id: RealId) {
        let Some(number) = self.numbers.get_mut(id.index()) else { return };
        let number = std::mem::replace(number, Self::NONE);
        let Some(adjacency) = self.adjacencies.get(number as usize) else { return };
        if let Entry::Occupied(mut entry) = self.users.entry(*adjacency) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
                self.free.push(number);
            }
        }
    }

    /// As they are now.
    pub(super) fn adjacencies(&self) -> Adjacencies {
        Adjacencies {
            numbers: self.numbers.as_slice().into(),
            adjacencies: self.adjacencies.as_slice().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::{DualTunnel, TunnelTemplate};
    use crate::types::{Mac, ServiceId};
    use crate::vocabulary::ForwardMethod;

    #[test]
    fn real_servers_with_the_same_adjacency_share_it() {
        let real = |service, last| {
            Some(Real {
                address: [172, 16, 0, last].into(),
                service: ServiceId(service),
                since: 1,
                quiescent: false,
                method: ForwardMethod::Dr,
                port: PortId(0),
                neighbor: NeighborId(last.into()),
                mtu: 1500,
                src_mac: Mac([2, 0, 0, 0, 0, 1]),
                thresholds: Default::default(),
                tunnel: None,
            })
        };
        let tunnel = TunnelTemplate::ipip([192, 0, 2, 1].into(), [172, 16, 0, 1].into());
        let by_tunnel = real(7, 1).map(|r| Real { tunnel: Some(Tunnel::Narrow(tunnel)), ..r });
        let dual = DualTunnel::ipip4([192, 0, 2, 1].into(), [172, 16, 0, 1].into());
        let wide = real(8, 1).map(|r| Real { tunnel: Some(Tunnel::Dual(dual)), ..r });
        let mut table = AdjacencyTable::default();
        let reals = [real(5, 1), None, real(6, 1), real(6, 2), by_tunnel, wide];
        for (slot, real) in (0..).zip(&reals) {
            real.iter().for_each(|real| table.set(RealId(slot), real));
        }
        let adjacencies = table.adjacencies();
        assert_eq!(*adjacencies.numbers, [0, u32::MAX, 0, 1, 2, 3]);
        assert_eq!(adjacencies.get(RealId(4)).map(|adjacency| adjacency.limit), Some(1480));
        assert_eq!(adjacencies.get(RealId(5)).map(|adjacency| adjacency.limit), Some(0));
        // What is not in use leads nowhere.
        assert!(adjacencies.get(RealId(1)).is_none() && adjacencies.get(RealId(6)).is_none());

        // One that others have stays, one that nobody has is another's.
        table.remove(RealId(0));
        table.remove(RealId(3));
        table.remove(RealId(9));
        let next = real(6, 9).map(|real| table.set(RealId(0), &real));
        assert!(next.is_some());
        table.set(RealId(2), &reals[2].clone().expect("it is there"));
        let after = table.adjacencies();
        assert_eq!(*after.numbers, [1, u32::MAX, 0, u32::MAX, 2, 3]);
        assert_eq!(after.get(RealId(0)).map(|adjacency| adjacency.neighbor), Some(NeighborId(9)));
        assert_eq!(after.get(RealId(2)), adjacencies.get(RealId(2)));
        assert_eq!(
            adjacencies.get(RealId(3)).map(|adjacency| adjacency.neighbor),
            Some(NeighborId(2))
        );
    }
}
