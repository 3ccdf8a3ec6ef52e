//! Random numbers that spread timers and flows. Nothing secret depends on them.

use super::mix::GOLDEN;

/// SplitMix64 (Steele, Lea, Flood 2014): one word of state, any seed is a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Random(u64);

impl Random {
    /// The numbers that follow from `seed`.
    pub const fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// 64 bits.
    #[inline(always)]
    pub const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        // The remainder favours small numbers by one part in 2^64 / span: none that matters here.
        low + self.draw() % (high.saturating_sub(low).saturating_add(1)).max(1)
    }

    /// A number below `end`, each as likely as any other but for one part in 2^32; 0 when `end` is.
    #[inline(always)]
    pub const fn below(&mut self, end: u32) -> u32 {
        ((self.draw() as u128 * end as u128) >> 64) as u32
    }

    /// Sixteen bits.
    pub fn word(&mut self) -> u16 {
        (self.draw() >> 48) as u16
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

    /// The reference implementation's first numbers (Vigna, `splitmix64.c`), from 1234567.
    #[test]
    fn draws_what_is_published() {
        let mut random = Random::new(1_234_567);
        let drawn = [(); 3].map(|()| random.draw());
        assert_eq!(drawn, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn below_reaches_all_and_no_more() {
        let mut random = Random::new(7);
        let mut seen = [0; 5];
        (0..1000).for_each(|_| seen[random.below(5) as usize] += 1);
        assert!(seen.iter().all(|n| (150..250).contains(n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
        assert!((0..1000).map(|_| random.below(u32::MAX)).any(|n| n > u32::MAX / 2));
    }
}
