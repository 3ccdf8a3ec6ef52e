//! What the slow path needs, kept from one snapshot to the next: next hops, tunnels and VIPs, each
//! with how many need it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::neighbors::{Links, NeighborSpec, TunnelSpec};
use super::route::{Route, source};
use super::slots::Slots;
use super::spec::{PortSpec, RealSpec, Spec};
use crate::types::{Mac, NeighborId, PortId};
use crate::vocabulary::ForwardMethod;

/// A next hop: the port it is behind, by number, and its address.
pub(super) type Hop = (PortId, IpAddr);

/// What one real server needs of the slow path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) hop: Hop,
    pub(super) tunnel: Option<TunnelSpec>,
}

impl Need {
    pub(super) fn of(ports: &[PortSpec], real: &RealSpec, way: &Route) -> Need {
        let tunnel = || {
            let dip = source(ports.get(way.port.index())?, way.next_hop)?;
            let gre = real.method == ForwardMethod::Gre;
            Some(TunnelSpec { real: real.address, dip, gre })
        };
        let tunnel = way.tunnel.and_then(|_| tunnel());
        Need { hop: (way.port, way.next_hop), tunnel }
    }
}

/// Things in order, with how many need each.
#[derive(Debug, Clone)]
pub(super) struct Counted<K> {
    users: BTreeMap<K, u32>,
    /// Those that came or went since [`Counted::settle`].
    changed: BTreeSet<K>,
}

impl<K: Ord + Copy> Counted<K> {
    pub(super) const fn new() -> Counted<K> {
        Counted { users: BTreeMap::new(), changed: BTreeSet::new() }
    }

    /// One more needs it.
    pub(super) fn add(&mut self, key: K) {
        let users = self.users.entry(key).or_default();
        *users += 1;
        if *users == 1 {
            self.changed.insert(key);
        }
    }

    /// One fewer needs it; true when nobody does any more.
    pub(super) fn remove(&mut self, key: &K) -> bool {
        let Some(users) = self.users.get_mut(key) else { return false };
        *users -= 1;
        let gone = *users == 0;
        if gone {
            self.users.remove(key);
            self.changed.insert(*key);
        }
        gone
    }

    /// How many need it.
    pub(super) fn users(&self, key: &K) -> u32 {
        self.users.get(key).copied().unwrap_or_default()
    }

    /// All of them in order, as `make` says it: `list`, which is so of those that were there when
    /// it was last settled, is changed where they are not the same. `key` finds what one is of.
    fn settle<T: Clone>(
        &mut self,
        list: &[T],
        key: impl Fn(&T) -> K,
        make: impl Fn(&K) -> T,
    ) -> Vec<T> {
        let changed = std::mem::take(&mut self.changed);
        if changed.len() > PATCHED {
            return self.users.keys().map(make).collect();
        }
        let mut all = Vec::with_capacity(list.len() + changed.len());
        all.extend_from_slice(list);
        for one in changed {
            let there = self.users.contains_key(&one).then(|| make(&one));
            match (all.binary_search_by_key(&one, &key), there) {
                (Ok(at), Some(new)) => all[at] = new,
                (Ok(at), None) => drop(all.remove(at)),
                (Err(at), Some(new)) => all.insert(at, new),
                (Err(_), None) => {}
            }
        }
        all
    }
}

/// Up to so many changes of a list are made one by one; of more it is made anew.
const PATCHED: usize = 8;

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Reach {
    /// Next hops by port and address.
    pub(super) hops: Counted<(u16, IpAddr)>,
    pub(super) tunnels: Counted<TunnelSpec>,
    pub(super) vips: Counted<IpAddr>,
    pub(super) slots: Slots<Hop>,
    /// Configured Ethernet addresses.
    fixed: HashMap<Hop, Mac>,
    links: Arc<Links>,
}

impl Reach {
    pub(super) fn new(limit: u32) -> Reach {
        Reach {
            hops: Counted::new(),
            tunnels: Counted::new(),
            vips: Counted::new(),
            slots: Slots::new(limit),
            fixed: HashMap::new(),
            links: Arc::default(),
        }
    }

    /// The configured neighbors of ports that are there.
    pub(super) fn fixed_of(spec: &Spec) -> HashMap<Hop, Mac> {
        let of = |n: &super::spec::StaticNeighbor| {
            let port = spec.ports.iter().position(|p| p.name == n.port)?;
            Some(((PortId(port as u16), n.address), n.mac))
        };
        spec.neighbors.iter().filter_map(of).collect()
    }

    /// Takes up other configured neighbors, which are next hops whether or not they are needed.
    pub(super) fn set_fixed(&mut self, fixed: HashMap<Hop, Mac>, generation: u64) {
        if fixed == self.fixed {
            return;
        }
        for hop in fixed.keys() {
            self.need(*hop, generation);
        }
        let before = std::mem::replace(&mut self.fixed, fixed);
        for hop in before.keys() {
            self.leave(*hop, generation);
        }
        // Their Ethernet addresses may be others.
        let all = before.keys().chain(self.fixed.keys());
        self.hops.changed.extend(all.map(|hop| (hop.0.0, hop.1)));
    }

    /// One more real server needs this.
    pub(super) fn add(&mut self, need: &Need, generation: u64) {
        self.need(need.hop, generation);
        if let Some(tunnel) = need.tunnel {
            self.tunnels.add(tunnel);
        }
    }

    /// One fewer does.
    pub(super) fn remove(&mut self, need: &Need, generation: u64) {
        self.leave(need.hop, generation);
        if let Some(tunnel) = &need.tunnel {
            self.tunnels.remove(tunnel);
        }
    }

    fn need(&mut self, hop: Hop, generation: u64) {
        self.hops.add((hop.0.0, hop.1));
        // There is room: it was looked for before.
        let _ = self.slots.slot(&hop, generation);
    }

    fn leave(&mut self, hop: Hop, generation: u64) {
        if self.hops.remove(&(hop.0.0, hop.1)) {
            self.slots.retire(&hop, generation);
        }
    }

    /// Its number as a neighbor.
    pub(super) fn neighbor(&self, hop: &Hop) -> NeighborId {
        NeighborId(self.slots.get(hop).unwrap_or(u32::MAX))
    }

    /// For the slow path; the same as before when nothing of it has changed.
    pub(super) fn links(&mut self, ports: &[PortSpec]) -> Arc<Links> {
        let changed = [
            !self.hops.changed.is_empty(),
            !self.tunnels.changed.is_empty(),
            !self.vips.changed.is_empty(),
            self.links.ports != ports,
        ];
        if changed.contains(&true) {
            let (slots, fixed) = (&self.slots, &self.fixed);
            let neighbor = |&(port, address): &(u16, IpAddr)| {
                let hop = (PortId(port), address);
                let id = NeighborId(slots.get(&hop).unwrap_or(u32::MAX));
                NeighborSpec { id, port: hop.0, address, fixed: fixed.get(&hop).copied() }
            };
            let had = &self.links;
            let links = Links {
                ports: ports.to_vec(),
                vips: self.vips.settle(&had.vips, |vip| *vip, |vip| *vip),
                neighbors: self.hops.settle(&had.neighbors, |n| (n.port.0, n.address), neighbor),
                tunnels: self.tunnels.settle(&had.tunnels, |tunnel| *tunnel, |tunnel| *tunnel),
            };
            if links != **had {
                self.links = Arc::new(links);
            }
        }
        Arc::clone(&self.links)
    }
}
