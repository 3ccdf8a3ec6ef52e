//! What is to be forwarded, as plain values: the input a [`super::Snapshot`] is compiled from.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::schedule::Thresholds;
use crate::types::{Mac, Netmask, ServiceKey};
use crate::vocabulary::{ForwardMethod, NoServer, SchedulerFlags, SchedulerKind};

/// An address with the length of its network prefix: `192.0.2.10/24`, `2001:db8:2::10/64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefixed {
    /// The host's address.
    pub address: IpAddr,
    /// Prefix length, 0 to 32, of IPv6 to 128.
    pub length: u8,
}

impl Prefixed {
    /// Bits of `other` that differ from the address, and bits that tell hosts apart; `None` when
    /// they are of different families.
    fn compare(&self, other: IpAddr) -> Option<(u128, u128)> {
        let host = |width: u32| match width.saturating_sub(self.length.into()) {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        };
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                Some(((a.to_bits() ^ b.to_bits()).into(), host(u32::BITS)))
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => Some((a.to_bits() ^ b.to_bits(), host(u128::BITS))),
            _ => None,
        }
    }

    /// Whether `other` lies in the same network.
    pub fn contains(&self, other: IpAddr) -> bool {
        self.compare(other).is_some_and(|(differ, host)| differ & !host == 0)
    }

    /// What `other` is if it lies in the same network and no host may have it: the network's own
    /// or broadcast address (prefixes up to /30), of IPv6 the anycast address of its routers
    /// (RFC 4291 2.6.1; prefixes up to /126, RFC 6164).
    pub fn reserved(&self, other: IpAddr) -> Option<&'static str> {
        let (differ, host) = self.compare(other)?;
        if differ & !host != 0 || host <= 1 {
            return None;
        }
        match other {
            IpAddr::V4(other) => {
                let part = u128::from(other.to_bits()) & host;
                (part == 0 || part == host).then_some("the network or broadcast address")
            }
            IpAddr::V6(other) => {
                (other.to_bits() & host == 0).then_some("the anycast address of all routers")
            }
        }
    }

    /// Whether `other` is [reserved](Prefixed::reserved) here.
    pub fn is_network_or_broadcast(&self, other: IpAddr) -> bool {
        self.reserved(other).is_some()
    }
}

impl fmt::Display for Prefixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl std::str::FromStr for Prefixed {
    type Err = String;

    fn from_str(s: &str) -> Result<Prefixed, String> {
        let wanted = || {
            format!(
                "{s:?} is not an address with prefix length, such as 192.0.2.10/24 or \
                 2001:db8:2::10/64"
            )
        };
        let (address, length) = s.split_once('/').ok_or_else(wanted)?;
        let address: IpAddr = address.parse().map_err(|_| wanted())?;
        let longest = if address.is_ipv4() { 32 } else { 128 };
        let length = length.parse().ok().filter(|l| *l <= longest).ok_or_else(wanted)?;
        Ok(Prefixed { address, length })
    }
}

/// One port's addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// Its name in the configuration.
    pub name: String,
    /// Its Ethernet address (unknown before the port is started: [`Mac::ZERO`]).
    pub mac: Mac,
    /// Longest IP packet it sends, in bytes.
    pub mtu: u16,
    /// DIPs with their networks. Of each family, the first is the source of tunnels, ARP requests
    /// and neighbor solicitations.
    pub addresses: Vec<Prefixed>,
    /// Gateways for what is not on-link. Of each family, the first is used.
    pub gateways: Vec<IpAddr>,
}

/// GRE options of one real server, RFC 2784 and RFC 2890.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct GreSpec {
    /// Send a GRE checksum.
    #[serde(default)]
    pub checksum: bool,
    /// Send this GRE key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
}

/// One real server of one virtual service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RealSpec {
    /// RIP.
    pub address: IpAddr,
    /// Share of new flows, 0 to 65535; 0 drains.
    pub weight: u32,
    /// Forwarding method.
    pub method: ForwardMethod,
    /// Used by [`ForwardMethod::Gre`].
    pub gre: GreSpec,
    /// How many connections it may have.
    pub thresholds: Thresholds,
}

/// How long a client stays with a real server, as `ipvsadm -p` and `-M`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// How long after its last connection.
    pub timeout: Duration,
    /// Clients whose addresses agree under this mask are one. Contiguous, not zero, and of the
    /// VIP's family.
    pub netmask: Netmask,
}

/// What a virtual service may have beside its scheduler; the default is none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceOptions {
    /// Flags of its scheduler.
    pub flags: SchedulerFlags,
    /// Every datagram is scheduled alone (`ipvsadm --ops`). UDP only.
    pub one_packet: bool,
    /// Whether, and how, clients stay with a real server.
    pub persistence: Option<Persistence>,
}

/// One virtual service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSpec {
    /// Protocol, VIP, L4 ports.
    pub key: ServiceKey,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// What else is set.
    pub options: ServiceOptions,
    /// Real servers, each RIP once.
    pub reals: Vec<RealSpec>,
}

/// Flow timers, as `ipvsadm --set` (each at most 24 days).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// Established TCP.
    pub tcp: Duration,
    /// TCP after a FIN of the client.
    pub tcp_fin: Duration,
    /// UDP.
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            tcp: Duration::from_secs(900),
            tcp_fin: Duration::from_secs(120),
            udp: Duration::from_secs(300),
        }
    }
}

/// What becomes of a SYN that reuses the addresses and L4 ports of a flow (`conn_reuse_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Reuse {
    /// It goes where the flow went.
    Never,
    /// It is scheduled afresh when the flow was reset.
    AfterReset,
    /// It is scheduled afresh when the flow was reset or closed.
    #[default]
    AfterClose,
}

/// Switches, most of which LVS has as sysctls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switches {
    /// Whether persistence ends when a real server's weight becomes 0
    /// (`expire_quiescent_template`).
    pub expire_quiescent_template: bool,
    /// Whether flows end with their real server (`expire_nodest_conn`); if not, their packets are
    /// dropped until it comes back.
    pub expire_nodest_conn: bool,
    /// `conn_reuse_mode`.
    pub reuse: Reuse,
    /// Whether any scheduler takes up a TCP connection in the middle (`sloppy_tcp`).
    pub sloppy_tcp: bool,
    /// What a client is told whose packet no real server takes; LVS has no switch for it.
    pub no_server: NoServer,
}

impl Default for Switches {
    fn default() -> Switches {
        Switches {
            expire_quiescent_template: false,
            expire_nodest_conn: true,
            reuse: Reuse::default(),
            sloppy_tcp: false,
            no_server: NoServer::Reject,
        }
    }
}

/// A neighbor whose Ethernet address is configured, not asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticNeighbor {
    /// Name of the port it is behind.
    pub port: String,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// Everything the workers and the slow path forward by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spec {
    /// Ports, in [`crate::types::PortId`] order.
    pub ports: Vec<PortSpec>,
    /// Virtual services, each key once. Those that two specifications share are known to be alike
    /// without a look at them.
    pub services: Vec<Arc<ServiceSpec>>,
    /// Static neighbors.
    pub neighbors: Vec<StaticNeighbor>,
    /// Flow timers.
    pub timeouts: Timeouts,
    /// Key of the hash schedulers; the same on several directors makes them agree.
    pub hash_key: [u8; 16],
    /// Slots of a Maglev table, a prime.
    pub maglev_size: u32,
    /// What LVS has sysctls for.
    pub switches: Switches,
}
