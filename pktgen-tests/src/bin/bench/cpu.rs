//! Processors: who runs where, and how quiet they are.

use std::thread::scope;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The processor of the measured program's worker.
pub(crate) const WORKER: usize = 1;
/// The processor of everything else.
pub(crate) const OTHERS: usize = 0;

/// Runs `work` on one processor, on a thread of its own: what this one starts may run anywhere.
pub(crate) fn on<T: Send>(cpu: usize, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pinned = || {
        let mut set = CpuSet::new();
        set.set(cpu)?;
        sched_setaffinity(Pid::from_raw(0), &set)
            .with_context(|| format!("cannot run on processor {cpu}"))?;
        work()
    };
    scope(|scope| scope.spawn(pinned).join().map_err(|_| anyhow!("a thread panicked"))?)
}

/// The longest time for which a loop that only looks at the clock was away from a processor, in
/// microseconds: what the machine itself does to a poll loop.
pub(crate) fn longest_gap(cpu: usize, interval: Duration) -> Result<f64> {
    on(cpu, || {
        let start = Instant::now();
        let (mut before, mut longest) = (start, Duration::ZERO);
        while before - start < interval {
            let now = Instant::now();
            longest = longest.max(now - before);
            before = now;
        }
        Ok(longest.as_secs_f64() * 1e6)
    })
}
