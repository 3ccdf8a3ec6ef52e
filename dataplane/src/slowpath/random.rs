//! Random numbers that spread timers. Nothing secret depends on them.

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, any seed is a good one.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        // The remainder favours small numbers by one part in 2^64 / span: none that matters here.
        low + self.next() % (high.saturating_sub(low).saturating_add(1)).max(1)
    }

    /// Sixteen bits.
    pub(super) fn word(&mut self) -> u16 {
        (self.next() >> 48) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_within_bounds_and_moves() {
        let mut random = Random::new(1);
        let drawn: Vec<_> = (0..1000).map(|_| random.between(15_000, 45_000)).collect();
        assert!(drawn.iter().all(|v| (15_000..=45_000).contains(v)));
        assert!(drawn.iter().any(|v| *v < 20_000) && drawn.iter().any(|v| *v > 40_000));
        assert_eq!(random.between(7, 7), 7);
        assert_eq!(random.between(7, 3), 7);
        random.between(0, u64::MAX);
    }
}
