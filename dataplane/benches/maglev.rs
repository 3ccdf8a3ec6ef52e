//! What schedulers cost: building a Maglev table off-path, and a pick on the packet path.
//!
//! `cargo bench --no-default-features -p shunt-dataplane --bench maglev`
#![expect(missing_docs, reason = "criterion's macros make functions without")]

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dataplane::schedule::{Cursor, Load, Member, Options, Scheduler};
use dataplane::types::{FlowKey, Protocol};
use dataplane::vocabulary::SchedulerKind;

fn members(count: u32, weight: impl Fn(u32) -> u32) -> Vec<Member> {
    let address = |i| Ipv4Addr::from(0x0a00_0001 + i);
    (0..count).map(|i| Member { address: address(i).into(), weight: weight(i) }).collect()
}

/// Weights that differ by the thousand, in no order.
fn mixed(i: u32) -> u32 {
    i.wrapping_mul(0x9e37_79b1) >> 16 | 1
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("build");
    for count in [10, 100, 1000] {
        for (name, weight) in [
            ("equal", (|_| 1) as fn(u32) -> u32),
            ("mixed", mixed),
            ("one heavy", |i| if i == 0 { 65_535 } else { 1 }),
        ] {
            let members = members(count, weight);
            group.bench_with_input(BenchmarkId::new(name, count), &members, |b, members| {
                b.iter(|| Scheduler::build(SchedulerKind::Mh, members, &Options::default()));
            });
        }
    }
    group.finish();
}

/// A new client each time, so that the table is read all over.
fn pick(c: &mut Criterion) {
    let mut group = c.benchmark_group("pick");
    for count in [10, 1000] {
        let members = members(count, mixed);
        let loads: Vec<_> =
            (0..count).map(|i| Load { active: mixed(i + 7), inactive: mixed(i + 9) }).collect();
        for &kind in SchedulerKind::ALL {
            #[expect(clippy::unwrap_used, reason = "the members are well formed")]
            let scheduler = Scheduler::build(kind, &members, &Options::default()).unwrap();
            group.bench_function(BenchmarkId::new(kind.name(), count), |b| {
                let mut cursor = Cursor::default();
                let mut flow = FlowKey {
                    client: Ipv4Addr::UNSPECIFIED,
                    vip: Ipv4Addr::new(192, 0, 2, 80),
                    client_port: 0,
                    vip_port: 80,
                    protocol: Protocol::Tcp,
                };
                let mut client = 0_u32;
                b.iter(|| {
                    client = client.wrapping_add(0x9e37_79b1);
                    flow.client = client.into();
                    scheduler.pick(black_box(&flow), &mut cursor, loads.as_slice())
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, build, pick);
criterion_main!(benches);
