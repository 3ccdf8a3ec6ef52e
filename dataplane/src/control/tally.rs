//! Counters that can be set to zero, and rates, over counters that only grow.
//!
//! The data plane's counters are never written from here: what they were at the last zeroing is
//! remembered and subtracted, so whoever else reads them sees them grow.
//!
//! Rates are those of LVS: every two seconds a quarter of the difference between what was seen in
//! that time and the rate so far is added to the rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::Controller;
use super::protocol::Rate;
use crate::stats::Traffic;
use crate::types::ServiceKey;

/// How often rates are taken.
const INTERVAL: Duration = Duration::from_secs(2);

/// What a newly seen value weighs in a rate.
const NEW: f64 = 0.25;

/// A virtual service, or one of its real servers.
pub(super) type Subject = (ServiceKey, Option<IpAddr>);

/// Connections, packets, bytes.
type Counted = [u64; 3];

fn counted(traffic: &Traffic) -> Counted {
    [traffic.connections, traffic.packets, traffic.bytes]
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// At the last zeroing.
    base: Counted,
    /// At the last tick.
    last: Counted,
    /// A second.
    rate: [f64; 3],
}

/// What is remembered of every virtual service and real server.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<HashMap<Subject, Entry>>);

impl Tally {
    fn entries(&self) -> MutexGuard<'_, HashMap<Subject, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts from `now` on.
    pub(super) fn zero(&self, subject: Subject, now: &Traffic) {
        let now = counted(now);
        self.entries().insert(subject, Entry { base: now, last: now, rate: [0.0; 3] });
    }

    /// What came since the last zeroing, and how fast it comes.
    pub(super) fn since(&self, subject: Subject, now: Traffic) -> (Traffic, Rate) {
        let entry = self.entries().get(&subject).copied().unwrap_or_default();
        let [connections, packets, bytes] = entry.base;
        let traffic = Traffic {
            connections: now.connections.saturating_sub(connections),
            packets: now.packets.saturating_sub(packets),
            bytes: now.bytes.saturating_sub(bytes),
            ..now
        };
        let [connections, packets, bytes] = entry.rate.map(|rate| rate.round() as u64);
        (traffic, Rate { connections, packets, bytes })
    }

    /// Forgets what is not configured any more: it counts from zero when it comes back.
    pub(super) fn forget(&self, gone: &[Subject]) {
        let mut entries = self.entries();
        for subject in gone {
            entries.remove(subject);
        }
    }

    /// Takes up what was counted `elapsed` after the last time.
    pub(super) fn tick(&self, now: &[(Subject, Traffic)], elapsed: Duration) {
        let seconds = elapsed.as_secs_f64().max(0.001);
        let mut entries = self.entries();
        for (subject, traffic) in now {
            let now = counted(traffic);
            let entry = entries.entry(*subject).or_default();
            for ((rate, now), last) in entry.rate.iter_mut().zip(now).zip(entry.last) {
                let seen = now.saturating_sub(last) as f64 / seconds;
                *rate += (seen - *rate) * NEW;
            }
            entry.last = now;
        }
    }
}

/// The thread that keeps rates. It ends when this is dropped.
#[derive(Debug)]
pub struct Rates {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Rates {
    /// Starts it.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(controller: Arc<Controller>) -> std::io::Result<Rates> {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("shunt-rates".into()).spawn(move || {
            let mut last = Instant::now();
            while stopped.recv_timeout(INTERVAL) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                controller.tick(now - last);
                last = now;
            }
        })?;
        Ok(Rates { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Rates {
    fn drop(&mut self) {
        self.stop = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread of rates panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Protocol;

    fn subject() -> Subject {
        let vip = IpAddr::from([192, 0, 2, 100]);
        (ServiceKey { protocol: Protocol::Tcp, vip, ports: 80.into() }, None)
    }

    fn traffic(packets: u64) -> Traffic {
        Traffic { connections: 1, packets, bytes: packets * 100, active: 7, inactive: 8 }
    }

    #[test]
    fn zero_is_subtracted_and_flows_are_not() {
        let tally = Tally::default();
        assert_eq!(tally.since(subject(), traffic(10)).0, traffic(10));
        tally.zero(subject(), &traffic(10));
        let (since, rate) = tally.since(subject(), traffic(14));
        assert_eq!((since.connections, since.packets, since.bytes), (0, 4, 400));
        assert_eq!((since.active, since.inactive), (7, 8));
        assert_eq!(rate, Rate::default());
        tally.forget(&[subject()]);
        assert_eq!(tally.since(subject(), traffic(3)).0, traffic(3), "configured anew");
    }

    #[test]
    fn rates_follow_what_is_seen_by_quarters() {
        let tally = Tally::default();
        let mut total = 0;
        let mut seen = Vec::new();
        for _ in 0..3 {
            total += 800;
            tally.tick(&[(subject(), traffic(total))], INTERVAL);
            seen.push(tally.since(subject(), traffic(total)).1.packets);
        }
        assert_eq!(seen, [100, 175, 231], "towards 400 a second");
        tally.tick(&[(subject(), traffic(total))], INTERVAL);
        assert_eq!(tally.since(subject(), traffic(total)).1.packets, 173, "and down again");
        tally.zero(subject(), &traffic(total));
        assert_eq!(tally.since(subject(), traffic(total)).1, Rate::default());
    }
}
