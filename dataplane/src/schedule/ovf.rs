//! Weighted overflow: the heaviest member until it has as many active connections as its weight
//! says, then the next.
//!
//! As `ip_vs_ovf.c`: a member is passed over once its active connections exceed its weight, so it
//! gets one more than that. When all have overflowed, new flows have nobody. Inactive connections
//! do not count; a UDP flow is active until it times out.

use super::input::{Taker, by_weight};
use super::{Loads, Member};

#[derive(Debug)]
pub(super) struct Ovf {
    /// Heaviest first.
    takers: Box<[Taker]>,
}

impl Ovf {
    pub(super) fn build(members: &[Member]) -> Ovf {
        Ovf { takers: by_weight(members) }
    }

    #[inline]
    pub(super) fn pick(&self, loads: &(impl Loads + ?Sized)) -> Option<usize> {
        let has_room = |taker: &&Taker| {
            let member = taker.index();
            loads.load(member).active <= taker.weight && !loads.is_full(member)
        };
        self.takers.iter().find(has_room).map(|taker| taker.index())
    }
}
