//! Time where there is no packet entry to squeeze it into.

use std::fmt;

/// Milliseconds since the daemon started. Does not wrap, unlike [`crate::types::Tick`]: plain order
/// is what the timers of the slow path and of health checks are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// `millis` later.
    pub const fn after(self, millis: u64) -> Millis {
        Millis(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to `self`; 0 when `earlier` is the later one.
    pub const fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}
