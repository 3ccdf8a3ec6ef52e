//! The Maglev table: M slots, each owned by one member, stable under change.
//!
//! NSDI 2016, section 3.4: every member has its own permutation of the slots, `offset + j * skip
//! mod M`, a full one because M is a prime. Members take turns, and in its turn a member takes the
//! first slot of its permutation that nobody has. When a member goes, its slots are spread over
//! the others and few slots else change their owner.
//!
//! # Weights
//! The paper does not say how. Here a member of weight w has a turn in w of `max weight` rounds,
//! evenly spread, as in katran's `MaglevHashV2`: in every round its weight is added to a sum, and
//! when the sum reaches the highest weight, that is taken off and the member has a turn. So no
//! member is entered twice, and weights need not be small.
//!
//! Unlike katran's, a sum starts so high that the first round is everybody's turn. Hence every
//! member of weight 1 or more owns at least one slot, be the others' weights ever so high: one of
//! weight 1 beside many of 65535 gets some traffic. A member owns at most two slots more than its
//! exact share of M, and less than it by at most two slots and `members / M` of it, which is
//! 0.15 % for 100 members and M = 65537. With equal weights it is the paper's table.
//!
//! # Determinism
//! The table depends on the key, M and the set of members, each known by its address; not on their
//! order or on what was before. Members have their turns within a round by ascending address.
//!
//! # Cost
//! Some M ln M probes of a bit map (8 KiB by default: it stays in the L1 cache) and M turns,
//! independent of the weights: empty turns are not simulated. `benches/maglev.rs` measures it.

use super::input::takers;
use super::{BuildError, Member, Options};
use super::{MAX_MAGLEV_SIZE, prime};

/// Who owns which slot.
pub(super) struct Table {
    /// Indices of members; empty when nobody takes new flows.
    slots: Box<[u16]>,
}

impl Table {
    pub(super) fn build(members: &[Member], options: &Options) -> Result<Table, BuildError> {
        options.check()?;
        let (size, count) = (options.maglev_size, members.len());
        if count > size as usize {
            let hundredfold = count.saturating_mul(100).min(MAX_MAGLEV_SIZE as usize);
            let better = prime::nearest(hundredfold as u32);
            return Err(BuildError::TooFewSlots { size, count, better });
        }
        let mut by_address: Vec<_> = takers(members).collect();
        by_address.sort_unstable_by_key(|(_, m)| m.address);
        let takers: Vec<_> = by_address
            .into_iter()
            .map(|(member, m)| Taker {
                member,
                weight: u64::from(m.weight),
                turns: 0,
                slot: (options.hash_key.offset(m.address) % u64::from(size)) as u32,
                skip: (options.hash_key.skip(m.address) % u64::from(size - 1)) as u32 + 1,
            })
            .collect();
        Ok(Table { slots: fill(takers, size) })
    }

    /// The member a hash belongs to.
    #[inline(always)]
    pub(super) fn owner(&self, hash: u64) -> Option<usize> {
        self.slots.get(self.slot(hash)).map(|&member| usize::from(member))
    }

    #[inline(always)]
    fn slot(&self, hash: u64) -> usize {
        // The high word of the product is uniform over the slots, and no division.
        ((u128::from(hash) * self.slots.len() as u128) >> 64) as usize
    }

    /// The owners of the slots from that of a hash on, once around; a member occurs often.
    pub(super) fn owners_from(&self, hash: u64) -> impl Iterator<Item = usize> + '_ {
        let (before, after) = self.slots.split_at(self.slot(hash).min(self.slots.len()));
        after.iter().chain(before).map(|&member| usize::from(member))
    }

    pub(super) fn slots(&self) -> &[u16] {
        &self.slots
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} slots)", self.slots.len())
    }
}

/// A member on its way through its permutation.
struct Taker {
    member: u16,
    weight: u64,
    /// Turns had.
    turns: u64,
    /// The next slot of its permutation.
    slot: u32,
    skip: u32,
}

impl Taker {
    /// The round of its next turn: the least r with `r * weight >= turns * heaviest`.
    fn round(&self, heaviest: u64) -> u64 {
        (self.turns * heaviest).div_ceil(self.weight)
    }

    /// The next slot of its permutation, which it moves past.
    fn advance(&mut self, size: u32) -> u32 {
        let slot = self.slot;
        self.slot += self.skip;
        if self.slot >= size {
            self.slot -= size;
        }
        slot
    }
}

/// Has the takers (in turn order) fill `size` slots, a prime number and no fewer than takers.
fn fill(mut takers: Vec<Taker>, size: u32) -> Box<[u16]> {
    let Some(heaviest) = takers.iter().map(|t| t.weight).max() else {
        return Box::default();
    };
    let mut slots = vec![0; size as usize].into_boxed_slice();
    let mut taken = vec![0_u64; size as usize / 64 + 1];
    let mut free = size;

    // Who has a turn in which round: a list for each round, linked through `after`. The heaviest
    // has one in every round, so that the table is full after `size` rounds at the latest.
    let mut first: Vec<Option<u16>> = vec![None; size as usize];
    let mut after: Vec<Option<u16>> = vec![None; takers.len()];
    let mut turns: Vec<u16> = (0..=u16::MAX).take(takers.len()).collect();

    for round in 0..size as usize {
        for &at in &turns {
            let taker = &mut takers[usize::from(at)];
            let slot = loop {
                let slot = taker.advance(size) as usize;
                if taken[slot / 64] >> (slot % 64) & 1 == 0 {
                    break slot;
                }
            };
            taken[slot / 64] |= 1 << (slot % 64);
            slots[slot] = taker.member;
            free -= 1;
            if free == 0 {
                return slots;
            }
            taker.turns += 1;
            if let Some(first) = first.get_mut(taker.round(heaviest) as usize) {
                after[usize::from(at)] = first.replace(at);
            }
        }
        turns.clear();
        let mut next = first.get(round + 1).copied().flatten();
        while let Some(at) = next {
            turns.push(at);
            next = after[usize::from(at)];
        }
        turns.sort_unstable();
    }
    slots
}
