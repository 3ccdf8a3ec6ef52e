//! The compiled configuration and its publication to workers.
//!
//! A [`Snapshot`] is immutable. The control plane compiles one from a [`spec::Spec`] off-path
//! ([`compile::Compiler`]), hands it to every worker and the slow path ([`publish::Publisher`]),
//! and frees the old one itself.
#![forbid(unsafe_code)]

mod absent;
mod address_filter;
mod adjacency;
mod awaited;
pub mod check;
pub mod compile;
mod differ;
mod index;
mod kept;
pub mod learned;
pub mod neighbors;
mod plan;
pub mod publish;
mod reach;
pub mod route;
mod slots;
pub mod spec;
mod tables;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

pub use absent::Absent;
use address_filter::AddressFilter;
use adjacency::Adjacencies;
pub use adjacency::Adjacency;
pub use awaited::Awaited;
pub use differ::differing;
pub use index::Local;
use index::{LocalIndex, ServiceIndex};
use neighbors::Links;
use spec::{PortSpec, Switches, Timeouts};

use crate::forward::{DualTunnel, Labels, TunnelTemplate};
use crate::schedule::{Scheduler, Thresholds};
use crate::types::{Mac, NeighborId, Netmask, PortId, Protocol, RealId, ServiceId, ServiceKey};
use crate::vocabulary::ForwardMethod;

/// Everything a worker forwards by.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with each configuration.
    pub generation: u64,
    index: ServiceIndex,
    locals: LocalIndex,
    filter: AddressFilter,
    adjacencies: Adjacencies,
    services: Vec<Option<Service>>,
    reals: Vec<Option<Real>>,
    /// Sorted by slot.
    removed: Arc<[(RealId, Arc<Removed>)]>,
    /// Sorted by slot.
    absent: Vec<(RealId, Arc<Absent>)>,
    ports: Vec<PortInfo>,
    /// Gives the flow labels of outer IPv6 headers; the same for every snapshot of a daemon.
    pub labels: Labels,
    /// Flow timers.
    pub timeouts: Timeouts,
    /// What LVS has sysctls for.
    pub switches: Switches,
    /// L4 ports of the director's own at which packets are awaited; the same for every snapshot of a
    /// daemon.
    pub awaited: Arc<Awaited>,
    /// What the slow path needs; the same for every snapshot between which nothing of it changed.
    pub links: Arc<Links>,
    /// Real servers whose connections are counted over all workers, for their schedulers or their
    /// thresholds; with these, sorted.
    pub counted: Arc<[(RealId, Thresholds)]>,
}

/// A virtual service, compiled. Snapshots share what it has many of.
#[derive(Debug, Clone)]
pub struct Service {
    /// Protocol, VIP, L4 ports.
    pub key: ServiceKey,
    /// Picks an index into `reals`.
    pub scheduler: Arc<Scheduler>,
    /// Its real servers.
    pub reals: Arc<[RealId]>,
    /// The first of them, if their slots follow one another.
    pub first: Option<RealId>,
    /// Whether each of its datagrams is scheduled alone, without a flow.
    pub one_packet: bool,
    /// Whether, and how, clients stay with a real server.
    pub persistence: Option<Persistence>,
    /// How many connections each of them may have; empty when none has a threshold.
    pub thresholds: Arc<[Thresholds]>,
    /// Whether a client's packets find the same real server without a flow: by their hash, whoever
    /// is full, and whatever the client was bound to before.
    pub finds_again: bool,
}

/// Persistence of a virtual service, compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Persistence {
    /// Milliseconds after the last connection.
    pub span: u32,
    /// Clients whose addresses agree under this mask are one.
    pub netmask: Netmask,
    /// Whether clients leave a real server of weight 0 with their next connection.
    pub expire_quiescent: bool,
}

/// A real server of one virtual service, compiled.
#[derive(Debug, Clone)]
pub struct Real {
    /// RIP.
    pub address: IpAddr,
    /// The virtual service.
    pub service: ServiceId,
    /// The first generation in which its slot stood for it.
    pub since: u64,
    /// Whether its effective weight is 0, so that it gets no new flows.
    pub quiescent: bool,
    /// Forwarding method.
    pub method: ForwardMethod,
    /// Egress port.
    pub port: PortId,
    /// Next hop on that port.
    pub neighbor: NeighborId,
    /// Longest IP packet that may be sent there, in bytes: the port's MTU, or that of the path.
    pub mtu: u16,
    /// The port's Ethernet address.
    pub src_mac: Mac,
    /// How many connections it may have.
    pub thresholds: Thresholds,
    /// Outer headers, for tunnels.
    pub tunnel: Option<Tunnel>,
}

/// A real server that is configured, and out of use for what was learned of it
/// ([`learned::Standing::Removed`]): no flow goes there, and probes do.
#[derive(Debug, Clone)]
pub struct Removed {
    /// As it would be compiled.
    pub real: Real,
    /// How packets would reach it.
    pub adjacency: Adjacency,
}

/// A real server slot, and by which snapshot it was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named {
    /// The slot.
    pub real: RealId,
    /// The snapshot's generation.
    pub generation: u64,
}

/// The outer headers of packets to one real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tunnel {
    /// IPv4 in IPv4.
    Narrow(TunnelTemplate),
    /// IPv6 on either side, or on both.
    Dual(DualTunnel),
}

impl Tunnel {
    /// Bytes it adds in front of the inner packet.
    #[inline(always)]
    pub const fn overhead(&self) -> u16 {
        match self {
            Tunnel::Narrow(template) => template.overhead(),
            Tunnel::Dual(dual) => dual.overhead(),
        }
    }
}

/// A port, as the packet path needs it.
#[derive(Debug, Clone, Copy)]
pub struct PortInfo {
    /// Its Ethernet address.
    pub mac: Mac,
}

impl PortInfo {
    fn of(spec: &PortSpec) -> PortInfo {
        PortInfo { mac: spec.mac }
    }
}

impl Snapshot {
    /// The slot of a virtual service. Looks through all of them.
    pub fn find(&self, key: &ServiceKey) -> Option<ServiceId> {
        let is_it = |s: &Option<Service>| s.as_ref().is_some_and(|s| s.key == *key);
        self.services.iter().position(is_it).map(|slot| ServiceId(slot as u32))
    }

    /// The virtual service an IPv4 packet is for.
    #[inline(always)]
    pub fn find_service(&self, vip: Ipv4Addr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        self.index.get(vip, port, protocol)
    }

    /// The virtual service an IPv6 packet is for.
    #[inline(always)]
    pub fn find_service6(&self, vip: Ipv6Addr, port: u16, protocol: Protocol) -> Option<ServiceId> {
        self.index.get6(vip, port, protocol)
    }

    /// Whether an IPv4 address is a VIP or DIP.
    #[inline(always)]
    pub fn local(&self, address: Ipv4Addr) -> Option<Local> {
        self.locals.get(address)
    }

    /// Whether an IPv6 address is a VIP or DIP.
    #[inline(always)]
    pub fn local6(&self, address: Ipv6Addr) -> Option<Local> {
        self.locals.get6(address)
    }

    /// Whether an IPv4 address, as it lies in a packet, may be a VIP or DIP: false only if it is not.
    #[inline(always)]
    pub fn may_be_local(&self, address: u32) -> bool {
        self.filter.may_have(address)
    }

    /// Whether an IPv6 address, in the two halves in which it lies in a packet, may be a VIP, a DIP or
    /// a port's link-local address: false only if it is not.
    #[inline(always)]
    pub fn may_be_local6(&self, halves: [u64; 2]) -> bool {
        self.filter.may_have6(halves)
    }

    /// How packets reach a real server; `None` when it is no longer configured, or out of use.
    #[inline(always)]
    pub fn adjacency(&self, id: RealId) -> Option<&Adjacency> {
        self.adjacencies.get(id)
    }

    /// Asks for the cache line where [`Snapshot::adjacency`] begins to look.
    #[inline(always)]
    pub fn prefetch_adjacency(&self, id: RealId) {
        self.adjacencies.prefetch(id);
    }

    /// A virtual service by slot.
    #[inline(always)]
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(id.index())?.as_ref()
    }

    /// The virtual services whose clients are grouped otherwise than in `before`, or no longer
    /// bound: templates of those of before would count flows that do not find them any more.
    pub fn unbound_since(&self, before: &Snapshot) -> Vec<ServiceId> {
        let netmask = |service: &Service| service.persistence.map(|p| p.netmask);
        let ids = (0..before.services.len() as u32).map(ServiceId);
        ids.filter(|id| {
            let was = before.service(*id).and_then(netmask);
            was.is_some() && was != self.service(*id).and_then(netmask)
        })
        .collect()
    }

    /// A real server by slot; `None` when it is no longer configured, or out of use.
    #[inline(always)]
    pub fn real(&self, id: RealId) -> Option<&Real> {
        self.reals.get(id.index())?.as_ref()
    }

    /// A real server that was named by an earlier snapshot, or by this one, if its slot still stands
    /// for it. Flows keep a slot from being given to another; whatever else may outlive a
    /// configuration names real servers so.
    pub fn real_named(&self, named: Named) -> Option<&Real> {
        self.real(named.real).filter(|real| real.since <= named.generation)
    }

    /// A real server of this snapshot, by a name that is good for later ones.
    pub const fn name(&self, real: RealId) -> Named {
        Named { real, generation: self.generation }
    }

    /// A real server that is configured, and out of use for what was learned of it.
    pub fn removed(&self, id: RealId) -> Option<&Removed> {
        let place = self.removed.binary_search_by_key(&id, |(real, _)| *real).ok()?;
        self.removed.get(place).map(|(_, removed)| &**removed)
    }

    /// A real server, in use or not: for probes, and for those who list what is configured.
    pub fn configured(&self, id: RealId) -> Option<&Real> {
        self.real(id).or_else(|| self.removed(id).map(|removed| &removed.real))
    }

    /// A real server that was named by an earlier snapshot, or by this one, if its slot still stands
    /// for it, in use or not: for probes.
    pub fn configured_named(&self, named: Named) -> Option<&Real> {
        self.configured(named.real).filter(|real| real.since <= named.generation)
    }

    /// How packets reach a real server, in use or not: for probes.
    pub fn adjacency_of_configured(&self, id: RealId) -> Option<&Adjacency> {
        self.adjacency(id).or_else(|| self.removed(id).map(|removed| &removed.adjacency))
    }

    /// A real server that is not there while its flows are to wait for it.
    pub fn absent(&self, id: RealId) -> Option<&Absent> {
        let place = self.absent.binary_search_by_key(&id, |(real, _)| *real).ok()?;
        self.absent.get(place).map(|(_, absent)| &**absent)
    }

    /// The slots of those that were at an address.
    pub fn absent_at(&self, address: IpAddr) -> impl Iterator<Item = RealId> + '_ {
        self.absent.iter().filter(move |(_, a)| a.address == address).map(|(id, _)| *id)
    }

    /// The address of a real server, or of one that flows wait for.
    pub fn rip(&self, id: RealId) -> Option<IpAddr> {
        self.configured(id).map(|r| r.address).or_else(|| self.absent(id).map(|a| a.address))
    }

    /// The slots of a real server's address, in no order: one per virtual service it serves, in use
    /// or not.
    pub fn reals_at(&self, address: IpAddr) -> impl Iterator<Item = RealId> + '_ {
        let here = move |real: &Option<Real>| real.as_ref().is_some_and(|r| r.address == address);
        let slots = self.reals.iter().enumerate().filter(move |(_, r)| here(r));
        let removed = self.removed.iter().filter(move |(_, r)| r.real.address == address);
        slots.map(|(i, _)| RealId(i as u32)).chain(removed.map(|(id, _)| *id))
    }

    /// A port by its place in the configuration.
    #[inline(always)]
    pub fn port(&self, id: PortId) -> Option<&PortInfo> {
        self.ports.get(id.index())
    }
}
