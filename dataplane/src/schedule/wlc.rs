//! Weighted least connections: the member with the least overhead for its weight.
//!
//! As `ip_vs_wlc.c`. While no member has a connection all are equal, whatever their weights.

use super::input::{Taker, in_order};
use super::load::{Cost, least};
use super::{Cursor, Loads, Member};

#[derive(Debug)]
pub(super) struct Wlc {
    takers: Box<[Taker]>,
}

impl Wlc {
    pub(super) fn build(members: &[Member]) -> Wlc {
        Wlc { takers: in_order(members) }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        least(&self.takers, cursor, |taker| {
            let member = taker.index();
            (!loads.is_full(member)).then(|| Cost {
                overhead: loads.load(member).overhead(),
                weight: u64::from(taker.weight),
            })
        })
        .map(|taker| taker.index())
    }
}
