//! What the control socket speaks: one JSON object a line.
//!
//! A request is `{"v":1,"id":7,"op":"service.add",…}`; its answer is `{"id":7,"ok":…}` or
//! `{"id":7,"error":{"code":"not_found","message":"…"}}`. The command line uses the same types.
//! `docs/control-api.md` has an example of each.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use super::error::{Error, ErrorCode};
use super::plane::{
    FlowFilter, FlowPage, FlowRow, NeighborRow, PortRow, Reachability, StatsReport,
};
use crate::config::{self, Change, Gre, is_zero, text_option, text_value};
use crate::snapshot::learned::Standing;
use crate::stats::Traffic;
use crate::types::{Netmask, Protocol, ServiceAddress, ServiceKey};
use crate::vocabulary::{ForwardMethod, SchedulerFlags, SchedulerKind};

/// Version of the protocol, the `v` of a request. It grows when an old client would misread an
/// answer; new operations and new keys in answers do not count.
pub const VERSION: u64 = 1;

/// Most rows of one page of flows.
pub const MAX_PAGE: usize = 4096;

/// Names a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceRef {
    /// Transport protocol.
    pub protocol: Protocol,
    /// VIP and L4 ports.
    #[serde(with = "text_value")]
    pub address: ServiceAddress,
}

impl ServiceRef {
    /// As the configuration and the data plane know it.
    pub const fn key(&self) -> ServiceKey {
        let ServiceAddress { vip, ports } = self.address;
        ServiceKey { protocol: self.protocol, vip, ports }
    }
}

/// A virtual service with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceAdd {
    /// Transport protocol.
    pub protocol: Protocol,
    /// VIP and L4 ports.
    #[serde(with = "text_value")]
    pub address: ServiceAddress,
    /// Scheduler, `wlc` when absent.
    #[serde(default = "config::default_scheduler")]
    pub scheduler: SchedulerKind,
    /// Flags of the scheduler, none when absent.
    #[serde(default, skip_serializing_if = "SchedulerFlags::is_empty")]
    pub scheduler_flags: SchedulerFlags,
    /// Whether every datagram is scheduled alone; not when absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_packet: bool,
    /// How long a client stays with its real server; not at all when absent or `"0s"`.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Duration>,
    /// Clients whose addresses agree under this mask are one; each is its own when absent.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub persistence_netmask: Option<Netmask>,
}

/// New settings of a virtual service; absent ones stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceEdit {
    /// Transport protocol.
    pub protocol: Protocol,
    /// VIP and L4 ports.
    #[serde(with = "text_value")]
    pub address: ServiceAddress,
    /// The new scheduler. Flags that are not its own are dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<SchedulerKind>,
    /// All flags of the scheduler from now on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduler_flags: Option<SchedulerFlags>,
    /// Whether every datagram is scheduled alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub one_packet: Option<bool>,
    /// How long a client stays with its real server; `"0s"` is not at all, and drops the netmask.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Duration>,
    /// Clients whose addresses agree under this mask are one.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub persistence_netmask: Option<Netmask>,
}

/// Which virtual services; absent fields match all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceSelect {
    /// Transport protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// VIP and L4 ports, the same as configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<ServiceAddress>,
    /// Of these, this real server alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub real: Option<IpAddr>,
}

impl ServiceSelect {
    /// Whether a virtual service matches.
    pub fn matches(&self, key: &ServiceKey) -> bool {
        self.protocol.is_none_or(|p| p == key.protocol)
            && self.address.is_none_or(|a| a == key.address())
    }

    /// Whether a real server of a virtual service that matches does too.
    pub fn matches_real(&self, real: IpAddr) -> bool {
        self.real.is_none_or(|wanted| wanted == real)
    }
}

/// Names a real server of a virtual service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerRef {
    /// The virtual service's protocol.
    pub protocol: Protocol,
    /// The virtual service's VIP and L4 ports.
    #[serde(with = "text_value")]
    pub address: ServiceAddress,
    /// RIP.
    #[serde(with = "text_value")]
    pub real: IpAddr,
}

/// A real server with its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerAdd {
    /// The virtual service's protocol.
    pub protocol: Protocol,
    /// The virtual service's VIP and L4 ports.
    #[serde(with = "text_value")]
    pub address: ServiceAddress,
    /// RIP.
    #[serde(with = "text_value")]
    pub real: IpAddr,
    /// Share of new flows, 1 when absent; 0 drains.
    #[serde(default = "config::default_weight")]
    pub weight: u32,
    /// Forwarding method, `dr` when absent.
    #[serde(default = "config::default_forward")]
    pub forward: ForwardMethod,
    /// GRE options; only with `gre`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gre: Option<Gre>,
    /// Connections from which on it gets no new flows; 0, or absent, is without end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub upper_threshold: u32,
    /// Connections below which it gets new flows again; 0, or absent, is three quarters of
    /// `upper_threshold`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lower_threshold: u32,
}

/// New settings of a real server; absent ones stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerEdit {
    /// The virtual service's protocol.
    pub protocol: Protocol,
    /// The virtual service's VIP and L4 ports.
    #[serde(with = "text_value")]
    pub address: ServiceAddress,
    /// RIP.
    #[serde(with = "text_value")]
    pub real: IpAddr,
    /// New share of new flows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
    /// New forwarding method. Leaving `gre` drops the GRE options.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forward: Option<ForwardMethod>,
    /// New GRE options, all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gre: Option<Gre>,
    /// Connections from which on it gets no new flows; 0 is without end, and drops the lower one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_threshold: Option<u32>,
    /// Connections below which it gets new flows again; 0 is three quarters of the upper one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lower_threshold: Option<u32>,
}

/// New flow timers; absent ones stay.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeoutsSet {
    /// Established TCP.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Duration>,
    /// TCP after a FIN of the client.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub tcp_fin: Option<Duration>,
    /// UDP.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub udp: Option<Duration>,
}

/// Operations that are one change.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    /// Those that change virtual services, real servers and flow timers, in order: each finds what
    /// those before it have left.
    pub ops: Vec<Request>,
    /// Whether those that are refused are left out; if not, one that is refused is the end of all.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
}

/// One page of flows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowList {
    /// Which flows.
    pub filter: FlowFilter,
    /// Where to go on: `next` of the page before, 0 first.
    pub cursor: u64,
    /// Most rows, 1 to [`MAX_PAGE`]; 100 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

/// Names one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowRef {
    /// Transport protocol.
    pub protocol: Protocol,
    /// Client address and L4 port.
    #[serde(with = "text_value")]
    pub client: SocketAddr,
    /// VIP and L4 port.
    #[serde(with = "text_value")]
    pub vip: SocketAddr,
}

/// Which flows to remove.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FlowFlush {
    /// Which flows; `{}` is all of them.
    pub filter: FlowFilter,
}

/// The text of a configuration file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigText {
    /// TOML.
    pub text: String,
    /// What errors call the text.
    #[serde(default = "default_name")]
    pub name: String,
}

fn default_name() -> String {
    "request".to_owned()
}

/// The text of a configuration file, or none for the daemon's own file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigSource {
    /// TOML; the daemon's configuration file is read when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// What errors call the text.
    #[serde(default = "default_name")]
    pub name: String,
}

macro_rules! requests {
    ($($(#[$doc:meta])* $variant:ident($args:tt) = $op:literal, $kind:ident;)+) => {
        /// Everything that can be asked of the daemon.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "op")]
        pub enum Request {
            $($(#[$doc])* #[serde(rename = $op)] $variant($args)),+
        }

        impl Request {
            /// The names of all operations.
            pub const OPS: &'static [&'static str] = &[$($op),+];

            /// The operation's name.
            pub const fn op(&self) -> &'static str {
                match self { $(Request::$variant(_) => $op),+ }
            }

            /// Whether it changes what the daemon does, and so is logged.
            pub const fn is_change(&self) -> bool {
                match self { $(Request::$variant(_) => requests!(@ $kind)),+ }
            }
        }
    };
    (@ read) => { false };
    (@ change) => { true };
}

/// An operation without arguments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoArguments {}

requests! {
    /// Does nothing: the daemon answers. Answer: [`Done`].
    Ping(NoArguments) = "ping", read;
    /// Versions of daemon and protocol. Answer: [`Version`].
    Version(NoArguments) = "version", read;
    /// Adds a virtual service without real servers. Answer: [`Done`].
    ServiceAdd(ServiceAdd) = "service.add", change;
    /// Changes a virtual service's settings; flows keep their real servers. Answer: [`Done`].
    ServiceEdit(ServiceEdit) = "service.edit", change;
    /// Removes a virtual service with its real servers and flows. Answer: [`Done`].
    ServiceDel(ServiceRef) = "service.del", change;
    /// Virtual services with their real servers and traffic. Answer: a list of [`ServiceRow`].
    ServiceList(ServiceSelect) = "service.list", read;
    /// Removes all virtual services at once. Answer: [`Done`].
    ServiceClear(NoArguments) = "service.clear", change;
    /// Lets counters of virtual services and their real servers start at zero. Answer: [`Done`].
    ServiceZero(ServiceSelect) = "service.zero", change;
    /// Adds a real server to a virtual service. Answer: [`Done`].
    ServerAdd(ServerAdd) = "server.add", change;
    /// Changes a real server; its flows stay with it. Answer: [`Done`].
    ServerEdit(ServerEdit) = "server.edit", change;
    /// Removes a real server; its flows are scheduled afresh. Answer: [`Done`].
    ServerDel(ServerRef) = "server.del", change;
    /// Real servers of the virtual services that match. Answer: a list of [`ServerRow`].
    ServerList(ServiceSelect) = "server.list", read;
    /// Flow timers. Answer: [`config::Timeouts`].
    TimeoutsShow(NoArguments) = "timeouts.show", read;
    /// Changes flow timers. Answer: [`Done`].
    TimeoutsSet(TimeoutsSet) = "timeouts.set", change;
    /// Several of the operations above as one change. Answer: [`Batched`].
    Batch(Batch) = "batch", change;
    /// One page of flows. Answer: [`FlowPage`].
    FlowList(FlowList) = "flow.list", read;
    /// One flow. Answer: [`FlowRow`].
    FlowShow(FlowRef) = "flow.show", read;
    /// Removes flows; their next packets are scheduled afresh. Answer: [`Flushed`].
    FlowFlush(FlowFlush) = "flow.flush", change;
    /// Neighbors. Answer: a list of [`NeighborRow`].
    NeighborList(NoArguments) = "neighbor.list", read;
    /// Ports. Answer: a list of [`PortRow`].
    PortList(NoArguments) = "port.list", read;
    /// All counters. Answer: [`StatsReport`].
    Stats(NoArguments) = "stats", read;
    /// The running configuration. Answer: [`Shown`].
    ConfigShow(NoArguments) = "config.show", read;
    /// Whether a configuration is right, without using it. Answer: [`Checked`].
    ConfigCheck(ConfigSource) = "config.check", read;
    /// What would change if a configuration were applied. Answer: a list of [`Change`].
    ConfigDiff(ConfigSource) = "config.diff", read;
    /// Replaces the running configuration at once, or not at all. Answer: [`Applied`].
    ConfigApply(ConfigSource) = "config.apply", change;
    /// Writes the running configuration over the daemon's file. Answer: [`SavedFile`].
    ConfigSave(NoArguments) = "config.save", change;
}

/// Done; and the generation of the configuration the workers forward by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Grows with every change.
    pub generation: u64,
}

/// Answer of `batch`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batched {
    /// Of the configuration.
    pub generation: u64,
    /// Operations that were carried out.
    pub done: usize,
    /// Those that were refused, in order; only of one that is `partial`.
    pub errors: Vec<Refused>,
}

/// An operation of a batch that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Its place in the batch, from 0.
    pub op: usize,
    /// Why, as it would have been told alone.
    #[serde(flatten)]
    pub error: Error,
}

/// Answer of `version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Of the daemon.
    pub version: String,
    /// Of the protocol, see [`VERSION`].
    pub protocol: u64,
    /// Of the configuration.
    pub generation: u64,
    /// Milliseconds since the daemon started.
    pub uptime_ms: u64,
    /// The daemon's configuration file.
    pub config: PathBuf,
}

/// How fast something comes: an average over some ten seconds, per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// Flows scheduled.
    pub connections: u64,
    /// Packets forwarded.
    pub packets: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// One virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceRow {
    /// Transport protocol.
    pub protocol: Protocol,
    /// VIP and L4 port.
    pub address: ServiceAddress,
    /// Scheduler.
    pub scheduler: SchedulerKind,
    /// Flags of the scheduler.
    #[serde(default, skip_serializing_if = "SchedulerFlags::is_empty")]
    pub scheduler_flags: SchedulerFlags,
    /// Whether every datagram is scheduled alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_packet: bool,
    /// How long a client stays with its real server; not at all when absent.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub persistence: Option<Duration>,
    /// Clients whose addresses agree under this mask are one; each is its own when absent.
    #[serde(default, with = "text_option", skip_serializing_if = "Option::is_none")]
    pub persistence_netmask: Option<Netmask>,
    /// Summed over real servers, those gone included, since `service.zero` if that was asked for.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The same, per second.
    #[serde(default)]
    pub rate: Rate,
    /// Real servers, in the order of the configuration.
    pub reals: Vec<RealRow>,
}

/// One real server of a virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RealRow {
    /// RIP.
    pub real: IpAddr,
    /// Forwarding method.
    pub forward: ForwardMethod,
    /// GRE options, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gre: Option<Gre>,
    /// Share of new flows as configured; 0 drains.
    pub weight: u32,
    /// Share of new flows now, for what was learned of it; absent when it is the configured one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_weight: Option<u32>,
    /// Whether it is in use, for what was learned of it; absent when it is.
    #[serde(default, skip_serializing_if = "Standing::is_up")]
    pub standing: Standing,
    /// Connections from which on it gets no new flows; 0, or absent, is without end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub upper_threshold: u32,
    /// Connections below which it gets new flows again; 0, or absent, is three quarters of
    /// `upper_threshold`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lower_threshold: u32,
    /// Whether its next hop answers.
    pub state: Reachability,
    /// The longest packet that the way there takes, in bytes, with the outer header; absent when it
    /// takes what the egress port sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_mtu: Option<u16>,
    /// Templates of persistence that bind clients to it, as `PersistConn` of `ipvsadm`; absent when
    /// its virtual service has no persistence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub templates: Option<u64>,
    /// What went to it, since `service.zero` if that was asked for.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// The same, per second.
    #[serde(default)]
    pub rate: Rate,
}

impl RealRow {
    /// The share of new flows that it gets now.
    pub fn effective_weight(&self) -> u32 {
        self.effective_weight.unwrap_or(self.weight)
    }
}

/// One real server with its virtual service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    /// The virtual service's protocol.
    pub protocol: Protocol,
    /// The virtual service's VIP and L4 ports.
    pub address: ServiceAddress,
    /// The real server.
    #[serde(flatten)]
    pub server: RealRow,
}

/// Answer of `flow.flush`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    /// Flows removed.
    pub flows: u64,
}

/// Answer of `config.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// Of the configuration.
    pub generation: u64,
    /// As a file.
    pub toml: String,
    /// The same as JSON: the file's tables and keys.
    pub config: serde_json::Value,
}

/// Answer of `config.check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Virtual services in it.
    pub services: usize,
    /// Real servers in it, summed over virtual services.
    pub real_servers: usize,
    /// What is allowed and better not so.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// Answer of `config.apply`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Of the new configuration.
    pub generation: u64,
    /// What changed.
    pub changes: Vec<Change>,
}

/// Answer of `config.save`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// The file written.
    pub file: PathBuf,
    /// Where its earlier text went, if it had something the new one lacks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<PathBuf>,
}

/// The `ok` of an answer.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
#[allow(missing_docs, reason = "each is the answer its type documents")]
pub enum Answer {
    Done(Done),
    Batched(Batched),
    Version(Version),
    Services(Vec<ServiceRow>),
    Servers(Vec<ServerRow>),
    Timeouts(config::Timeouts),
    Flows(FlowPage),
    Flow(FlowRow),
    Flushed(Flushed),
    Neighbors(Vec<NeighborRow>),
    Ports(Vec<PortRow>),
    Stats(Box<StatsReport>),
    Shown(Shown),
    Checked(Checked),
    Changes(Vec<Change>),
    Applied(Applied),
    Saved(SavedFile),
}
