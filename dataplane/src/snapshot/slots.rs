//! Which slot stands for what, and when it may stand for something else.

use std::collections::HashMap;
use std::hash::Hash;

/// What is known of snapshots when the next one is compiled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spare {
    /// The one to be compiled.
    pub(super) generation: u64,
    /// Everyone forwards by this one, or by a later one.
    pub(super) acknowledged: u64,
}

/// A slot that stands for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// Its number.
    pub(super) number: u32,
    /// The first generation in which it stood for this.
    pub(super) since: u64,
}

/// A slot that stands for nothing now, with what it stood for.
#[derive(Debug, Clone)]
struct Retired<K> {
    key: K,
    slot: Slot,
    /// The first generation without it.
    gone: u64,
}

/// Slot numbers of one kind.
#[derive(Debug, Clone)]
pub(super) struct Slots<K> {
    by_key: HashMap<K, Slot>,
    free: Vec<u32>,
    retired: Vec<Retired<K>>,
    next: u32,
    limit: u32,
}

impl<K: Hash + Eq + Clone> Slots<K> {
    pub(super) fn new(limit: u32) -> Slots<K> {
        Slots { by_key: HashMap::new(), free: Vec::new(), retired: Vec::new(), next: 0, limit }
    }

    /// The slot of `key`, if it has one.
    pub(super) fn get(&self, key: &K) -> Option<u32> {
        self.by_key.get(key).map(|slot| slot.number)
    }

    /// What is gone, by slot that is not free yet.
    pub(super) fn retired(&self) -> impl Iterator<Item = (&K, u32)> {
        self.retired.iter().map(|retired| (&retired.key, retired.slot.number))
    }

    /// Slots whose key is no longer wanted are retired. Those retired earlier are free once everyone
    /// forwards by a generation without them and nothing uses them: whoever is late may begin to use
    /// one at any time, whatever is in use now.
    pub(super) fn keep(
        &mut self,
        spare: Spare,
        wanted: impl Fn(&K) -> bool,
        unused: impl Fn(u32) -> bool,
    ) {
        let free = &mut self.free;
        self.retired.retain(|retired| {
            let number = retired.slot.number;
            let is_free = retired.gone <= spare.acknowledged && unused(number);
            free.extend(is_free.then_some(number));
            !is_free
        });
        let gone: Vec<_> = self.by_key.keys().filter(|k| !wanted(k)).cloned().collect();
        for key in gone {
            if let Some(slot) = self.by_key.remove(&key) {
                self.retired.push(Retired { key, slot, gone: spare.generation });
            }
        }
    }

    /// What is wanted again has the slot back that it had last, if that is not free yet.
    pub(super) fn revive(&mut self, wanted: impl Fn(&K) -> bool) -> Vec<u32> {
        let mut revived = Vec::new();
        for place in (0..self.retired.len()).rev() {
            let key = &self.retired[place].key;
            if wanted(key) && !self.by_key.contains_key(key) {
                let Retired { key, slot, .. } = self.retired.remove(place);
                self.by_key.insert(key, slot);
                revived.push(slot.number);
            }
        }
        revived
    }

    /// The slot of `key`: the one it has, or a free one (then true), from `generation` on.
    pub(super) fn slot(&mut self, key: &K, generation: u64) -> Option<(Slot, bool)> {
        if let Some(slot) = self.by_key.get(key) {
            return Some((*slot, false));
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None if self.next < self.limit => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        let slot = Slot { number, since: generation };
        self.by_key.insert(key.clone(), slot);
        Some((slot, true))
    }
}
