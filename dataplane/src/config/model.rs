//! The configuration file as values: one struct a table, one field a key.
//!
//! `docs/configuration.md` describes every key; `tests/config_docs.rs` holds the two together.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::text;
use crate::schedule::DEFAULT_MAGLEV_SIZE;
use crate::snapshot::spec::{self, Prefixed};
use crate::types::{Mac, Netmask, Protocol, ServiceAddress, ServiceKey};
use crate::vocabulary::{ForwardMethod, IdleMode, NoServer, SchedulerFlags, SchedulerKind};

/// Everything the configuration file says.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Config {
    /// `[dataplane]`
    pub dataplane: Dataplane,
    /// `[control]`
    pub control: Control,
    /// `[timeouts]`
    pub timeouts: Timeouts,
    /// `[scheduling]`
    pub scheduling: Scheduling,
    /// Every `[[port]]`, in [`crate::types::PortId`] order.
    #[serde(rename = "port", skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Every `[[neighbor]]`.
    #[serde(rename = "neighbor", skip_serializing_if = "Vec::is_empty")]
    pub neighbors: Vec<Neighbor>,
    /// Every `[[service]]`. Those that two configurations share are known to be alike without a look
    /// at them.
    #[serde(rename = "service", skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Arc<Service>>,
}

/// `[dataplane]`: what is sized and started once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dataplane {
    /// Lcores, one worker each.
    pub workers: Vec<u32>,
    /// Flow table entries of each worker, for IPv4.
    pub flows_per_worker: u32,
    /// The same for IPv6, in a table of its own.
    pub flows6_per_worker: u32,
    /// What a worker without packets does.
    pub idle: IdleMode,
    /// Further EAL arguments.
    pub eal: Vec<String>,
    /// Packet buffers in all.
    pub mbufs: u32,
    /// Virtual services there is room for.
    pub max_services: u32,
    /// Real servers there is room for, summed over virtual services.
    pub max_real_servers: u32,
    /// Next hops there is room for.
    pub max_neighbors: u32,
    /// Templates of persistence there is room for.
    pub persistence_entries: u32,
}

impl Default for Dataplane {
    fn default() -> Dataplane {
        Dataplane {
            workers: vec![1],
            flows_per_worker: 1_000_000,
            flows6_per_worker: 125_000,
            idle: IdleMode::Poll,
            eal: Vec::new(),
            mbufs: 65_536,
            max_services: 4096,
            max_real_servers: 65_536,
            max_neighbors: 4096,
            persistence_entries: 131_072,
        }
    }
}

/// Where the control socket is unless configured; the command line's default too.
pub const DEFAULT_SOCKET: &str = "/run/shunt/control.sock";

/// `[control]`: the control socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Control {
    /// Path of the unix socket.
    pub socket: PathBuf,
    /// Group whose members may use it, beside root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

impl Default for Control {
    fn default() -> Control {
        Control { socket: PathBuf::from(DEFAULT_SOCKET), group: None }
    }
}

/// `[timeouts]`: flow timers, as `ipvsadm --set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeouts {
    /// Established TCP.
    #[serde(with = "text::value")]
    pub tcp: Duration,
    /// TCP after a FIN of the client.
    #[serde(with = "text::value")]
    pub tcp_fin: Duration,
    /// UDP.
    #[serde(with = "text::value")]
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        let spec::Timeouts { tcp, tcp_fin, udp } = spec::Timeouts::default();
        Timeouts { tcp, tcp_fin, udp }
    }
}

/// The key of the hash schedulers unless configured: the ASCII text `shunt/hash-key/1`.
///
/// It is a constant, not random, so that a restarted director picks the same real servers.
/// It is public, so whoever fears aimed traffic configures another.
pub const DEFAULT_HASH_KEY: [u8; 16] = *b"shunt/hash-key/1";

/// `[scheduling]`: what all hash schedulers share, and what LVS has as sysctls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scheduling {
    /// Key of the hash schedulers; [`DEFAULT_HASH_KEY`] when absent.
    #[serde(with = "text::option", skip_serializing_if = "Option::is_none")]
    pub hash_key: Option<[u8; 16]>,
    /// Slots of the table of `sh`, `dh` and `mh`, a prime.
    pub maglev_size: u32,
    /// Whether persistence ends when the weight of a real server becomes 0.
    pub expire_quiescent_template: bool,
    /// Whether flows end with their real server, or wait for it.
    pub expire_nodest_conn: bool,
    /// When a SYN on a flow that is there is a new connection: 0 never, 1 after a reset, 2 after a
    /// reset or a FIN.
    pub conn_reuse_mode: u8,
    /// Whether any scheduler takes up a TCP connection in the middle.
    pub sloppy_tcp: bool,
    /// What a client is told whose packet no real server takes.
    pub no_server: NoServer,
}

impl Scheduling {
    /// What LVS has sysctls for.
    pub(super) const fn switches(&self) -> spec::Switches {
        spec::Switches {
            expire_quiescent_template: self.expire_quiescent_template,
            expire_nodest_conn: self.expire_nodest_conn,
            reuse: match self.conn_reuse_mode {
                0 => spec::Reuse::Never,
                1 => spec::Reuse::AfterReset,
                _ => spec::Reuse::AfterClose,
            },
            sloppy_tcp: self.sloppy_tcp,
            no_server: self.no_server,
        }
    }
}

impl Default for Scheduling {
    fn default() -> Scheduling {
        Scheduling {
            hash_key: None,
            maglev_size: DEFAULT_MAGLEV_SIZE,
            expire_quiescent_template: false,
            expire_nodest_conn: true,
            conn_reuse_mode: 2,
            sloppy_tcp: false,
            no_server: NoServer::Reject,
        }
    }
}

/// `[[port]]`: one NIC port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// What it is called in listings and in `[[neighbor]]`.
    pub name: String,
    /// PCI address; this or `vdev`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// DPDK virtual device with its arguments; this or `device`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdev: Option<String>,
    /// DIPs with prefix length. Of each family, the first is the source of tunnels, ARP requests
    /// and neighbor solicitations.
    #[serde(with = "text::list")]
    pub address: Vec<Prefixed>,
    /// Next hops for what is not on-link. Of each family, the first is used.
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub gateway: Vec<IpAddr>,
    /// Longest IP packet sent, in bytes.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// Queue pairs; as many as there are workers when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u16>,
}

const fn default_mtu() -> u16 {
    1500
}

/// `[[neighbor]]`: a neighbor whose Ethernet address is not asked for by ARP or ND.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Neighbor {
    /// Name of the port it is behind.
    pub port: String,
    /// Its address.
    #[serde(with = "text::value")]
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: Mac,
}

/// `[[service]]`: one virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Transport protocol.
    pub protocol: Protocol,
    /// VIP and L4 ports.
    #[serde(with = "text::value")]
    pub address: ServiceAddress,
    /// Scheduler; `wlc` when absent, as `ipvsadm` has it.
    #[serde(default = "default_scheduler")]
    pub scheduler: SchedulerKind,
    /// Flags of `scheduler`, as `ipvsadm -b`.
    #[serde(default, skip_serializing_if = "SchedulerFlags::is_empty")]
    pub scheduler_flags: SchedulerFlags,
    /// Schedule every datagram alone, as `ipvsadm --ops`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_packet: bool,
    /// How long a client stays with its real server, as `ipvsadm -p`; not at all when absent.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Duration>,
    /// Which clients are one for `persistence`, as `ipvsadm -M`; each is its own when absent.
    #[serde(default, with = "text::option", skip_serializing_if = "Option::is_none")]
    pub persistence_netmask: Option<Netmask>,
    /// Every `[[service.real]]`. Read one by one, so that each may have its own error.
    #[serde(rename = "real", default, skip_serializing_if = "Vec::is_empty")]
    pub reals: Vec<Real>,
}

/// The scheduler of a virtual service that names none.
pub const fn default_scheduler() -> SchedulerKind {
    SchedulerKind::Wlc
}

impl Service {
    /// A virtual service with nothing but its scheduler.
    pub fn new(protocol: Protocol, address: ServiceAddress, scheduler: SchedulerKind) -> Service {
        Service {
            protocol,
            address,
            scheduler,
            scheduler_flags: SchedulerFlags::NONE,
            one_packet: false,
            persistence: None,
            persistence_netmask: None,
            reals: Vec::new(),
        }
    }

    /// The same with no real server.
    pub(super) fn without_reals(&self) -> Service {
        let Service { protocol, address, scheduler, scheduler_flags, one_packet, .. } = *self;
        let Service { persistence, persistence_netmask, .. } = *self;
        Service {
            protocol,
            address,
            scheduler,
            scheduler_flags,
            one_packet,
            persistence,
            persistence_netmask,
            reals: Vec::new(),
        }
    }

    /// Protocol, VIP and L4 ports: what tells it from others.
    pub const fn key(&self) -> ServiceKey {
        let ServiceAddress { vip, ports } = self.address;
        ServiceKey { protocol: self.protocol, vip, ports }
    }
}

/// `[[service.real]]`: one real server of a virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Real {
    /// RIP.
    #[serde(with = "text::value")]
    pub address: IpAddr,
    /// Share of new flows; 0 drains.
    #[serde(default = "default_weight")]
    pub weight: u32,
    /// Forwarding method; `dr` when absent, as `ipvsadm` has it.
    #[serde(default = "default_forward")]
    pub forward: ForwardMethod,
    /// Options of `forward = "gre"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gre: Option<Gre>,
    /// Connections from which on it gets no new flows, as `ipvsadm -x`; 0 is without end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub upper_threshold: u32,
    /// Connections below which it gets new flows again, as `ipvsadm -y`; 0 is three quarters of
    /// `upper_threshold`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lower_threshold: u32,
}

/// Whether a number need not be written.
pub(crate) fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// The weight of a real server that names none.
pub const fn default_weight() -> u32 {
    1
}

/// The forwarding method of a real server that names none.
pub const fn default_forward() -> ForwardMethod {
    ForwardMethod::Dr
}

/// `gre = { … }` of a real server, RFC 2784 and RFC 2890.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gre {
    /// Send a GRE checksum.
    pub checksum: bool,
    /// Send this GRE key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<u32>,
}
