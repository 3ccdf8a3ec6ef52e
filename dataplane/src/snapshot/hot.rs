//! What nearly every packet needs of the configuration, laid out for it.
//!
//! [`Snapshot`](super::Snapshot) says all about a real server; this is the cache line of it that
//! forwarding a packet takes, and two small sets of bits that answer "no" before anything is read.

use std::net::Ipv4Addr;

use super::Real;
use crate::forward::{Front, TunnelTemplate};
use crate::types::{NeighborId, PortId, RealId, ServiceId};

/// One real server's cache line.
#[derive(Debug, Clone, Copy)]
#[repr(align(64))]
pub struct Hot {
    /// How its packets are rewritten.
    pub front: Front,
    /// Next hop on the egress port.
    pub neighbor: NeighborId,
    /// Where it belongs.
    pub place: Place,
}

/// Virtual service, egress port, and the longest packet on the way there, in one word, so that
/// those of a whole burst are compared by two instructions each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(u64);

impl Place {
    const fn new(service: ServiceId, port: PortId, limit: u16) -> Place {
        Place(service.0 as u64 | (port.0 as u64) << 32 | (limit as u64) << 48)
    }

    /// The virtual service.
    #[inline(always)]
    pub const fn service(self) -> ServiceId {
        ServiceId(self.0 as u32)
    }

    /// Egress port.
    #[inline(always)]
    pub const fn port(self) -> PortId {
        PortId((self.0 >> 32) as u16)
    }

    /// The longest IP packet, in bytes, that fits its way there; 0 for a slot not in use.
    #[inline(always)]
    pub const fn limit(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// In what the [`Place`]s of a burst differ from the first of them.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    first: Place,
    differ: u64,
}

impl Places {
    /// All like this one.
    #[inline(always)]
    pub const fn like(first: Place) -> Places {
        Places { first, differ: 0 }
    }

    /// One more: whether its virtual service is another than the first's.
    #[inline(always)]
    pub const fn add(&mut self, place: Place) -> bool {
        let differ = self.first.0 ^ place.0;
        self.differ |= differ;
        differ as u32 != 0
    }

    /// The port, if it is the same for all.
    #[inline(always)]
    pub const fn port(self) -> Option<PortId> {
        if self.differ & 0xffff_0000_0000 == 0 { Some(self.first.port()) } else { None }
    }

    /// The virtual service, if it is the same for all.
    #[inline(always)]
    pub const fn service(self) -> Option<ServiceId> {
        if self.differ as u32 == 0 { Some(self.first.service()) } else { None }
    }
}

const _: () = assert!(size_of::<Hot>() == 64);

impl Hot {
    const NONE: Hot = Hot {
        front: Front::NONE,
        neighbor: NeighborId(u32::MAX),
        place: Place::new(ServiceId(u32::MAX), PortId(u16::MAX), 0),
    };

    fn of(real: &Real) -> Hot {
        let overhead = real.tunnel.as_ref().map_or(0, TunnelTemplate::overhead);
        Hot {
            front: Front::new(real.src_mac, real.tunnel.as_ref()),
            neighbor: real.neighbor,
            place: Place::new(real.service, real.port, real.mtu.saturating_sub(overhead)),
        }
    }
}

/// The lines of all real servers, by slot.
#[derive(Debug, Default)]
pub(super) struct HotReals {
    lines: Box<[Hot]>,
    /// A bit for each slot in use: far smaller than the lines, so it stays close.
    in_use: Box<[u64]>,
}

impl HotReals {
    pub(super) fn build(reals: &[Option<Real>]) -> HotReals {
        let mut in_use = vec![0; reals.len().div_ceil(64)];
        for (slot, _) in reals.iter().enumerate().filter(|(_, real)| real.is_some()) {
            in_use[slot / 64] |= 1 << (slot % 64);
        }
        let lines = reals.iter().map(|real| real.as_ref().map_or(Hot::NONE, Hot::of));
        HotReals { lines: lines.collect(), in_use: in_use.into() }
    }

    #[inline(always)]
    pub(super) fn has(&self, id: RealId) -> bool {
        let slot = id.index();
        self.in_use.get(slot / 64).is_some_and(|bits| bits >> (slot % 64) & 1 != 0)
    }

    #[inline(always)]
    pub(super) fn get(&self, id: RealId) -> Option<&Hot> {
        self.lines.get(id.index())
    }

    #[inline(always)]
    pub(super) fn prefetch(&self, id: RealId) {
        crate::arch::prefetch_at(&self.lines, id.index());
    }
}

/// Tells most addresses that are neither VIP nor DIP from those that are: never wrong about the
/// latter. Of a fixed size, so that a look takes a multiplication and one load.
#[derive(Debug)]
pub(super) struct LocalFilter(Box<[u64; 1 << (LocalFilter::BITS - 6)]>);

impl LocalFilter {
    /// Sixteen: with 10,000 addresses, one stranger in seven still passes.
    const BITS: u32 = 16;

    pub(super) fn build(addresses: impl Iterator<Item = Ipv4Addr>) -> LocalFilter {
        let mut bits = Box::new([0; 1 << (Self::BITS - 6)]);
        for address in addresses {
            let (word, bit) = Self::place(u32::from_le_bytes(address.octets()));
            bits[word] |= 1 << bit;
        }
        LocalFilter(bits)
    }

    #[inline(always)]
    const fn place(address: u32) -> (usize, u32) {
        let hash = (address as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        ((hash >> (64 - Self::BITS + 6)) as usize, (hash >> (64 - Self::BITS)) as u32 % 64)
    }

    #[inline(always)]
    pub(super) fn may_have(&self, address: u32) -> bool {
        let (word, bit) = Self::place(address);
        self.0[word] >> bit & 1 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_lets_every_local_address_through_and_few_others() {
        for count in [0, 1, 2, 63, 64, 1000, 10_000] {
            let local = |n: u32| Ipv4Addr::from(0xcb00_7100 + n);
            let filter = LocalFilter::build((0..count).map(local));
            let passes = |a: Ipv4Addr| filter.may_have(u32::from_le_bytes(a.octets()));
            assert!((0..count).map(local).all(passes), "{count}");
            let strangers = (0..10_000).filter(|n| passes(Ipv4Addr::from(0x0a00_0000 + n * 7)));
            assert!(strangers.count() < 2500, "{count}");
        }
    }

    #[test]
    fn no_slot_is_in_use_beyond_the_last() {
        let reals = HotReals::build(&[None, None]);
        assert!(!reals.has(RealId(0)) && !reals.has(RealId(2)) && !reals.has(RealId(u32::MAX)));
        assert!(reals.get(RealId(2)).is_none());
        assert_eq!(reals.get(RealId(1)).map(|hot| hot.place.limit()), Some(0));
    }
}
