//! Small read-only tables from an address to what is configured under it.

use std::net::Ipv4Addr;

use crate::types::{PortId, Protocol, ServiceId, ServiceKey};

/// A read-only map from 64-bit keys to 32-bit values: open addressing, linear probing, at most
/// half full.
///
/// Keys come from the configuration, not from the wire, so the hash needs no secret: an outsider
/// chooses what is looked up, not what is stored, and a look-up is bounded by the longest run of
/// stored keys.
#[derive(Debug, Clone)]
struct Index {
    slots: Box<[(u64, u32)]>,
    shift: u32,
}

/// No key has all bits set (see `service_key` and `address_key`).
const EMPTY: u64 = u64::MAX;

impl Index {
    fn build(entries: impl ExactSizeIterator<Item = (u64, u32)>) -> Index {
        let size = (entries.len() * 2).next_power_of_two().max(8);
        let shift = 64 - size.trailing_zeros();
        let mut slots = vec![(EMPTY, 0); size].into_boxed_slice();
        for (key, value) in entries {
            let mut at = Self::home(key, shift);
            while slots[at].0 != EMPTY && slots[at].0 != key {
                at = (at + 1) & (size - 1);
            }
            slots[at] = (key, value);
        }
        Index { slots, shift }
    }

    #[inline(always)]
    fn home(key: u64, shift: u32) -> usize {
        // Fibonacci hashing: the golden ratio spreads consecutive addresses over the table.
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> shift) as usize
    }

    #[inline(always)]
    fn get(&self, key: u64) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut at = Self::home(key, self.shift);
        loop {
            let (found, value) = self.slots[at & mask];
            if found == key {
                return Some(value);
            }
            if found == EMPTY {
                return None;
            }
            at += 1;
        }
    }
}

/// Finds the virtual service of a packet.
#[derive(Debug, Clone)]
pub(super) struct ServiceIndex(Index);

#[inline(always)]
fn service_key(vip: Ipv4Addr, port: u16, protocol: u8) -> u64 {
    u64::from(u32::from(vip)) << 24 | u64::from(port) << 8 | u64::from(protocol)
}

impl ServiceIndex {
    pub(super) fn build(services: &[(ServiceKey, ServiceId)]) -> ServiceIndex {
        let entry = |(k, id): &(ServiceKey, ServiceId)| {
            (service_key(k.vip, k.port, k.protocol as u8), id.0)
        };
        ServiceIndex(Index::build(services.iter().map(entry)))
    }

    #[inline(always)]
    pub(super) fn get(&self, vip: Ipv4Addr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        self.0.get(service_key(vip, port, protocol as u8)).map(ServiceId)
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
pub(super) struct LocalIndex(Index);

impl LocalIndex {
    const VIP: u32 = u32::MAX;

    pub(super) fn build(vips: &[Ipv4Addr], dips: &[(Ipv4Addr, PortId)]) -> LocalIndex {
        let entries: Vec<_> = dips
            .iter()
            .map(|(a, port)| (u64::from(u32::from(*a)), u32::from(port.0)))
            .chain(vips.iter().map(|a| (u64::from(u32::from(*a)), Self::VIP)))
            .collect();
        LocalIndex(Index::build(entries.into_iter()))
    }

    #[inline(always)]
    pub(super) fn get(&self, address: Ipv4Addr) -> Option<Local> {
        match self.0.get(u64::from(u32::from(address)))? {
            Self::VIP => Some(Local::Vip),
            port => Some(Local::Dip(PortId(port as u16))),
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
            assert_eq!(index.get(k.vip, k.port, k.protocol), Some(id));
        }
        assert_eq!(index.get([192, 0, 2, 2].into(), 81, Protocol::Tcp), None);
    }
}
