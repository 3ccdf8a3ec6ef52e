//! A configuration that is being changed, step by step.
//!
//! A whole configuration is checked as a whole ([`Config::validate`]). A step from one that is right
//! is checked by what it touches: it takes the same time however much else is configured, so that
//! thousands of them can be one change.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::check::{self, Around, Findings};
use super::error::ConfigError;
use super::model::{Config, Real, Service, Timeouts};
use super::unlocated;
use crate::types::ServiceKey;

/// A right configuration, and what it takes to say so of the next step.
#[derive(Debug)]
pub struct Draft {
    /// All but virtual services.
    rest: Config,
    /// In the order of the configuration; `None` was removed.
    services: Vec<Option<Entry>>,
    places: HashMap<ServiceKey, usize>,
    by_vip: BTreeMap<IpAddr, BTreeSet<ServiceKey>>,
    around: Around,
    reals: usize,
}

#[derive(Debug)]
struct Entry {
    /// Its real servers are not those of the draft any more once they are open.
    service: Arc<Service>,
    open: Option<Open>,
}

/// The real servers of a virtual service that a step has touched.
#[derive(Debug)]
struct Open {
    /// In the order of the configuration; `None` was removed.
    reals: Vec<Option<Real>>,
    /// How many are there.
    len: usize,
    /// Where each is; made once many were looked for.
    places: Option<HashMap<IpAddr, usize>>,
    looks: usize,
}

/// So many real servers of a virtual service are looked for one by one: for a single change it
/// takes longer to index thousands of them.
const LOOKS: usize = 8;

impl Open {
    fn of(reals: &[Real]) -> Open {
        let len = reals.len();
        Open { reals: reals.iter().cloned().map(Some).collect(), len, places: None, looks: 0 }
    }

    fn find(&mut self, address: IpAddr) -> Option<usize> {
        let there = |(at, real): (usize, &Option<Real>)| Some((real.as_ref()?.address, at));
        let mut all = self.reals.iter().enumerate().filter_map(there);
        if self.places.is_none() && self.looks < LOOKS {
            self.looks += 1;
            return all.find(|(found, _)| *found == address).map(|(_, at)| at);
        }
        self.places.get_or_insert_with(|| all.collect()).get(&address).copied()
    }

    fn get_mut(&mut self, address: IpAddr) -> Option<&mut Real> {
        let at = self.find(address)?;
        self.reals.get_mut(at)?.as_mut()
    }

    fn add(&mut self, real: Real) {
        if let Some(places) = &mut self.places {
            places.insert(real.address, self.reals.len());
        }
        self.reals.push(Some(real));
        self.len += 1;
    }

    /// Whether it was there.
    fn remove(&mut self, address: IpAddr) -> bool {
        let found = self.find(address).and_then(|at| self.reals.get_mut(at)?.take());
        if let Some(places) = &mut self.places {
            places.remove(&address);
        }
        self.len -= usize::from(found.is_some());
        found.is_some()
    }
}

impl Entry {
    fn open(&mut self) -> (&Service, &mut Open) {
        let reals = &self.service.reals;
        let open = self.open.get_or_insert_with(|| Open::of(reals));
        (&self.service, open)
    }

    fn len(&self) -> usize {
        self.open.as_ref().map_or(self.service.reals.len(), |open| open.len)
    }

    fn reals(&self) -> impl Iterator<Item = &Real> {
        let untouched = self.service.reals.iter().filter(|_| self.open.is_none());
        untouched.chain(self.open.iter().flat_map(|open| open.reals.iter().flatten()))
    }

    fn close(self) -> Arc<Service> {
        match self.open {
            None => self.service,
            Some(open) => {
                let reals = open.reals.into_iter().flatten().collect();
                Arc::new(Service { reals, ..self.service.without_reals() })
            }
        }
    }
}

impl Draft {
    /// Begins with a configuration that is right.
    pub fn of(config: &Config) -> Draft {
        let rest = Config {
            dataplane: config.dataplane.clone(),
            control: config.control.clone(),
            timeouts: config.timeouts.clone(),
            scheduling: config.scheduling.clone(),
            ports: config.ports.clone(),
            neighbors: config.neighbors.clone(),
            services: Vec::new(),
        };
        let mut draft = Draft {
            around: Around::of(&rest),
            rest,
            services: Vec::with_capacity(config.services.len() + 1),
            places: HashMap::with_capacity(config.services.len() + 1),
            by_vip: BTreeMap::new(),
            reals: 0,
        };
        for service in &config.services {
            draft.insert(Arc::clone(service));
        }
        draft
    }

    /// What has come of it.
    pub fn finish(self) -> Config {
        let services = self.services.into_iter().flatten().map(Entry::close).collect();
        Config { services, ..self.rest }
    }

    /// Whether there is a virtual service.
    pub fn has(&self, key: &ServiceKey) -> bool {
        self.places.contains_key(key)
    }

    /// A real server of a virtual service; `None` when either is not there.
    pub fn real(&mut self, key: &ServiceKey, address: IpAddr) -> Option<&Real> {
        let (_, open) = self.entry(key)?.open();
        open.get_mut(address).map(|real| &*real)
    }

    /// Adds a virtual service that is not there, without real servers.
    pub fn add_service(&mut self, service: Service) -> Result<(), ConfigError> {
        let mut findings = Findings::default();
        let key = service.key();
        check::service(&service, 0, (0, &self.around), &mut findings);
        // Real servers may be where the new VIP is.
        let vip = key.vip;
        if !self.by_vip.contains_key(&vip) {
            for entry in self.services.iter().flatten() {
                for real in entry.reals().filter(|real| real.address == vip) {
                    let of = (&*entry.service, 0, 0);
                    check::real(real, of, (Some(key), &self.around), &mut findings);
                }
            }
        }
        let others = self.by_vip.get(&vip).into_iter().flatten();
        let overlapping = others.filter(|other| {
            key.ports.is_range()
                && other.ports.is_range()
                && other.protocol == key.protocol
                && other.ports.overlaps(key.ports)
        });
        for other in overlapping {
            check::overlap(key, *other, 0, &mut findings);
        }
        check::sizes(&self.rest, self.places.len() + 1, self.reals, &mut findings);
        unlocated(findings)?;
        self.insert(Arc::new(service));
        Ok(())
    }

    /// Changes the settings of a virtual service; `false` when it is not there. Its key and its real
    /// servers stay.
    pub fn edit_service(
        &mut self,
        key: &ServiceKey,
        edit: impl FnOnce(&mut Service),
    ) -> Result<bool, ConfigError> {
        let Some(entry) = self.places.get(key).and_then(|at| self.services.get_mut(*at)?.as_mut())
        else {
            return Ok(false);
        };
        let members = entry.len();
        let before = entry.service.without_reals();
        let mut service = before.clone();
        edit(&mut service);
        let mut findings = Findings::default();
        check::service(&service, members, (0, &self.around), &mut findings);
        unlocated(findings)?;
        // Those of the draft, where they are open.
        service.reals = match &entry.open {
            None => entry.service.reals.clone(),
            Some(_) => Vec::new(),
        };
        service.address = before.address;
        service.protocol = before.protocol;
        entry.service = Arc::new(service);
        Ok(true)
    }

    /// Removes a virtual service; `false` when it is not there.
    pub fn remove_service(&mut self, key: &ServiceKey) -> bool {
        let Some(entry) = self.places.remove(key).and_then(|at| self.services.get_mut(at)?.take())
        else {
            return false;
        };
        self.reals -= entry.len();
        if let Some(keys) = self.by_vip.get_mut(&key.vip) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_vip.remove(&key.vip);
            }
        }
        true
    }

    /// Removes all virtual services.
    pub fn clear(&mut self) {
        self.services.clear();
        self.places.clear();
        self.by_vip.clear();
        self.reals = 0;
    }

    /// Adds a real server to a virtual service that is there and has none with this address.
    pub fn add_real(&mut self, key: &ServiceKey, real: Real) -> Result<(), ConfigError> {
        let mut findings = Findings::default();
        let vip = self.service_at(real.address);
        let Some(at) = self.places.get(key).copied() else { return Ok(()) };
        let Some(entry) = self.services.get_mut(at).and_then(Option::as_mut) else {
            return Ok(());
        };
        let members = entry.len() + 1;
        let (service, open) = entry.open();
        check::real(&real, (service, 0, 0), (vip, &self.around), &mut findings);
        check::members(service, members, (0, &self.around), &mut findings);
        check::sizes(&self.rest, self.places.len(), self.reals + 1, &mut findings);
        unlocated(findings)?;
        open.add(real);
        self.reals += 1;
        Ok(())
    }

    /// Changes a real server; `false` when it is not there. Its address stays.
    pub fn edit_real(
        &mut self,
        key: &ServiceKey,
        address: IpAddr,
        edit: impl FnOnce(&mut Real),
    ) -> Result<bool, ConfigError> {
        let mut findings = Findings::default();
        let vip = self.service_at(address);
        let Some(at) = self.places.get(key).copied() else { return Ok(false) };
        let Some(entry) = self.services.get_mut(at).and_then(Option::as_mut) else {
            return Ok(false);
        };
        let (service, open) = entry.open();
        let Some(old) = open.get_mut(address) else { return Ok(false) };
        let mut real = old.clone();
        edit(&mut real);
        real.address = address;
        check::real(&real, (service, 0, 0), (vip, &self.around), &mut findings);
        unlocated(findings)?;
        *old = real;
        Ok(true)
    }

    /// Removes a real server; `false` when it is not there.
    pub fn remove_real(&mut self, key: &ServiceKey, address: IpAddr) -> bool {
        let Some(entry) = self.entry(key) else { return false };
        let (_, open) = entry.open();
        let gone = open.remove(address);
        self.reals -= usize::from(gone);
        gone
    }

    /// Changes flow timers.
    pub fn edit_timeouts(&mut self, edit: impl FnOnce(&mut Timeouts)) -> Result<(), ConfigError> {
        let before = self.rest.timeouts.clone();
        edit(&mut self.rest.timeouts);
        let mut findings = Findings::default();
        check::timeouts(&self.rest, &mut findings);
        unlocated(findings).inspect_err(|_| self.rest.timeouts = before)
    }

    fn entry(&mut self, key: &ServiceKey) -> Option<&mut Entry> {
        self.services.get_mut(*self.places.get(key)?)?.as_mut()
    }

    /// A virtual service that has this address as its VIP.
    fn service_at(&self, address: IpAddr) -> Option<ServiceKey> {
        self.by_vip.get(&address)?.first().copied()
    }

    fn insert(&mut self, service: Arc<Service>) {
        let key = service.key();
        self.places.insert(key, self.services.len());
        self.by_vip.entry(key.vip).or_default().insert(key);
        self.reals += service.reals.len();
        self.services.push(Some(Entry { service, open: None }));
    }
}
