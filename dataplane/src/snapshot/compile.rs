//! Turns a [`Spec`], and what was learned beside, into a [`Snapshot`], keeping the slot of
//! everything that stays.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::address_filter::AddressFilter;
use super::index::{LocalIndex, ServiceIndex};
pub use super::kept::{CompileError, Compiler, Limits};
use super::kept::{Indices, Part, PartReal};
use super::learned::{Over, RealName, Standing};
use super::plan::{Draft, Plan};
use super::reach::Need;
use super::route::Route;
use super::slots::Slot;
use super::spec::{PortSpec, RealSpec, Spec};
use super::{Absent, Persistence, PortInfo, Real, Service, Snapshot};
use crate::packet::ipv6;
use crate::types::{NeighborId, PortId, RealId, ServiceId};

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
    /// Real servers that are no longer configured, with their virtual services.
    pub departed: Vec<(ServiceId, RealId)>,
    /// What had to be done for it.
    pub work: Work,
}

/// How much was compiled; the rest was as before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Virtual services, those removed included.
    pub services: usize,
    /// Real servers, those removed included.
    pub reals: usize,
}

impl Compiler {
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
        let unused = |slot| unused(RealId(slot));
        let plan = self.plan(spec, acknowledged, &unused)?;
        self.services.release(acknowledged, |_| true);
        self.reals.release(acknowledged, unused);
        self.reach.slots.release(acknowledged, |_| true);
        Ok(self.carry_out(spec, generation, plan))
    }

    /// What cannot fail any more.
    fn carry_out(&mut self, spec: &Spec, generation: u64, plan: Plan) -> Compiled {
        let Plan { fixed, drafts, removed } = plan;
        let mut done = Done { generation, ..Done::default() };
        let reindex = !removed.is_empty()
            || drafts.iter().any(|draft| !self.parts.contains_key(&draft.spec.key))
            || self.last.as_ref().is_none_or(|before| before.ports != spec.ports);
        // First what is needed, then what is not any more, so that what stays keeps its slot.
        self.reach.set_fixed(fixed, generation);
        for draft in &drafts {
            for (real, _, way) in draft.middle() {
                self.reach.add(&Need::of(&spec.ports, real, way), generation);
                self.rips.add(real.address, draft.spec.key);
            }
            if !self.parts.contains_key(&draft.spec.key) {
                self.reach.vips.add(draft.spec.key.vip);
            }
        }
        for key in removed {
            if let Some(part) = self.parts.remove(&key) {
                self.remove(&part, &mut done);
            }
        }
        let mut old_parts = Vec::with_capacity(drafts.len());
        for draft in &drafts {
            let mut part = self.parts.remove(&draft.spec.key);
            if let Some(part) = &mut part {
                self.clear_middle(part, draft, &mut done);
            }
            old_parts.push(part);
        }
        if !spec.switches.expire_nodest_conn {
            let wanted: HashSet<_> = drafts
                .iter()
                .flat_map(|d| d.middle().map(|(real, ..)| (d.spec.key, real.address)))
                .collect();
            let revived = self.reals.revive(|real| wanted.contains(real));
            done.revived = revived.into_iter().map(RealId).collect();
        }
        for (draft, part) in drafts.into_iter().zip(old_parts) {
            self.set_part(spec, draft, part, &mut done);
        }
        self.tables.settle();
        self.note_absent(spec);
        self.overlay.settle();
        self.last = Some(spec.clone());
        if reindex {
            self.indices = None;
        }
        let indices = self.indices.get_or_insert_with(|| {
            let ids: Vec<_> = self.parts.values().map(|part| (part.spec.key, part.id)).collect();
            Indices {
                services: ServiceIndex::build(&ids),
                locals: local_index(spec),
                filter: local_filter(spec),
            }
        });
        let snapshot = Snapshot {
            generation,
            index: indices.services.clone(),
            locals: indices.locals.clone(),
            filter: indices.filter.clone(),
            adjacencies: self.tables.adjacencies.adjacencies(),
            services: self.tables.services.clone(),
            reals: self.tables.reals.clone(),
            removed: self.tables.removed.list(),
            absent: self.absent.iter().map(|(s, a)| (RealId(*s), Arc::clone(a))).collect(),
            ports: spec.ports.iter().map(PortInfo::of).collect(),
            labels: self.labels,
            timeouts: spec.timeouts,
            switches: spec.switches,
            awaited: Arc::clone(&self.awaited),
            links: self.reach.links(&spec.ports),
            counted: Arc::clone(&self.tables.counted),
        };
        let Done { new_services, new_reals, revived, departed, work, .. } = done;
        Compiled { snapshot, new_services, new_reals, revived, departed, work }
    }

    /// Keeps account of the real servers that flows wait for: those that are no longer configured,
    /// and those that were removed for what was learned of them.
    fn note_absent(&mut self, spec: &Spec) {
        let before = std::mem::take(&mut self.absent);
        if !spec.switches.expire_nodest_conn {
            let gone = self.reals.retired().map(|((_, address), slot)| (*address, slot));
            let out = self.tables.removed.all().map(|(id, removed)| (removed.real.address, id.0));
            let absent = gone.chain(out).map(|(address, slot)| {
                let known = before.get(&slot).map(Arc::clone);
                (slot, known.unwrap_or_else(|| Arc::new(Absent::new(address))))
            });
            self.absent = absent.collect();
        }
    }

    /// A virtual service is no longer configured.
    fn remove(&mut self, part: &Part, done: &mut Done) {
        let key = part.spec.key;
        for (real, kept) in part.spec.reals.iter().zip(&part.reals) {
            self.remove_real(part, real.address, kept, done);
        }
        self.services.retire(&key, done.generation);
        self.reach.vips.remove(&key.vip);
        self.tables.remove_service(part.id);
        done.work.services += 1;
    }

    fn remove_real(&mut self, part: &Part, real: IpAddr, kept: &PartReal, done: &mut Done) {
        let service = part.spec.key;
        self.reals.retire(&(service, real), done.generation);
        self.tables.remove_real(kept.id);
        if part.counted {
            self.tables.uncount(kept.id);
        }
        self.rips.remove(real, service);
        self.overlay.forget(&RealName { service, real });
        self.reach.remove(&kept.need, done.generation);
        done.departed.push((part.id, kept.id));
        done.work.reals += 1;
    }

    /// Takes the real servers away that a draft has others for. Those that stay keep their slots.
    fn clear_middle(&mut self, part: &mut Part, draft: &Draft, done: &mut Done) {
        let stay: HashSet<_> = draft.middle().map(|(real, ..)| real.address).collect();
        let middle = draft.first..part.reals.len() - draft.last;
        let reals: Vec<_> = part.reals.splice(middle.clone(), []).collect();
        for (real, kept) in part.spec.reals[middle].iter().zip(&reals) {
            if !stay.contains(&real.address) {
                self.remove_real(part, real.address, kept, done);
                continue;
            }
            if part.counted {
                self.tables.uncount(kept.id);
            }
            self.reach.remove(&kept.need, done.generation);
        }
    }

    /// Compiles a virtual service; `part` is what is left of it as it was.
    fn set_part(&mut self, spec: &Spec, draft: Draft, part: Option<Part>, done: &mut Done) {
        let service = &draft.spec;
        // There is room: it was looked for before.
        let Some((slot, new)) = self.services.slot(&service.key, done.generation) else { return };
        let id = ServiceId(slot.number);
        if new {
            done.new_services.push(id);
        }
        done.work.services += 1;
        let limited = service.reals.iter().any(|r| r.thresholds.is_limited());
        let counted = limited || service.scheduler.counts_connections();
        let (was_counted, mut reals) = part.map_or((false, Vec::new()), |p| (p.counted, p.reals));
        if was_counted != counted {
            let after = service.reals.len() - draft.last;
            let specs = service.reals[..draft.first].iter().chain(&service.reals[after..]);
            for (kept, spec) in reals.iter().zip(specs) {
                match counted {
                    true => self.tables.count(kept.id, spec.thresholds),
                    false => self.tables.uncount(kept.id),
                }
            }
        }
        let mut middle = Vec::with_capacity(draft.routes.len());
        for (real, over, way) in draft.middle() {
            let key = (service.key, real.address);
            let Some((slot, new)) = self.reals.slot(&key, done.generation) else { continue };
            let Slot { number, since } = slot;
            let number = RealId(number);
            if new {
                done.new_reals.push(number);
            }
            let need = Need::of(&spec.ports, real, way);
            let neighbor = self.reach.neighbor(&need.hop);
            let compiled = compile_real(id, (real, over), &spec.ports, way, neighbor);
            let compiled = Real { since, ..compiled };
            match over.standing {
                Standing::Removed => self.tables.set_removed(number, compiled),
                Standing::Up | Standing::Draining => self.tables.set_real(number, compiled),
            }
            if counted {
                self.tables.count(number, real.thresholds);
            }
            middle.push(PartReal { id: number, need, over: *over });
            done.work.reals += 1;
        }
        reals.splice(draft.first..draft.first, middle);
        let ids: Arc<[_]> = reals.iter().map(|kept| kept.id).collect();
        self.tables.set_service(id, compile_service(spec, &draft, limited, ids));
        let Draft { spec, members, options, scheduler, .. } = draft;
        let key = spec.key;
        self.parts.insert(key, Part { spec, id, reals, counted, members, options, scheduler });
    }
}

/// What has been done so far.
#[derive(Debug, Default)]
struct Done {
    generation: u64,
    new_services: Vec<ServiceId>,
    new_reals: Vec<RealId>,
    revived: Vec<RealId>,
    departed: Vec<(ServiceId, RealId)>,
    work: Work,
}

fn compile_service(spec: &Spec, draft: &Draft, limited: bool, reals: Arc<[RealId]>) -> Service {
    let service = &draft.spec;
    let thresholds: Arc<[_]> =
        service.reals.iter().filter(|_| limited).map(|r| r.thresholds).collect();
    let persistence = service.options.persistence.map(|wanted| Persistence {
        span: u32::try_from(wanted.timeout.as_millis()).unwrap_or(u32::MAX).min(i32::MAX as u32),
        netmask: wanted.netmask,
        expire_quiescent: spec.switches.expire_quiescent_template,
    });
    let first = reals.first().copied();
    let first = first.filter(|f| (f.0..).zip(reals.iter()).all(|(slot, real)| real.0 == slot));
    let scheduler = Arc::clone(&draft.scheduler);
    let finds_again = scheduler.kind().is_hash() && thresholds.is_empty() && persistence.is_none();
    Service {
        key: service.key,
        scheduler,
        reals,
        first,
        one_packet: service.options.one_packet,
        persistence,
        thresholds,
        finds_again,
    }
}

fn compile_real(
    service: ServiceId,
    (real, over): (&RealSpec, &Over),
    ports: &[PortSpec],
    way: &Route,
    neighbor: NeighborId,
) -> Real {
    let egress = &ports[way.port.index()];
    // Below the least MTU there is nothing to gain: clients cannot be asked to send less.
    let path_mtu = over.path_mtu.filter(|_| way.tunnel.is_some());
    Real {
        address: real.address,
        service,
        since: 0,
        quiescent: over.weight == 0,
        method: real.method,
        port: way.port,
        neighbor,
        mtu: path_mtu.map_or(egress.mtu, |path| egress.mtu.min(path.max(way.least_mtu))),
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
fn local_filter(spec: &Spec) -> AddressFilter {
    let vips = spec.services.iter().map(|s| s.key.vip);
    let dips = spec.ports.iter().flat_map(|p| p.addresses.iter().map(|a| a.address));
    let link_local = spec.ports.iter().map(|p| IpAddr::V6(ipv6::link_local(p.mac)));
    AddressFilter::build(vips.chain(dips).chain(link_local))
}
