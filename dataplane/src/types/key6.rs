//! What identifies a flow over IPv6.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::Ipv6Addr;

use super::Protocol;
use super::key::{ports_of, ports_word, tuple};

/// A flow over IPv6 as the director sees it: client to VIP only. L4 ports in host byte order.
///
/// The IPv6 counterpart of [`FlowKey`](super::FlowKey), a type of its own so that the narrow key
/// stays narrow.
#[derive(Debug, Clone, Copy, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey6 {
    /// CIP, the client's address.
    pub client: Ipv6Addr,
    /// The VIP.
    pub vip: Ipv6Addr,
    /// The client's L4 port, host byte order.
    pub client_port: u16,
    /// The VIP's L4 port, host byte order.
    pub vip_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

tuple!(FlowKey6);

impl FlowKey6 {
    /// The whole key in five words: the client's address, the VIP, then L4 ports and protocol, in
    /// the order of [`FlowKey::words`](super::FlowKey::words). Of an address, the first eight bytes
    /// come first; bytes stand in a word from the low end up.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 5] {
        let [client, client_low] = halves(self.client);
        let [vip, vip_low] = halves(self.vip);
        let ports = ports_word(self.client_port, self.vip_port) as u64;
        [client, client_low, vip, vip_low, ports | (self.protocol as u64) << 32]
    }
}

impl FlowKey6 {
    /// The key of its [words](FlowKey6::words); any protocol but UDP's number makes it TCP.
    pub const fn from_words(words: &[u64; 5]) -> FlowKey6 {
        let [client, client_low, vip, vip_low, ports] = *words;
        let (client_port, vip_port) = ports_of(ports as u32);
        FlowKey6 {
            client: address(client, client_low),
            vip: address(vip, vip_low),
            client_port,
            vip_port,
            protocol: match (ports >> 32) as u8 {
                17 => Protocol::Udp,
                _ => Protocol::Tcp,
            },
        }
    }
}

/// The address of both halves.
#[inline(always)]
const fn address(low: u64, high: u64) -> Ipv6Addr {
    Ipv6Addr::from_bits((low as u128 | (high as u128) << 64).swap_bytes())
}

/// Both halves of an address, each with its first byte in the low end.
#[inline(always)]
const fn halves(address: Ipv6Addr) -> [u64; 2] {
    let bits = address.to_bits().swap_bytes();
    [bits as u64, (bits >> 64) as u64]
}

impl PartialEq for FlowKey6 {
    #[inline(always)]
    fn eq(&self, other: &FlowKey6) -> bool {
        // Without a branch a word: keys that are compared are equal as a rule.
        let (a, b) = (self.words(), other.words());
        let difference = a.iter().zip(&b).fold(0, |all, (a, b)| all | (a ^ b));
        difference == 0
    }
}

impl Hash for FlowKey6 {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words().hash(state);
    }
}

impl fmt::Display for FlowKey6 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FlowKey6 { client, vip, client_port, vip_port, protocol } = self;
        write!(f, "{protocol} [{client}]:{client_port} -> [{vip}]:{vip_port}")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn keys()(client: u128, vip: u128, client_port: u16, vip_port: u16, udp: bool) -> FlowKey6 {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let (client, vip) = (client.into(), vip.into());
            FlowKey6 { client, vip, client_port, vip_port, protocol }
        }
    }

    proptest! {
        #[test]
        fn every_bit_of_the_key_is_in_its_words(key in keys(), bit in 0u32..128) {
            let flip = |address: Ipv6Addr| Ipv6Addr::from_bits(address.to_bits() ^ 1 << bit);
            let port = 1u16 << (bit % 16);
            for other in [
                FlowKey6 { client: flip(key.client), ..key },
                FlowKey6 { vip: flip(key.vip), ..key },
                FlowKey6 { client_port: key.client_port ^ port, ..key },
                FlowKey6 { vip_port: key.vip_port ^ port, ..key },
            ] {
                let words = key.words().into_iter().zip(other.words());
                prop_assert_eq!(words.map(|(a, b)| (a ^ b).count_ones()).sum::<u32>(), 1);
                prop_assert!(key != other);
            }
        }
    }

    #[test]
    fn is_shown_with_brackets() {
        let key = FlowKey6 {
            client: "2001:db8::1".parse().unwrap(),
            vip: "2001:db8:80::".parse().unwrap(),
            client_port: 1024,
            vip_port: 443,
            protocol: Protocol::Udp,
        };
        assert_eq!(key.to_string(), "udp [2001:db8::1]:1024 -> [2001:db8:80::]:443");
        assert_ne!(key, FlowKey6 { protocol: Protocol::Tcp, ..key });
        // First bytes in the low ends.
        assert_eq!(
            key.words(),
            [0xb80d_0120, 1 << 56, 0x8000_b80d_0120, 0, 17 << 32 | 0xbb01_0004]
        );
    }
}
