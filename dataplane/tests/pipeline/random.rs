//! Anything may happen, in any order: the accounts are right after every step.

use std::collections::HashMap;

use dataplane::flow::{Flow, State};
use dataplane::packet::tcp::Flags;
use dataplane::pipeline::{FlowMatch, Pipeline, Query, QueryKind, SCAN_BUDGET};
use dataplane::snapshot::neighbors::NextHop;
use dataplane::snapshot::spec::Spec;
use dataplane::stats::Event;
use dataplane::types::{AnyFlowKey, Mac, PortId, Protocol, RealId, Tick, Tuple};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::buffer::Counted;
use crate::director::{Director, service, spec};
use crate::packets::*;
use crate::packets6::*;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    Burst {
        worker: usize,
        port: PortId,
        packets: Vec<Vec<u8>>,
    },
    /// Some of the messages between workers arrive.
    Deliver(usize),
    Wait(u32),
    Services(Vec<String>),
    Hop(usize, NextHop),
    /// Room for frames, punts, messages, new buffers.
    Room([usize; 4]),
    Query(usize, QueryKind),
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    let n = 0..12u16;
    let flags = select(vec![0x02u8, 0x02, 0x10, 0x10, 0x11, 0x04, 0x12, 0x00]);
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp]);
    let port = select(vec![80u16, 81, 53]);
    let len = select(vec![0usize, 5, 200, 1450, 1461, 3000]);
    let segment = (n.clone(), flags, port.clone(), len.clone(), any::<bool>(), 0..4u8).prop_map(
        |(n, flags, port, len, df, ttl)| {
            let ttl = if ttl == 0 { 1 } else { 64 };
            let head = from(n).ttl(ttl).df(df).tcp(port_of(n), port, Flags(flags), 1);
            head.payload(&vec![7; len]).finish()
        },
    );
    let udp = (n.clone(), len.clone()).prop_map(|(n, len)| datagram(n, len).finish());
    let part = (n.clone(), 0..3u16, 0..3usize)
        .prop_map(|(n, id, which)| udp_fragments(n, id, 400, 144).swap_remove(which));
    let syn_part = (n.clone(), 0..3u16, 0..2usize).prop_map(|(n, id, which)| {
        cut(&tcp(n, Flags::SYN).payload(&[0; 60]).finish(), id, 64).swap_remove(which)
    });
    let error = (n, protocol, port).prop_map(|(n, protocol, port)| icmp_error(n, protocol, port));
    prop_oneof![
        10 => packet6(),
        6 => segment,
        3 => udp,
        3 => part,
        1 => syn_part,
        2 => error,
        1 => vec(any::<u8>(), 0..100),
    ]
}

/// An IPv6 packet: of flows, in fragments, with extension headers, from neighbors and routers.
fn packet6() -> impl Strategy<Value = Vec<u8>> {
    let n = 0..12u16;
    let flags = select(vec![0x02u8, 0x02, 0x10, 0x10, 0x11, 0x04, 0x12, 0x00]);
    let protocol = select(vec![Protocol::Tcp, Protocol::Udp]);
    let port = select(vec![80u16, 53]);
    let len = select(vec![0usize, 5, 200, 1380, 1430, 1441, 3000]);
    let kinds = vec(select(vec![0u8, 43, 44, 51, 60]), 0..4);
    let segment = (n.clone(), flags, port.clone(), len.clone(), kinds, 0..4u8).prop_map(
        |(n, flags, port, len, kinds, ttl)| {
            let head = from6(n).ttl(if ttl == 0 { 1 } else { 64 });
            let head = kinds.into_iter().fold(head, |head, kind| match kind {
                44 => head.fragment6(0, false, n.into()),
                51 => head.ext(51, &[&[4][..], &[0; 22]].concat()),
                43 => head.ext(43, &[0; 7]),
                kind => head.ext(kind, &[0, 1, 4, 0, 0, 0, 0]),
            });
            head.tcp(port_of(n), port, Flags(flags), 1).payload(&vec![7; len]).finish()
        },
    );
    let udp = (n.clone(), len).prop_map(|(n, len)| datagram6(n, len).finish());
    let part = (n.clone(), 0..3u32, 0..3usize)
        .prop_map(|(n, id, which)| udp_fragments6(n, id, 400, 144).swap_remove(which));
    let error =
        (n.clone(), protocol, port).prop_map(|(n, protocol, port)| icmp_error6(n, protocol, port));
    let neighbor = (n, 125..145u8, select(vec![1u8, 64, 255])).prop_map(|(n, kind, hops)| {
        from6(n).ttl(hops).icmp6(kind, 0, 0).payload(&[0; 24]).finish()
    });
    prop_oneof![6 => segment, 3 => udp, 3 => part, 2 => error, 1 => neighbor]
}

/// A packet, at times damaged.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 1..4);
    let sound = prop_oneof![4 => Just(None), 1 => damage.prop_map(Some)];
    (packet(), sound, any::<bool>()).prop_map(|(mut packet, damage, fix)| {
        for (at, value) in damage.into_iter().flatten() {
            if packet.is_empty() {
                break;
            }
            let at = at.index(packet.len());
            packet[at] = value;
        }
        // A right checksum lets damage go deeper.
        if fix && packet.len() >= 34 && packet[12..14] == [8, 0] {
            with_ip(packet, |_| {})
        } else {
            packet
        }
    })
}

fn services() -> impl Strategy<Value = Vec<String>> {
    let real = (
        select(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.8.0.9"]),
        select(vec!["ipip", "gre", "gre key=3 sum", "dr"]),
        0..4u32,
    )
        .prop_map(|(address, method, weight)| {
            let method = if address == "10.8.0.9" && method == "dr" { "ipip" } else { method };
            (address, format!("{address} {method} w={weight}"))
        });
    let scheduler = select(vec!["rr", "wrr", "lc", "wlc", "sh", "mh"]);
    let real6 = (
        select(vec!["2001:db8:a::1", "2001:db8:a::2", "2001:db8:f::9", "10.0.0.1", "10.8.0.9"]),
        select(vec!["ipip", "gre", "gre key=3 sum", "dr"]),
        0..4u32,
    )
        .prop_map(|(address, method, weight)| {
            let on_link = address.starts_with("2001:db8:a:");
            let method = if on_link || method != "dr" { method } else { "ipip" };
            (address, format!("{address} {method} w={weight}"))
        });
    // A tunnel over IPv6 for IPv4 clients, too.
    let real = prop_oneof![
        6 => real,
        1 => Just(("2001:db8:a::2", "2001:db8:a::2 ipip".to_owned())),
    ];
    let (real, real6) = (real.boxed(), real6.boxed());
    let one = |head: &'static str| {
        let real = if head.contains('6') { real6.clone() } else { real.clone() };
        (scheduler.clone(), vec(real, 0..5)).prop_map(move |(scheduler, reals)| {
            let unique: HashMap<_, _> = reals.into_iter().collect();
            let mut reals: Vec<_> = unique.into_values().collect();
            reals.sort_unstable();
            format!("{head} {scheduler}: {}", reals.join(", "))
        })
    };
    let all = (one("tcp 80"), one("tcp 81"), one("udp 53"), one("tcp6 80"), one("udp6 53"));
    (all, 1..32u8).prop_map(|((a, b, c, d, e), which)| {
        let all = [a, b, c, d, e].into_iter().enumerate();
        all.filter(|(i, _)| which >> i & 1 != 0).map(|(_, s)| s).collect()
    })
}

fn step() -> impl Strategy<Value = Step> {
    let burst = (0..3usize, 0..8u8, vec(frame(), 0..32)).prop_map(|(worker, port, packets)| {
        let port = if port == 0 { LAN } else { WAN };
        Step::Burst { worker, port, packets }
    });
    let hop = select(vec![
        NextHop::Known(Mac([2, 1, 2, 3, 4, 5])),
        NextHop::Known(Mac([2, 1, 2, 3, 4, 5])),
        NextHop::Unknown,
        NextHop::Failed,
    ]);
    let room = select(vec![0, 1, 10, usize::MAX, usize::MAX, usize::MAX]);
    let wait = select(vec![0, 1, 400, 10_000, 59_999, 120_000, 900_000, 1 << 30]);
    prop_oneof![
        8 => burst,
        3 => (0..50usize).prop_map(Step::Deliver),
        2 => wait.prop_map(Step::Wait),
        2 => services().prop_map(Step::Services),
        1 => (0..4usize, hop).prop_map(|(which, hop)| Step::Hop(which, hop)),
        1 => [room.clone(), room.clone(), room.clone(), room].prop_map(Step::Room),
        1 => (0..3usize, select(vec![QueryKind::List, QueryKind::Flush]))
            .prop_map(|(worker, kind)| Step::Query(worker, kind)),
    ]
}

fn take(director: &mut Director, step: Step) {
    let workers = director.workers.len();
    match step {
        Step::Burst { worker, port, packets } => {
            let own = director.snapshot.port(port).unwrap().mac;
            let readdress = |mut p: Vec<u8>| {
                if p.starts_with(&WAN_MAC.0) {
                    p[..6].copy_from_slice(&own.0);
                }
                p
            };
            let buffers =
                packets.into_iter().map(|p| director.census.buffer(&readdress(p))).collect();
            director.burst(worker % workers, port, buffers);
        }
        Step::Deliver(count) => {
            let _ = (0..count).all(|_| director.deliver_one());
        }
        Step::Wait(millis) => drop(director.wait(millis)),
        Step::Services(services) => {
            let services = services.iter().map(|s| service(s).into()).collect();
            director.configure(Spec { services, ..director.spec.clone() }).unwrap();
        }
        Step::Hop(which, hop) => {
            if let Some(neighbor) = director.snapshot.links.neighbors.get(which) {
                director.hops.set(neighbor.id, hop);
            }
        }
        Step::Room([tx, punt, mail, pool]) => {
            director.wire.tx_room = tx;
            director.wire.punt_room = punt;
            director.wire.mail_room = mail;
            director.pool.left.set(pool);
        }
        Step::Query(worker, kind) => {
            let rows = Vec::with_capacity(SCAN_BUDGET);
            let query =
                Query { cursor: 0, budget: SCAN_BUDGET, kind, wanted: FlowMatch::default(), rows };
            director.query(worker % workers, query);
        }
    }
    director.wire.sent.clear();
    director.wire.punted.clear();
}

/// The flows of each worker.
fn flows(director: &Director) -> Vec<HashMap<AnyFlowKey, (RealId, State)>> {
    type Found = HashMap<AnyFlowKey, (RealId, State)>;
    fn note<K: Into<AnyFlowKey> + Copy>(flow: &Flow<K>, now: Tick, map: &mut Found) {
        if !flow.expired(now) {
            let before = map.insert(flow.key.into(), (flow.real, flow.state));
            assert!(before.is_none(), "a key twice");
        }
    }
    let of = |worker: &Pipeline<Counted>| {
        let mut map = HashMap::new();
        worker.shard().scan(0, usize::MAX, |flow| note(flow, director.now, &mut map));
        worker.shard6().scan(0, usize::MAX, |flow| note(flow, director.now, &mut map));
        map
    };
    director.workers.iter().map(of).collect()
}

/// Flows that others may take the place of, so far.
fn yielded(director: &Director, worker: usize) -> u64 {
    [Event::FlowsEvicted, Event::FlowsReplaced, Event::FlowsFlushed, Event::FlowsExpired]
        .iter()
        .map(|e| director.stats[worker].event(*e).get())
        .sum()
}

fn run(workers: u16, capacity: usize, first: &[String], steps: Vec<Step>) {
    let first: Vec<_> = first.iter().map(String::as_str).collect();
    let mut director = Director::of(workers, capacity, spec(&first));
    for step in steps {
        let before = flows(&director);
        let gone: Vec<_> = (0..workers.into()).map(|w| yielded(&director, w)).collect();
        let is_wait = matches!(step, Step::Wait(_));
        take(&mut director, step);
        director.check();
        let after = flows(&director);
        for (worker, after) in after.iter().enumerate() {
            for (key, (real, _)) in after {
                if let Some(real) = director.snapshot.real(*real) {
                    let service = director.snapshot.service(real.service).unwrap();
                    let its =
                        service.key.protocol == key.protocol() && service.key.vip == key.vip();
                    assert!(
                        its && service.key.ports.contains(key.vip_port()),
                        "a slot of another service"
                    );
                }
            }
            let moved = before[worker]
                .iter()
                .filter(|(_, (real, _))| director.snapshot.real(*real).is_some())
                .filter(|(key, (real, _))| after.get(key).is_none_or(|now| now.0 != *real))
                .count() as u64;
            let yielded = yielded(&director, worker) - gone[worker];
            // Time also ends flows that are not yet found.
            assert!(is_wait || moved <= yielded, "{moved} flows moved, {yielded} yielded");
        }
    }
    // The end: all is said, waiting fragments are dropped, and no buffer is left.
    director.deliver();
    director.workers.iter_mut().for_each(Pipeline::shutdown);
    director.check();
    assert_eq!(director.census.alive(), 0);
    assert_eq!(director.counts().event(Event::RxPackets), director.received as u64);
    // All flows end.
    director.wait(1_000_000);
    director.wait(10_000);
    assert!(director.workers.iter().all(|w| w.shard().is_empty() && w.shard6().is_empty()));
    director.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn the_accounts_are_always_right(
        workers in 1..4u16,
        capacity in select(vec![3usize, 20, 400]),
        first in services(),
        steps in vec(step(), 1..60),
    ) {
        run(workers, capacity, &first, steps);
    }
}
