//! A worker's clock: the processor's time stamp counter, in milliseconds.

use crate::dpdk::{rdtsc, tsc_hz};
use crate::types::Tick;

/// Turns TSC reads into [`Tick`]s. Copies agree with one another.
///
/// The TSC is invariant and synchronous over cores on any processor DPDK runs on.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    per_ms: u64,
    /// TSC at which `tick` began.
    since: u64,
    tick: Tick,
    /// TSC at the last reading.
    read: u64,
}

impl Clock {
    /// Starts at tick 0, now. Needs a running EAL.
    pub fn start() -> Clock {
        let now = rdtsc();
        Clock { per_ms: (tsc_hz() / 1000).max(1), since: now, tick: Tick(0), read: now }
    }

    /// The time now. Divides only when a millisecond has passed.
    #[inline(always)]
    pub fn now(&mut self) -> Tick {
        self.read = rdtsc();
        let elapsed = self.read.wrapping_sub(self.since);
        // A counter that seems to run backwards (another socket's) is no time passed.
        if elapsed >= self.per_ms && elapsed <= u64::MAX / 2 {
            let ms = elapsed / self.per_ms;
            self.since = self.since.wrapping_add(ms * self.per_ms);
            self.tick = self.tick.after(ms as u32);
        }
        self.tick
    }

    /// The TSC as [`now`](Clock::now) read it last.
    #[inline(always)]
    pub fn tsc(&self) -> u64 {
        self.read
    }

    /// TSC ticks in a millisecond.
    pub fn per_ms(&self) -> u64 {
        self.per_ms
    }
}
