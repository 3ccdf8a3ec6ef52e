//! What the outside cannot see: the table's own bookkeeping after a long history.

use std::collections::HashSet;

use super::bucket::SLOTS;
use super::table::{ALONE, END, Entry, FREE};
use super::*;
use crate::types::{FlowKey, FlowKey6, RealId, Tick};

#[test]
fn an_entry_is_half_a_cache_line() {
    assert_eq!(size_of::<Entry<FlowKey>>(), 32);
    assert_eq!(align_of::<Entry<FlowKey>>(), 32);
}

#[test]
fn an_entry_for_ipv6_is_one_cache_line() {
    assert_eq!(size_of::<Entry<FlowKey6>>(), 64);
    assert_eq!(align_of::<Entry<FlowKey6>>(), 64);
    let (flows, seed) = (1000, Seed::new(1));
    let fixed = size_of::<Shard6>();
    assert_eq!(Shard6::new(flows, seed).unwrap().memory_bytes() - fixed, flows * 80);
    assert_eq!(Shard::new(flows, seed).unwrap().memory_bytes() - size_of::<Shard>(), flows * 48);
}

/// Checks the invariants that the table's documentation lists.
fn check<K: Key + std::fmt::Debug + std::hash::Hash>(table: &Table<K>) {
    let mut overflow = vec![0; table.buckets.len()];
    let mut reached = HashSet::new();
    let mut keys = HashSet::new();
    for (i, bucket) in table.buckets.iter().enumerate() {
        for slot in bucket.occupied() {
            let number = bucket.entry(slot);
            let entry = &table.entries[number as usize];
            assert!(entry.live() && reached.insert(number), "entry {number} of bucket {i}");
            assert!(keys.insert(entry.flow.key), "twice: {:?}", entry.flow.key);
            let hash = table.hash(&entry.flow.key);
            let (primary, alternate) = (table.primary(hash), table.alternate(hash));
            if i != primary {
                assert_eq!(i, alternate);
                overflow[primary] += 1;
            }
        }
    }
    for (bucket, expected) in table.buckets.iter().zip(overflow) {
        assert_eq!(bucket.overflow(), expected);
    }
    assert_eq!(reached.len(), table.len());
    assert_eq!(table.entries.iter().filter(|e| e.live()).count(), table.len());

    let (mut free, mut at) = (0, table.free);
    while at != END {
        let entry = &table.entries[at as usize];
        assert!(!entry.live() && entry.back == FREE);
        at = entry.link;
        free += 1;
    }
    assert_eq!(free + table.len(), table.capacity());

    let (mut half_open, mut at, mut before) = (0, table.half_open.first, END);
    while at != END {
        let entry = &table.entries[at as usize];
        assert!(entry.live() && entry.flow.state == State::SynReceived);
        assert_eq!(entry.back, before);
        (before, at) = (at, entry.link);
        half_open += 1;
    }
    assert_eq!(table.half_open.last, before);
    let all = table.entries.iter().filter(|e| e.live());
    let listed = |e: &Entry<K>| e.flow.state == State::SynReceived;
    assert!(all.clone().all(|e| listed(e) == (e.back != ALONE)));
    assert_eq!(all.filter(|e| listed(e)).count(), half_open);
    assert_eq!(table.half_open.count, half_open);
}

/// Few buckets of each half, and few tags: much overflows, moves and is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CrowdedKey(u32);

impl Key for CrowdedKey {
    type Align = ();

    const FILLER: CrowdedKey = CrowdedKey(0);

    fn hash(&self, _: &Seed) -> u64 {
        let n = u64::from(self.0);
        (n % 7) << 60 | (n / 7 % 11) << 28 | (n / 77 % 5)
    }
}

#[test]
fn invariants_hold_through_a_crowded_history() {
    // A table that is judged as a whole when it is full, and one that is not.
    history(100, 300);
    history(200, 600);
}

fn history(capacity: usize, keys: u32) {
    let mut table = Table::<CrowdedKey>::new(capacity, Seed::new(0)).unwrap();
    let mut random = 0x1234_5678_u64;
    let mut next = move |below: u32| {
        // xorshift64
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u32 % below
    };
    let mut now = Tick(u32::MAX - 100_000);
    for round in 0..60_000 {
        let key = CrowdedKey(next(keys));
        let hash = table.hash(&key);
        now = now.after(next(1000));
        match next(9) {
            0 => {
                if let Lookup::Hit(flow) = table.lookup(&key, hash, now) {
                    assert!(table.remove(flow).is_some());
                }
            }
            1 => {
                let refuse = next(50);
                let _ = table.sweep(now, 10, |flow| flow.key.0 % 50 != refuse, |_| {});
            }
            2 => {
                if let Lookup::Hit(flow) = table.lookup(&key, hash, now) {
                    let event = Event::of_signal(next(64) as u8);
                    let _ = table.touch(flow, event, now);
                }
            }
            _ => {
                let state = State::ALL[next(5) as usize];
                let _ = table.insert(key, hash, RealId(0), state, Flags::NONE, now);
            }
        }
        if round % 16 == 0 {
            check(&table);
        }
    }
    check(&table);
    let counters = table.counters();
    let evicted: u64 = counters.evicted.iter().sum();
    assert!(counters.moved > 100 && counters.expired > 100 && evicted > 100, "{counters:?}");
}

#[test]
fn every_key_has_two_buckets() {
    for capacity in [5, 9, 100, 4096] {
        let table = Shard::new(capacity, Seed::new(1)).unwrap();
        let mut used = vec![0; table.buckets.len()];
        for n in 0..100_000u64 {
            let hash = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let (primary, alternate) = (table.primary(hash), table.alternate(hash));
            assert_ne!(primary, alternate);
            used[primary] += 1;
            used[alternate] += 1;
        }
        assert!(used.iter().all(|&n| n > 0));
    }
    let one = Shard::new(4, Seed::new(1)).unwrap();
    assert_eq!((one.buckets.len(), one.primary(u64::MAX), one.alternate(u64::MAX)), (1, 0, 0));
    assert!(one.capacity() <= SLOTS);
}
