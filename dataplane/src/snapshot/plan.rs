//! What it takes to forward by a spec, found out before anything is changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::differ::differing;
use super::kept::{CompileError, Compiler, Part};
use super::learned::Over;
use super::reach::{Hop, Reach};
use super::route::{Route, route};
use super::spec::{RealSpec, ServiceSpec, Spec};
use crate::schedule::{HashKey, Member, Options, Scheduler};
use crate::types::{Mac, ServiceKey};

/// A virtual service to be compiled. The first and the last of its real servers may be as before;
/// those between are not.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) spec: Arc<ServiceSpec>,
    /// What lies over each of its real servers.
    over: Vec<Over>,
    /// So many of its real servers are as before, where they were.
    pub(super) first: usize,
    /// And so many at the end.
    pub(super) last: usize,
    /// Of those between.
    pub(super) routes: Vec<Route>,
    pub(super) members: Arc<[Member]>,
    pub(super) options: Options,
    pub(super) scheduler: Arc<Scheduler>,
}

impl Draft {
    /// The real servers that are not as before.
    pub(super) fn middle(&self) -> impl Iterator<Item = (&RealSpec, &Over, &Route)> {
        let reals = self.spec.reals.iter().zip(&self.over).skip(self.first);
        reals.zip(&self.routes).map(|((real, over), way)| (real, over, way))
    }
}

/// All that is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) fixed: HashMap<Hop, Mac>,
    pub(super) drafts: Vec<Draft>,
    pub(super) removed: Vec<ServiceKey>,
}

/// A virtual service that is not as before, and where its real servers differ.
struct Touched {
    service: Arc<ServiceSpec>,
    over: Vec<Over>,
    first: usize,
    last: usize,
}

impl Touched {
    fn of(service: &Arc<ServiceSpec>, over: Vec<Over>, before: Option<&Part>) -> Touched {
        let service = Arc::clone(service);
        let Some(part) = before else { return Touched { service, over, first: 0, last: 0 } };
        let (reals, had) = (&service.reals, &part.spec.reals);
        let alike =
            |new: usize, old: usize| reals[new] == had[old] && over[new] == part.reals[old].over;
        let both = reals.len().min(had.len());
        let first = (0..both).take_while(|at| alike(*at, *at)).count();
        let (end, had_end) = (reals.len(), had.len());
        let last = (1..=both - first).take_while(|back| alike(end - back, had_end - back)).count();
        Touched { service, over, first, last }
    }

    fn middle(&self) -> &[RealSpec] {
        &self.service.reals[self.first..self.service.reals.len() - self.last]
    }
}

impl Compiler {
    pub(super) fn plan(
        &self,
        spec: &Spec,
        acknowledged: u64,
        unused: &impl Fn(u32) -> bool,
    ) -> Result<Plan, CompileError> {
        let (touched, removed) = self.touched(spec)?;
        self.check_conflicts(spec, &touched, &removed)?;
        let mut routes: Vec<Vec<Route>> = vec![Vec::new(); touched.len()];
        for (touched, routes) in touched.iter().zip(&mut routes) {
            let key = touched.service.key;
            for real in touched.middle() {
                let way = route(&spec.ports, key.vip, real);
                routes.push(way.map_err(|e| CompileError::Route(key, e))?);
            }
        }
        let fixed = Reach::fixed_of(spec);
        self.check_room(spec, (&touched, &routes, &fixed), acknowledged, unused)?;
        let mut drafts = Vec::with_capacity(touched.len());
        for (touched, routes) in touched.into_iter().zip(routes) {
            drafts.push(self.draft(spec, touched, routes)?);
        }
        Ok(Plan { fixed, drafts, removed })
    }

    /// The virtual services that are not as before, or of which something was learned, and those
    /// that are gone.
    fn touched(&self, spec: &Spec) -> Result<(Vec<Touched>, Vec<ServiceKey>), CompileError> {
        let last = self.last.as_ref();
        // What every virtual service is compiled with.
        let whole = last.is_none_or(|last| {
            last.ports != spec.ports
                || last.hash_key != spec.hash_key
                || last.maglev_size != spec.maglev_size
                || last.switches != spec.switches
        });
        let before = last.map_or(&[][..], |last| &last.services);
        let (old, new) =
            if whole { (before, &spec.services[..]) } else { differing(before, &spec.services) };
        let old: HashSet<_> = old.iter().map(|service| service.key).collect();
        let over = |service: &ServiceSpec| self.overlay.over(&service.key, &service.reals);
        let mut touched = Vec::new();
        let mut keys = HashSet::with_capacity(new.len());
        for service in new {
            let key = service.key;
            let part = self.parts.get(&key);
            if !keys.insert(key) || (part.is_some() && !old.contains(&key)) {
                let message = format!("virtual service {key} is configured twice");
                return Err(CompileError::Conflict(message));
            }
            let stays = part.is_some_and(|part| part.spec == *service);
            if whole || !stays || self.overlay.is_dirty(&key) {
                let before = part.filter(|_| !whole);
                touched.push(Touched::of(service, over(service), before));
            }
        }
        for key in self.overlay.dirty().filter(|key| !keys.contains(key) && !old.contains(key)) {
            if let Some(part) = self.parts.get(key) {
                touched.push(Touched::of(&part.spec, over(&part.spec), Some(part)));
            }
        }
        Ok((touched, old.difference(&keys).copied().collect()))
    }

    fn draft(
        &self,
        spec: &Spec,
        touched: Touched,
        routes: Vec<Route>,
    ) -> Result<Draft, CompileError> {
        let Touched { service, over, first, last } = touched;
        let member = |(real, over): (&RealSpec, &Over)| Member {
            address: real.address,
            weight: over.weight,
        };
        let members: Arc<[Member]> = service.reals.iter().zip(&over).map(member).collect();
        let options = Options {
            hash_key: HashKey::new(spec.hash_key),
            hash_ports: service.options.flags.hashes_port(),
            fallback: service.options.flags.falls_back(),
            maglev_size: spec.maglev_size,
        };
        let kind = service.scheduler;
        // A Maglev table takes milliseconds to build.
        let same = self.parts.get(&service.key).filter(|part| {
            part.spec.scheduler == kind && part.members == members && part.options == options
        });
        let scheduler = match same {
            Some(part) => Arc::clone(&part.scheduler),
            None => Arc::new(
                Scheduler::build(kind, &members, &options)
                    .map_err(|e| CompileError::Schedule(service.key, e))?,
            ),
        };
        Ok(Draft { spec: service, over, first, last, routes, members, options, scheduler })
    }

    fn check_room(
        &self,
        spec: &Spec,
        (touched, routes, fixed): (&[Touched], &[Vec<Route>], &HashMap<Hop, Mac>),
        acknowledged: u64,
        unused: &impl Fn(u32) -> bool,
    ) -> Result<(), CompileError> {
        let hops = routes.iter().flatten().map(|way| (way.port, way.next_hop));
        let new: HashSet<_> = hops.chain(fixed.keys().copied()).collect();
        let new = new.iter().filter(|hop| self.reach.slots.get(hop).is_none()).count();
        if new > self.reach.slots.room(acknowledged, |_| true) {
            return Err(CompileError::Full {
                what: "neighbors",
                limit: self.limits.neighbors,
                key: "dataplane.max_neighbors",
            });
        }
        let new = touched.iter().filter(|t| !self.parts.contains_key(&t.service.key)).count();
        if new > self.services.room(acknowledged, |_| true) {
            return Err(CompileError::Full {
                what: "virtual services",
                limit: self.limits.services,
                key: "dataplane.max_services",
            });
        }
        let mut back = HashSet::new();
        if !spec.switches.expire_nodest_conn {
            back.extend(self.reals.waiting(acknowledged, unused));
        }
        let reals =
            touched.iter().flat_map(|t| t.middle().iter().map(|r| (t.service.key, r.address)));
        let new = reals.filter(|key| self.reals.get(key).is_none() && !back.contains(key)).count();
        if new > self.reals.room(acknowledged, unused) {
            return Err(CompileError::Full {
                what: "real servers",
                limit: self.limits.reals,
                key: "dataplane.max_real_servers",
            });
        }
        Ok(())
    }

    /// What may not be together. Of what is as before it was found out before.
    fn check_conflicts(
        &self,
        spec: &Spec,
        touched: &[Touched],
        removed: &[ServiceKey],
    ) -> Result<(), CompileError> {
        let told = |message| Err(CompileError::Conflict(message));
        let mut gone: HashMap<IpAddr, u32> = HashMap::new();
        for key in removed {
            *gone.entry(key.vip).or_default() += 1;
        }
        let keys = touched.iter().map(|touched| touched.service.key);
        let new: HashSet<_> =
            keys.filter(|key| !self.parts.contains_key(key)).map(|key| key.vip).collect();
        let stays =
            |vip: &IpAddr| self.reach.vips.users(vip) > gone.get(vip).copied().unwrap_or_default();
        for touched in touched {
            let key = touched.service.key;
            let mut dips = spec.ports.iter().flat_map(|p| &p.addresses);
            if dips.any(|d| d.address == key.vip) {
                return told(format!(
                    "virtual service {key}: the VIP is also a port's own address"
                ));
            }
            if let Some(twice) = self.twice(touched) {
                return told(format!(
                    "virtual service {key}: real server {twice} is configured twice"
                ));
            }
            let vip = |r: &&RealSpec| new.contains(&r.address) || stays(&r.address);
            if let Some(real) = touched.middle().iter().find(vip) {
                return told(is_vip(key, real.address));
            }
        }
        // A new VIP may be where a real server is that stays as it was.
        let taken: HashSet<_> = new.iter().filter(|vip| self.rips.has(**vip)).collect();
        let all = spec.services.iter().filter(|_| !taken.is_empty());
        let mut reals = all.flat_map(|s| s.reals.iter().map(|r| (s.key, r.address)));
        match reals.find(|(_, real)| taken.contains(real)) {
            Some((key, real)) => told(is_vip(key, real)),
            None => Ok(()),
        }
    }

    /// A real server that a virtual service has twice.
    fn twice(&self, touched: &Touched) -> Option<IpAddr> {
        let key = touched.service.key;
        let before = self.parts.get(&key).map_or(&[][..], |part| &part.spec.reals);
        let kept = touched.first + touched.last;
        let middle = before.get(touched.first..before.len().saturating_sub(touched.last));
        let given_up: HashSet<_> = middle.into_iter().flatten().map(|r| r.address).collect();
        let mut seen = BTreeSet::new();
        touched.middle().iter().map(|r| r.address).find(|address| {
            let is_kept = kept > 0
                && !given_up.contains(address)
                && self.reals.get(&(key, *address)).is_some();
            is_kept || !seen.insert(*address)
        })
    }
}

fn is_vip(key: ServiceKey, real: IpAddr) -> String {
    format!("virtual service {key}: real server {real} is a VIP, which the director answers for")
}
