//! The tables of a snapshot by slot, kept from one to the next: a snapshot has a copy of them, and
//! what stays is not made again.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::adjacency::{Adjacency, AdjacencyTable};
use super::{Real, Removed, Service};
use crate::schedule::Thresholds;
use crate::types::{RealId, ServiceId};

/// Real servers whose connections are counted, with their thresholds; sorted.
pub(super) type CountedReals = Arc<[(RealId, Thresholds)]>;

/// Virtual services and real servers by slot, and what follows from them.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pub(super) services: Vec<Option<Service>>,
    pub(super) reals: Vec<Option<Real>>,
    pub(super) adjacencies: AdjacencyTable,
    pub(super) removed: RemovedReals,
    pub(super) counted: CountedReals,
    /// Changes of `counted` that are still to be made.
    uncount: Vec<RealId>,
    count: Vec<(RealId, Thresholds)>,
}

impl Tables {
    pub(super) fn new() -> Tables {
        Tables {
            services: Vec::new(),
            reals: Vec::new(),
            adjacencies: AdjacencyTable::default(),
            removed: RemovedReals::default(),
            counted: Arc::default(),
            uncount: Vec::new(),
            count: Vec::new(),
        }
    }

    pub(super) fn set_service(&mut self, id: ServiceId, service: Service) {
        put(&mut self.services, id.index(), Some(service));
    }

    pub(super) fn remove_service(&mut self, id: ServiceId) {
        put(&mut self.services, id.index(), None);
    }

    pub(super) fn set_real(&mut self, id: RealId, real: Real) {
        self.removed.unset(id);
        self.adjacencies.set(id, &real);
        put(&mut self.reals, id.index(), Some(real));
    }

    /// A real server is configured, and out of use.
    pub(super) fn set_removed(&mut self, id: RealId, real: Real) {
        self.remove_real(id);
        self.removed.set(id, Removed { adjacency: Adjacency::of(&real), real });
    }

    pub(super) fn remove_real(&mut self, id: RealId) {
        self.removed.unset(id);
        self.adjacencies.remove(id);
        put(&mut self.reals, id.index(), None);
    }

    /// A real server's connections are counted.
    pub(super) fn count(&mut self, id: RealId, thresholds: Thresholds) {
        self.count.push((id, thresholds));
    }

    /// They are not any more, or with other thresholds.
    pub(super) fn uncount(&mut self, id: RealId) {
        self.uncount.push(id);
    }

    /// Makes the changes of `counted`.
    pub(super) fn settle(&mut self) {
        if self.count.is_empty() && self.uncount.is_empty() {
            return;
        }
        self.uncount.sort_unstable();
        self.count.sort_unstable_by_key(|(real, _)| *real);
        let gone = |real: &RealId| self.uncount.binary_search(real).is_ok();
        let mut stay = self.counted.iter().filter(|(real, _)| !gone(real)).copied().peekable();
        let mut more = self.count.iter().copied().peekable();
        let mut counted = Vec::with_capacity(self.counted.len() + self.count.len());
        loop {
            let next = match (stay.peek(), more.peek()) {
                (Some((a, _)), Some((b, _))) if a < b => stay.next(),
                (_, Some(_)) => more.next(),
                (_, None) => stay.next(),
            };
            let Some(next) = next else { break };
            counted.push(next);
        }
        if counted[..] != self.counted[..] {
            self.counted = counted.into();
        }
        self.uncount.clear();
        self.count.clear();
    }
}

/// Real servers that are out of use for what was learned of them, by slot.
#[derive(Debug, Clone, Default)]
pub(super) struct RemovedReals {
    by_slot: BTreeMap<RealId, Arc<Removed>>,
    /// The same for snapshots, if it is up to date.
    list: Option<RemovedList>,
}

/// Sorted by slot.
pub(super) type RemovedList = Arc<[(RealId, Arc<Removed>)]>;

impl RemovedReals {
    fn set(&mut self, id: RealId, removed: Removed) {
        self.by_slot.insert(id, Arc::new(removed));
        self.list = None;
    }

    fn unset(&mut self, id: RealId) {
        if self.by_slot.remove(&id).is_some() {
            self.list = None;
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (RealId, &Removed)> {
        self.by_slot.iter().map(|(id, removed)| (*id, &**removed))
    }

    /// As they are now.
    pub(super) fn list(&mut self) -> RemovedList {
        let all = || self.by_slot.iter().map(|(id, removed)| (*id, Arc::clone(removed))).collect();
        Arc::clone(self.list.get_or_insert_with(all))
    }
}

fn put<T>(slots: &mut Vec<Option<T>>, slot: usize, value: Option<T>) {
    if slots.len() <= slot {
        slots.resize_with(slot + 1, || None);
    }
    slots[slot] = value;
}
