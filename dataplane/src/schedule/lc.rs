//! Least connections: the member with the least overhead, weights ignored but for 0.

use super::input::takers;
use super::load::{Cost, least};
use super::{Cursor, Loads, Member};

#[derive(Debug)]
pub(super) struct Lc {
    /// Indices of the members that take new flows, in the order configured.
    takers: Box<[u16]>,
}

impl Lc {
    pub(super) fn build(members: &[Member]) -> Lc {
        Lc { takers: takers(members).map(|(member, _)| member).collect() }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        least(&self.takers, cursor, |&member| {
            let member = usize::from(member);
            (!loads.is_full(member))
                .then(|| Cost { overhead: loads.load(member).overhead(), weight: 1 })
        })
        .map(|&member| usize::from(member))
    }
}
