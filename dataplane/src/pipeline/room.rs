//! Waiting rooms of fragments: bounded in number, time, and by source network.

use std::collections::VecDeque;

use super::quota::{NETWORKS, SourceNetwork};
use crate::types::Tick;

/// Most that one source network has in a room.
const SHARE: u16 = 64;
/// How long one waits, milliseconds: reordering in a network, not loss.
const HOLD_MS: u32 = 500;

struct Waiting<T> {
    network: SourceNetwork,
    until: Tick,
    what: T,
}

/// What waits, the oldest first. When it is full the oldest goes: it has waited in vain for longest.
/// A network that has its share competes with itself.
pub(super) struct Room<T> {
    waiting: VecDeque<Waiting<T>>,
    /// How many of each network wait.
    shares: [u16; NETWORKS],
    places: usize,
}

impl<T> Room<T> {
    pub(super) fn new(places: usize) -> Room<T> {
        Room { waiting: VecDeque::with_capacity(places), shares: [0; NETWORKS], places }
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    fn share(&self, network: SourceNetwork) -> u16 {
        self.shares.get(network.index()).copied().unwrap_or_default()
    }

    fn remove(&mut self, at: usize) -> Option<T> {
        let Waiting { network, what, .. } = self.waiting.remove(at)?;
        if let Some(share) = self.shares.get_mut(network.index()) {
            *share -= 1;
        }
        Some(what)
    }

    /// Lets one in; the one that has to go for it.
    pub(super) fn push(&mut self, network: SourceNetwork, what: T, now: Tick) -> Option<T> {
        let gone = if self.share(network) >= SHARE {
            let oldest = self.waiting.iter().position(|w| w.network == network);
            oldest.and_then(|at| self.remove(at))
        } else if self.waiting.len() >= self.places {
            self.remove(0)
        } else {
            None
        };
        if let Some(share) = self.shares.get_mut(network.index()) {
            *share += 1;
        }
        self.waiting.push_back(Waiting { network, until: now.after(HOLD_MS), what });
        gone
    }

    /// Takes the oldest of a network for which `wanted` is true.
    pub(super) fn take(
        &mut self,
        network: SourceNetwork,
        wanted: impl Fn(&T) -> bool,
    ) -> Option<T> {
        if self.share(network) == 0 {
            return None;
        }
        let at = self.waiting.iter().position(|w| w.network == network && wanted(&w.what))?;
        self.remove(at)
    }

    /// Takes one whose time is over.
    pub(super) fn take_overdue(&mut self, now: Tick) -> Option<T> {
        let oldest = self.waiting.front()?;
        if oldest.until.reached(now) { self.remove(0) } else { None }
    }

    pub(super) fn take_any(&mut self) -> Option<T> {
        self.remove(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::Seed;

    fn network(n: u32) -> SourceNetwork {
        SourceNetwork::of4(n << 8, &Seed::new(7))
    }

    #[test]
    fn the_oldest_goes_first() {
        let mut room = Room::new(3);
        for n in 0..3 {
            assert_eq!(room.push(network(n), n, Tick(n)), None);
        }
        assert_eq!(room.push(network(3), 3, Tick(3)), Some(0));
        assert_eq!(room.take(network(2), |n| *n == 2), Some(2));
        assert_eq!(room.take(network(2), |n| *n == 2), None);
        assert_eq!(room.push(network(4), 4, Tick(4)), None, "there was room");
        assert_eq!(room.take_overdue(Tick(HOLD_MS)), None);
        assert_eq!(room.take_overdue(Tick(HOLD_MS + 3)), Some(1));
        assert_eq!(room.take_overdue(Tick(HOLD_MS + 3)), Some(3));
        assert_eq!((room.take_any(), room.take_any(), room.len()), (Some(4), None, 0));
        assert!(room.shares.iter().all(|share| *share == 0));
    }

    #[test]
    fn a_network_with_its_share_competes_with_itself() {
        let mut room = Room::new(128);
        for n in 0..10 {
            room.push(network(1), n, Tick(0));
        }
        for n in 100..100_000 {
            let gone = room.push(network(2), n, Tick(1));
            assert!(gone.is_none_or(|gone| gone >= 100));
        }
        assert_eq!(room.len(), 10 + usize::from(SHARE));
        for n in 0..10 {
            assert_eq!(room.take(network(1), |w| *w == n), Some(n));
        }
        assert_eq!(room.take(network(2), |_| true), Some(100_000 - i32::from(SHARE)));
    }
}
