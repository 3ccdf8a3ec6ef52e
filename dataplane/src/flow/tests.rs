//! What the outside cannot see: the table's own bookkeeping after a long history.

use std::collections::HashSet;

use super::newcomers::Kind;
use super::*;
use crate::hash::Seed;
use crate::types::{RealId, Tick};

#[test]
fn memory_is_fixed_by_the_capacity() {
    let (flows, seed) = (100_000, Seed::new(1));
    let narrow = Shard::new(flows, seed).unwrap().memory_bytes() - size_of::<Shard>();
    let wide = Shard6::new(flows, seed).unwrap().memory_bytes() - size_of::<Shard6>();
    assert!((63 * flows..=64 * flows + 64).contains(&narrow), "{narrow}");
    assert!((126 * flows..=128 * flows).contains(&wide), "{wide}");
}

/// Checks the invariants that the table's documentation lists.
fn check<K: TableKey + std::fmt::Debug + std::hash::Hash, const N: usize>(table: &Table<K, N>) {
    let mut beyond = vec![0; table.buckets.len()];
    let mut keys = HashSet::new();
    let mut newcomers = [0; 3];
    let mut owners = vec![0; 5];
    for (i, bucket) in table.buckets.iter().enumerate() {
        for flow in (0..N).filter_map(|slot| Some((slot, bucket.flow(slot)?))) {
            let (slot, flow) = flow;
            assert!(keys.insert(flow.key), "twice: {:?}", flow.key);
            if let Some(kind) = Kind::of(flow.state, flow.proven) {
                newcomers[kind as usize] += 1;
            }
            owners[flow.real.index() % 5] += 1;
            let hash = table.hash(&flow.key);
            let sequence = (0..Table::<K, N>::BUCKETS).map(|nth| table.bucket(hash, nth));
            let passed: Vec<_> = sequence.take_while(|&at| at != i).collect();
            assert!(passed.len() < Table::<K, N>::BUCKETS, "{:?} in bucket {i}", flow.key);
            assert_eq!(bucket.marks[slot].away(), !passed.is_empty());
            passed.iter().for_each(|&at| beyond[at] += 1);
        }
    }
    for (bucket, expected) in table.buckets.iter().zip(beyond) {
        let counted = bucket.beyond();
        assert!(counted == u8::MAX || usize::from(counted) == expected);
        assert!(usize::from(counted) >= expected.min(usize::from(u8::MAX)));
    }
    assert_eq!(keys.len(), table.len());
    assert!(table.len() <= table.capacity());
    for kind in [Kind::HalfOpen, Kind::Udp, Kind::Tcp] {
        assert_eq!(table.newcomers.count(kind), newcomers[kind as usize]);
    }
    assert!(table.shares.counts().eq(owners), "each owner's flows are counted");
}

/// Few buckets: much overflows and is evicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct CrowdedKey(u32);

impl TableKey for CrowdedKey {
    type Addresses = ();

    fn pack(&self) -> Packed<()> {
        Packed { addresses: (), ports: self.0, bit: false }
    }

    fn unpack(packed: Packed<()>) -> CrowdedKey {
        CrowdedKey(packed.ports)
    }

    fn hash(&self, _: &Seed) -> u64 {
        let n = u64::from(self.0);
        (n % 7) << 60 | (n / 7 % 11) << 28 | (n / 77 % 5)
    }
}

#[test]
fn invariants_hold_through_a_crowded_history() {
    // A table that is judged as a whole when it is full, and one that is not.
    history::<3>(100, 300);
    history::<3>(200, 600);
    history::<2>(200, 600);
}

fn history<const N: usize>(capacity: usize, keys: u32) {
    let mut table = Table::<CrowdedKey, N>::new(capacity, Seed::new(0)).unwrap();
    table.divide(20, 5);
    (0..20).for_each(|real| table.assign(RealId(real), real % 5));
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
                let _ = table.insert(key, hash, RealId(next(20)), state, FlowFlags::NONE, now);
            }
        }
        if round % 16 == 0 {
            check(&table);
        }
    }
    check(&table);
    let counters = table.counters();
    let evicted: u64 = counters.evicted.iter().sum();
    assert!(counters.away > 100 && counters.expired > 100 && evicted > 100, "{counters:?}");
}

#[test]
fn every_bucket_is_everybodys() {
    for capacity in [1, 5, 100, 4096] {
        let table = Shard::new(capacity, Seed::new(1)).unwrap();
        for nth in 0..Shard::BUCKETS {
            let mut used = vec![0; table.buckets.len()];
            for n in 0..100_000u64 {
                used[table.bucket(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), nth)] += 1;
            }
            assert!(used.iter().all(|&n| n > 0), "{capacity} {nth}");
        }
    }
}
