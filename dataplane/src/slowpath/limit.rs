//! Limits on what the slow path sends and logs.
//!
//! Each takes the time as a parameter. A clock that stands still or goes backwards gives nothing
//! and takes nothing.

use crate::types::Millis;

/// A token bucket: `per_second` on average, `burst` at once.
#[derive(Debug)]
pub(super) struct TokenBucket {
    per_second: u64,
    /// What fits, in thousandths of a token.
    size: u64,
    /// What is in it, in thousandths of a token: one millisecond adds `per_second` of them.
    level: u64,
    filled_at: Millis,
}

impl TokenBucket {
    /// A full bucket.
    pub(super) const fn new(per_second: u32, burst: u32) -> TokenBucket {
        let size = burst as u64 * 1000;
        TokenBucket { per_second: per_second as u64, size, level: size, filled_at: Millis(0) }
    }

    /// Takes a token; false when there is none.
    pub(super) fn take(&mut self, now: Millis) -> bool {
        let gained = now.since(self.filled_at).saturating_mul(self.per_second);
        self.level = self.level.saturating_add(gained).min(self.size);
        self.filled_at = self.filled_at.max(now);
        match self.level.checked_sub(1000) {
            Some(left) => {
                self.level = left;
                true
            }
            None => false,
        }
    }
}

/// Spreads many frames that are due at once: so many a turn, then a gap.
///
/// Unlike a [`TokenBucket`] it tells when it opens again, so what is due can wait for that.
#[derive(Debug)]
pub(super) struct Pace {
    left: u32,
    turn_from: Millis,
}

impl Pace {
    /// Frames sent in one turn: a fraction of a worker's inbox.
    pub(super) const PER_TURN: u32 = 64;
    /// Time between the starts of two turns, in milliseconds.
    pub(super) const GAP: u64 = 10;

    pub(super) const fn new() -> Pace {
        Pace { left: Self::PER_TURN, turn_from: Millis(0) }
    }

    /// Whether a frame may be sent now.
    pub(super) fn is_open(&mut self, now: Millis) -> bool {
        if now.since(self.turn_from) >= Self::GAP {
            *self = Pace { left: Self::PER_TURN, turn_from: now };
        }
        self.left > 0
    }

    /// Counts a frame that is sent.
    pub(super) fn count(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// When something due at `due` may be sent.
    pub(super) fn opens(&self, due: Millis) -> Millis {
        if self.left > 0 { due } else { due.max(self.turn_from.after(Self::GAP)) }
    }
}

/// Lets one thing through per interval, and counts the others.
#[derive(Debug)]
pub(super) struct Gate {
    interval: u64,
    open_from: Millis,
    missed: u64,
}

impl Gate {
    /// Once in `interval` milliseconds.
    pub(super) const fn new(interval: u64) -> Gate {
        Gate { interval, open_from: Millis(0), missed: 0 }
    }

    /// How many were held back since the last one, when this one may pass.
    pub(super) fn pass(&mut self, now: Millis) -> Option<u64> {
        if now < self.open_from {
            self.missed += 1;
            return None;
        }
        self.open_from = now.after(self.interval);
        Some(std::mem::take(&mut self.missed))
    }
}

/// Log lines of which there may be one for each of thousands of neighbors at once.
#[derive(Debug)]
pub(super) struct News {
    lines: TokenBucket,
    untold: u64,
}

impl News {
    /// A hundred lines at once, ten a second on average.
    pub(super) const fn new() -> News {
        News { lines: TokenBucket::new(10, 100), untold: 0 }
    }

    /// Whether a line may be written. The first one that may not is replaced by a word on where
    /// to look.
    pub(super) fn may_tell(&mut self, now: Millis) -> bool {
        if self.lines.take(now) {
            if self.untold > 0 {
                log::info!("{} changes of neighbors were not logged", self.untold);
            }
            self.untold = 0;
            return true;
        }
        if self.untold == 0 {
            log::info!("many neighbors change at once; `shunt neighbor list` shows all of them");
        }
        self.untold += 1;
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(bucket: &mut TokenBucket, now: u64, tries: usize) -> usize {
        (0..tries).filter(|_| bucket.take(Millis(now))).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = TokenBucket::new(1000, 50);
        assert_eq!(taken(&mut bucket, 0, 200), 50);
        assert_eq!(taken(&mut bucket, 1, 200), 1);
        assert_eq!(taken(&mut bucket, 11, 200), 10);
        assert_eq!(taken(&mut bucket, 3_600_000, 200), 50, "no more than the burst is saved up");
        // Back and forth in time gains nothing.
        assert_eq!(taken(&mut bucket, 5, 1), 0);
        assert_eq!(taken(&mut bucket, 3_600_000, 1), 0);
    }

    #[test]
    fn a_slow_bucket_adds_up_fractions() {
        let mut bucket = TokenBucket::new(3, 1);
        assert_eq!(taken(&mut bucket, 0, 9), 1);
        assert_eq!((1..=1000).map(|ms| taken(&mut bucket, ms, 2)).sum::<usize>(), 2);
        assert_eq!(taken(&mut bucket, 1002, 2), 1);
    }

    #[test]
    fn a_pace_tells_when_it_opens() {
        let mut pace = Pace::new();
        let mut sent = 0;
        while pace.is_open(Millis(100)) {
            pace.count();
            sent += 1;
        }
        assert_eq!(sent, Pace::PER_TURN);
        assert_eq!(pace.opens(Millis(50)), Millis(110));
        assert_eq!(pace.opens(Millis(500)), Millis(500));
        assert!(!pace.is_open(Millis(109)));
        assert!(pace.is_open(Millis(110)));
        assert_eq!(pace.opens(Millis(50)), Millis(50));
    }

    #[test]
    fn of_thousands_of_neighbors_a_hundred_are_told_of_at_once() {
        let mut news = News::new();
        let told =
            |news: &mut News, now| (0..20_000).filter(|_| news.may_tell(Millis(now))).count();
        assert_eq!(told(&mut news, 5), 100);
        assert_eq!(news.untold, 19_900);
        assert_eq!(told(&mut news, 1005), 10);
        assert_eq!(news.untold, 19_990, "those before were told of");
    }

    #[test]
    fn a_gate_counts_what_it_holds_back() {
        let mut gate = Gate::new(60_000);
        assert_eq!(gate.pass(Millis(5)), Some(0));
        assert_eq!(gate.pass(Millis(6)), None);
        assert_eq!(gate.pass(Millis(60_004)), None);
        assert_eq!(gate.pass(Millis(60_005)), Some(2));
        assert_eq!(gate.pass(Millis(120_005)), Some(0));
    }

    proptest! {
        #[test]
        fn a_bucket_never_gives_more_than_burst_plus_rate(
            per_second in 0u32..2000,
            burst in 0u32..100,
            steps in proptest::collection::vec((0u64..500, 0usize..80), 0..50),
        ) {
            let mut bucket = TokenBucket::new(per_second, burst);
            let (mut now, mut given) = (0, 0);
            for (wait, tries) in steps {
                now += wait;
                given += taken(&mut bucket, now, tries) as u64;
                prop_assert!(given <= u64::from(burst) + now * u64::from(per_second) / 1000);
            }
        }
    }
}
