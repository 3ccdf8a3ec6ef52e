//! What the compiler keeps from one compilation to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::address_filter::AddressFilter;
use super::index::{LocalIndex, ServiceIndex};
use super::learned::{Effect, News, Over, Overlay, RealName};
use super::reach::{Need, Reach};
use super::route::RouteError;
use super::slots::Slots;
use super::spec::{ServiceSpec, Spec};
use super::tables::Tables;
use super::{Absent, Awaited};
use crate::forward::Labels;
use crate::schedule::{BuildError, Member, Options, Scheduler};
use crate::types::{Ports, Protocol, RealId, ServiceId, ServiceKey};

/// Sizes of the tables that are allocated at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Virtual services.
    pub services: u32,
    /// Real servers, summed over virtual services.
    pub reals: u32,
    /// Next hops.
    pub neighbors: u32,
}

/// Why a [`Spec`] cannot be forwarded by.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// No way to a real server.
    #[error("virtual service {0}: {1}")]
    Route(ServiceKey, RouteError),
    /// Its scheduler cannot be built.
    #[error("virtual service {0}: {1}")]
    Schedule(ServiceKey, BuildError),
    /// The same service twice, the same real server twice in it, a DIP as VIP, a VIP as RIP.
    #[error("{0}")]
    Conflict(String),
    /// A table is full.
    #[error("no room for more {what}: {limit} allowed; raise {key} and restart shuntd")]
    Full {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u32,
        /// The setting to raise.
        key: &'static str,
    },
}

/// Compiles specs one after the other.
///
/// A virtual service, real server or neighbor that stays keeps its slot, so flows that name a
/// slot keep their real server and counters go on. A slot given up is given to another only once
/// nobody forwards by a snapshot that names it, and no flow does.
///
/// What is as it was in the spec before, and of which nothing was learned since, is not compiled
/// again: a change costs what it touches, and a copy of the tables.
#[derive(Debug, Clone)]
pub struct Compiler {
    pub(super) limits: Limits,
    pub(super) labels: Labels,
    /// What the present parts were compiled from.
    pub(super) last: Option<Spec>,
    /// What was learned beside.
    pub(super) overlay: Overlay,
    /// Of each virtual service of the last spec.
    pub(super) parts: HashMap<ServiceKey, Part>,
    pub(super) services: Slots<ServiceKey>,
    pub(super) reals: Slots<(ServiceKey, IpAddr)>,
    pub(super) reach: Reach,
    pub(super) rips: Rips,
    pub(super) tables: Tables,
    pub(super) indices: Option<Indices>,
    /// Real servers that are not there and whose flows wait, by slot.
    pub(super) absent: BTreeMap<u32, Arc<Absent>>,
    pub(super) awaited: Arc<Awaited>,
}

/// A virtual service as it was compiled last.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) spec: Arc<ServiceSpec>,
    pub(super) id: ServiceId,
    /// In the order of the spec.
    pub(super) reals: Vec<PartReal>,
    /// Whether connections of its real servers are counted over all workers.
    pub(super) counted: bool,
    pub(super) members: Arc<[Member]>,
    pub(super) options: Options,
    pub(super) scheduler: Arc<Scheduler>,
}

/// One of its real servers.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartReal {
    pub(super) id: RealId,
    pub(super) need: Need,
    /// What lay over its specification.
    pub(super) over: Over,
}

/// How packets find their virtual service.
#[derive(Debug, Clone)]
pub(super) struct Indices {
    pub(super) services: ServiceIndex,
    pub(super) locals: LocalIndex,
    pub(super) filter: AddressFilter,
}

/// Addresses of real servers, each with the virtual services it serves.
#[derive(Debug, Clone, Default)]
pub(super) struct Rips(BTreeSet<(IpAddr, ServiceKey)>);

impl Rips {
    /// None comes before it.
    const LEAST: ServiceKey = ServiceKey {
        protocol: Protocol::Tcp,
        vip: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        ports: Ports::ALL,
    };

    pub(super) fn add(&mut self, address: IpAddr, service: ServiceKey) {
        self.0.insert((address, service));
    }

    pub(super) fn remove(&mut self, address: IpAddr, service: ServiceKey) {
        self.0.remove(&(address, service));
    }

    /// The virtual services of an address, in order.
    pub(super) fn services(&self, address: IpAddr) -> impl Iterator<Item = ServiceKey> + '_ {
        let from = self.0.range((address, Self::LEAST)..);
        from.take_while(move |(a, _)| *a == address).map(|(_, service)| *service)
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.services(address).next().is_some()
    }
}

impl Compiler {
    /// A compiler with nothing configured.
    pub fn new(limits: Limits) -> Compiler {
        Compiler {
            limits,
            labels: Labels::new(0),
            last: None,
            overlay: Overlay::default(),
            parts: HashMap::new(),
            services: Slots::new(limits.services),
            reals: Slots::new(limits.reals),
            reach: Reach::new(limits.neighbors),
            rips: Rips::default(),
            tables: Tables::new(),
            indices: None,
            absent: BTreeMap::new(),
            awaited: Arc::default(),
        }
    }

    /// L4 ports of the director's own at which packets are awaited, for all snapshots: whoever awaits
    /// some marks them there.
    pub fn awaited(&self) -> &Arc<Awaited> {
        &self.awaited
    }

    /// With random bits for flow labels, which outsiders see and must not foresee.
    #[must_use]
    pub fn with_labels(self, bits: u128) -> Compiler {
        Compiler { labels: Labels::new(bits), ..self }
    }

    /// Takes up what was learned; the next compilation goes by it, and those after it. News of real
    /// servers that are not configured are passed over.
    pub fn learn(&mut self, news: &[News]) {
        for one in news {
            match one {
                News::PathMtus(path_mtus) => {
                    let rips = &self.rips;
                    self.overlay.set_path_mtus(path_mtus.clone(), |rip| rips.services(rip));
                }
                News::Real { name, cause, effect } => {
                    if self.real_id(&name.service, name.real).is_some() {
                        self.overlay.set(*name, *cause, *effect);
                    }
                }
            }
        }
    }

    /// Whether something was learned that is not in force.
    pub fn has_news(&self) -> bool {
        self.overlay.dirty().next().is_some()
    }

    /// The path MTUs learned last.
    pub const fn path_mtus(&self) -> &super::learned::PathMtus {
        self.overlay.path_mtus()
    }

    /// What was learned of a real server, all causes together.
    pub fn learned(&self, name: &RealName) -> Effect {
        self.overlay.effect(name)
    }

    /// The spec compiled last.
    pub const fn spec(&self) -> Option<&Spec> {
        self.last.as_ref()
    }

    /// The slot of a configured virtual service.
    pub fn service_id(&self, key: &ServiceKey) -> Option<ServiceId> {
        self.services.get(key).map(ServiceId)
    }

    /// The slot of a configured real server.
    pub fn real_id(&self, key: &ServiceKey, real: IpAddr) -> Option<RealId> {
        self.reals.get(&(*key, real)).map(RealId)
    }
}
