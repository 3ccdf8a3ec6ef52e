//! What identifies a virtual service and a flow.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{Ports, ServiceAddress};

/// A balanced transport protocol; the value is the IP protocol number.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Protocol {
    /// TCP, RFC 9293.
    #[default]
    Tcp = 6,
    /// UDP, RFC 768.
    Udp = 17,
}

impl Protocol {
    /// The protocol of an IP protocol number, if it is balanced.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Protocol> {
        match number {
            6 => Some(Protocol::Tcp),
            17 => Some(Protocol::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(s: &str) -> Result<Protocol, String> {
        match s {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            _ => Err(format!("unknown protocol {s:?} (expected tcp or udp)")),
        }
    }
}

/// A virtual service: protocol, VIP and L4 ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The VIP.
    pub vip: IpAddr,
    /// Its L4 ports.
    pub ports: Ports,
}

impl ServiceKey {
    /// VIP and L4 ports.
    pub const fn address(&self) -> ServiceAddress {
        ServiceAddress { vip: self.vip, ports: self.ports }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.address())
    }
}

/// What every flow's key tells, whichever family its addresses are of.
pub trait Tuple {
    /// CIP.
    fn client(&self) -> IpAddr;
    /// The VIP.
    fn vip(&self) -> IpAddr;
    /// The client's L4 port, host byte order.
    fn client_port(&self) -> u16;
    /// The VIP's L4 port, host byte order.
    fn vip_port(&self) -> u16;
    /// Transport protocol.
    fn protocol(&self) -> Protocol;
}

/// A [`Tuple`] of a key's fields.
macro_rules! tuple {
    ($key:ty) => {
        impl $crate::types::Tuple for $key {
            #[inline(always)]
            fn client(&self) -> std::net::IpAddr {
                self.client.into()
            }

            #[inline(always)]
            fn vip(&self) -> std::net::IpAddr {
                self.vip.into()
            }

            #[inline(always)]
            fn client_port(&self) -> u16 {
                self.client_port
            }

            #[inline(always)]
            fn vip_port(&self) -> u16 {
                self.vip_port
            }

            #[inline(always)]
            fn protocol(&self) -> $crate::types::Protocol {
                self.protocol
            }
        }
    };
}
pub(super) use tuple;
tuple!(FlowKey);

/// A flow as the director sees it: client to VIP only. L4 ports in host byte order.
#[derive(Debug, Clone, Copy, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct FlowKey {
    /// CIP, the client's address.
    pub client: Ipv4Addr,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// The client's L4 port, host byte order.
    pub client_port: u16,
    /// The VIP's L4 port, host byte order.
    pub vip_port: u16,
    /// Transport protocol.
    pub protocol: Protocol,
}

impl FlowKey {
    /// The whole key in two words: addresses, the client's first, then L4 ports and protocol.
    ///
    /// Bytes stand in the words, from the low end up, as they do in a packet, so that a processor
    /// with that byte order reads each word at once.
    #[inline(always)]
    pub const fn words(&self) -> (u64, u64) {
        let [a, b, c, d] = self.client.octets();
        let [e, f, g, h] = self.vip.octets();
        let ports = ports_word(self.client_port, self.vip_port) as u64;
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]), ports | (self.protocol as u64) << 32)
    }

    /// Whether these are the key's [words](FlowKey::words).
    #[inline(always)]
    pub const fn is(&self, addresses: u64, ports: u64) -> bool {
        let [a, b, c, d] = self.client.octets();
        let [e, f, g, h] = self.vip.octets();
        u64::from_le_bytes([a, b, c, d, e, f, g, h]) == addresses
            && ports_word(self.client_port, self.vip_port) == ports as u32
            && self.protocol as u64 == ports >> 32
    }

    /// The key of two [words](FlowKey::words); any protocol but UDP's number makes it TCP.
    #[inline(always)]
    pub const fn from_words(addresses: u64, ports: u64) -> FlowKey {
        let [a, b, c, d, e, f, g, h] = addresses.to_le_bytes();
        let (client_port, vip_port) = ports_of(ports as u32);
        FlowKey {
            client: Ipv4Addr::new(a, b, c, d),
            vip: Ipv4Addr::new(e, f, g, h),
            client_port,
            vip_port,
            protocol: match (ports >> 32) as u8 {
                17 => Protocol::Udp,
                _ => Protocol::Tcp,
            },
        }
    }
}

/// Both L4 ports of a key as they lie in a packet, its first byte in the low end.
#[inline(always)]
pub(super) const fn ports_word(client_port: u16, vip_port: u16) -> u32 {
    let ([a, b], [c, d]) = (client_port.to_be_bytes(), vip_port.to_be_bytes());
    u32::from_le_bytes([a, b, c, d])
}

/// The client's and the VIP's L4 port in such a word.
#[inline(always)]
pub(super) const fn ports_of(word: u32) -> (u16, u16) {
    let [a, b, c, d] = word.to_le_bytes();
    (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
}

impl PartialEq for FlowKey {
    #[inline(always)]
    fn eq(&self, other: &FlowKey) -> bool {
        self.words() == other.words()
    }
}

impl Hash for FlowKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.words().hash(state);
    }
}

impl fmt::Display for FlowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {}:{} -> {}:{}",
            self.protocol, self.client, self.client_port, self.vip, self.vip_port
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_are_the_whole_key(a in any::<u32>(), b in any::<u32>(), c in any::<u16>(),
                                   d in any::<u16>(), udp in any::<bool>()) {
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            let key = FlowKey {
                client: a.into(), vip: b.into(), client_port: c, vip_port: d, protocol,
            };
            let (addresses, ports) = key.words();
            let back = FlowKey::from_words(addresses, ports);
            prop_assert!(key.is(addresses, ports));
            for bit in 0..64 {
                prop_assert!(!key.is(addresses ^ 1 << bit, ports));
                prop_assert!(!key.is(addresses, ports ^ 1 << bit));
            }
            prop_assert_eq!(
                (back.client, back.vip, back.client_port, back.vip_port, back.protocol),
                (key.client, key.vip, key.client_port, key.vip_port, key.protocol)
            );
        }
    }
}
