//! Turns a [`Spec`] into a [`Snapshot`], keeping the slot of everything that stays.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::hot::{LocalFilter, Ways};
use super::index::{LocalIndex, ServiceIndex};
use super::neighbors::{Links, NeighborSpec, TunnelSpec};
use super::route::{Route, RouteError, route, source};
use super::slots::{Slot, Slots, Spare};
use super::spec::{PortSpec, RealSpec, ServiceSpec, Spec};
use super::{Absent, PathMtus, Persistence, PortInfo, Real, Service, Snapshot};
use crate::forward::Labels;
use crate::packet::ipv6;
use crate::schedule::{BuildError, HashKey, Member, Options, Scheduler};
use crate::types::{
    ForwardMethod, NeighborId, PortId, RealId, SchedulerKind, ServiceId, ServiceKey,
};

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
#[derive(Debug, Clone)]
pub struct Compiler {
    limits: Limits,
    labels: Labels,
    services: Slots<ServiceKey>,
    reals: Slots<(ServiceKey, IpAddr)>,
    neighbors: Slots<(PortId, IpAddr)>,
    /// Schedulers by what they were built from: a Maglev table takes milliseconds to build, so
    /// those that stay the same are kept.
    built: HashMap<ServiceKey, Built>,
    /// Removed real servers whose flows wait, by slot.
    absent: BTreeMap<u32, Arc<Absent>>,
    path_mtus: PathMtus,
}

#[derive(Debug, Clone)]
struct Built {
    kind: SchedulerKind,
    members: Arc<[Member]>,
    options: Options,
    scheduler: Arc<Scheduler>,
}

/// A snapshot, and what changed hands for it.
#[derive(Debug)]
pub struct Compiled {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Service slots that stand for something new: their counters start here.
    pub new_services: Vec<ServiceId>,
    /// Real server slots that stand for something new.
    pub new_reals: Vec<RealId>,
    /// Slots that stand again for the real server they stood for last, as flows name it: its
    /// counters start anew, its flows are there.
    pub revived: Vec<RealId>,
}

impl Compiler {
    /// A compiler with nothing configured.
    pub fn new(limits: Limits) -> Compiler {
        Compiler {
            limits,
            labels: Labels::new(0),
            services: Slots::new(limits.services),
            reals: Slots::new(limits.reals),
            neighbors: Slots::new(limits.neighbors),
            built: HashMap::new(),
            absent: BTreeMap::new(),
            path_mtus: PathMtus::new(),
        }
    }

    /// Sets the path MTUs that the next compilation goes by, and those after it.
    pub fn set_path_mtus(&mut self, path_mtus: PathMtus) {
        self.path_mtus = path_mtus;
    }

    /// With random bits for flow labels, which outsiders see and must not foresee.
    #[must_use]
    pub fn with_labels(self, bits: u128) -> Compiler {
        Compiler { labels: Labels::new(bits), ..self }
    }

    /// The slot of a configured virtual service.
    pub fn service_id(&self, key: &ServiceKey) -> Option<ServiceId> {
        self.services.get(key).map(ServiceId)
    }

    /// The slot of a configured real server.
    pub fn real_id(&self, key: &ServiceKey, real: IpAddr) -> Option<RealId> {
        self.reals.get(&(*key, real)).map(RealId)
    }

    /// Compiles `spec` as `generation`, which is greater than any before. Every worker and the slow
    /// path forward by generation `acknowledged` or a later one; `unused` says whether no flow names
    /// a real server slot, and must have been found out after that. On error the compiler is as
    /// before.
    pub fn compile(
        &mut self,
        spec: &Spec,
        generation: u64,
        acknowledged: u64,
        unused: impl Fn(RealId) -> bool,
    ) -> Result<Compiled, CompileError> {
        let mut next = self.clone();
        let compiled = next.build(spec, generation, acknowledged, unused)?;
        *self = next;
        Ok(compiled)
    }

    fn build(
        &mut self,
        spec: &Spec,
        generation: u64,
        acknowledged: u64,
        unused: impl Fn(RealId) -> bool,
    ) -> Result<Compiled, CompileError> {
        let spare = Spare { generation, acknowledged };
        check_conflicts(spec)?;
        let services: HashSet<_> = spec.services.iter().map(|s| s.key).collect();
        self.services.keep(spare, |key| services.contains(key), |_| true);
        self.built.retain(|key, _| services.contains(key));
        let reals: HashSet<_> =
            spec.services.iter().flat_map(|s| s.reals.iter().map(|r| (s.key, r.address))).collect();
        self.reals.keep(spare, |real| reals.contains(real), |slot| unused(RealId(slot)));
        let revived = match spec.switches.expire_nodest_conn {
            true => Vec::new(),
            false => self.reals.revive(|real| reals.contains(real)),
        };
        self.note_absent(spec);
        let routes = self.routes(spec)?;

        let mut compiled = Compiled {
            snapshot: Snapshot {
                generation,
                index: ServiceIndex::build(&[]),
                locals: local_index(spec),
                filter: local_filter(spec),
                ways: Ways::default(),
                services: Vec::new(),
                reals: Vec::new(),
                absent: self.absent.iter().map(|(s, a)| (RealId(*s), Arc::clone(a))).collect(),
                ports: spec.ports.iter().map(PortInfo::of).collect(),
                labels: self.labels,
                timeouts: spec.timeouts,
                switches: spec.switches,
                links: self.links(spec, &routes, spare)?,
                counted: Vec::new(),
                path_mtus: self.path_mtus.clone(),
            },
            new_services: Vec::new(),
            new_reals: Vec::new(),
            revived: revived.into_iter().map(RealId).collect(),
        };
        let mut ids = Vec::with_capacity(spec.services.len());
        let mut ways = routes.iter();
        for service in &spec.services {
            let id = self.add_service(service, spec, &mut ways, &mut compiled)?;
            ids.push((service.key, id));
        }
        compiled.snapshot.index = ServiceIndex::build(&ids);
        compiled.snapshot.ways = Ways::build(&compiled.snapshot.reals);
        compiled.snapshot.counted.sort_unstable_by_key(|(real, _)| *real);
        Ok(compiled)
    }

    /// Keeps account of the real servers that flows wait for.
    fn note_absent(&mut self, spec: &Spec) {
        let before = std::mem::take(&mut self.absent);
        if !spec.switches.expire_nodest_conn {
            let absent = self.reals.retired().map(|((_, address), slot)| {
                let known = before.get(&slot).map(Arc::clone);
                (slot, known.unwrap_or_else(|| Arc::new(Absent::new(*address))))
            });
            self.absent = absent.collect();
        }
    }

    /// The way to each real server, in the order of the spec.
    fn routes(&self, spec: &Spec) -> Result<Vec<Route>, CompileError> {
        let mut routes = Vec::new();
        for service in &spec.services {
            for real in &service.reals {
                let way = route(&spec.ports, service.key.vip, real)
                    .map_err(|e| CompileError::Route(service.key, e))?;
                routes.push(way);
            }
        }
        Ok(routes)
    }

    fn links(
        &mut self,
        spec: &Spec,
        routes: &[Route],
        spare: Spare,
    ) -> Result<Links, CompileError> {
        let fixed: HashMap<_, _> = spec
            .neighbors
            .iter()
            .filter_map(|n| {
                let port = spec.ports.iter().position(|p| p.name == n.port)?;
                Some(((PortId(port as u16), n.address), n.mac))
            })
            .collect();
        let wanted: BTreeSet<_> = routes
            .iter()
            .map(|way| (way.port, way.next_hop))
            .chain(fixed.keys().copied())
            .map(|(port, address)| (port.0, address))
            .collect();
        // The slow path unsets a next hop that is gone before it acknowledges the snapshot without
        // it; a worker would else send by the Ethernet address of the neighbor before.
        self.neighbors.keep(spare, |(port, a)| wanted.contains(&(port.0, *a)), |_| true);
        let mut links = Links {
            ports: spec.ports.clone(),
            vips: spec
                .services
                .iter()
                .map(|s| s.key.vip)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect(),
            neighbors: Vec::with_capacity(wanted.len()),
            tunnels: tunnels(spec, routes),
        };
        for (port, address) in wanted {
            let key = (PortId(port), address);
            let (slot, _) =
                self.neighbors.slot(&key, spare.generation).ok_or(CompileError::Full {
                    what: "neighbors",
                    limit: self.limits.neighbors,
                    key: "dataplane.max_neighbors",
                })?;
            links.neighbors.push(NeighborSpec {
                id: NeighborId(slot.number),
                port: key.0,
                address,
                fixed: fixed.get(&key).copied(),
            });
        }
        Ok(links)
    }

    fn add_service<'a>(
        &mut self,
        service: &ServiceSpec,
        spec: &Spec,
        ways: &mut impl Iterator<Item = &'a Route>,
        compiled: &mut Compiled,
    ) -> Result<ServiceId, CompileError> {
        let generation = compiled.snapshot.generation;
        let (slot, new) =
            self.services.slot(&service.key, generation).ok_or(CompileError::Full {
                what: "virtual services",
                limit: self.limits.services,
                key: "dataplane.max_services",
            })?;
        let id = ServiceId(slot.number);
        if new {
            compiled.new_services.push(id);
        }
        let scheduler = self.scheduler(service, spec)?;
        let mut reals = Vec::with_capacity(service.reals.len());
        for real in &service.reals {
            let key = (service.key, real.address);
            let (slot, new) = self.reals.slot(&key, generation).ok_or(CompileError::Full {
                what: "real servers",
                limit: self.limits.reals,
                key: "dataplane.max_real_servers",
            })?;
            let Slot { number, since } = slot;
            if new {
                compiled.new_reals.push(RealId(number));
            }
            // There is one for each: `routes` went the same way.
            if let Some(way) = ways.next() {
                let neighbor = self.neighbors.get(&(way.port, way.next_hop));
                let neighbor = NeighborId(neighbor.unwrap_or(u32::MAX));
                let compiled_real = compile_real(id, real, &spec.ports, way, neighbor);
                let mtu = self.mtu(compiled_real.mtu, way, real.address);
                put(&mut compiled.snapshot.reals, number, Real { mtu, since, ..compiled_real });
            }
            reals.push(RealId(number));
        }
        let limited = service.reals.iter().any(|r| r.thresholds.is_limited());
        let thresholds: Box<[_]> =
            service.reals.iter().filter(|_| limited).map(|r| r.thresholds).collect();
        if limited || service.scheduler.counts_connections() {
            let thresholds = service.reals.iter().map(|r| r.thresholds);
            compiled.snapshot.counted.extend(reals.iter().copied().zip(thresholds));
        }
        let one_packet = service.options.one_packet;
        let persistence = service.options.persistence.map(|wanted| Persistence {
            span: u32::try_from(wanted.timeout.as_millis())
                .unwrap_or(u32::MAX)
                .min(i32::MAX as u32),
            netmask: wanted.netmask,
            expire_quiescent: spec.switches.expire_quiescent_template,
        });
        let first = reals.first().copied();
        let first = first.filter(|f| (f.0..).zip(&reals).all(|(slot, real)| real.0 == slot));
        let finds_again =
            scheduler.kind().is_hash() && thresholds.is_empty() && persistence.is_none();
        let compiled_service = Service {
            key: service.key,
            scheduler,
            reals,
            first,
            one_packet,
            persistence,
            thresholds,
            finds_again,
        };
        put(&mut compiled.snapshot.services, id.0, compiled_service);
        Ok(id)
    }
}

impl Compiler {
    /// The longest packet to a real server behind a port that takes `port` bytes. Below the least
    /// MTU there is nothing to gain: clients cannot be asked to send less.
    fn mtu(&self, port: u16, way: &Route, real: IpAddr) -> u16 {
        let path = self.path_mtus.get(&real).filter(|_| way.tunnel.is_some());
        path.map_or(port, |path| port.min(*path.max(&way.least_mtu)))
    }

    fn scheduler(
        &mut self,
        service: &ServiceSpec,
        spec: &Spec,
    ) -> Result<Arc<Scheduler>, CompileError> {
        let members: Arc<[Member]> =
            service.reals.iter().map(|r| Member { address: r.address, weight: r.weight }).collect();
        let options = Options {
            hash_key: HashKey::new(spec.hash_key),
            hash_ports: service.options.flags.hashes_port(),
            fallback: service.options.flags.falls_back(),
            maglev_size: spec.maglev_size,
        };
        let kind = service.scheduler;
        if let Some(built) = self.built.get(&service.key) {
            if built.kind == kind && built.members == members && built.options == options {
                return Ok(Arc::clone(&built.scheduler));
            }
        }
        let scheduler = Scheduler::build(kind, &members, &options)
            .map_err(|e| CompileError::Schedule(service.key, e))?;
        let scheduler = Arc::new(scheduler);
        let built = Built { kind, members, options, scheduler: Arc::clone(&scheduler) };
        self.built.insert(service.key, built);
        Ok(scheduler)
    }
}

/// All tunnels; `routes` are in the order of the spec.
fn tunnels(spec: &Spec, routes: &[Route]) -> Vec<TunnelSpec> {
    let reals = spec.services.iter().flat_map(|s| &s.reals);
    let tunneled = reals.zip(routes).filter(|(_, way)| way.tunnel.is_some());
    let all: BTreeSet<_> = tunneled
        .filter_map(|(real, way)| {
            let dip = source(spec.ports.get(way.port.index())?, way.next_hop)?;
            let gre = real.method == ForwardMethod::Gre;
            Some(TunnelSpec { real: real.address, dip, gre })
        })
        .collect();
    all.into_iter().collect()
}

fn put<T>(slots: &mut Vec<Option<T>>, slot: u32, value: T) {
    let slot = slot as usize;
    if slots.len() <= slot {
        slots.resize_with(slot + 1, || None);
    }
    slots[slot] = Some(value);
}

fn compile_real(
    service: ServiceId,
    real: &RealSpec,
    ports: &[PortSpec],
    way: &Route,
    neighbor: NeighborId,
) -> Real {
    let egress = &ports[way.port.index()];
    Real {
        address: real.address,
        service,
        since: 0,
        quiescent: real.weight == 0,
        method: real.method,
        port: way.port,
        neighbor,
        mtu: egress.mtu,
        src_mac: egress.mac,
        thresholds: real.thresholds,
        tunnel: way.tunnel,
    }
}

fn local_index(spec: &Spec) -> LocalIndex {
    let vips: Vec<_> = spec.services.iter().map(|s| s.key.vip).collect();
    let dips: Vec<_> = spec
        .ports
        .iter()
        .enumerate()
        .flat_map(|(i, p)| p.addresses.iter().map(move |a| (a.address, PortId(i as u16))))
        .collect();
    LocalIndex::build(&vips, &dips)
}

/// VIPs, DIPs, and each port's link-local address.
fn local_filter(spec: &Spec) -> LocalFilter {
    let vips = spec.services.iter().map(|s| s.key.vip);
    let dips = spec.ports.iter().flat_map(|p| p.addresses.iter().map(|a| a.address));
    let link_local = spec.ports.iter().map(|p| IpAddr::V6(ipv6::link_local(p.mac)));
    LocalFilter::build(vips.chain(dips).chain(link_local))
}

fn check_conflicts(spec: &Spec) -> Result<(), CompileError> {
    let mut keys = BTreeSet::new();
    let vips: HashSet<_> = spec.services.iter().map(|s| s.key.vip).collect();
    for service in &spec.services {
        if !keys.insert(service.key) {
            return Err(CompileError::Conflict(format!(
                "virtual service {} is configured twice",
                service.key
            )));
        }
        let dips = spec.ports.iter().flat_map(|p| &p.addresses);
        if dips.into_iter().any(|d| d.address == service.key.vip) {
            return Err(CompileError::Conflict(format!(
                "virtual service {}: the VIP is also a port's own address",
                service.key
            )));
        }
        let mut rips = BTreeSet::new();
        if let Some(twice) = service.reals.iter().find(|r| !rips.insert(r.address)) {
            return Err(CompileError::Conflict(format!(
                "virtual service {}: real server {} is configured twice",
                service.key, twice.address
            )));
        }
        if let Some(real) = service.reals.iter().find(|r| vips.contains(&r.address)) {
            return Err(CompileError::Conflict(format!(
                "virtual service {}: real server {} is a VIP, which the director answers for",
                service.key, real.address
            )));
        }
    }
    Ok(())
}
