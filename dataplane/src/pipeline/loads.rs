//! Connection counts of real servers, summed over the other workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::schedule::Load;
use crate::stats::Stats;
use crate::types::{RealId, WorkerId};

/// For each worker, what the others have: one word per real server.
///
/// # Threading
/// One thread (the slow path's) calls [`LoadBoard::refresh`] at least every 10 ms; workers read.
/// A worker adds its own, exact, counts.
#[derive(Debug)]
pub struct LoadBoard {
    others: Box<[Box<[AtomicU64]>]>,
}

impl LoadBoard {
    /// A board for so many workers and real server slots, all zero. One worker needs none.
    pub fn new(workers: usize, reals: usize) -> LoadBoard {
        let slots = if workers > 1 { reals } else { 0 };
        let row = || (0..slots).map(|_| AtomicU64::new(0)).collect();
        LoadBoard { others: (0..workers).map(|_| row()).collect() }
    }

    /// Sums up again, for the real servers in `counted`.
    pub fn refresh(&self, stats: &[Arc<Stats>], counted: &[RealId]) {
        if stats.len() < 2 {
            return;
        }
        for real in counted {
            let own = |s: &Arc<Stats>| match s.real(*real) {
                Some(r) => (r.active.get(), r.inactive.get()),
                None => (0, 0),
            };
            let (active, inactive) =
                stats.iter().map(own).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            for (row, one) in self.others.iter().zip(stats) {
                let (mine_active, mine_inactive) = own(one);
                // A count may have moved since the sum was taken; never below zero.
                let word = active.saturating_sub(mine_active) << 32
                    | inactive.saturating_sub(mine_inactive) & 0xffff_ffff;
                if let Some(slot) = row.get(real.index()) {
                    slot.store(word, Relaxed);
                }
            }
        }
    }

    /// What the workers other than `me` had lately.
    #[inline]
    pub fn others(&self, me: WorkerId, real: RealId) -> Load {
        let slot = self.others.get(me.index()).and_then(|row| row.get(real.index()));
        let word = slot.map_or(0, |s| s.load(Relaxed));
        Load { active: (word >> 32) as u32, inactive: word as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_sees_the_others() {
        let stats: Vec<_> = (0..3).map(|_| Arc::new(Stats::new(0, 0, 2))).collect();
        for (i, s) in stats.iter().enumerate() {
            s.real(RealId(1)).unwrap().active.add(i as u64 + 1);
            s.real(RealId(1)).unwrap().inactive.add(10 * (i as u64 + 1));
        }
        let board = LoadBoard::new(3, 2);
        board.refresh(&stats, &[RealId(1)]);
        let seen: Vec<_> = (0..3).map(|w| board.others(WorkerId(w), RealId(1))).collect();
        assert_eq!(seen.iter().map(|l| l.active).collect::<Vec<_>>(), [5, 4, 3]);
        assert_eq!(seen.iter().map(|l| l.inactive).collect::<Vec<_>>(), [50, 40, 30]);
        assert_eq!(board.others(WorkerId(0), RealId(0)), Load::default());
    }
}
