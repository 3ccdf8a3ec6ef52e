//! How long a worker's rounds take: as long as that a packet may have waited for it to come back.

use super::Clock;
use crate::stats::Rounds;

/// Keeps the longest round of this second and of the one before.
///
/// A round ends where the next one begins, so sleep between them counts, and so does time in which
/// the system had taken the processor away.
#[derive(Debug)]
pub struct Watch {
    per_ms: u64,
    /// TSC at the beginning of this round; 0 before the first.
    round: u64,
    /// TSC at the beginning of this second.
    second: u64,
    /// Longest round of this second, in TSC ticks.
    longest: u64,
}

impl Watch {
    /// Before the first round.
    pub fn new(clock: &Clock) -> Watch {
        Watch { per_ms: clock.per_ms(), round: 0, second: 0, longest: 0 }
    }

    /// A round begins at `tsc`.
    #[inline(always)]
    pub fn mark(&mut self, tsc: u64, rounds: &Rounds) {
        let took = tsc.wrapping_sub(self.round);
        self.round = tsc;
        if took > self.longest || tsc.wrapping_sub(self.second) >= self.per_ms * 1000 {
            self.note(tsc, took, rounds);
        }
    }

    #[cold]
    fn note(&mut self, tsc: u64, took: u64, rounds: &Rounds) {
        if self.second == 0 {
            // The first round begins, and none has ended.
            self.second = tsc;
            return;
        }
        // A counter that seems to run backwards (another socket's) tells nothing.
        if took > self.longest && took <= u64::MAX / 2 {
            self.longest = took;
            rounds.this_second.set(self.ns(took));
        }
        if tsc.wrapping_sub(self.second) >= self.per_ms * 1000 {
            rounds.last_second.set(self.ns(self.longest));
            rounds.this_second.set(0);
            (self.second, self.longest) = (tsc, 0);
        }
    }

    fn ns(&self, ticks: u64) -> u64 {
        (u128::from(ticks) * 1_000_000 / u128::from(self.per_ms)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_round_stays_for_a_second_or_two() {
        // A tick is a nanosecond.
        let mut watch = Watch { per_ms: 1_000_000, round: 0, second: 0, longest: 0 };
        let rounds = Rounds::default();
        let mut now = 5_000_000_000;
        watch.mark(now, &rounds);
        assert_eq!(rounds.longest_ns(), 0, "no round has ended");
        let mut round = |took: u64| {
            now += took;
            watch.mark(now, &rounds);
            rounds.longest_ns()
        };
        assert_eq!(round(700), 700);
        assert_eq!(round(300), 700);
        assert_eq!(round(9_000), 9_000);
        // The second ends; what was is still shown, till the next one has ended too.
        for _ in 0..1000 {
            assert!(round(1_000_000) >= 9_000);
        }
        for _ in 0..2_000_000 {
            round(1_000);
        }
        assert_eq!(round(1_000), 1_000);
    }
}
