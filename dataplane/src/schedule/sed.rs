//! Shortest expected delay: the member with the least `(active + 1) / weight`.
//!
//! As `ip_vs_sed.c`: the connection to be scheduled counts as if it were there, so that among idle
//! members the heaviest is first, and inactive connections do not count.

use super::input::{Taker, in_order};
use super::load::{Cost, least};
use super::{Cursor, Loads, Member};

#[derive(Debug)]
pub(super) struct Sed {
    takers: Box<[Taker]>,
}

impl Sed {
    pub(super) fn build(members: &[Member]) -> Sed {
        Sed { takers: in_order(members) }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        least(&self.takers, cursor, |taker| {
            let member = taker.index();
            (!loads.is_full(member)).then(|| Cost {
                overhead: u64::from(loads.load(member).active) + 1,
                weight: u64::from(taker.weight),
            })
        })
        .map(|taker| taker.index())
    }
}
