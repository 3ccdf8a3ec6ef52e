//! Whose flows fill a table: each owner of real servers, a virtual service, has a share.

use crate::types::RealId;

/// A real server's owner, and its flows.
#[derive(Debug, Clone, Copy, Default)]
struct Owned {
    owner: u32,
    flows: u32,
}

/// Flows by owner. A table that was told of no owners has one for all.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// By real server.
    reals: Vec<Owned>,
    /// Flows of each owner.
    flows: Vec<u32>,
    /// How many owners have flows.
    present: usize,
    capacity: usize,
}

impl Shares {
    pub(super) fn new(reals: usize, owners: usize, capacity: usize) -> Shares {
        let reals = vec![Owned::default(); reals];
        Shares { reals, flows: vec![0; owners], present: 0, capacity }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.reals.len() * size_of::<Owned>() + self.flows.len() * size_of::<u32>()
    }

    /// Flows of this real server are this owner's from now on, those that are there too.
    #[inline(always)]
    pub(super) fn assign(&mut self, real: RealId, owner: u32) {
        let Some(of) = self.reals.get_mut(real.index()) else { return };
        if of.owner != owner {
            let Owned { owner: before, flows } = *of;
            of.owner = owner;
            self.change(before, flows, u32::saturating_sub);
            self.change(owner, flows, u32::saturating_add);
        }
    }

    #[inline(always)]
    pub(super) fn add(&mut self, real: RealId) {
        let Some(of) = self.reals.get_mut(real.index()) else { return };
        of.flows += 1;
        let owner = of.owner;
        self.change(owner, 1, u32::saturating_add);
    }

    #[inline(always)]
    pub(super) fn sub(&mut self, real: RealId) {
        let Some(of) = self.reals.get_mut(real.index()).filter(|of| of.flows > 0) else { return };
        of.flows -= 1;
        let owner = of.owner;
        self.change(owner, 1, u32::saturating_sub);
    }

    #[inline(always)]
    fn change(&mut self, owner: u32, by: u32, how: impl Fn(u32, u32) -> u32) {
        if let Some(flows) = self.flows.get_mut(owner as usize) {
            let before = *flows;
            *flows = how(before, by);
            self.present += usize::from(*flows > 0);
            self.present -= usize::from(before > 0);
        }
    }

    /// Whether the owner of a real server has less than its share: as many flows as there are for
    /// each, where all that have flows get the same.
    #[inline(always)]
    pub(super) fn has_room(&self, real: RealId) -> bool {
        let Some(of) = self.reals.get(real.index()) else { return false };
        let flows = self.flows.get(of.owner as usize).copied().unwrap_or(u32::MAX);
        flows as usize * self.present < self.capacity
    }
}

#[cfg(test)]
impl Shares {
    /// Flows of each owner.
    pub(super) fn counts(&self) -> impl Iterator<Item = u32> {
        assert_eq!(self.present, self.flows.iter().filter(|flows| **flows > 0).count());
        self.flows.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_less_than_its_share_has_room() {
        let mut shares = Shares::new(4, 3, 100);
        shares.assign(RealId(1), 1);
        shares.assign(RealId(2), 1);
        shares.assign(RealId(3), 2);
        let rooms = |shares: &Shares| [1, 2, 3].map(|real| shares.has_room(RealId(real)));
        for _ in 0..25 {
            shares.add(RealId(1));
            shares.add(RealId(2));
        }
        // Alone, all is its share.
        assert_eq!(rooms(&shares), [true, true, true]);
        shares.add(RealId(3));
        assert_eq!(rooms(&shares), [false, false, true]);
        for _ in 0..49 {
            shares.add(RealId(3));
        }
        assert_eq!(rooms(&shares), [false, false, false]);
        for _ in 0..50 {
            shares.sub(RealId(3));
        }
        assert_eq!(rooms(&shares), [true, true, true]);
        // None too few, and nobody's.
        shares.sub(RealId(3));
        shares.add(RealId(4));
        assert_eq!((shares.present, shares.has_room(RealId(4))), (1, false));
        assert!(!Shares::default().has_room(RealId(0)));
    }

    #[test]
    fn flows_go_with_their_real_server_to_another_owner() {
        let mut shares = Shares::new(3, 3, 100);
        shares.assign(RealId(1), 1);
        shares.assign(RealId(2), 2);
        for _ in 0..5 {
            shares.add(RealId(1));
            shares.add(RealId(2));
        }
        // Its virtual service was removed, and is there again in another slot.
        shares.assign(RealId(1), 0);
        assert_eq!(shares.counts().collect::<Vec<_>>(), [5, 0, 5]);
        shares.add(RealId(1));
        shares.assign(RealId(2), 0);
        assert_eq!(shares.counts().collect::<Vec<_>>(), [11, 0, 0]);
        for _ in 0..6 {
            shares.sub(RealId(1));
            shares.sub(RealId(2));
        }
        assert_eq!((shares.counts().sum::<u32>(), shares.present), (0, 0));
    }
}
