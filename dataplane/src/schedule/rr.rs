//! Round robin: each member in turn, weights ignored but for 0.

use super::input::takers;
use super::{Cursor, Member};

#[derive(Debug)]
pub(super) struct Rr {
    /// Indices of the members that take new flows, in the order configured.
    takers: Box<[u16]>,
}

impl Rr {
    pub(super) fn build(members: &[Member]) -> Rr {
        Rr { takers: takers(members).map(|(member, _)| member).collect() }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor) -> Option<usize> {
        let place = cursor.within(self.takers.len());
        let member = *self.takers.get(place)?;
        cursor.picked(place);
        Some(usize::from(member))
    }
}
