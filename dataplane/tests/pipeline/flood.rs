//! SYN floods into a full table.

use std::net::Ipv4Addr;

use dataplane::packet::tcp::Flags;
use dataplane::stats::{Counts, Event};

use crate::director::{Director, Verdict, spec};
use crate::packets::{ack, cut, fin, port_of, syn, tcp};
use crate::packets6::{ack6, from6, syn6};

const THREE: &str = "10.0.0.1 dr, 10.0.0.2 ipip, 10.0.0.3 gre";
const FLOWS: usize = 256;
/// Connections that are there before the flood.
const OLD: u16 = 200;
/// The first L4 port of the flood.
const FLOOD: u16 = 1000;

/// A director of a virtual service with `OLD` connections, and a table that a flood has filled.
/// Half-open flows have the room that is left, 56: many more than one in 64.
fn flooded(service: &str) -> (Director, Vec<Ipv4Addr>) {
    let mut director = Director::of(1, FLOWS, spec(&[service]));
    let old = (0..OLD).map(|n| {
        let real = director.real_of(&syn(n));
        director.receive(&[ack(n)]);
        real
    });
    let old = old.collect();
    for n in 0..FLOWS as u16 - OLD {
        director.receive(&[syn(FLOOD + n)]);
    }
    assert_eq!(director.counts().event(Event::Flows), FLOWS as u64);
    assert_eq!(director.counts().event(Event::FloodSyns), 0, "there was room");
    (director, old)
}

/// Sends SYNs of so many more clients; how many flows and how many mere SYNs came of it.
fn flood(director: &mut Director, clients: std::ops::Range<u16>) -> (u64, u64) {
    let grown = |director: &Director| {
        let counts = director.counts();
        (counts.event(Event::FlowsCreated), counts.event(Event::FloodSyns))
    };
    let before = grown(director);
    for n in clients {
        assert!(matches!(director.verdict(&syn(n)), Verdict::Forwarded(_)));
    }
    let after = grown(director);
    (after.0 - before.0, after.1 - before.1)
}

#[test]
fn a_flood_makes_no_flows_where_a_hash_finds_the_real_server_again() {
    for scheduler in ["mh", "sh", "dh", "mh mh-port"] {
        let (mut director, old) = flooded(&format!("tcp 80 {scheduler}: {THREE}"));
        assert_eq!(flood(&mut director, 2000..3000), (0, 1000), "{scheduler}");
        let counts = director.counts();
        assert_eq!(counts.event(Event::FlowsEvicted), 0, "{scheduler}");
        // An honest client among them gets its connection, at the expense of the flood.
        for n in 3000..3020 {
            let real = director.real_of(&syn(n));
            assert_eq!(director.real_of(&syn(n)), real, "{scheduler}: its SYN again");
            assert_eq!(director.real_of(&ack(n)), real, "{scheduler}");
            assert_eq!(director.real_of(&ack(n)), real, "{scheduler}");
        }
        let counts = director.counts();
        assert_eq!(counts.event(Event::FlowsCreated), FLOWS as u64 + 20, "{scheduler}");
        assert_eq!(counts.event(Event::FlowsEvicted), 20, "{scheduler}");
        for (n, real) in (0..OLD).zip(old) {
            assert_eq!(director.real_of(&ack(n)), real, "{scheduler}: connections stay");
        }
    }
}

#[test]
fn a_connection_that_is_over_makes_room_for_its_successor_in_a_flood_too() {
    let (mut director, old) = flooded(&format!("tcp 80 mh: {THREE}"));
    director.services(&[&format!("tcp 80 mh: {THREE}, 10.0.0.4 dr")]);
    let mut moved = 0;
    for (n, old) in (0..OLD).zip(old) {
        director.receive(&[fin(n)]);
        let real = director.real_of(&syn(n));
        assert_eq!(director.real_of(&ack(n)), real, "its flow is not the one that is over");
        moved += u32::from(real != old);
    }
    assert!(moved > 10, "{moved} connections went elsewhere");
    assert_eq!(director.counts().event(Event::FlowsReplaced), u64::from(OLD));
}

/// A SYN in fragments, or behind IPv6 extension headers, is told of to all workers where it makes a
/// flow.
#[test]
fn a_syn_without_a_flow_makes_none_on_other_workers() {
    const SIX: &str = "tcp6 80 mh: 2001:db8:a::1 dr, 2001:db8:a::2 dr, 2001:db8:a::3 dr";
    for service in [&format!("tcp 80 mh: {THREE}"), SIX] {
        let mut director = Director::of(3, FLOWS, spec(&[service]));
        let six = service == SIX;
        let syn = |n| if six { syn6(n) } else { syn(n) };
        for worker in 0..3 {
            for n in 0..FLOWS as u16 {
                director.receive_at(worker, &[syn(n)]);
            }
        }
        let before = director.counts();
        let packets = |flags| match six {
            true => vec![
                from6(2000)
                    .ext(0, &[0, 1, 4, 0, 0, 0, 0])
                    .tcp(port_of(2000), 80, flags, 1)
                    .finish(),
            ],
            false => cut(&tcp(2000, flags).payload(&[0; 100]).finish(), 5, 64),
        };
        let real = director.receive(&packets(Flags::SYN)).sent[0].real_of_either();
        let flood = director.counts();
        assert_eq!(flood.event(Event::FloodSyns) - before.event(Event::FloodSyns), 1);
        let created = |counts: &Counts| counts.event(Event::FlowsCreated);
        assert_eq!(created(&flood), created(&before), "{service}");
        // The next packet makes it. Replicas evict nobody's flow, and the other tables are full.
        assert_eq!(director.receive(&packets(Flags::ACK)).sent[0].real_of_either(), real);
        assert_eq!(created(&director.counts()), created(&before) + 1, "{service}");
        assert_eq!(
            director.receive_at(1, &[if six { ack6(2000) } else { ack(2000) }]).sent[0]
                .real_of_either(),
            real
        );
        assert_eq!(created(&director.counts()), created(&before) + 2, "{service}");
    }
}

#[test]
fn elsewhere_each_syn_makes_its_flow() {
    for service in [
        format!("tcp 80 rr: {THREE}"),
        format!("tcp 80 wlc: {THREE}"),
        // Whoever is full may be another when the client's next packet comes.
        format!("tcp 80 mh: 10.0.0.4 dr x=9999, {THREE}"),
        // The client may have been bound before its hash was another's.
        format!("tcp 80 mh p=300: {THREE}"),
    ] {
        let (mut director, _) = flooded(&service);
        assert_eq!(flood(&mut director, 2000..2500), (500, 0), "{service}");
        assert_eq!(director.counts().event(Event::FlowsEvicted), 500, "{service}");
    }
}

#[test]
fn after_a_flood_all_is_as_before() {
    let (mut director, _) = flooded(&format!("tcp 80 mh: {THREE}"));
    assert_eq!(flood(&mut director, 2000..2100), (0, 100));
    director.wait(70_000);
    assert_eq!(
        director.counts().event(Event::Flows),
        u64::from(OLD),
        "half-open flows have expired"
    );
    assert_eq!(flood(&mut director, 3000..3050), (50, 0));
}

#[test]
fn a_full_table_without_a_flood_takes_new_flows() {
    let mut director = Director::of(1, FLOWS, spec(&[&format!("tcp 80 mh: {THREE}")]));
    for n in 0..FLOWS as u16 {
        director.receive(&[syn(n), ack(n)]);
    }
    // No more than one flow in 64 is half-open; the next SYN is one too many.
    assert_eq!(flood(&mut director, 2000..2006), (5, 1));
    // One of them answers.
    director.receive(&[ack(2000)]);
    assert_eq!(flood(&mut director, 3000..3002), (1, 1));
}
