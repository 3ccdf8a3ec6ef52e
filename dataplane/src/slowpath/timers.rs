//! When what is due: one timer for each key.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::Millis;

/// Timers in the order in which they are due, those due at once in the order of their keys. Each
/// key has one at most.
#[derive(Debug)]
pub(super) struct Timers<K> {
    queue: BTreeSet<(Millis, K)>,
    due: BTreeMap<K, Millis>,
}

impl<K: Ord + Copy> Timers<K> {
    pub(super) const fn new() -> Timers<K> {
        Timers { queue: BTreeSet::new(), due: BTreeMap::new() }
    }

    /// Sets when `key` is due, in place of what was set before; never, with `None`.
    pub(super) fn set(&mut self, key: K, due: Option<Millis>) {
        let before = match due {
            Some(due) => self.due.insert(key, due),
            None => self.due.remove(&key),
        };
        if before == due {
            return;
        }
        if let Some(before) = before {
            self.queue.remove(&(before, key));
        }
        self.queue.extend(due.map(|due| (due, key)));
    }

    /// When the first is due.
    pub(super) fn first(&self) -> Option<Millis> {
        self.queue.first().map(|(due, _)| *due)
    }

    /// The first that is due at `now`; it is due no more.
    pub(super) fn take_due(&mut self, now: Millis) -> Option<K> {
        let (_, key) = self.queue.first().copied().filter(|(due, _)| *due <= now)?;
        self.set(key, None);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_due_comes_first_and_once() {
        let mut timers = Timers::new();
        timers.set('b', Some(Millis(5)));
        timers.set('a', Some(Millis(5)));
        timers.set('c', Some(Millis(3)));
        assert_eq!(timers.first(), Some(Millis(3)));
        assert_eq!(timers.take_due(Millis(2)), None);
        timers.set('c', Some(Millis(9)));
        assert_eq!(timers.first(), Some(Millis(5)));
        assert_eq!([5, 5, 5].map(|at| timers.take_due(Millis(at))), [Some('a'), Some('b'), None]);
        timers.set('c', None);
        assert_eq!((timers.first(), timers.take_due(Millis(10))), (None, None));
    }

    proptest! {
        /// Against a plain list.
        #[test]
        fn timers_are_what_was_set_last(
            steps in proptest::collection::vec((0u8..6, proptest::option::of(0u64..20), any::<bool>()), 0..80),
        ) {
            let mut timers = Timers::new();
            let mut list: Vec<(u64, u8)> = Vec::new();
            for (key, due, take) in steps {
                if take {
                    let now = due.unwrap_or(10);
                    let first = list.iter().min().copied().filter(|(due, _)| *due <= now);
                    prop_assert_eq!(timers.take_due(Millis(now)), first.map(|(_, key)| key));
                    list.retain(|entry| Some(*entry) != first);
                } else {
                    timers.set(key, due.map(Millis));
                    list.retain(|(_, k)| *k != key);
                    list.extend(due.map(|due| (due, key)));
                }
                prop_assert_eq!(timers.first(), list.iter().min().map(|(due, _)| Millis(*due)));
            }
        }
    }
}
