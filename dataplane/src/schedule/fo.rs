//! Weighted failover: the heaviest member, and the next when that one is not there.
//!
//! As `ip_vs_fo.c`: of the members that take new flows and are not full, the one of the highest
//! weight, of several the first configured. Connections are not counted, but for thresholds.

use super::input::{Taker, by_weight};
use super::{Loads, Member};

#[derive(Debug)]
pub(super) struct Fo {
    /// Heaviest first.
    takers: Box<[Taker]>,
}

impl Fo {
    pub(super) fn build(members: &[Member]) -> Fo {
        Fo { takers: by_weight(members) }
    }

    #[inline]
    pub(super) fn pick(&self, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        self.takers.iter().map(|taker| taker.index()).find(|&member| !loads.is_full(member))
    }
}
