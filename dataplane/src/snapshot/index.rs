//! Small read-only tables from an address to what is configured under it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::types::{PortId, Protocol, ServiceId, ServiceKey};

/// What an [`Index`] is searched by.
trait Key: Copy + Eq {
    /// A key that is never stored nor asked for.
    const EMPTY: Self;

    /// All its bits in one word. What is folded alike shares a run of slots, and no more.
    fn fold(self) -> u64;
}

impl Key for u64 {
    /// No key has all bits set (see `service_key` and `address_key`).
    const EMPTY: u64 = u64::MAX;

    #[inline(always)]
    fn fold(self) -> u64 {
        self
    }
}

/// An IPv6 address in two words, then what else there is.
type Wide = [u64; 3];

impl Key for Wide {
    const EMPTY: Wide = [u64::MAX; 3];

    #[inline(always)]
    fn fold(self) -> u64 {
        let [high, low, rest] = self;
        // Addresses that differ in one half only, as most do, differ in the outcome.
        let address = high.wrapping_mul(0xff51_afd7_ed55_8ccd).rotate_left(32) ^ low;
        address.wrapping_mul(0xc4ce_b9fe_1a85_ec53).rotate_left(32) ^ rest
    }
}

/// A read-only map from keys to 32-bit values: open addressing, linear probing, at most half full.
///
/// Keys come from the configuration, not from the wire, so the hash needs no secret: an outsider
/// chooses what is looked up, not what is stored, and a look-up is bounded by the longest run of
/// stored keys.
#[derive(Debug, Clone)]
struct Index<K> {
    slots: Box<[(K, u32)]>,
    shift: u32,
}

impl<K: Key> Index<K> {
    fn build(entries: impl ExactSizeIterator<Item = (K, u32)>) -> Index<K> {
        let size = (entries.len() * 2).next_power_of_two().max(8);
        let shift = 64 - size.trailing_zeros();
        let mut slots = vec![(K::EMPTY, 0); size].into_boxed_slice();
        for (key, value) in entries {
            let mut at = Self::home(key, shift);
            while slots[at].0 != K::EMPTY && slots[at].0 != key {
                at = (at + 1) & (size - 1);
            }
            slots[at] = (key, value);
        }
        Index { slots, shift }
    }

    #[inline(always)]
    fn home(key: K, shift: u32) -> usize {
        // Fibonacci hashing: the golden ratio spreads consecutive addresses over the table.
        (key.fold().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
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

/// Finds the virtual service of a packet. IPv6 has an index of its own, so that IPv4 need not
/// compare longer keys.
#[derive(Debug, Clone)]
pub(super) struct ServiceIndex {
    narrow: Index<u64>,
    wide: Index<Wide>,
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
        for (key, id) in services {
            let protocol = key.protocol as u8;
            match key.vip {
                IpAddr::V4(vip) => narrow.push((service_key(vip, key.port, protocol), id.0)),
                IpAddr::V6(vip) => wide.push((service_key6(vip, key.port, protocol), id.0)),
            }
        }
        ServiceIndex {
            narrow: Index::build(narrow.into_iter()),
            wide: Index::build(wide.into_iter()),
        }
    }

    #[inline(always)]
    pub(super) fn get(&self, vip: Ipv4Addr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        self.narrow.get(service_key(vip, port, protocol as u8)).map(ServiceId)
    }

    #[inline(always)]
    pub(super) fn get6(&self, vip: Ipv6Addr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        self.wide.get(service_key6(vip, port, protocol as u8)).map(ServiceId)
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
        let key = |protocol, vip: [u8; 4], port| ServiceKey { protocol, vip: vip.into(), port };
        let services = [
            (key(Protocol::Tcp, [192, 0, 2, 1], 80), ServiceId(1)),
            (key(Protocol::Udp, [192, 0, 2, 1], 80), ServiceId(2)),
            (key(Protocol::Tcp, [192, 0, 2, 2], 80), ServiceId(3)),
            (key(Protocol::Tcp, [192, 0, 2, 1], 81), ServiceId(4)),
        ];
        let index = ServiceIndex::build(&services);
        for (k, id) in services {
            let IpAddr::V4(vip) = k.vip else { panic!() };
            assert_eq!(index.get(vip, k.port, k.protocol), Some(id));
        }
        assert_eq!(index.get([192, 0, 2, 2].into(), 81, Protocol::Tcp), None);
    }

    #[test]
    fn families_do_not_mix() {
        let v4 = ServiceKey { protocol: Protocol::Tcp, vip: [192, 0, 2, 1].into(), port: 80 };
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
