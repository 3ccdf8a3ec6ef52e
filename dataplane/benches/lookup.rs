//! The flow table against DPDK's own hash table (`rte_hash_lookup_bulk_data`): the same keys, in
//! the same random order, 32 a call, in turn.
//!
//! Both read their keys, 16 bytes each, from an array in visiting order, look them up, and read the
//! word that is kept for the key. The flow table does so by the pipeline's two stages, sees to it
//! that the flow has not expired, and restarts its timer. Both have room for 1.2 times the keys.
//!
//! `lookup KEYS PAIRS MILLISECONDS [EAL ARGUMENT…]` prints `memory OURS THEIRS` in bytes and a line
//! per pair: nanoseconds a key of the flow table and of rte_hash. `scripts/bench lookup` runs it.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

use std::array;
use std::hint::black_box;
use std::time::{Duration, Instant};

use dataplane::dpdk::{Eal, HashTable, RteHashKey};
use dataplane::flow::{Event, FlowFlags, Lookup, Passed, Shard, State};
use dataplane::hash::Seed;
use dataplane::packet::fast::Head;
use dataplane::types::{FlowKey, Protocol, RealId, Tick};

/// Keys a call.
const BURST: usize = 32;
/// Bursts between two looks at the clock.
const SLICE: usize = 256;
/// Shorter rounds repeat, each in an order of its own, so that the processor cannot learn one.
const LEAST_VISITS: usize = 1 << 16;
const NOW: Tick = Tick(1000);
const SEED: Seed = Seed::new(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834);

/// A flow key in 16 bytes, as the other table's: its words, as the pipeline reads them from a packet.
#[derive(Clone, Copy)]
#[repr(align(16))]
struct Visit(u64, u64);

impl Visit {
    fn to(key: &FlowKey) -> Visit {
        let (addresses, ports) = key.words();
        Visit(addresses, ports)
    }
}

fn flow(n: usize) -> FlowKey {
    FlowKey {
        client: (0x0a00_0001 + (n / 50_000) as u32).into(),
        vip: [203, 0, 113, 1].into(),
        client_port: (10_000 + n % 50_000) as u16,
        vip_port: 443,
        protocol: Protocol::Udp,
    }
}

fn bytes(key: &FlowKey) -> RteHashKey {
    let mut out = [0; 16];
    out[..4].copy_from_slice(&key.client.octets());
    out[4..8].copy_from_slice(&key.vip.octets());
    out[8..10].copy_from_slice(&key.client_port.to_be_bytes());
    out[10..12].copy_from_slice(&key.vip_port.to_be_bytes());
    out[12] = key.protocol as u8;
    RteHashKey(out)
}

/// All keys in random order, again and again in another; whole bursts.
fn order(keys: usize) -> Vec<u32> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    let mut all = Vec::with_capacity(keys.max(LEAST_VISITS) + keys);
    while all.len() < keys.max(LEAST_VISITS) {
        let start = all.len();
        all.extend(0..keys as u32);
        for i in (1..keys).rev() {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            all.swap(start + i, start + (((x >> 32) * (i as u64 + 1)) >> 32) as usize);
        }
    }
    all.truncate(all.len() / BURST * BURST);
    all
}

/// One burst of lookups: how many keys were found, and the sum of their words.
trait Table {
    type Key;
    fn burst(&mut self, keys: &[Self::Key; BURST]) -> (u32, u64);
}

impl Table for Shard {
    type Key = Visit;

    /// As the pipeline does it.
    #[inline(always)]
    fn burst(&mut self, keys: &[Visit; BURST]) -> (u32, u64) {
        let mut hashes = [0; BURST];
        for (hash, key) in hashes.iter_mut().zip(keys) {
            *hash = self.hash_words((key.0, key.1));
            self.prefetch_bucket(*hash);
        }
        let (mut found, mut sum) = (0, 0);
        for (Visit(addresses, ports), hash) in keys.iter().zip(&hashes) {
            let signal = Head::DATAGRAM;
            let real = match self.pass(*hash, addresses, *ports as u32, signal, NOW) {
                Passed::Real(real) => Some(real),
                Passed::Absent | Passed::Unknown => elsewhere(self, *hash, *addresses, *ports),
            };
            if let Some(real) = real {
                found += 1;
                sum += u64::from(real.0);
            }
        }
        (found, sum)
    }
}

/// What the first stage does not find: the flow is in its second bucket, or there is none.
#[cold]
fn elsewhere(shard: &mut Shard, hash: u64, addresses: u64, ports: u64) -> Option<RealId> {
    match shard.lookup(&FlowKey::from_words(addresses, ports), hash, NOW) {
        Lookup::Hit(flow) => {
            let _ = shard.touch(flow, Event::Datagram, NOW);
            Some(shard.get(flow).real)
        }
        Lookup::Miss | Lookup::Expired(_) => None,
    }
}

impl Table for HashTable {
    type Key = RteHashKey;

    #[inline(always)]
    fn burst(&mut self, keys: &[RteHashKey; BURST]) -> (u32, u64) {
        let mut words = [0; BURST];
        let hits = self.lookup_bulk(&keys.each_ref(), &mut words);
        (hits.count_ones(), words.iter().map(|word| *word as u64).sum())
    }
}

/// Nanoseconds a key over `interval`; goes on where it was.
#[inline(never)]
fn measure<T: Table>(
    table: &mut T,
    bursts: &[[T::Key; BURST]],
    next: &mut usize,
    interval: Duration,
) -> f64 {
    let (start, mut looked_up, mut all_found, mut all) = (Instant::now(), 0, 0, 0);
    while start.elapsed() < interval {
        for _ in 0..SLICE {
            let (found, sum) = table.burst(&bursts[*next]);
            all_found += u64::from(found);
            all += sum;
            *next = if *next + 1 == bursts.len() { 0 } else { *next + 1 };
        }
        looked_up += (SLICE * BURST) as u64;
    }
    let elapsed = start.elapsed();
    black_box(all);
    assert_eq!(all_found, looked_up, "every key is there");
    elapsed.as_nanos() as f64 / looked_up as f64
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [keys, pairs, milliseconds, eal @ ..] = &args[..] else {
        println!("lookup KEYS PAIRS MILLISECONDS [EAL ARGUMENT…]");
        return;
    };
    let keys: usize = keys.parse().expect("a number of keys");
    let pairs = pairs.parse().expect("a number of pairs");
    let interval = Duration::from_millis(milliseconds.parse().expect("milliseconds"));
    let eal = Eal::init(eal).expect("the EAL starts");
    let capacity = keys + keys / 5;

    let mut shard = Shard::new(capacity, SEED).expect("memory for the flow table");
    let mut table = HashTable::new("lookup", capacity as u32).expect("memory for rte_hash");
    for n in 0..keys {
        let (key, real) = (flow(n), (n % 1000) as u32 + 1);
        let hash = shard.hash(&key);
        let before = Tick(NOW.0.wrapping_sub(2000));
        let made = shard.insert(key, hash, RealId(real), State::Udp, FlowFlags::NONE, before);
        // The short way is that of flows that have proven themselves.
        let _ = shard.touch(made.flow, Event::Datagram, NOW);
        assert!(made.evicted.is_none(), "room for every flow");
        table.add(&bytes(&key), real as usize).expect("room for every key");
    }
    println!("memory {} {}", shard.memory_bytes(), table.memory_bytes());

    let order = order(keys);
    let bursts = order.chunks_exact(BURST);
    let bursts = bursts.map(|burst| array::from_fn(|n| flow(burst[n] as usize)));
    let keys: Vec<[FlowKey; BURST]> = bursts.collect();
    let ours: Vec<_> = keys.iter().map(|burst| burst.map(|key| Visit::to(&key))).collect();
    let theirs: Vec<_> = keys.iter().map(|burst| burst.map(|key| bytes(&key))).collect();
    let (mut at, mut their_at) = (0, 0);
    // The first tenth of each warms the caches up.
    let mut theirs = || {
        let _ = measure(&mut table, &theirs, &mut their_at, interval / 10);
        measure(&mut table, &theirs, &mut their_at, interval)
    };
    let mut ours = || {
        let _ = measure(&mut shard, &ours, &mut at, interval / 10);
        measure(&mut shard, &ours, &mut at, interval)
    };
    for pair in 0..pairs {
        // Each is first as often as the other.
        let (value, baseline) = if pair % 2 == 0 {
            let baseline = theirs();
            (ours(), baseline)
        } else {
            (ours(), theirs())
        };
        println!("{value} {baseline}");
    }
    drop((table, eal));
}
