//! Weighted round robin, interleaved as in LVS.
//!
//! A cycle has `max weight / gcd` passes. In the first, a member is picked if its weight is at
//! least the highest weight; the bar drops by the gcd from pass to pass, and in the last pass
//! everybody is picked once. A member of weight w is so picked w / gcd times in a cycle, which is
//! its exact share, and the heavy ones are not picked w times in a row.
//!
//! LVS walks the list in the order configured and skips who is below the bar, so that a pick may
//! walk past every member of a long list. Here members are sorted by weight, heaviest first: those
//! who reach the bar are the head of the list, a pass ends at the first who does not, and a pick
//! looks at two members at most. Each pass picks the same members as LVS does, heaviest first.

use super::input::takers;
use super::{Cursor, Member};

#[derive(Debug)]
pub(super) struct Wrr {
    /// The members that take new flows by turns, most first; among equals as configured.
    takers: Box<[Taker]>,
    /// Passes in a cycle: the turns of the first taker.
    passes: u32,
}

#[derive(Debug)]
struct Taker {
    member: u16,
    /// Picks in a cycle: weight / gcd of all weights.
    turns: u32,
}

impl Wrr {
    pub(super) fn build(members: &[Member]) -> Wrr {
        let gcd = takers(members).fold(0, |sum, (_, m)| gcd(sum, m.weight)).max(1);
        let mut takers: Box<[Taker]> =
            takers(members).map(|(member, m)| Taker { member, turns: m.weight / gcd }).collect();
        takers.sort_by_key(|t| std::cmp::Reverse(t.turns));
        let passes = takers.first().map_or(0, |t| t.turns);
        Wrr { takers, passes }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor) -> Option<usize> {
        let heaviest = self.takers.first()?;
        let pass = if cursor.pass < self.passes { cursor.pass } else { cursor.pass % self.passes };
        let bar = self.passes - pass;
        let place = cursor.place as usize;
        let (pass, place, taker) = match self.takers.get(place) {
            Some(taker) if taker.turns >= bar => (pass, place, taker),
            _ => ((pass + 1) % self.passes, 0, heaviest),
        };
        cursor.pass = pass;
        cursor.picked(place);
        Some(usize::from(taker.member))
    }
}

fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
