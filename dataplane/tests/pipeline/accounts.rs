//! Counters of virtual services and real servers; the gauges come back to zero.
//!
//! [`Director::check`], called after each step of every test, compares gauges with the tables.

use dataplane::packet::tcp::Flags;
use dataplane::pipeline::{FlowMatch, Query, QueryKind, SCAN_BUDGET};
use dataplane::snapshot::neighbors::NextHop;
use dataplane::types::Protocol;

use crate::director::Director;
use crate::packets::*;

fn service(director: &Director) -> (u64, u64, u64) {
    let traffic = director.service_traffic();
    (traffic.connections, traffic.packets, traffic.bytes)
}

fn reals(director: &Director) -> (u64, u64, u64) {
    let count = |which| {
        let reals = director.spec.services[0].reals.iter();
        reals.map(|r| director.gauge(&r.address.to_string(), which)).sum::<u64>()
    };
    (count(|s| s.connections.get()), count(|s| s.packets.get()), count(|s| s.bytes.get()))
}

#[test]
fn a_service_counts_what_its_real_servers_count() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 ipip"]);
    director.receive(&[syn(1), ack(1), syn(2), tcp(2, Flags::ACK).pad(90).finish()]);
    let bytes = 40 + 44 + 40 + 40;
    assert_eq!(service(&director), (2, 4, bytes), "from the IP header on, without padding");
    assert_eq!(reals(&director), (2, 4, bytes));

    // An ICMP error about a flow is traffic too; what is not forwarded is not.
    let error = icmp_error(1, Protocol::Tcp, 80);
    let bytes = bytes + error.len() as u64 - 14;
    director.receive(&[error]);
    assert_eq!(service(&director), (2, 5, bytes));
    director.receive(&[
        tcp(1, Flags::ACK).ttl(1).finish(),
        tcp(2, Flags::ACK).df(true).payload(&[0; 1460]).finish(),
        ack(9),
    ]);
    director.hop([10, 0, 0, 1], NextHop::Failed);
    director.receive(&[ack(1)]);
    assert_eq!(service(&director), (2, 5, bytes));
    assert_eq!(reals(&director), service(&director));
}

#[test]
fn a_service_keeps_what_was_counted_for_real_servers_it_has_no_more() {
    let (one, two) = ("tcp 80 rr: 10.0.0.1 dr", "tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr");
    let other = "tcp 81 rr: 10.0.0.3 dr";
    let mut director = Director::new(&[two]);
    director.receive(&[syn(1), syn(2), ack(1), ack(2)]);
    let before = service(&director);
    assert_eq!(before.1, 4);
    for services in [&[one][..], &[one], &[one, other], &[two, other], &[two]] {
        director.services(services);
        director.wait(10_000);
        assert_eq!(service(&director), before, "{services:?}");
    }
    // What is configured again begins at nothing.
    director.services(&[other]);
    director.wait(10_000);
    director.services(&[other]);
    director.services(&[two]);
    assert_eq!(service(&director), (0, 0, 0));
    director.receive(&[syn(5)]);
    assert_eq!((service(&director).0, service(&director).1), (1, 1));
}

#[test]
fn fragments_count_once_each() {
    let mut director = Director::with_workers(2, &["udp 53 rr: 10.0.0.1 dr"]);
    let parts = udp_fragments(1, 5, 300, 128);
    let bytes: usize = parts.iter().map(|p| p.len() - 14).sum();
    director.receive(&[parts[2].clone(), parts[0].clone(), parts[1].clone()]);
    director.receive_at(1, &parts);
    assert_eq!(service(&director), (1, 6, 2 * bytes as u64));
    assert_eq!(reals(&director), service(&director));
}

#[test]
fn connections_open_close_and_are_gone() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr"]);
    for (packet, connections) in [
        (syn(1), (1, 0)),
        (syn(2), (2, 0)),
        (ack(1), (2, 0)),
        (fin(1), (1, 1)),
        (fin(1), (1, 1)),
        (rst(1), (1, 1)),
        (rst(2), (0, 2)),
        (syn(2), (1, 1)),
        (syn_ack(2), (1, 1)),
    ] {
        director.receive(&[packet]);
        assert_eq!(director.connections("10.0.0.1"), connections);
    }
    director.wait(20_000);
    assert_eq!(director.connections("10.0.0.1"), (1, 0));
    director.wait(60_000);
    assert_eq!(director.connections("10.0.0.1"), (0, 0));
}

#[test]
fn each_end_of_a_flow_is_settled() {
    let services = ["tcp 80 wlc: 10.0.0.1 dr, 10.0.0.2 dr", "udp 53 mh: 10.0.0.1 dr"];
    type End = fn(&mut Director);
    let ends: [(&str, End); 6] = [
        ("expiry by sweep", |d| drop(d.wait(1_000_000))),
        ("expiry by look-up", |d| {
            d.now = d.now.after(1_000_000);
            for n in 0..40 {
                d.receive(&[ack(n), udp(n)]);
            }
            d.wait(1_000_000);
        }),
        ("expiry by insertion", |d| {
            d.now = d.now.after(1_000_000);
            for n in 0..40 {
                d.receive(&[syn(n), udp(n)]);
            }
            d.wait(1_000_000);
        }),
        ("eviction", |d| {
            for n in 100..400 {
                d.receive(&[syn(n), ack(n), udp(n)]);
            }
            d.wait(1_000_000);
        }),
        ("loss of the real server", |d| {
            d.services(&[]);
            d.wait(10_000);
        }),
        ("flush", |d| {
            let mut cursor = Some(0);
            while let Some(at) = cursor {
                let query = Query {
                    cursor: at,
                    budget: SCAN_BUDGET,
                    kind: QueryKind::Flush,
                    wanted: FlowMatch::default(),
                    rows: Vec::with_capacity(SCAN_BUDGET),
                };
                cursor = d.query(0, query).next;
                d.check();
            }
        }),
    ];
    for (name, end) in ends {
        let mut director = Director::of(1, 90, crate::director::spec(&services));
        for n in 0..40 {
            director.receive(&[syn(n), udp(n)]);
            match n % 4 {
                0 => drop(director.receive(&[ack(n)])),
                1 => drop(director.receive(&[fin(n)])),
                2 => drop(director.receive(&[rst(n)])),
                _ => {}
            }
        }
        end(&mut director);
        director.check();
        assert!(director.workers[0].shard().is_empty(), "{name}");
        let stats = &director.stats[0];
        for id in 0..stats.real_slots() as u32 {
            let s = stats.real(dataplane::types::RealId(id)).unwrap();
            assert_eq!((s.active.get(), s.inactive.get()), (0, 0), "{name}");
        }
    }
}
