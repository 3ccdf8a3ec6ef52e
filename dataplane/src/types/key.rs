//! What identifies a virtual service and a flow.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

/// A virtual service: protocol, VIP and L4 port (host byte order).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceKey {
    /// Transport protocol.
    pub protocol: Protocol,
    /// The VIP.
    pub vip: Ipv4Addr,
    /// L4 port of the VIP, host byte order.
    pub port: u16,
}

impl ServiceKey {
    /// VIP and L4 port.
    pub const fn address(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.vip, self.port)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, self.address())
    }
}

/// A flow as the director sees it: client to VIP only. L4 ports in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// The virtual service the flow belongs to.
    #[inline(always)]
    pub const fn service(&self) -> ServiceKey {
        ServiceKey { protocol: self.protocol, vip: self.vip, port: self.vip_port }
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
