//! The keyed hashes of the hash schedulers.
//!
//! A client picks its own address and, with `hash_ports`, its L4 port. With a hash known to all,
//! as LVS has it, a few hosts suffice to aim all their flows at one real server. A secret key leaves
//! nothing to compute such clients by. Whoever sees which real server answers can still collect
//! them one by one, whatever the hash; so what flows are hashed with need not be a cipher.
//!
//! Tables are made off-path, with SipHash-2-4. Flows are hashed on the packet path, for every new
//! one, by the two multiplications of [`Seed`], expanded from the same key.
//!
//! # Invariant
//! What is hashed, and how, is a contract between directors, also of different versions: bytes and
//! words below never change for a given meaning.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::Options;
use crate::hash::Seed;
use crate::types::Tuple;

/// The key of the hash schedulers. Configuration, so that several directors, and one after a
/// restart, pick the same real server for the same client. A secret: `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct HashKey([u8; 16]);

/// Makes a key of zeroes, which some will have, as good as others: digits of pi.
const NOT_ZERO: u128 = 0xc0ac_29b7_c97c_50dd_3f84_d5b5_b547_0917;

impl HashKey {
    /// A key of 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> HashKey {
        HashKey(bytes)
    }

    /// What flows are hashed with: the key read as a little-endian number, expanded.
    fn seed(&self) -> Seed {
        Seed::new(u128::from_le_bytes(self.0) ^ NOT_ZERO)
    }

    /// Where a member's permutation of the slots starts.
    pub(super) fn offset(&self, member: IpAddr) -> u64 {
        self.member(b'o', member)
    }

    /// By how much a member's permutation of the slots advances.
    pub(super) fn skip(&self, member: IpAddr) -> u64 {
        self.member(b's', member)
    }

    /// The purpose and the address; lengths tell the families apart.
    fn member(&self, purpose: u8, address: IpAddr) -> u64 {
        let hasher = SipHasher24::new_with_key(&self.0);
        match address {
            IpAddr::V4(address) => {
                let [a, b, c, d] = address.octets();
                hasher.hash(&[purpose, a, b, c, d])
            }
            IpAddr::V6(address) => {
                let mut bytes = [purpose; 17];
                bytes[1..].copy_from_slice(&address.octets());
                hasher.hash(&bytes)
            }
        }
    }
}

impl From<[u8; 16]> for HashKey {
    fn from(bytes: [u8; 16]) -> HashKey {
        HashKey(bytes)
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashKey(..)")
    }
}

/// Beside an address, what tells clients (`sh`, `mh`) from destinations (`dh`), above 16 bits of L4
/// port: digits of pi.
const CLIENT: u64 = 0x4528_21e6_38d0_0000;
const DESTINATION: u64 = 0x1377_be54_66cf_0000;

/// An address, and what else makes one input of it another.
#[inline(always)]
fn hash(seed: &Seed, address: IpAddr, rest: u64) -> u64 {
    match address {
        IpAddr::V4(address) => seed.hash(address.to_bits().into(), rest),
        IpAddr::V6(address) => {
            let bits = address.to_bits();
            seed.hash_wide(&[(bits >> 64) as u64, bits as u64, 0, 0, rest])
        }
    }
}

/// What `sh` and `mh` know a flow by.
#[derive(Debug)]
pub(super) struct ClientHash {
    seed: Seed,
    /// Of the L4 port, the bits that are hashed: all or none.
    ports: u64,
}

impl ClientHash {
    pub(super) fn new(options: &Options) -> ClientHash {
        let ports = if options.hash_ports { u16::MAX.into() } else { 0 };
        ClientHash { seed: options.hash_key.seed(), ports }
    }

    /// Hashes the client's address, and its L4 port if so configured.
    #[inline(always)]
    pub(super) fn of(&self, flow: &impl Tuple) -> u64 {
        hash(&self.seed, flow.client(), CLIENT | u64::from(flow.client_port()) & self.ports)
    }
}

/// What `dh` knows a flow by.
#[derive(Debug)]
pub(super) struct DestinationHash(Seed);

impl DestinationHash {
    pub(super) fn new(options: &Options) -> DestinationHash {
        DestinationHash(options.hash_key.seed())
    }

    /// Hashes the VIP.
    #[inline(always)]
    pub(super) fn of(&self, flow: &impl Tuple) -> u64 {
        hash(&self.0, flow.vip(), DESTINATION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{FlowKey, FlowKey6, Protocol};

    /// Chi-square over 256 slots of 65,536 inputs, as the schedulers take them: the upper bits.
    fn spread(hash: impl Fn(u32) -> u64) -> f64 {
        let mut slots = [0u32; 256];
        for n in 0..65_536 {
            slots[(hash(n) >> 56) as usize] += 1;
        }
        slots.iter().map(|&n| (f64::from(n) - 256.0).powi(2) / 256.0).sum()
    }

    fn key(client: u32, client_port: u16, vip: u32) -> FlowKey {
        FlowKey {
            client: client.into(),
            vip: vip.into(),
            client_port,
            vip_port: 80,
            protocol: Protocol::Tcp,
        }
    }

    fn key6(client: u128) -> FlowKey6 {
        FlowKey6 {
            client: client.into(),
            vip: 1.into(),
            client_port: 1,
            vip_port: 80,
            protocol: Protocol::Tcp,
        }
    }

    #[test]
    fn neighbours_spread_under_any_key() {
        for key_bytes in [[0; 16], [0xff; 16], *b"shunt/hash-key/1", *b"0123456789abcdef"] {
            let options = Options { hash_key: HashKey::new(key_bytes), ..Options::default() };
            let ports = Options { hash_ports: true, ..options };
            let (client, with_port) = (ClientHash::new(&options), ClientHash::new(&ports));
            let vip = DestinationHash::new(&options);
            let prefix = 0x2001_0db8_u128 << 96;
            let all = [
                spread(|n| client.of(&key(0x0a00_0000 + n, 1, 9))),
                spread(|n| client.of(&key(n << 16, 1, 9))),
                spread(|n| with_port.of(&key(7, n as u16, 9))),
                spread(|n| with_port.of(&key(n >> 8, n as u16 & 255, 9))),
                spread(|n| vip.of(&key(7, 1, 0xc000_0000 + n))),
                spread(|n| client.of(&key6(prefix | u128::from(n)))),
                spread(|n| client.of(&key6(prefix | u128::from(n) << 64))),
                spread(|n| client.of(&key6(prefix | u128::from(n) << 80 | 1))),
            ];
            // 255 degrees of freedom: mean 255, standard deviation 23.
            assert!(all.iter().all(|chi| (150.0..370.0).contains(chi)), "{key_bytes:?}: {all:?}");
        }
    }

    #[test]
    fn port_and_vip_matter_where_they_should_only() {
        let options = Options::default();
        let ports = Options { hash_ports: true, ..options };
        let of = |options: &Options, key: &FlowKey| ClientHash::new(options).of(key);
        let (a, b, c) = (key(7, 1, 9), key(7, 2, 9), key(7, 1, 10));
        assert!(of(&options, &a) == of(&options, &b) && of(&options, &a) == of(&options, &c));
        assert!(of(&ports, &a) != of(&ports, &b) && of(&ports, &a) == of(&ports, &c));
        let vip = DestinationHash::new(&options);
        assert!(vip.of(&a) == vip.of(&b) && vip.of(&a) != vip.of(&c));
    }
}
