//! The keyed hash of the hash schedulers: SipHash-2-4.
//!
//! A client picks its own address and, with `hash_ports`, its L4 port. With a hash known to all,
//! as LVS has it, a few hosts suffice to aim all their flows at one real server. SipHash under a
//! secret key leaves nothing to aim by.
//!
//! # Invariant
//! What is hashed is a contract between directors, also of different versions: the bytes below
//! never change for a given meaning.

use std::fmt;
use std::net::IpAddr;

use siphasher::sip::SipHasher24;

use super::Options;
use crate::types::Tuple;

/// The key of the hash schedulers. Configuration, so that several directors, and one after a
/// restart, pick the same real server for the same client. A secret: `Debug` does not show it.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct HashKey([u8; 16]);

impl HashKey {
    /// A key of 16 random bytes.
    pub const fn new(bytes: [u8; 16]) -> HashKey {
        HashKey(bytes)
    }

    /// Where a member's permutation of the slots starts.
    pub(super) fn offset(&self, member: IpAddr) -> u64 {
        self.member(b'o', member)
    }

    /// By how much a member's permutation of the slots advances.
    pub(super) fn skip(&self, member: IpAddr) -> u64 {
        self.member(b's', member)
    }

    /// Where a destination address is in the table of `dh`.
    #[inline]
    pub(super) fn destination(&self, vip: IpAddr) -> u64 {
        self.member(b'd', vip)
    }

    /// The purpose and the address; lengths tell the families apart.
    #[inline]
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

/// What `sh` and `mh` know a flow by; `dh` knows it by its VIP.
#[derive(Debug)]
pub(super) struct ClientHash {
    key: HashKey,
    ports: bool,
}

impl ClientHash {
    pub(super) fn new(options: &Options) -> ClientHash {
        ClientHash { key: options.hash_key, ports: options.hash_ports }
    }

    /// Hashes the client's address, and its L4 port if so configured.
    #[inline]
    pub(super) fn of(&self, flow: &impl Tuple) -> u64 {
        let [high, low] = if self.ports { flow.client_port().to_be_bytes() } else { [0, 0] };
        let hasher = SipHasher24::new_with_key(&self.key.0);
        match flow.client() {
            IpAddr::V4(client) => {
                let [a, b, c, d] = client.octets();
                // Seven bytes and their length are one SipHash block.
                hasher.hash(&[b'c', a, b, c, d, high, low])
            }
            IpAddr::V6(client) => {
                let mut bytes = [b'c'; 19];
                bytes[1..17].copy_from_slice(&client.octets());
                bytes[17..].copy_from_slice(&[high, low]);
                hasher.hash(&bytes)
            }
        }
    }
}
