//! Virtual services of several L4 ports, and of all.

use std::net::Ipv4Addr;

use dataplane::packet::tcp::Flags;
use dataplane::stats::{DropReason, Event};
use dataplane::types::Protocol;

use crate::director::{Director, Verdict};
use crate::packets::*;

const ONE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const RANGE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const ALL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);

const SERVICES: [&str; 3] =
    ["tcp 8500 rr: 10.0.0.1 dr", "tcp 8000-8999 rr: 10.0.0.2 dr", "tcp 0 rr: 10.0.0.3 dr"];

fn open(n: u16, port: u16) -> Vec<u8> {
    from(n).tcp(port_of(n), port, Flags::SYN, 1).finish()
}

fn ack_to(n: u16, port: u16) -> Vec<u8> {
    from(n).tcp(port_of(n), port, Flags::ACK, 1).finish()
}

#[test]
fn one_port_comes_before_a_range_and_a_range_before_all() {
    let mut director = Director::new(&SERVICES);
    for (port, real) in [
        (8500, ONE),
        (8000, RANGE),
        (8499, RANGE),
        (8999, RANGE),
        (7999, ALL),
        (9000, ALL),
        (1, ALL),
    ] {
        assert_eq!(director.real_of(&open(port, port)), real, "{port}");
    }
    // Of another protocol there is none.
    assert_eq!(director.verdict(&udp(1)), Verdict::Dropped(DropReason::NoService));
    director.services(&SERVICES[..2]);
    assert_eq!(director.verdict(&open(1, 9000)), Verdict::Dropped(DropReason::NoService));
}

#[test]
fn flows_differ_by_their_ports() {
    let mut director = Director::new(&["tcp 8000-8999 rr: 10.0.0.1 dr, 10.0.0.2 dr"]);
    let mut reals = vec![];
    // The same client and L4 port, to ten L4 ports of the service.
    for port in 8000..8010 {
        reals.push(director.real_of(&open(1, port)));
    }
    assert_eq!(director.workers[0].shard().len(), 10);
    assert_eq!(reals.iter().filter(|r| **r == ONE).count(), 5, "each is scheduled");
    for (port, real) in (8000..).zip(reals) {
        assert_eq!(director.real_of(&ack_to(1, port)), real);
    }
}

#[test]
fn a_client_stays_on_all_ports() {
    for ports in ["8000-8999", "0"] {
        let service = format!("tcp {ports} rr p=300: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr");
        let mut director = Director::new(&[&service]);
        let mut reals = std::collections::BTreeSet::new();
        for n in 1..7 {
            let real = director.real_of(&open(n, 8000));
            for port in [8001, 8500, 8999] {
                assert_eq!(director.real_of(&open(n, port)), real);
            }
            reals.insert(real);
        }
        assert_eq!(reals.len(), 3);
        assert_eq!(director.templates.len(), 6, "one for each client");
    }
}

#[test]
fn flows_keep_their_real_server_when_their_port_gets_a_service_of_its_own() {
    let range = "tcp 8000-8999 rr p=60: 10.0.0.2 dr";
    let mut director = Director::new(&[range]);
    director.receive(&[open(1, 8500), ack_to(1, 8500)]);
    let both = [range, "tcp 8500 rr p=60: 10.0.0.1 dr"];
    director.services(&both);
    assert_eq!(director.real_of(&ack_to(1, 8500)), RANGE);
    assert_eq!(director.real_of(&icmp_error(1, Protocol::Tcp, 8500)), RANGE);
    assert_eq!(director.real_of(&open(2, 8500)), ONE);
    // When it ends, it is off its own template, which is not extended any more.
    assert_eq!(director.templates.len(), 2);
    let rst = |n| from(n).tcp(port_of(n), 8500, Flags::RST, 1).finish();
    director.receive(&[rst(1), rst(2)]);
    director.wait(20_000);
    assert_eq!(director.counts().event(Event::Flows), 0);
    // A place is swept each time.
    for _ in 0..20 {
        director.wait(70_000);
    }
    assert!(director.templates.is_empty());
}

#[test]
fn another_range_is_another_service() {
    let mut director = Director::new(&["tcp 8000-8999 rr: 10.0.0.1 dr"]);
    director.receive(&[open(1, 8000), ack_to(1, 8000)]);
    // As with any other key, the real servers of the old one are gone.
    director.services(&["tcp 8000-9000 rr: 10.0.0.1 dr"]);
    let outcome = director.receive(&[ack_to(1, 8000)]);
    assert_eq!(outcome.event(Event::FlowsOrphaned), 1);
}

#[test]
fn fragments_of_a_range_stay_together() {
    let mut director = Director::with_workers(2, &["udp 50-60 rr: 10.0.0.1 dr, 10.0.0.2 dr"]);
    for id in 1..=6 {
        let outcome = director.receive_at(1, &udp_fragments(id, id, 3000, 1480));
        let reals: std::collections::BTreeSet<_> = outcome.reals().into_iter().collect();
        assert_eq!((outcome.sent.len(), reals.len()), (3, 1));
    }
}
