//! What the flow table costs a packet: lookups in bursts of 32 with and without the prefetch
//! stages, misses, new connections, the sweep. Flows are visited in random order.
//!
//! `cargo bench --no-default-features --bench flow_lookup`
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dataplane::flow::{Event, FlowFlags, Lookup, Shard, State};
use dataplane::hash::Seed;
use dataplane::types::{FlowKey, Protocol, RealId, Tick};

const BURST: usize = 32;
const NOW: Tick = Tick(1000);
const SEED: Seed = Seed::new(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834);

fn key(n: u32) -> FlowKey {
    FlowKey {
        client: (0x0a00_0000 + n / 60_000).into(),
        vip: [192, 0, 2, 1].into(),
        client_port: (1024 + n % 60_000) as u16,
        vip_port: 443,
        protocol: Protocol::Tcp,
    }
}

fn full(flows: u32) -> Shard {
    let mut shard = Shard::new(flows as usize, SEED).unwrap();
    for n in 0..flows {
        let hash = shard.hash(&key(n));
        let _ =
            shard.insert(key(n), hash, RealId(n % 16), State::Established, FlowFlags::NONE, NOW);
    }
    shard
}

/// Random flow numbers from `from`, in the order packets might come.
fn traffic(from: u32, flows: u32) -> Vec<FlowKey> {
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    (0..(flows as usize).max(1 << 16).next_multiple_of(BURST))
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            key(from + (((x >> 32) * u64::from(flows)) >> 32) as u32)
        })
        .collect()
}

/// The pipeline's use of the table: both stages. The sum of real servers.
fn staged(shard: &mut Shard, burst: &[FlowKey]) -> u32 {
    let mut hashes = [0; BURST];
    for (hash, key) in hashes.iter_mut().zip(burst) {
        *hash = shard.hash(key);
        shard.prefetch_bucket(*hash);
    }
    second_stage(shard, burst, &hashes)
}

/// The same without prefetch.
fn plain(shard: &mut Shard, burst: &[FlowKey]) -> u32 {
    let mut hashes = [0; BURST];
    for (hash, key) in hashes.iter_mut().zip(burst) {
        *hash = shard.hash(key);
    }
    second_stage(shard, burst, &hashes)
}

fn second_stage(shard: &mut Shard, burst: &[FlowKey], hashes: &[u64; BURST]) -> u32 {
    let mut sum = 0;
    for (key, &hash) in burst.iter().zip(hashes) {
        if let Lookup::Hit(flow) = shard.lookup(key, hash, NOW) {
            let _ = shard.touch(flow, Event::Ack, NOW);
            sum += shard.get(flow).real.0;
        }
    }
    sum
}

fn lookups(c: &mut Criterion) {
    let mut group = c.benchmark_group("lookup_burst32");
    group.throughput(Throughput::Elements(BURST as u64));
    for flows in [1_000, 100_000, 1_000_000] {
        let mut shard = full(flows);
        let hits = traffic(0, flows);
        let misses = traffic(flows, flows);
        type Burst = fn(&mut Shard, &[FlowKey]) -> u32;
        let cases: [(&str, &[FlowKey], Burst); 3] =
            [("hit", &hits, staged), ("hit_no_prefetch", &hits, plain), ("miss", &misses, staged)];
        for (name, keys, run) in cases {
            let mut bursts = keys.chunks_exact(BURST).cycle();
            group.bench_function(BenchmarkId::new(name, flows), |b| {
                b.iter(|| black_box(run(&mut shard, bursts.next().unwrap_or_default())));
            });
        }
    }
    group.finish();
}

/// New connections into a full table: each evicts one (`evict`), or each finds the place of one
/// just removed (`insert_remove`).
fn inserts(c: &mut Criterion) {
    let mut group = c.benchmark_group("insert_burst32");
    group.throughput(Throughput::Elements(BURST as u64));
    for flows in [1_000, 100_000, 1_000_000] {
        let insert = |shard: &mut Shard, n: u32| {
            let key = key(n);
            let hash = shard.hash(&key);
            shard.insert(key, hash, RealId(1), State::SynReceived, FlowFlags::NONE, NOW)
        };
        let warm = |shard: &Shard, from: u32| {
            for n in from..from + BURST as u32 {
                shard.prefetch_bucket(shard.hash(&key(n)));
            }
        };
        let mut shard = full(flows);
        let mut next = flows;
        group.bench_function(BenchmarkId::new("evict", flows), |b| {
            b.iter(|| {
                warm(&shard, next);
                for n in next..next + BURST as u32 {
                    let _ = black_box(insert(&mut shard, n));
                }
                next = next.wrapping_add(BURST as u32) % 0x0fff_0000;
            });
        });
        // Half full, random places free.
        let mut shard = full(flows);
        let _ = shard.sweep(NOW, flows as usize, |flow| flow.key.client_port % 2 == 0, |_| {});
        group.bench_function(BenchmarkId::new("insert_remove", flows), |b| {
            b.iter(|| {
                warm(&shard, next);
                for n in next..next + BURST as u32 {
                    let flow = insert(&mut shard, n).flow;
                    let _ = black_box(shard.remove(flow));
                }
                next = next.wrapping_add(BURST as u32) % 0x0fff_0000;
            });
        });
    }
    group.finish();
}

/// Sweeping live flows, by the entry.
fn sweep(c: &mut Criterion) {
    let mut group = c.benchmark_group("sweep");
    let mut shard = full(1_000_000);
    group.throughput(Throughput::Elements(64));
    group.bench_function("live_64", |b| {
        b.iter(|| black_box(shard.sweep(NOW, 64, |flow| flow.real != RealId(99), |_| {})));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = lookups, inserts, sweep
}
criterion_main!(benches);
