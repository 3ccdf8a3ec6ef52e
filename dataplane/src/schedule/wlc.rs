//! Weighted least connections: the member with the least overhead for its weight.
//!
//! As `ip_vs_wlc.c`, quotients are compared by cross multiplication. While no member has a
//! connection all are equal, whatever their weights.

use super::input::takers;
use super::load::{Cost, least};
use super::{Cursor, Loads, Member};

#[derive(Debug)]
pub(super) struct Wlc {
    /// The members that take new flows, in the order configured.
    takers: Box<[Taker]>,
}

#[derive(Debug)]
struct Taker {
    member: u16,
    weight: u32,
}

impl Wlc {
    pub(super) fn build(members: &[Member]) -> Wlc {
        let takers = takers(members).map(|(member, m)| Taker { member, weight: m.weight });
        Wlc { takers: takers.collect() }
    }

    #[inline]
    pub(super) fn pick(&self, cursor: &mut Cursor, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        least(&self.takers, cursor, |taker| Cost {
            overhead: loads.load(usize::from(taker.member)).overhead(),
            weight: u64::from(taker.weight),
        })
        .map(|taker| usize::from(taker.member))
    }
}
