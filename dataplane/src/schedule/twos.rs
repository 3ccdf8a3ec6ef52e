//! The less loaded of two members drawn at random: the power of two choices.
//!
//! As `ip_vs_twos.c`: two members are drawn, each with a chance in proportion to its weight and
//! with no regard to the other, and the one with the least overhead for its weight takes the flow,
//! the first drawn of equals. Two reads of loads do nearly as well as reading all of them, and
//! workers, or directors, that know each other's counts late do not all run to the same member.
//! Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12 (2001).
//!
//! # Against LVS
//! The kernel walks the list twice for each pick; here a draw is a binary search in sums of
//! weights. It draws from 0 to the sum inclusive, by which the first of the list has the share of a
//! weight higher by one; here chances are the weights'.

use super::input::{Taker, in_order};
use super::load::Cost;
use super::{Cursor, Loads, Member};
use crate::hash::Random;

/// Draws until a member is found that is not full, before all are looked at: when at least half of
/// the weight is free, all of them fail once in 65,536 times.
const DRAWS: u32 = 16;

#[derive(Debug)]
pub(super) struct Twos {
    takers: Box<[Taker]>,
    /// For each of them, the weights up to and with its own. The last is the sum of all: less than
    /// 2^32, for there are at most 65,535 of at most 65,535.
    ends: Box<[u32]>,
}

impl Twos {
    pub(super) fn build(members: &[Member]) -> Twos {
        let takers = in_order(members);
        let add = |end: &mut u32, taker: &Taker| {
            *end += taker.weight;
            Some(*end)
        };
        let ends = takers.iter().scan(0, add).collect();
        Twos { takers, ends }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let first = self.draw(&mut cursor.random, loads)?;
        let second = self.draw(&mut cursor.random, loads)?;
        let cost = |taker: Taker| Cost {
            overhead: loads.load(taker.index()).overhead(),
            weight: u64::from(taker.weight),
        };
        let less = if cost(second).is_less_than(cost(first)) { second } else { first };
        Some(less.index())
    }

    /// One of those that are not full, by weight. Drawing again whenever one is full leaves the
    /// others' chances in proportion.
    #[inline]
    fn draw(&self, random: &mut Random, loads: &(impl Loads + ?Sized)) -> Option<Taker> {
        let sum = *self.ends.last()?;
        for _ in 0..DRAWS {
            let drawn = random.below(sum);
            let taker = *self.takers.get(self.ends.partition_point(|&end| end <= drawn))?;
            if !loads.is_full(taker.index()) {
                return Some(taker);
            }
        }
        self.draw_of_free(random, loads)
    }

    /// The same when nearly all are full: looks at each of them.
    #[cold]
    fn draw_of_free(&self, random: &mut Random, loads: &(impl Loads + ?Sized)) -> Option<Taker> {
        let free = || self.takers.iter().filter(|taker| !loads.is_full(taker.index()));
        let mut left = random.below(free().map(|taker| taker.weight).sum());
        for taker in free() {
            match left.checked_sub(taker.weight) {
                Some(rest) => left = rest,
                None => return Some(*taker),
            }
        }
        None
    }
}
