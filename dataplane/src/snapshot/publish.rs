//! Hands a new immutable value to every reader and waits until all use it.
//!
//! # Threading
//! One publisher (the control plane), any number of readers (workers, the slow path), each with
//! its own [`Reader`]. A reader that finds nothing new does one atomic load. A reader never frees:
//! it gives the old value back, and the publisher drops it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

/// Values on their way to one reader; more than one only when a reader missed its deadline.
const PENDING: usize = 4;

#[derive(Debug)]
struct Mailbox<T> {
    inbox: ArrayQueue<(u64, Arc<T>)>,
    returned: ArrayQueue<Arc<T>>,
    seen: CachePadded<AtomicU64>,
}

/// The publishing end.
#[derive(Debug)]
pub struct Publisher<T> {
    latest: Arc<CachePadded<AtomicU64>>,
    mailboxes: Vec<Arc<Mailbox<T>>>,
}

/// The reading end. Send it to the thread that reads.
#[derive(Debug)]
pub struct Reader<T> {
    latest: Arc<CachePadded<AtomicU64>>,
    mailbox: Arc<Mailbox<T>>,
    generation: u64,
    current: Arc<T>,
}

/// A reader did not take a value up in time: its place in the order of subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotTaken {
    /// The reader.
    pub reader: usize,
}

impl<T> Publisher<T> {
    /// A publisher and `readers` readers, all starting with `first` as generation `generation`.
    pub fn new(readers: usize, generation: u64, first: &Arc<T>) -> (Publisher<T>, Vec<Reader<T>>) {
        let latest = Arc::new(CachePadded::new(AtomicU64::new(generation)));
        let mailboxes: Vec<_> = (0..readers)
            .map(|_| {
                Arc::new(Mailbox {
                    inbox: ArrayQueue::new(PENDING),
                    returned: ArrayQueue::new(2 * PENDING),
                    seen: CachePadded::new(AtomicU64::new(generation)),
                })
            })
            .collect();
        let readers = mailboxes
            .iter()
            .map(|mailbox| Reader {
                latest: Arc::clone(&latest),
                mailbox: Arc::clone(mailbox),
                generation,
                current: Arc::clone(first),
            })
            .collect();
        (Publisher { latest, mailboxes }, readers)
    }

    /// Publishes `value` as `generation` (greater than any before) and waits until every reader
    /// uses it, at most `patience`. A reader that is late takes it up when it can all the same.
    pub fn publish(
        &self,
        generation: u64,
        value: &Arc<T>,
        patience: Duration,
    ) -> Result<(), NotTaken> {
        for mailbox in &self.mailboxes {
            // A full inbox belongs to a reader that is stuck; only the newest values matter to it.
            drop(mailbox.inbox.force_push((generation, Arc::clone(value))));
        }
        self.latest.store(generation, Ordering::Release);
        let started = Instant::now();
        let mut outcome = Ok(());
        for (reader, mailbox) in self.mailboxes.iter().enumerate() {
            while mailbox.seen.load(Ordering::Acquire) < generation {
                if started.elapsed() > patience {
                    outcome = outcome.and(Err(NotTaken { reader }));
                    break;
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        self.collect();
        outcome
    }

    /// Drops the values that readers gave back.
    pub fn collect(&self) {
        for mailbox in &self.mailboxes {
            while mailbox.returned.pop().is_some() {}
        }
    }

    /// Every reader uses this generation or a later one: none comes back to an earlier.
    pub fn acknowledged(&self) -> u64 {
        self.mailboxes.iter().map(|m| m.seen.load(Ordering::Acquire)).min().unwrap_or(u64::MAX)
    }

    /// The generation each reader uses now, in the order of subscription.
    pub fn seen(&self) -> Vec<u64> {
        self.mailboxes.iter().map(|m| m.seen.load(Ordering::Acquire)).collect()
    }
}

impl<T> Reader<T> {
    /// Takes up and acknowledges the newest value, if there is one; true when it did. Called
    /// between bursts.
    #[inline(always)]
    pub fn refresh(&mut self) -> bool {
        let changed = self.take();
        if changed {
            self.acknowledge();
        }
        changed
    }

    /// Takes up the newest value, if there is one; true when it did. The publisher goes on waiting
    /// until [`Reader::acknowledge`]: for a reader that others rely on to have acted on the value.
    #[inline(always)]
    pub fn take(&mut self) -> bool {
        self.latest.load(Ordering::Acquire) != self.generation && self.take_up()
    }

    /// Tells the publisher that the value at hand is in use.
    pub fn acknowledge(&self) {
        self.mailbox.seen.store(self.generation, Ordering::Release);
    }

    #[cold]
    fn take_up(&mut self) -> bool {
        let mut changed = false;
        while let Some((generation, value)) = self.mailbox.inbox.pop() {
            let old = std::mem::replace(&mut self.current, value);
            self.generation = generation;
            changed = true;
            // There is room for everything that was ever pending, so this does not free here.
            drop(self.mailbox.returned.push(old));
        }
        changed
    }

    /// The value to work by.
    #[inline(always)]
    pub fn current(&self) -> &Arc<T> {
        &self.current
    }

    /// Its generation.
    #[inline(always)]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    #[test]
    fn every_reader_takes_up_each_value_and_the_publisher_frees_it() {
        let first = Arc::new(0u64);
        let (publisher, readers) = Publisher::new(3, 1, &first);
        let stop = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = readers
            .into_iter()
            .map(|mut reader| {
                let stop = Arc::clone(&stop);
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        if reader.refresh() {
                            assert_eq!(**reader.current() + 1, reader.generation());
                        }
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        for generation in 2..200u64 {
            let value = Arc::new(generation - 1);
            publisher.publish(generation, &value, Duration::from_secs(20)).unwrap();
            assert_eq!(publisher.seen(), vec![generation; 3]);
        }
        assert_eq!(Arc::strong_count(&first), 1, "given back and dropped");
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().unwrap();
        }
    }

    #[test]
    fn what_is_taken_is_not_in_use_before_it_is_acknowledged() {
        let (publisher, mut readers) = Publisher::new(1, 0, &Arc::new(0));
        let reader = &mut readers[0];
        let soon = Duration::from_millis(1);
        assert_eq!(publisher.publish(1, &Arc::new(1), soon), Err(NotTaken { reader: 0 }));
        assert!(reader.take());
        assert_eq!((**reader.current(), publisher.seen()), (1, vec![0]));
        reader.acknowledge();
        assert_eq!(publisher.seen(), [1]);
        assert!(!reader.take());
    }

    #[test]
    fn a_stuck_reader_is_named_and_catches_up_later() {
        let (publisher, mut readers) = Publisher::new(2, 0, &Arc::new(0));
        let mut stuck = readers.pop().unwrap();
        let mut quick = readers.pop().unwrap();
        for generation in 1..10 {
            let value = Arc::new(generation);
            std::thread::scope(|s| {
                s.spawn(|| while !quick.refresh() {});
                let late = publisher.publish(generation, &value, Duration::from_millis(20));
                assert_eq!(late, Err(NotTaken { reader: 1 }));
            });
        }
        assert!(stuck.refresh());
        assert_eq!((**stuck.current(), stuck.generation()), (9, 9));
        assert!(!stuck.refresh());
    }
}
