//! Tells packets for others from those for the director's own addresses, nearly always, at the cost
//! of one load: a set of bits by address.

use std::net::IpAddr;
use std::sync::Arc;

use crate::hash::mix::GOLDEN;

/// Tells most addresses that are neither VIP nor DIP from those that are: never wrong about the
/// latter. Of a fixed size, so that a look takes a multiplication and one load.
#[derive(Debug, Clone)]
pub(super) struct AddressFilter(Arc<[u64; 1 << (AddressFilter::BITS - 6)]>);

impl AddressFilter {
    /// Sixteen: with 10,000 addresses, one stranger in seven still passes.
    const BITS: u32 = 16;

    pub(super) fn build(addresses: impl Iterator<Item = IpAddr>) -> AddressFilter {
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
        AddressFilter(Arc::new(bits))
    }

    /// An IPv6 address, as it lies in memory, as if it were one of IPv4.
    #[inline(always)]
    const fn fold([high, low]: [u64; 2]) -> u32 {
        // The addresses of a network differ in the last bytes, the upper ones of `low`.
        let all = high.wrapping_mul(GOLDEN) ^ low;
        (all ^ all >> 32) as u32
    }

    #[inline(always)]
    const fn place(address: u32) -> (usize, u32) {
        let hash = address.wrapping_mul((GOLDEN >> 32) as u32);
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

    #[test]
    fn the_filter_lets_every_local_address_through_and_few_others() {
        for count in [0, 1, 2, 63, 64, 1000, 10_000] {
            let local = |n: u32| Ipv4Addr::from(0xcb00_7100 + n);
            let filter = AddressFilter::build((0..count).map(|n| local(n).into()));
            let passes = |a: Ipv4Addr| filter.may_have(u32::from_le_bytes(a.octets()));
            assert!((0..count).map(local).all(passes), "{count}");
            let strangers = (0..10_000).filter(|n| passes(Ipv4Addr::from(0x0a00_0000 + n * 7)));
            assert!(strangers.count() < 2500, "{count}");

            let local = |n: u32| Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n));
            let filter = AddressFilter::build((0..count).map(|n| local(n).into()));
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
}
