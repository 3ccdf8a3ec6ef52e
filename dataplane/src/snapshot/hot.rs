//! What nearly every packet needs of the configuration, laid out for it.
//!
//! [`Snapshot`](super::Snapshot) says all about a real server; this is what forwarding a packet
//! takes of it, so laid out that it stays small when there are many: four bytes a real server, and
//! a cache line for each way out. And a set of bits that says of most packets that they are for
//! others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use super::{Real, Tunnel};
use crate::forward::Front;
use crate::types::{NeighborId, PortId, RealId};

/// A way out: how packets are rewritten, and where to. Real servers with the same address, of
/// however many virtual services, share one, so that there are as many as machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(align(64))]
pub struct Way {
    /// How packets are rewritten.
    pub front: Front,
    /// Next hop on the egress port.
    pub neighbor: NeighborId,
    /// Egress port.
    pub port: PortId,
    /// The longest IPv4 packet, in bytes, that fits; 0 when the front is not for it.
    pub limit: u16,
}

const _: () = assert!(size_of::<Way>() == 64);

impl Way {
    fn of(real: &Real) -> Way {
        let (template, limit) = match &real.tunnel {
            None => (None, real.mtu),
            Some(Tunnel::Narrow(template)) => {
                (Some(template), real.mtu.saturating_sub(template.overhead()))
            }
            // Not by this front: no packet fits.
            Some(Tunnel::Dual(_)) => (None, 0),
        };
        let (neighbor, port) = (real.neighbor, real.port);
        Way { front: Front::new(real.src_mac, template), neighbor, port, limit }
    }
}

/// Ways, and which of them each real server has, by slot.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Four bytes a real server: those of ten thousand virtual services stay close.
    numbers: Box<[u32]>,
    ways: Box<[Way]>,
}

impl Ways {
    #[inline(always)]
    pub(super) fn get(&self, id: RealId) -> Option<&Way> {
        self.ways.get(*self.numbers.get(id.index())? as usize)
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, id: RealId) {
        crate::arch::prefetch_at(&self.numbers, id.index());
    }
}

/// What [`Ways`] are copied from; it changes with each real server.
#[derive(Debug, Clone, Default)]
pub(super) struct WayTable {
    numbers: Vec<u32>,
    ways: Vec<Way>,
    /// The number of each way that is in use, and how many real servers use it.
    users: HashMap<Way, (u32, u32)>,
    /// Numbers of ways that are not. No snapshot but the one they are in knows them, so they may be
    /// another way's at once.
    free: Vec<u32>,
}

impl WayTable {
    /// No real server.
    const NONE: u32 = u32::MAX;

    /// Sets the way of a real server.
    pub(super) fn set(&mut self, id: RealId, real: &Real) {
        self.remove(id);
        let way = Way::of(real);
        let (ways, free) = (&mut self.ways, &mut self.free);
        let (number, users) = self.users.entry(way).or_insert_with(|| match free.pop() {
            Some(number) => {
                ways[number as usize] = way;
                (number, 0)
            }
            None => {
                ways.push(way);
                (ways.len() as u32 - 1, 0)
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
        let Some(way) = self.ways.get(number as usize) else { return };
        if let Entry::Occupied(mut entry) = self.users.entry(*way) {
            entry.get_mut().1 -= 1;
            if entry.get().1 == 0 {
                entry.remove();
                self.free.push(number);
            }
        }
    }

    /// As they are now.
    pub(super) fn ways(&self) -> Ways {
        Ways { numbers: self.numbers.as_slice().into(), ways: self.ways.as_slice().into() }
    }
}

/// Tells most addresses that are neither VIP nor DIP from those that are: never wrong about the
/// latter. Of a fixed size, so that a look takes a multiplication and one load.
#[derive(Debug, Clone)]
pub(super) struct LocalFilter(Arc<[u64; 1 << (LocalFilter::BITS - 6)]>);

impl LocalFilter {
    /// Sixteen: with 10,000 addresses, one stranger in seven still passes.
    const BITS: u32 = 16;

    pub(super) fn build(addresses: impl Iterator<Item = IpAddr>) -> LocalFilter {
        let mut bits = [0; 1 << (Self::BITS - 6)];
        for address in addresses {
            let (word, bit) = Self::place(match address {
                IpAddr::V4(address) => u32::from_le_bytes(address.octets()),
                IpAddr::V6(address) => {
                    let all = u128::from_le_bytes(address.octets());
                    Self::fold([all as u64, (all >> 64) as u64])
                }
            });
            bits[word] |= 1 << bit;
        }
        LocalFilter(Arc::new(bits))
    }

    /// An IPv6 address, as it lies in memory, as if it were one of IPv4.
    #[inline(always)]
    const fn fold([high, low]: [u64; 2]) -> u32 {
        // The addresses of a network differ in the last bytes, the upper ones of `low`.
        let all = high.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ low;
        (all ^ all >> 32) as u32
    }

    #[inline(always)]
    const fn place(address: u32) -> (usize, u32) {
        let hash = address.wrapping_mul(0x9e37_79b9);
        ((hash >> (32 - Self::BITS + 6)) as usize, hash >> (32 - Self::BITS) & 63)
    }

    #[inline(always)]
    pub(super) fn may_have(&self, address: u32) -> bool {
        let (word, bit) = Self::place(address);
        self.0[word] >> bit & 1 != 0
    }

    #[inline(always)]
    pub(super) fn may_have6(&self, halves: [u64; 2]) -> bool {
        self.may_have(Self::fold(halves))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::forward::{DualTunnel, TunnelTemplate};
    use crate::types::{Mac, ServiceId};
    use crate::vocabulary::ForwardMethod;

    #[test]
    fn the_filter_lets_every_local_address_through_and_few_others() {
        for count in [0, 1, 2, 63, 64, 1000, 10_000] {
            let local = |n: u32| Ipv4Addr::from(0xcb00_7100 + n);
            let filter = LocalFilter::build((0..count).map(|n| local(n).into()));
            let passes = |a: Ipv4Addr| filter.may_have(u32::from_le_bytes(a.octets()));
            assert!((0..count).map(local).all(passes), "{count}");
            let strangers = (0..10_000).filter(|n| passes(Ipv4Addr::from(0x0a00_0000 + n * 7)));
            assert!(strangers.count() < 2500, "{count}");

            let local = |n: u32| Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n));
            let filter = LocalFilter::build((0..count).map(|n| local(n).into()));
            let passes = |a: Ipv6Addr| {
                let [high, low] = [0, 8].map(|at| {
                    let half = a.octets()[at..].first_chunk().copied();
                    u64::from_le_bytes(half.expect("half an address"))
                });
                filter.may_have6([high, low])
            };
            assert!((0..count).map(local).all(passes), "{count}");
            let stranger = |n: u32| Ipv6Addr::from(0x2001_0db8_0001_u128 << 80 | u128::from(n * 7));
            assert!((0..10_000).filter(|n| passes(stranger(*n))).count() < 2500, "{count}");
        }
    }

    #[test]
    fn real_servers_with_the_same_way_share_it() {
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
        let mut table = WayTable::default();
        let reals = [real(5, 1), None, real(6, 1), real(6, 2), by_tunnel, wide];
        for (slot, real) in (0..).zip(&reals) {
            real.iter().for_each(|real| table.set(RealId(slot), real));
        }
        let ways = table.ways();
        assert_eq!(*ways.numbers, [0, u32::MAX, 0, 1, 2, 3]);
        assert_eq!(ways.get(RealId(4)).map(|way| way.limit), Some(1480));
        assert_eq!(ways.get(RealId(5)).map(|way| way.limit), Some(0));
        // What is not in use leads nowhere.
        assert!(ways.get(RealId(1)).is_none() && ways.get(RealId(6)).is_none());

        // One that others have stays, one that nobody has is another's.
        table.remove(RealId(0));
        table.remove(RealId(3));
        table.remove(RealId(9));
        let next = real(6, 9).map(|real| table.set(RealId(0), &real));
        assert!(next.is_some());
        table.set(RealId(2), &reals[2].clone().expect("it is there"));
        let after = table.ways();
        assert_eq!(*after.numbers, [1, u32::MAX, 0, u32::MAX, 2, 3]);
        assert_eq!(after.get(RealId(0)).map(|way| way.neighbor), Some(NeighborId(9)));
        assert_eq!(after.get(RealId(2)), ways.get(RealId(2)));
        assert_eq!(ways.get(RealId(3)).map(|way| way.neighbor), Some(NeighborId(2)));
    }
}
