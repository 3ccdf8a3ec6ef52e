//! Whose flows fill a table: each owner of real servers, a virtual service, has a share.

use crate::types::RealId;

/// Flows by owner. A table that was told of no owners has one for all.
#[derive(Debug, Default)]
pub(super) struct Shares {
    /// The owner of each real server.
    owners: Vec<u32>,
    /// Flows of each owner.
    flows: Vec<u32>,
    /// How many owners have flows.
    present: usize,
    capacity: usize,
}

impl Shares {
    pub(super) fn new(reals: usize, owners: usize, capacity: usize) -> Shares {
        Shares { owners: vec![0; reals], flows: vec![0; owners], present: 0, capacity }
    }

    pub(super) fn memory_bytes(&self) -> usize {
        (self.owners.len() + self.flows.len()) * size_of::<u32>()
    }

    /// Flows of this real server are this owner's from now on. While there are any, it stays so.
    #[inline(always)]
    pub(super) fn assign(&mut self, real: RealId, owner: u32) {
        if let Some(of) = self.owners.get_mut(real.index()) {
            *of = owner;
        }
    }

    #[inline(always)]
    pub(super) fn add(&mut self, real: RealId) {
        let Some(owner) = self.owners.get(real.index()) else { return };
        if let Some(flows) = self.flows.get_mut(*owner as usize) {
            self.present += usize::from(*flows == 0);
            *flows += 1;
        }
    }

    #[inline(always)]
    pub(super) fn sub(&mut self, real: RealId) {
        let Some(owner) = self.owners.get(real.index()) else { return };
        if let Some(flows) = self.flows.get_mut(*owner as usize).filter(|flows| **flows > 0) {
            *flows -= 1;
            self.present -= usize::from(*flows == 0);
        }
    }

    /// Whether the owner of a real server has less than its share: as many flows as there are for
    /// each, where all that have flows get the same.
    #[inline(always)]
    pub(super) fn has_room(&self, real: RealId) -> bool {
        let Some(owner) = self.owners.get(real.index()) else { return false };
        let flows = self.flows.get(*owner as usize).copied().unwrap_or(u32::MAX);
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
}
