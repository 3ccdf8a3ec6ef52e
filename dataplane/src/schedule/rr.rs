//! Round robin: each member in turn, weights ignored but for 0.

use super::input::takers;
use super::{Cursor, Loads, Member};

#[derive(Debug)]
pub(super) struct Rr {
    /// Indices of the members that take new flows, in the order configured.
    takers: Box<[u16]>,
}

impl Rr {
    pub(super) fn build(members: &[Member]) -> Rr {
        Rr { takers: takers(members).map(|(member, _)| member).collect() }
    }

    /// The next in turn; who is full misses its turn.
    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let start = cursor.within(self.takers.len());
        let (before, after) = self.takers.split_at(start);
        let rotation = (start..).zip(after).chain((0..).zip(before));
        for (place, &member) in rotation {
            if !loads.is_full(usize::from(member)) {
                cursor.picked(place);
                return Some(usize::from(member));
            }
        }
        None
    }
}
