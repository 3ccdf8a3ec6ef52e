//! Small read-only tables from an address to what is configured under it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::hash::mix::{GOLDEN, MURMUR};
use crate::types::{PortId, Ports, Protocol, ServiceId, ServiceKey};

/// What an [`Index`] is searched by.
trait IndexKey: Copy + Eq {
    /// A key that is never stored nor asked for.
    const EMPTY: Self;

    /// All its bits in one word. What is folded alike shares a run of slots, and no more.
    fn fold(self) -> u64;
}

impl IndexKey for u64 {
    /// No key has all bits set (see `service_key` and `address_key`).
    const EMPTY: u64 = u64::MAX;

    #[inline(always)]
    fn fold(self) -> u64 {
        self
    }
}

/// An IPv6 address in two words, then what else there is.
type Wide = [u64; 3];

impl IndexKey for Wide {
    const EMPTY: Wide = [u64::MAX; 3];

    #[inline(always)]
    fn fold(self) -> u64 {
        let [high, low, rest] = self;
        // Addresses that differ in one half only, as most do, differ in the outcome.
        let address = high.wrapping_mul(MURMUR[0]).rotate_left(32) ^ low;
        address.wrapping_mul(MURMUR[1]).rotate_left(32) ^ rest
    }
}

/// A read-only map from keys to 32-bit values: open addressing, linear probing, at most half full.
///
/// Keys come from the configuration, not from the wire, so the hash needs no secret: an outsider
/// chooses what is looked up, not what is stored, and a look-up is bounded by the longest run of
/// stored keys.
#[derive(Debug, Clone)]
struct Index<K> {
    slots: Arc<[(K, u32)]>,
    shift: u32,
}

impl<K: IndexKey> Index<K> {
    fn build(entries: impl ExactSizeIterator<Item = (K, u32)>) -> Index<K> {
        let size = (entries.len() * 2).next_power_of_two().max(8);
        let shift = 64 - size.trailing_zeros();
        let mut slots = vec![(K::EMPTY, 0); size];
        for (key, value) in entries {
            let mut at = Self::home(key, shift);
            while slots[at].0 != K::EMPTY && slots[at].0 != key {
                at = (at + 1) & (size - 1);
            }
            slots[at] = (key, value);
        }
        Index { slots: slots.into(), shift }
    }

    #[inline(always)]
    fn home(key: K, shift: u32) -> usize {
        // Fibonacci hashing: the golden ratio spreads consecutive addresses over the table.
        (key.fold().wrapping_mul(GOLDEN) >> shift) as usize
    }

    #[inline(always)]
    fn get(&self, key: K) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = Self::home(key, self.shift);
        loop {
            let (found, value) = self.slots[at & mask];
            if found == key {
                return Some(value);
            }
            if found == K::EMPTY {
                return None;
            }
            at += 1;
        }
    }
}

/// Finds the virtual service of a packet: that of its L4 port alone before that of a range, and
/// that before the one of all L4 ports. IPv6 has an index of its own, so that IPv4 need not compare
/// longer keys.
#[derive(Debug, Clone)]
pub(super) struct ServiceIndex {
    narrow: Index<u64>,
    wide: Index<Wide>,
    /// Those of several L4 ports, which are looked at when no other is found.
    spans: Arc<HashMap<(IpAddr, Protocol), Spans>>,
}

/// The virtual services of one VIP and protocol that have several L4 ports.
#[derive(Debug, Clone, Default)]
struct Spans {
    /// Apart from one another, in order.
    ranges: Vec<(Ports, ServiceId)>,
    /// All L4 ports.
    all: Option<ServiceId>,
}

impl Spans {
    fn get(&self, port: u16) -> Option<ServiceId> {
        let after = self.ranges.partition_point(|(ports, _)| ports.first() <= port);
        let before = after.checked_sub(1).and_then(|place| self.ranges.get(place));
        let found = before.filter(|(ports, _)| ports.contains(port)).map(|(_, id)| *id);
        found.or(self.all)
    }
}

#[inline(always)]
fn service_key(vip: Ipv4Addr, port: u16, protocol: u8) -> u64 {
    u64::from(u32::from(vip)) << 24 | u64::from(port) << 8 | u64::from(protocol)
}

#[inline(always)]
const fn wide(address: Ipv6Addr, rest: u64) -> Wide {
    let bits = address.to_bits();
    [(bits >> 64) as u64, bits as u64, rest]
}

#[inline(always)]
fn service_key6(vip: Ipv6Addr, port: u16, protocol: u8) -> Wide {
    wide(vip, u64::from(port) << 8 | u64::from(protocol))
}

impl ServiceIndex {
    pub(super) fn build(services: &[(ServiceKey, ServiceId)]) -> ServiceIndex {
        let (mut narrow, mut wide) = (Vec::new(), Vec::new());
        let mut spans: HashMap<_, Spans> = HashMap::new();
        for (key, id) in services {
            if !key.ports.is_one() {
                let spans = spans.entry((key.vip, key.protocol)).or_default();
                match key.ports.is_all() {
                    true => spans.all = Some(*id),
                    false => spans.ranges.push((key.ports, *id)),
                }
                continue;
            }
            let (port, protocol) = (key.ports.first(), key.protocol as u8);
            match key.vip {
                IpAddr::V4(vip) => narrow.push((service_key(vip, port, protocol), id.0)),
                IpAddr::V6(vip) => wide.push((service_key6(vip, port, protocol), id.0)),
            }
        }
        spans.values_mut().for_each(|spans| spans.ranges.sort_unstable_by_key(|(p, _)| *p));
        ServiceIndex {
            narrow: Index::build(narrow.into_iter()),
            wide: Index::build(wide.into_iter()),
            spans: Arc::new(spans),
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, vip: Ipv4Addr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        match self.narrow.get(service_key(vip, port, protocol as u8)) {
            Some(id) => Some(ServiceId(id)),
            None => self.span(vip.into(), port, protocol),
        }
    }

    #[inline(always)]
    pub(super) fn get6(&self, vip: Ipv6Addr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        match self.wide.get(service_key6(vip, port, protocol as u8)) {
            Some(id) => Some(ServiceId(id)),
            None => self.span(vip.into(), port, protocol),
        }
    }

    #[inline(never)]
    fn span(&self, vip: IpAddr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        if self.spans.is_empty() {
            return None;
        }
        self.spans.get(&(vip, protocol))?.get(port)
    }
}

/// Whose address a destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Local {
    /// A VIP.
    Vip,
    /// The director's own address, on this port.
    Dip(PortId),
}

/// Finds out whether an address is a VIP or a DIP.
#[derive(Debug, Clone)]
pub(super) struct LocalIndex {
    narrow: Index<u64>,
    wide: Index<Wide>,
}

impl LocalIndex {
    const VIP: u32 = u32::MAX;

    pub(super) fn build(vips: &[IpAddr], dips: &[(IpAddr, PortId)]) -> LocalIndex {
        let (mut narrow, mut broad) = (Vec::new(), Vec::new());
        let dips = dips.iter().map(|(address, port)| (*address, u32::from(port.0)));
        for (address, value) in dips.chain(vips.iter().map(|vip| (*vip, Self::VIP))) {
            match address {
                IpAddr::V4(a) => narrow.push((u64::from(u32::from(a)), value)),
                IpAddr::V6(a) => broad.push((wide(a, 0), value)),
            }
        }
        LocalIndex {
            narrow: Index::build(narrow.into_iter()),
            wide: Index::build(broad.into_iter()),
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, address: Ipv4Addr) -> Option<Local> {
        self.narrow.get(u64::from(u32::from(address))).map(Self::local)
    }

    #[inline(always)]
    pub(super) fn get6(&self, address: Ipv6Addr) -> Option<Local> {
        self.wide.get(wide(address, 0)).map(Self::local)
    }

    #[inline(always)]
    const fn local(value: u32) -> Local {
        match value {
            Self::VIP => Local::Vip,
            port => Local::Dip(PortId(port as u16)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn finds_what_is_there_and_nothing_else(
            stored in proptest::collection::hash_map(0u64..500, any::<u32>(), 0..200),
            asked in proptest::collection::vec(0u64..1000, 0..100),
        ) {
            let index = Index::build(stored.clone().into_iter().collect::<Vec<_>>().into_iter());
            let model: HashMap<u64, u32> = stored;
            for key in asked {
                prop_assert_eq!(index.get(key), model.get(&key).copied());
            }
        }

        #[test]
        fn finds_wide_keys_by_each_of_their_bits(
            stored in proptest::collection::hash_map(any::<Wide>(), any::<u32>(), 1..100),
            bit in 0usize..192,
        ) {
            let index = Index::build(stored.clone().into_iter().collect::<Vec<_>>().into_iter());
            for (key, value) in &stored {
                prop_assert_eq!(index.get(*key), Some(*value));
                let mut other = *key;
                other[bit / 64] ^= 1 << (bit % 64);
                prop_assert_eq!(index.get(other), stored.get(&other).copied());
            }
        }
    }

    #[test]
    fn services_differ_by_each_part_of_their_key() {
        let key = |protocol, vip: [u8; 4], port| ServiceKey {
            protocol,
            vip: vip.into(),
            ports: Ports::one(port),
        };
        let services = [
            (key(Protocol::Tcp, [192, 0, 2, 1], 80), ServiceId(1)),
            (key(Protocol::Udp, [192, 0, 2, 1], 80), ServiceId(2)),
            (key(Protocol::Tcp, [192, 0, 2, 2], 80), ServiceId(3)),
            (key(Protocol::Tcp, [192, 0, 2, 1], 81), ServiceId(4)),
        ];
        let index = ServiceIndex::build(&services);
        for (k, id) in services {
            let IpAddr::V4(vip) = k.vip else { panic!() };
            assert_eq!(index.get(vip, k.ports.first(), k.protocol), Some(id));
        }
        assert_eq!(index.get([192, 0, 2, 2].into(), 81, Protocol::Tcp), None);
    }

    proptest! {
        #[test]
        fn one_port_comes_before_a_range_and_a_range_before_all(
            ends in proptest::collection::btree_set(1u16..60, 0..8),
            single in proptest::collection::btree_set(1u16..60, 0..8),
            all in any::<bool>(), wide in any::<bool>(),
        ) {
            let (vip4, vip6): (Ipv4Addr, Ipv6Addr) =
                ([192, 0, 2, 1].into(), "2001:db8::1".parse().unwrap());
            let vip = if wide { IpAddr::from(vip6) } else { vip4.into() };
            // Each two ends are a range.
            let ends: Vec<_> = ends.into_iter().collect();
            let ranges = ends.chunks_exact(2).filter_map(|ends| Ports::range(ends[0], ends[1]));
            let all = all.then_some(Ports::ALL);
            let ports: Vec<_> =
                all.into_iter().chain(ranges).chain(single.into_iter().map(Ports::one)).collect();
            let services: Vec<_> = ports.iter().zip(0..).map(|(ports, id)| {
                (ServiceKey { protocol: Protocol::Udp, vip, ports: *ports }, ServiceId(id))
            }).collect();
            let index = ServiceIndex::build(&services);
            let get = |port, protocol| match wide {
                true => index.get6(vip6, port, protocol),
                false => index.get(vip4, port, protocol),
            };
            for port in 0..70 {
                // The one that says most is the narrowest.
                let fits = services.iter().filter(|(key, _)| key.ports.contains(port));
                let best = fits.min_by_key(|(key, _)| key.ports.last() - key.ports.first());
                prop_assert_eq!(get(port, Protocol::Udp), best.map(|(_, id)| *id));
                prop_assert_eq!(get(port, Protocol::Tcp), None);
            }
            prop_assert_eq!(index.get([192, 0, 2, 2].into(), 30, Protocol::Udp), None);
        }
    }

    #[test]
    fn families_do_not_mix() {
        let ports = Ports::one(80);
        let v4 = ServiceKey { protocol: Protocol::Tcp, vip: [192, 0, 2, 1].into(), ports };
        let vip6: Ipv6Addr = "2001:db8::1".parse().unwrap();
        let mapped = Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
        let v6 = ServiceKey { vip: vip6.into(), ..v4 };
        let index = ServiceIndex::build(&[(v4, ServiceId(1)), (v6, ServiceId(2))]);
        assert_eq!(index.get6(vip6, 80, Protocol::Tcp), Some(ServiceId(2)));
        assert_eq!(index.get6(vip6, 80, Protocol::Udp), None);
        assert_eq!(index.get6(vip6, 81, Protocol::Tcp), None);
        assert_eq!(index.get6(mapped, 80, Protocol::Tcp), None);
        let locals = LocalIndex::build(&[v4.vip], &[(v6.vip, PortId(3))]);
        assert_eq!(locals.get([192, 0, 2, 1].into()), Some(Local::Vip));
        assert_eq!(locals.get6(vip6), Some(Local::Dip(PortId(3))));
        assert_eq!(locals.get6(Ipv6Addr::from_bits(vip6.to_bits() ^ 1 << 64)), None);
    }
}
