//! While the daemon starts: it says how far it is, and heeds SIGTERM and SIGINT.
//!
//! A start may take minutes: memory has to be found and touched, and a virtual machine may have to
//! get it back from its host first. A thread says every two seconds what is going on.
//!
//! Flow tables are touched in pieces, and given up between two of them when a signal comes; then
//! the ports are stopped, as at any other end. DPDK cannot be interrupted: while it starts itself,
//! reserves packet buffers or starts a port, a signal ends the process at once, without a word to
//! DPDK, as SIGKILL would. The system then frees the memory and gives the NICs back; nobody has been
//! told of a VIP yet.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Between two looks for a signal.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Between two words on how far it is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// The start was given up, for a signal came.
#[derive(Debug, thiserror::Error)]
#[error("told to stop while starting")]
pub(super) struct ToldToStop;

/// What the daemon is doing.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// Something that cannot be interrupted.
    Waits(&'static str),
    /// So many bytes of memory are touched, for what.
    Touches(&'static str, u64),
    /// Threads are started, which have to be stopped again: whoever waits for signals next does it.
    Ends,
}

impl Step {
    fn describe(self, touched: u64) -> String {
        match self {
            Step::Waits(what) => format!("starting: {what}"),
            Step::Ends => "starting: threads".to_owned(),
            Step::Touches(what, bytes) => {
                format!("starting: {} of {} MiB of {what}", touched >> 20, bytes.div_ceil(1 << 20))
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    step: Mutex<Step>,
    touched: AtomicU64,
    given_up: AtomicBool,
    over: AtomicBool,
}

impl Shared {
    fn step(&self) -> Step {
        *self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Signals that end the start, from now on: to be called before anything that takes time. Another
/// who asks for the same signals gets them too.
pub(super) fn heeded() -> Result<Signals> {
    Signals::new([SIGTERM, SIGINT]).context("cannot watch for signals")
}

/// The start, until it is dropped.
#[derive(Debug)]
pub(super) struct Starting {
    shared: Arc<Shared>,
    watch: Option<JoinHandle<()>>,
}

/// Counts memory that is being touched.
#[derive(Debug, Clone)]
pub(super) struct Progress(Arc<Shared>);

impl Starting {
    /// Watches from now on, with the signals that have come since [`heeded`].
    pub(super) fn watch(signals: Signals) -> Result<Starting> {
        let shared = Arc::new(Shared {
            step: Mutex::new(Step::Waits("DPDK's environment")),
            touched: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let watched = Arc::clone(&shared);
        let watch = std::thread::Builder::new()
            .name("shunt-start".into())
            .spawn(move || watch(&watched, signals))
            .context("cannot start the thread that watches the start")?;
        Ok(Starting { shared, watch: Some(watch) })
    }

    /// What follows is this, and cannot be interrupted.
    pub(super) fn waits_for(&self, what: &'static str) {
        self.set(Step::Waits(what));
    }

    /// What follows takes no time, and is not ended here any more: others may hear of the VIPs now.
    pub(super) fn ends(&self) {
        self.set(Step::Ends);
    }

    /// What follows is to touch so much memory, in bytes, for `what`.
    pub(super) fn touches(&self, what: &'static str, bytes: u64) -> Progress {
        self.shared.touched.store(0, Relaxed);
        self.set(Step::Touches(what, bytes));
        Progress(Arc::clone(&self.shared))
    }

    fn set(&self, step: Step) {
        *self.shared.step.lock().unwrap_or_else(PoisonError::into_inner) = step;
        log::debug!("{}", step.describe(0));
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.shared.over.store(true, Relaxed);
        if let Some(watch) = self.watch.take() {
            watch.thread().unpark();
            drop(watch.join());
        }
    }
}

impl Progress {
    /// So many bytes more; whether to go on.
    pub(super) fn add(&self, bytes: usize) -> bool {
        self.0.touched.fetch_add(bytes as u64, Relaxed);
        !self.0.given_up.load(Relaxed)
    }

    /// Nobody needs to go on: something went wrong.
    pub(super) fn give_up(&self) {
        self.0.given_up.store(true, Relaxed);
    }
}

fn watch(shared: &Shared, mut signals: Signals) {
    let mut told = Instant::now();
    while !shared.over.load(Relaxed) {
        if !shared.given_up.load(Relaxed) && signals.pending().next().is_some() {
            shared.given_up.store(true, Relaxed);
            if let Step::Waits(what) = shared.step() {
                log::info!("stopping; what was to be waited for: {what}");
                signal_hook::low_level::exit(0);
            }
        }
        if told.elapsed() >= TELL_EVERY {
            told = Instant::now();
            log::info!("{}", shared.step().describe(shared.touched.load(Relaxed)));
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_how_much_of_how_much() {
        let step = Step::Touches("flow tables", 3 << 30);
        assert_eq!(step.describe(5 << 20), "starting: 5 of 3072 MiB of flow tables");
        assert_eq!(Step::Waits("port wan").describe(7), "starting: port wan");
        assert_eq!(Step::Ends.describe(7), "starting: threads");
    }
}
