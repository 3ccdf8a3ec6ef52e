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
//!
//! Members that are full are passed over. When nobody of a pass is left, the next to be picked is
//! the heaviest member that is not full, in the next pass whose bar it reaches; passes in which
//! nobody could be picked are left out at once, where LVS walks through each of them.

use super::input::takers;
use super::{Cursor, Loads, Member};

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
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        if self.takers.is_empty() {
            return None;
        }
        let pass = if cursor.pass < self.passes { cursor.pass } else { cursor.pass % self.passes };
        let bar = self.passes - pass;
        let place = cursor.place as usize;
        let is_free = |taker: &Taker| !loads.is_full(usize::from(taker.member));
        let rest = self.takers.get(place..).unwrap_or_default();
        let in_pass = rest.iter().take_while(|taker| taker.turns >= bar);
        let (pass, place, taker) = match (place..).zip(in_pass).find(|(_, t)| is_free(t)) {
            Some((place, taker)) => (pass, place, taker),
            None => {
                let (place, taker) = (0..).zip(&self.takers).find(|(_, t)| is_free(t))?;
                let next_bar = if bar > 1 { bar - 1 } else { self.passes };
                (self.passes - next_bar.min(taker.turns), place, taker)
            }
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
