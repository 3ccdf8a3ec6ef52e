//! Never queue: an idle member if there is one, else the shortest expected delay.
//!
//! As `ip_vs_nq.c`: a member without active connections is taken whatever its weight, for on a
//! faster one that is busy the new connection would wait.

use super::input::{Taker, in_order};
use super::load::{Cost, least};
use super::{Cursor, Loads, Member};

#[derive(Debug)]
pub(super) struct Nq {
    takers: Box<[Taker]>,
}

impl Nq {
    pub(super) fn build(members: &[Member]) -> Nq {
        Nq { takers: in_order(members) }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        least(&self.takers, cursor, |taker| {
            let member = taker.index();
            (!loads.is_full(member)).then(|| Cost {
                overhead: match loads.load(member).active {
                    0 => 0,
                    active => u64::from(active) + 1,
                },
                weight: u64::from(taker.weight),
            })
        })
        .map(|taker| taker.index())
    }
}
