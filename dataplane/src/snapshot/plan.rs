//! What it takes to forward by a spec, found out before anything is changed.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::PathMtus;
use super::compile::{CompileError, Compiler};
use super::reach::{Hop, Reach};
use super::route::{Route, route};
use super::spec::{PortSpec, RealSpec, ServiceSpec, Spec, Switches};
use crate::schedule::{HashKey, Member, Options, Scheduler};
use crate::types::{Mac, ServiceKey};

/// What every virtual service is compiled with: if it changes, all are compiled again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Around {
    pub(super) ports: Vec<PortSpec>,
    hash_key: [u8; 16],
    maglev_size: u32,
    switches: Switches,
    path_mtus: PathMtus,
}

/// A virtual service to be compiled. The first and the last of its real servers may be as before;
/// those between are not.
#[derive(Debug)]
pub(super) struct Draft<'s> {
    pub(super) spec: &'s ServiceSpec,
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

impl Draft<'_> {
    /// The real servers that are not as before.
    pub(super) fn middle(&self) -> impl Iterator<Item = (&RealSpec, &Route)> {
        self.spec.reals[self.first..].iter().zip(&self.routes)
    }
}

/// All that is to be done.
#[derive(Debug)]
pub(super) struct Plan<'s> {
    pub(super) around: Around,
    pub(super) fixed: HashMap<Hop, Mac>,
    pub(super) drafts: Vec<Draft<'s>>,
    pub(super) removed: Vec<ServiceKey>,
}

/// A virtual service that is not as before, and where its real servers differ.
#[derive(Clone, Copy)]
struct Touched<'s> {
    service: &'s ServiceSpec,
    first: usize,
    last: usize,
}

impl<'s> Touched<'s> {
    fn of(service: &'s ServiceSpec, before: &[RealSpec]) -> Touched<'s> {
        let alike = |(a, b): &(&RealSpec, &RealSpec)| a == b;
        let new = &service.reals;
        let first = new.iter().zip(before).take_while(alike).count();
        let (rest, before) = (&new[first..], &before[first..]);
        let last = rest.iter().rev().zip(before.iter().rev()).take_while(alike).count();
        Touched { service, first, last }
    }

    fn middle(&self) -> &'s [RealSpec] {
        &self.service.reals[self.first..self.service.reals.len() - self.last]
    }
}

impl Compiler {
    pub(super) fn plan<'s>(
        &self,
        spec: &'s Spec,
        acknowledged: u64,
        unused: &impl Fn(u32) -> bool,
    ) -> Result<Plan<'s>, CompileError> {
        let around = Around {
            ports: spec.ports.clone(),
            hash_key: spec.hash_key,
            maglev_size: spec.maglev_size,
            switches: spec.switches,
            path_mtus: self.path_mtus.clone(),
        };
        let whole = self.around.as_ref() != Some(&around);
        let mut touched = Vec::new();
        let mut keys = HashSet::with_capacity(spec.services.len());
        for service in &spec.services {
            if !keys.insert(service.key) {
                let message = format!("virtual service {} is configured twice", service.key);
                return Err(CompileError::Conflict(message));
            }
            match self.parts.get(&service.key) {
                Some(part) if !whole && part.spec == *service => {}
                Some(part) if !whole => touched.push(Touched::of(service, &part.spec.reals)),
                _ => touched.push(Touched::of(service, &[])),
            }
        }
        let removed: Vec<_> =
            self.parts.keys().filter(|key| !keys.contains(key)).copied().collect();
        self.check_conflicts(spec, &touched)?;
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
        Ok(Plan { around, fixed, drafts, removed })
    }

    fn draft<'s>(
        &self,
        spec: &Spec,
        touched: Touched<'s>,
        routes: Vec<Route>,
    ) -> Result<Draft<'s>, CompileError> {
        let Touched { service, first, last } = touched;
        let members: Arc<[Member]> =
            service.reals.iter().map(|r| Member { address: r.address, weight: r.weight }).collect();
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
        Ok(Draft { spec: service, first, last, routes, members, options, scheduler })
    }

    fn check_room(
        &self,
        spec: &Spec,
        (touched, routes, fixed): (&[Touched<'_>], &[Vec<Route>], &HashMap<Hop, Mac>),
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
    fn check_conflicts(&self, spec: &Spec, touched: &[Touched<'_>]) -> Result<(), CompileError> {
        let told = |message| Err(CompileError::Conflict(message));
        let vips: HashSet<_> = spec.services.iter().map(|s| s.key.vip).collect();
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
            if let Some(real) = touched.middle().iter().find(|r| vips.contains(&r.address)) {
                return told(is_vip(key, real.address));
            }
        }
        let new = vips.iter().filter(|vip| !self.reach.vips.has(vip) && self.rips.has(vip));
        let new: HashSet<_> = new.collect();
        let all = spec.services.iter().filter(|_| !new.is_empty());
        let mut reals = all.flat_map(|s| s.reals.iter().map(|r| (s.key, r.address)));
        match reals.find(|(_, real)| new.contains(real)) {
            Some((key, real)) => told(is_vip(key, real)),
            None => Ok(()),
        }
    }

    /// A real server that a virtual service has twice.
    fn twice(&self, touched: &Touched<'_>) -> Option<IpAddr> {
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
