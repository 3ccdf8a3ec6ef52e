//! What a table is keyed with, and how a key is hashed to its place.
//!
//! Clients choose their address and L4 port, so with a hash they can compute they could send
//! SYNs that all fall into the same buckets, and push the flows that live there out of the table.
//! The hash is therefore keyed with 128 random bits drawn at start ([`Seed`]). Nothing that depends
//! on it leaves the machine, so the only thing left to learn it from is timing. The table stays
//! correct whatever the hash, and buckets that overflow all the same evict by policy.

use std::fmt;

use crate::hash::Seed;
use crate::hash::mix::{GOLDEN, PI, fold};
use crate::types::{FlowKey, FlowKey6, Protocol};

/// The `nth` of as many hashes as one wants that follow from one.
#[inline(always)]
pub(super) const fn next_hash(hash: u64, nth: u64) -> u64 {
    fold(hash ^ nth.wrapping_mul(GOLDEN), PI[0])
}

/// A key as the table keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packed<A> {
    /// What does not fit elsewhere.
    pub addresses: A,
    /// L4 ports, as a rule.
    pub ports: u32,
    /// One bit more: the protocol.
    pub bit: bool,
}

/// What a [`Table`](super::Table) can be keyed with.
///
/// The table is generic so that a wider key (IPv6) gets its own table, with its own buckets, and
/// costs the narrow one nothing.
pub trait TableKey: Copy + Eq {
    /// What of a key is not 32 bits of ports and the bit that is left in a flow's state.
    type Addresses: Copy + Eq + Default + fmt::Debug;

    /// Takes the key apart; different keys have different parts.
    fn pack(&self) -> Packed<Self::Addresses>;

    /// Puts it together again.
    fn unpack(packed: Packed<Self::Addresses>) -> Self;

    /// Hashes the key; equal keys hash alike.
    fn hash(&self, seed: &Seed) -> u64;
}

impl TableKey for FlowKey {
    type Addresses = u64;

    #[inline(always)]
    fn pack(&self) -> Packed<u64> {
        let (addresses, ports) = self.words();
        Packed { addresses, ports: ports as u32, bit: is_udp(ports) }
    }

    #[inline(always)]
    fn unpack(packed: Packed<u64>) -> FlowKey {
        let ports = u64::from(packed.ports) | (protocol(packed.bit) as u64) << 32;
        FlowKey::from_words(packed.addresses, ports)
    }

    #[inline(always)]
    fn hash(&self, seed: &Seed) -> u64 {
        let (addresses, ports) = self.words();
        seed.hash(addresses, ports)
    }
}

/// The bit that tells UDP's number from TCP's, in a key's second [word](FlowKey::words).
#[inline(always)]
const fn is_udp(ports: u64) -> bool {
    ports >> 32 & 1 != 0
}

const _: () = assert!(Protocol::Udp as u8 & 1 == 1 && Protocol::Tcp as u8 & 1 == 0);

#[inline(always)]
const fn protocol(bit: bool) -> Protocol {
    if bit { Protocol::Udp } else { Protocol::Tcp }
}

impl TableKey for FlowKey6 {
    type Addresses = [u64; 4];

    #[inline(always)]
    fn pack(&self) -> Packed<[u64; 4]> {
        let [a, b, c, d, ports] = self.words();
        Packed { addresses: [a, b, c, d], ports: ports as u32, bit: is_udp(ports) }
    }

    #[inline(always)]
    fn unpack(packed: Packed<[u64; 4]>) -> FlowKey6 {
        let Packed { addresses: [a, b, c, d], ports, bit } = packed;
        let ports = u64::from(ports) | (protocol(bit) as u64) << 32;
        FlowKey6::from_words(&[a, b, c, d, ports])
    }

    #[inline(always)]
    fn hash(&self, seed: &Seed) -> u64 {
        seed.hash_wide(&self.words())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    const SEED: Seed = Seed::new(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);

    fn key(client: u32, port: u16) -> FlowKey {
        FlowKey {
            client: client.into(),
            vip: [192, 0, 2, 1].into(),
            client_port: port,
            vip_port: 80,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn every_field_and_the_seed_matter() {
        let base = key(0x0a00_0001, 1024);
        let others = [
            FlowKey { client: [10, 0, 0, 2].into(), ..base },
            FlowKey { vip: [192, 0, 2, 2].into(), ..base },
            FlowKey { client_port: 1025, ..base },
            FlowKey { vip_port: 81, ..base },
            FlowKey { protocol: Protocol::Udp, ..base },
            // Swapped halves: not a hash of a sum.
            FlowKey { client: base.vip, vip: base.client, ..base },
            FlowKey { client_port: base.vip_port, vip_port: base.client_port, ..base },
        ];
        for other in others {
            assert_ne!(base.hash(&SEED), other.hash(&SEED), "{other}");
        }
        assert_ne!(base.hash(&SEED), base.hash(&Seed::new(1)));
        assert_ne!(base.hash(&Seed::new(1)), base.hash(&Seed::new(1 << 64)));
    }

    #[test]
    fn neighbouring_clients_spread_over_buckets() {
        // Chi-square over 256 cells, on high and low bits, for the dullest traffic there is.
        for shift in [0, 24, 32, 56] {
            let mut cells = [0u32; 256];
            for client in 0..64 {
                for port in 0..1024 {
                    let hash = key(0x0a00_0000 + client, 1024 + port).hash(&SEED);
                    cells[(hash >> shift) as usize & 255] += 1;
                }
            }
            let expected = 65536.0 / 256.0;
            let chi: f64 =
                cells.iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
            // 255 degrees of freedom: mean 255, standard deviation 23.
            assert!((150.0..370.0).contains(&chi), "shift {shift}: {chi}");
        }
    }

    fn key6(client: u128, port: u16) -> FlowKey6 {
        FlowKey6 {
            client: Ipv6Addr::from_bits(0x2001_0db8 << 96 | client),
            vip: Ipv6Addr::from_bits(0x2001_0db8_0080 << 80 | 1),
            client_port: port,
            vip_port: 80,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn every_field_of_a_wide_key_matters() {
        let base = key6(7, 1024);
        let others = [
            FlowKey6 { client: base.vip, vip: base.client, ..base },
            FlowKey6 { client: base.vip, ..base },
            FlowKey6 { vip: base.client, ..base },
            FlowKey6 { client_port: base.vip_port, vip_port: base.client_port, ..base },
            FlowKey6 { vip_port: 81, ..base },
            FlowKey6 { protocol: Protocol::Udp, ..base },
            // Halves of an address swapped.
            FlowKey6 { client: base.client.to_bits().rotate_left(64).into(), ..base },
        ];
        for other in others {
            assert_ne!(base.hash(&SEED), other.hash(&SEED), "{other}");
        }
        assert_ne!(base.hash(&SEED), base.hash(&Seed::new(1)));
        assert_ne!(base.hash(&Seed::new(1)), base.hash(&Seed::new(1 << 64)));
    }

    #[test]
    fn clients_of_one_prefix_spread_over_buckets() {
        // As below for IPv4: one /64 whose hosts count up, subnets that count up, one host's ports.
        let kinds: [fn(u32) -> FlowKey6; 3] = [
            |i| key6(u128::from(i), 1024),
            |i| key6(u128::from(i) << 64 | 1, 1024),
            |i| key6(u128::from(i >> 10), i as u16 & 1023),
        ];
        for (kind, shift) in
            kinds.iter().flat_map(|kind| [0, 24, 32, 56].map(|shift| (kind, shift)))
        {
            let mut cells = [0u32; 256];
            for i in 0..65536 {
                cells[(kind(i).hash(&SEED) >> shift) as usize & 255] += 1;
            }
            let chi: f64 = cells.iter().map(|&c| (f64::from(c) - 256.0).powi(2) / 256.0).sum();
            assert!((150.0..370.0).contains(&chi), "shift {shift}: {chi}");
        }
    }

    #[test]
    fn keys_come_out_as_they_went_in() {
        for n in 0..1000u32 {
            let protocol = if n % 2 == 0 { Protocol::Tcp } else { Protocol::Udp };
            let narrow = FlowKey { protocol, ..key(n.wrapping_mul(0x9e37_79b9), n as u16) };
            assert_eq!(FlowKey::unpack(narrow.pack()), narrow);
            let client = u128::from(n) * 0x0123_4567_89ab_cdef_0011_2233;
            let wide = FlowKey6 { protocol, ..key6(client, n as u16) };
            assert_eq!(FlowKey6::unpack(wide.pack()), wide);
            let other = match protocol {
                Protocol::Tcp => Protocol::Udp,
                Protocol::Udp => Protocol::Tcp,
            };
            assert_ne!(narrow.pack(), FlowKey { protocol: other, ..narrow }.pack());
            assert_ne!(wide.pack(), FlowKey6 { protocol: other, ..wide }.pack());
        }
    }
}
