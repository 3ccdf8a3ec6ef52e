//! Time on the packet path.

use std::time::Duration;

/// Milliseconds since the daemon started, wrapping after 49 days.
///
/// Two ticks are compared by their wrapped difference, so a deadline may lie at most 24 days
/// ahead ([`Tick::MAX_SPAN`]). The core never reads a clock: ticks are parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Tick(pub u32);

impl Tick {
    /// The longest span between two ticks that compares right.
    pub const MAX_SPAN: Duration = Duration::from_millis(i32::MAX as u64);

    /// `millis` later.
    #[inline(always)]
    pub const fn after(self, millis: u32) -> Tick {
        Tick(self.0.wrapping_add(millis))
    }

    /// Whether `self` is a deadline that has passed, or is reached, at `now`.
    #[inline(always)]
    pub const fn reached(self, now: Tick) -> bool {
        now.0.wrapping_sub(self.0) as i32 >= 0
    }

    /// Milliseconds from `now` until `self`; 0 when it has passed.
    #[inline(always)]
    pub const fn remaining(self, now: Tick) -> u32 {
        if self.reached(now) { 0 } else { self.0.wrapping_sub(now.0) }
    }

    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is the later one.
    #[inline(always)]
    pub const fn since(self, earlier: Tick) -> u32 {
        if earlier.reached(self) { self.0.wrapping_sub(earlier.0) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compares_across_the_wrap() {
        let now = Tick(u32::MAX - 5);
        let later = now.after(10);
        assert_eq!(later, Tick(4));
        assert!(!later.reached(now));
        assert!(now.reached(later));
        assert_eq!(later.remaining(now), 10);
        assert_eq!(later.since(now), 10);
        assert_eq!(now.since(later), 0);
    }
}
