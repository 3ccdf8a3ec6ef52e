//! What the control plane asks of the running data plane.
//!
//! `daemon.rs` implements [`Plane`] over workers and slow path; tests implement it over nothing.
//! The row types are also what the socket speaks and what the command line prints.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::snapshot::learned::{Effect, News, RealName};
use crate::snapshot::spec::Spec;
use crate::stats::{Counts, Traffic};
use crate::types::{Mac, Protocol, ServiceKey, Tuple};
use crate::vocabulary::{AddressState, NeighborState};

/// The running data plane. All calls may come from several threads at once; none of them makes a
/// worker wait.
pub trait Plane: Send + Sync {
    /// Compiles and publishes `spec`; returns the new generation once every worker and the slow
    /// path forward by it. On error everything is as before, except for [`ApplyError::Late`]: then
    /// `spec` is published. The caller serialises calls.
    fn apply(&self, spec: &Spec) -> Result<u64, ApplyError>;
    /// Publishes what was learned, and what the data plane has learned itself (path MTUs), over the
    /// specification applied last; returns the generation in force, which is a new one if anything
    /// has changed by it. News of real servers that are not configured are passed over. As
    /// [`Plane::apply`], with which the caller serialises calls.
    fn learn(&self, news: &[News]) -> Result<u64, ApplyError>;
    /// Whether the data plane has learned something itself that it goes by only once
    /// [`Plane::learn`] or [`Plane::apply`] is called.
    fn has_learned(&self) -> bool;
    /// What was learned of a real server of a virtual service; [`Effect::NONE`] if nothing was.
    fn learned(&self, name: &RealName) -> Effect;
    /// Generation forwarded by now.
    fn generation(&self) -> u64;
    /// Milliseconds since start.
    fn uptime_ms(&self) -> u64;
    /// Counters of every worker and of the slow path.
    fn stats(&self) -> StatsReport;
    /// Traffic of one virtual service.
    fn service_traffic(&self, key: &ServiceKey) -> Traffic;
    /// Traffic of one real server of one virtual service, and whether its next hop is reachable.
    fn real_traffic(&self, key: &ServiceKey, real: IpAddr) -> (Traffic, Reachability);
    /// The longest packet that goes to one real server of one virtual service, in bytes, if the way
    /// there takes less than the egress port does.
    fn path_mtu(&self, key: &ServiceKey, real: IpAddr) -> Option<u16>;
    /// Templates of persistence that bind clients to each real server of each virtual service;
    /// those that have none are left out. It takes time in proportion to the templates there is
    /// room for.
    fn templates(&self) -> HashMap<(ServiceKey, IpAddr), u64>;
    /// Ports.
    fn ports(&self) -> Vec<PortRow>;
    /// Neighbors.
    fn neighbors(&self) -> Vec<NeighborRow>;
    /// A page of flows: at most `limit` rows (1 to 4096) that match, starting at `cursor`
    /// (0 first). A page may be short or empty with more to come; `next` = `None` ends.
    fn flows(&self, filter: &FlowFilter, cursor: u64, limit: usize) -> Result<FlowPage, Busy>;
    /// Removes the flows that match; returns how many. Replicas go too and are not counted.
    fn flush_flows(&self, filter: &FlowFilter) -> Result<u64, Busy>;
}

/// A worker did not answer in time (it answers between bursts; this means it is stuck).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("worker {worker} did not answer within {millis} ms")]
pub struct Busy {
    /// Its place in `dataplane.workers`.
    pub worker: u16,
    /// How long it was given.
    pub millis: u32,
}

/// Why a configuration was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It cannot be forwarded by.
    #[error("{0}")]
    Invalid(String),
    /// A table that was sized at start is full.
    #[error("{0}")]
    Full(String),
    /// It is published, and whoever is late takes it up as soon as it can: there is no way back,
    /// for the others have flows by it.
    #[error(
        "generation {generation} is published, but {who} has not taken it up within {millis} ms; \
         it will when it can (`shunt stats` shows the generation of each worker)"
    )]
    Late {
        /// What was published.
        generation: u64,
        /// Who is late.
        who: String,
        /// How long it was given.
        millis: u32,
    },
}

/// Which flows; absent fields match all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowFilter {
    /// Transport protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// CIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The client's L4 port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_port: Option<u16>,
    /// VIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip: Option<IpAddr>,
    /// The VIP's L4 port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vip_port: Option<u16>,
    /// RIP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<IpAddr>,
}

impl FlowFilter {
    /// Whether a flow, at this real server, matches.
    pub fn matches(&self, key: &impl Tuple, real: Option<IpAddr>) -> bool {
        self.protocol.is_none_or(|p| p == key.protocol())
            && self.client.is_none_or(|a| a == key.client())
            && self.client_port.is_none_or(|p| p == key.client_port())
            && self.vip.is_none_or(|a| a == key.vip())
            && self.vip_port.is_none_or(|p| p == key.vip_port())
            && self.real.is_none_or(|a| Some(a) == real)
    }
}

/// One flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowRow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// `SYN_RECV`, `ESTABLISHED`, `FIN_WAIT`, `CLOSE` or `UDP` (`NONE` or `ASSURED` of a template),
    /// as `ipvsadm` names them.
    pub state: String,
    /// Milliseconds until it expires if nothing more comes.
    pub expires_ms: u32,
    /// Client address and L4 port.
    pub client: SocketAddr,
    /// VIP and L4 port.
    pub vip: SocketAddr,
    /// RIP; absent when the real server is gone and the flow waits to be swept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<IpAddr>,
    /// The worker whose shard holds it.
    pub worker: u16,
    /// Whether it is no flow but a template of persistence, of state `NONE` or `ASSURED`: `client`
    /// is the client network with L4 port 0. Templates are all workers', and listed as the first
    /// one's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub template: bool,
    /// Whether it is a replica: the flow is listed for another worker too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replica: bool,
}

impl Tuple for FlowRow {
    fn client(&self) -> IpAddr {
        self.client.ip()
    }

    fn vip(&self) -> IpAddr {
        self.vip.ip()
    }

    fn client_port(&self) -> u16 {
        self.client.port()
    }

    fn vip_port(&self) -> u16 {
        self.vip.port()
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }
}

/// Some flows, and where to go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowPage {
    /// Flows that matched.
    pub flows: Vec<FlowRow>,
    /// Cursor of the next page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

/// Whether packets to a real server's next hop can be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reachability {
    /// The next hop's Ethernet address is known.
    Reachable,
    /// Not known yet.
    Resolving,
    /// The next hop does not answer.
    Unreachable,
}

impl std::fmt::Display for Reachability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Reachability::Reachable => "reachable",
            Reachability::Resolving => "resolving",
            Reachability::Unreachable => "unreachable",
        })
    }
}

/// One neighbor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NeighborRow {
    /// Name of the port it is behind.
    pub port: String,
    /// Its address.
    pub address: IpAddr,
    /// Its Ethernet address, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Its state.
    pub state: NeighborState,
    /// Milliseconds since it was last confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_ms: Option<u64>,
    /// Packets waiting for it now.
    pub waiting: u32,
}

/// One IPv6 address of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRow {
    /// The address.
    pub address: Ipv6Addr,
    /// Whether it may be used.
    pub state: AddressState,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRow {
    /// Its name in the configuration.
    pub name: String,
    /// PCI address or vdev arguments.
    pub device: String,
    /// DPDK driver, such as `net_af_packet`.
    pub driver: String,
    /// Ethernet address.
    pub mac: Mac,
    /// Link up?
    pub link: bool,
    /// Link speed in Mbit/s; absent when unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mbps: Option<u32>,
    /// Longest IP packet sent.
    pub mtu: u16,
    /// DIPs with prefix length.
    pub addresses: Vec<String>,
    /// Its IPv6 addresses, the link-local one too, and whether they may be used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ipv6: Vec<AddressRow>,
    /// Gateways.
    pub gateways: Vec<IpAddr>,
    /// RX and TX queue pairs in use.
    pub queues: u16,
    /// Workers that serve it.
    pub workers: Vec<u16>,
    /// Packets received by workers.
    pub rx_packets: u64,
    /// Bytes received by workers.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets the transmit queues did not take.
    pub tx_full: u64,
    /// Packets the NIC dropped for want of a free descriptor.
    pub rx_missed: u64,
    /// Packets the NIC received with errors.
    pub rx_errors: u64,
    /// Packets the driver dropped for want of a buffer.
    pub rx_no_buffer: u64,
    /// Packets the NIC failed to send.
    pub tx_errors: u64,
}

/// One worker's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerRow {
    /// Its place in `dataplane.workers`.
    pub worker: u16,
    /// The lcore it runs on.
    pub lcore: u32,
    /// Generation it forwards by.
    pub generation: u64,
    /// Its longest round of the last one to two seconds, in nanoseconds.
    #[serde(default)]
    pub longest_round_ns: u64,
    /// Its counters.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Everything counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsReport {
    /// Generation of the configuration.
    pub generation: u64,
    /// Milliseconds since start.
    pub uptime_ms: u64,
    /// Sum over workers.
    pub total: Counts,
    /// Per worker.
    pub workers: Vec<WorkerRow>,
    /// The slow path.
    pub slow_path: Counts,
    /// Packet buffers in all.
    pub mbufs: u64,
    /// Packet buffers in use now (receive rings included).
    pub mbufs_in_use: u64,
}
