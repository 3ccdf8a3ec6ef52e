//! Connection counts of real servers, summed over the other workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use arrayvec::ArrayVec;

use crate::schedule::Thresholds;
use crate::stats::Stats;
use crate::types::{RealId, WorkerId};

/// Counts read in one go of [`LoadBoard::refresh`] at most: what ARP waits for. The benchmark `loads`
/// tells how long that is.
const PIECE: usize = 32_768;
/// Workers whose counts are kept at hand while their sum is distributed; others' are read again.
const AT_HAND: usize = 16;

/// For each worker, what the others have: one word per real server.
///
/// # Threading
/// One thread (the slow path's) calls [`LoadBoard::refresh`], a [piece](LoadBoard::piece) at a time,
/// so often that sums are at most 5 ms old where all are one piece, and as old as a round through
/// all pieces takes elsewhere; workers read. A worker adds its own, exact, counts. Whoever gives a slot to another real
/// server calls [`LoadBoard::forget`] before the configuration with it is published: nobody else
/// reads or writes what is kept for a slot that no configuration in use names.
///
/// Which real servers are full is known to all workers at once: whichever sees the connections
/// reach the upper threshold writes it down. That they have left the lower one is for that thread
/// to find, which sees all of them; only a worker without others finds it itself. So this is the
/// one thing that workers write in common, when a real server fills up and not per packet or flow.
#[derive(Debug)]
pub struct LoadBoard {
    others: Box<[Box<[AtomicU64]>]>,
    /// Marks of [`Thresholds::mark`], one for each real server.
    full: Box<[AtomicU32]>,
}

impl LoadBoard {
    /// A board for so many workers and real server slots, all zero. One worker needs none.
    pub fn new(workers: usize, reals: usize) -> LoadBoard {
        let slots = if workers > 1 { reals } else { 0 };
        let row = || (0..slots).map(|_| AtomicU64::new(0)).collect();
        LoadBoard {
            others: (0..workers).map(|_| row()).collect(),
            full: (0..reals).map(|_| AtomicU32::new(0)).collect(),
        }
    }

    /// Whether a real server is full, by these thresholds and by what was seen before; `total` is
    /// its connections as this worker knows them.
    #[inline]
    pub fn is_full(&self, real: RealId, thresholds: Thresholds, total: u32) -> bool {
        let Some(slot) = self.full.get(real.index()) else { return false };
        let before = slot.load(Relaxed);
        let mark = thresholds.mark(before, total);
        let has_emptied = mark == 0 && before >= thresholds.upper && thresholds.is_limited();
        if has_emptied && self.others.len() > 1 {
            return before != 0;
        }
        if mark != before {
            slot.store(mark, Relaxed);
        }
        mark != 0
    }

    /// How many real servers to [refresh](LoadBoard::refresh) in one go: fewer the more
    /// workers there are, so that others wait equally long.
    pub fn piece(&self) -> usize {
        (PIECE / self.others.len().max(1)).max(1)
    }

    /// Sums up again, for the real servers in `counted`, and finds who is no longer full.
    pub fn refresh(&self, stats: &[Arc<Stats>], counted: &[(RealId, Thresholds)]) {
        if stats.len() < 2 {
            return;
        }
        for (real, thresholds) in counted {
            let own = |s: &Arc<Stats>| match s.flows().get(real.index()) {
                Some(word) => word.get(),
                None => 0,
            };
            let halves = |word: u64| (word >> 32, word & 0xffff_ffff);
            let (mut active, mut inactive) = (0, 0);
            let mut at_hand = ArrayVec::<u64, AT_HAND>::new();
            for one in stats {
                let word = own(one);
                let one = halves(word);
                (active, inactive) = (active + one.0, inactive + one.1);
                let _ = at_hand.try_push(word);
            }
            for (worker, (row, one)) in self.others.iter().zip(stats).enumerate() {
                let mine = halves(at_hand.get(worker).copied().unwrap_or_else(|| own(one)));
                // A count may have moved since the sum was taken; never below zero.
                let word = active.saturating_sub(mine.0) << 32
                    | inactive.saturating_sub(mine.1) & 0xffff_ffff;
                // Nearly all are as they were, and their cache lines stay with the workers.
                if let Some(slot) = row.get(real.index()) {
                    if slot.load(Relaxed) != word {
                        slot.store(word, Relaxed);
                    }
                }
            }
            if let Some(slot) = self.full.get(real.index()) {
                let before = slot.load(Relaxed);
                let total = u32::try_from(active + inactive).unwrap_or(u32::MAX);
                let mark = thresholds.mark(before, total);
                if mark != before {
                    // A worker that finds it full just now is right.
                    let _ = slot.compare_exchange(before, mark, Relaxed, Relaxed);
                }
            }
        }
    }

    /// A slot is to be another real server's, which has no connections.
    pub fn forget(&self, real: RealId) {
        for row in &self.others {
            if let Some(slot) = row.get(real.index()) {
                slot.store(0, Relaxed);
            }
        }
        if let Some(slot) = self.full.get(real.index()) {
            slot.store(0, Relaxed);
        }
    }

    /// What the workers other than `me` had lately.
    #[inline(always)]
    pub fn others(&self, me: WorkerId) -> Others<'_> {
        Others(self.others.get(me.index()).map_or(&[], |row| row))
    }
}

/// What the others have of each real server.
#[derive(Debug, Clone, Copy)]
pub struct Others<'a>(&'a [AtomicU64]);

impl Others<'_> {
    /// Both halves of a [`Load`](crate::schedule::Load), as it takes them from a word.
    #[inline(always)]
    pub fn word(&self, slot: usize) -> u64 {
        self.0.get(slot).map_or(0, |word| word.load(Relaxed))
    }

    /// From a slot on.
    #[inline(always)]
    pub fn from(self, slot: usize) -> Self {
        Others(self.0.get(slot..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Load;

    #[test]
    fn each_worker_sees_the_others() {
        let stats: Vec<_> = (0..3).map(|_| Arc::new(Stats::new(0, 0, 2))).collect();
        for (i, s) in stats.iter().enumerate() {
            s.real(RealId(1)).unwrap().active.add(i as u64 + 1);
            s.real(RealId(1)).unwrap().inactive.add(10 * (i as u64 + 1));
        }
        let board = LoadBoard::new(3, 2);
        board.refresh(&stats, &[(RealId(1), Thresholds::default())]);
        let others = |w, real: RealId| Load::of_word(board.others(WorkerId(w)).word(real.index()));
        let seen: Vec<_> = (0..3).map(|w| others(w, RealId(1))).collect();
        assert_eq!(seen.iter().map(|l| l.active).collect::<Vec<_>>(), [5, 4, 3]);
        assert_eq!(seen.iter().map(|l| l.inactive).collect::<Vec<_>>(), [50, 40, 30]);
        assert_eq!(others(0, RealId(0)), Load::default());
    }

    #[test]
    fn a_piece_is_bounded_and_the_pieces_are_the_whole() {
        const REALS: usize = 5000;
        for workers in [2, 16, 20] {
            let stats: Vec<_> = (0..workers).map(|_| Arc::new(Stats::new(0, 0, REALS))).collect();
            for (worker, stats) in stats.iter().enumerate() {
                for real in 0..REALS {
                    let real = stats.real(RealId(real as u32)).unwrap();
                    real.active.add(worker as u64 + 1);
                }
            }
            let board = LoadBoard::new(workers, REALS);
            assert!(board.piece() * workers <= PIECE, "{workers} workers");
            let counted: Vec<_> =
                (0..REALS).map(|n| (RealId(n as u32), Thresholds::default())).collect();
            for piece in counted.chunks(board.piece()) {
                board.refresh(&stats, piece);
            }
            let all = (1..=workers as u32).sum::<u32>();
            for worker in 0..workers {
                let others = board.others(WorkerId(worker as u16));
                let seen = (0..REALS).map(|n| Load::of_word(others.word(n)).active);
                assert!(seen.into_iter().all(|active| active == all - worker as u32 - 1));
            }
        }
    }

    #[test]
    fn a_slot_that_is_forgotten_is_as_new() {
        let stats: Vec<_> = (0..2).map(|_| Arc::new(Stats::new(0, 0, 2))).collect();
        let (real, other, thresholds) = (RealId(0), RealId(1), Thresholds { upper: 5, lower: 0 });
        let board = LoadBoard::new(2, 2);
        for real in [real, other] {
            stats[0].real(real).unwrap().active.add(7);
        }
        board.refresh(&stats, &[(real, thresholds), (other, thresholds)]);
        board.forget(real);
        let others = |real: RealId| Load::of_word(board.others(WorkerId(1)).word(real.index()));
        assert_eq!(others(real), Load::default());
        assert!(!board.is_full(real, thresholds, 0));
        assert_eq!(others(other).active, 7);
        assert!(board.is_full(other, thresholds, 0));
    }

    #[test]
    fn a_worker_that_knows_less_does_not_say_that_there_is_room() {
        let stats: Vec<_> = (0..2).map(|_| Arc::new(Stats::new(0, 0, 1))).collect();
        let (real, thresholds) = (RealId(0), Thresholds { upper: 10, lower: 0 });
        let board = LoadBoard::new(2, 1);
        stats[0].real(real).unwrap().active.add(8);
        assert!(board.is_full(real, thresholds, 10));
        assert!(board.is_full(real, thresholds, 2), "the other worker has not heard of it");
        board.refresh(&stats, &[(real, thresholds)]);
        assert!(board.is_full(real, thresholds, 8), "8 of 10 is above three quarters");
        stats[0].real(real).unwrap().active.sub(1);
        assert!(board.is_full(real, thresholds, 7));
        board.refresh(&stats, &[(real, thresholds)]);
        assert!(!board.is_full(real, thresholds, 7));
        // Raised, it has room at once.
        assert!(board.is_full(real, thresholds, 10));
        assert!(!board.is_full(real, Thresholds { upper: 11, lower: 0 }, 10));
    }
}
