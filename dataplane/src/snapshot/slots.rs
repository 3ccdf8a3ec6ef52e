//! Which slot stands for what, and when it may stand for something else.

use std::collections::HashMap;
use std::hash::Hash;

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

impl<K> Retired<K> {
    fn is_free(&self, acknowledged: u64, unused: impl Fn(u32) -> bool) -> bool {
        self.gone <= acknowledged && unused(self.slot.number)
    }
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

    /// How many there are for new keys, once [`Slots::release`] was called.
    pub(super) fn room(&self, acknowledged: u64, unused: impl Fn(u32) -> bool) -> usize {
        let released = self.retired.iter().filter(|r| r.is_free(acknowledged, &unused)).count();
        self.free.len() + (self.limit - self.next) as usize + released
    }

    /// What is gone and may come back, once [`Slots::release`] was called.
    pub(super) fn waiting(
        &self,
        acknowledged: u64,
        unused: impl Fn(u32) -> bool,
    ) -> impl Iterator<Item = K> {
        let waiting = self.retired.iter().filter(move |r| !r.is_free(acknowledged, &unused));
        waiting.map(|r| r.key.clone())
    }

    /// Slots given up earlier are free once everyone forwards by a generation without them, and
    /// nothing uses them: whoever is late may begin to use one at any time, whatever is in use now.
    pub(super) fn release(&mut self, acknowledged: u64, unused: impl Fn(u32) -> bool) {
        let free = &mut self.free;
        self.retired.retain(|retired| {
            let is_free = retired.is_free(acknowledged, &unused);
            free.extend(is_free.then_some(retired.slot.number));
            !is_free
        });
    }

    /// `key` is not wanted from `generation` on: its slot is to be free, but never at once.
    pub(super) fn retire(&mut self, key: &K, generation: u64) {
        if let Some((key, slot)) = self.by_key.remove_entry(key) {
            self.retired.push(Retired { key, slot, gone: generation });
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
