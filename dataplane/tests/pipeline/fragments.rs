//! Fragments to virtual services: all to the real server of the rest of their flow.

use dataplane::packet::tcp::Flags;
use dataplane::pipeline::{FlowMatch, PeerMessage, Query, QueryKind, SCAN_BUDGET};
use dataplane::stats::{DropReason, Event};
use dataplane::types::{PuntReason, ServiceId};

use crate::director::{Director, Verdict};
use crate::packets::*;

const SERVICES: &[&str] =
    &["udp 53 rr: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr", "tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr"];

/// All the same, and so many.
fn one_real(outcome: &crate::director::Outcome, count: usize) -> std::net::Ipv4Addr {
    let reals = outcome.reals();
    assert_eq!(reals.len(), count);
    assert!(reals.iter().all(|r| *r == reals[0]), "{reals:?}");
    reals[0]
}

#[test]
fn in_order_they_go_one_way_without_waiting() {
    let mut director = Director::new(SERVICES);
    for n in 1..=3 {
        let real = one_real(&director.receive(&udp_fragments(n, 5, 300, 64)), 5);
        assert_eq!(director.real_of(&udp(n)), real, "whole packets of the flow too");
        assert_eq!(real.octets()[3], n as u8);
        // The next packet of the flow, with another id.
        assert_eq!(one_real(&director.receive(&udp_fragments(n, 6, 300, 64)), 5), real);
    }
    assert_eq!(director.counts().event(Event::FlowsCreated), 3);
}

#[test]
fn reordered_they_wait_for_the_first() {
    for order in [[2, 1, 0], [1, 0, 2], [0, 2, 1], [2, 0, 1]] {
        let mut director = Director::new(SERVICES);
        director.receive(&[udp(9)]);
        let parts = udp_fragments(1, 5, 160, 64);
        let shuffled = order.map(|i| parts[i].clone());
        one_real(&director.receive(&shuffled), 3);
        // One by one, in bursts of their own.
        let mut sent = 0;
        for part in udp_fragments(2, 5, 160, 64).iter().rev() {
            sent += director.receive_one(part).sent.len();
        }
        assert_eq!(sent, 3);
        assert_eq!(director.counts().event(Event::Held), 0);
    }
}

#[test]
fn packets_with_other_ids_wait_for_their_own_first() {
    let mut director = Director::new(SERVICES);
    let (a, b) = (udp_fragments(1, 5, 160, 64), udp_fragments(1, 6, 160, 64));
    let held = director.receive(&[a[1].clone(), b[1].clone(), a[2].clone()]);
    assert_eq!(held.event(Event::Held), 3);
    assert_eq!(director.receive(&[b[0].clone()]).sent.len(), 2);
    assert_eq!(director.receive(&[a[0].clone()]).sent.len(), 3);
}

#[test]
fn without_the_first_they_are_given_up_after_half_a_second() {
    let mut director = Director::new(SERVICES);
    let parts = udp_fragments(1, 5, 160, 64);
    assert_eq!(director.receive(&parts[1..]).event(Event::Held), 2);
    assert_eq!(director.wait(499).drops(DropReason::FragmentUnknown), 0);
    assert_eq!(director.wait(1).drops(DropReason::FragmentUnknown), 2);
    // The first comes all the same: it goes on, and so does a retransmitted rest.
    assert_eq!(director.receive(&parts).sent.len(), 3);
}

#[test]
fn a_note_lasts_thirty_seconds() {
    let mut director = Director::new(SERVICES);
    let parts = udp_fragments(1, 5, 160, 64);
    director.receive(&parts[..1]);
    director.wait(29_999);
    assert_eq!(director.receive(&parts[1..2]).sent.len(), 1);
    director.wait(1);
    assert_eq!(director.verdict(&parts[2]), Verdict::Held);
}

#[test]
fn the_waiting_room_is_bounded() {
    let mut director = Director::new(SERVICES);
    for id in 0..100 {
        director.receive(&udp_fragments(1, id, 100, 64)[1..]);
    }
    let counts = director.counts();
    let (held, dropped) = (counts.event(Event::Held), counts.drops(DropReason::FragmentUnknown));
    assert_eq!((held, dropped), (64, 36));
    // The oldest had to go; the first of a newer one's packet still releases it.
    assert_eq!(director.receive(&udp_fragments(1, 35, 100, 64)[..1]).sent.len(), 1);
    assert_eq!(director.receive(&udp_fragments(1, 36, 100, 64)[..1]).sent.len(), 2);
    director.outcome(|d| d.workers[0].shutdown());
    let counts = director.counts();
    assert_eq!((counts.event(Event::Held), counts.drops(DropReason::Shutdown)), (0, 63));
}

#[test]
fn it_has_room_for_several_networks() {
    let mut director = Director::new(SERVICES);
    for n in 0..10u16 {
        for id in 0..16 {
            director.receive(&udp_fragments(n << 8, id, 100, 64)[1..]);
        }
    }
    assert_eq!(director.counts().event(Event::Held), 128);
    director.wait(500);
    assert_eq!(director.counts().drops(DropReason::FragmentUnknown), 160);
}

#[test]
fn an_empty_pool_matters_only_to_those_cut_again() {
    let mut director = Director::new(&["udp 53 rr: 10.0.0.1 ipip"]);
    director.pool.left.set(0);
    // The first fills the MTU, so its tunnel packet does not fit; the second does.
    let parts = udp_fragments(1, 5, 1600, 1480);
    let outcome = director.receive(&parts);
    assert_eq!(outcome.drops(DropReason::NoBuffer), 1);
    assert_eq!(outcome.event(Event::Forwarded), 1);
    director.pool.left.set(2);
    let outcome = director.receive(&parts);
    assert_eq!(outcome.event(Event::Forwarded), 2);
    assert_eq!(outcome.sent.len(), 3);
}

#[test]
fn fragments_cut_again_for_dr_keep_their_place() {
    let mut spec = crate::director::spec(&["udp 53 rr: 10.0.0.1 dr"]);
    spec.ports[1].mtu = 600;
    let mut director = Director::of(1, 10, spec);
    let whole = datagram(1, 2000).finish();
    let parts = cut(&whole, 5, 1000);
    let outcome = director.receive(&[parts[1].clone(), parts[0].clone(), parts[2].clone()]);
    let mut payload = vec![0; whole.len() - 34];
    for seen in &outcome.sent {
        assert!(seen.inner.len() <= 600);
        let at = usize::from(seen.ip().fragments_offset().value()) * 8;
        let part = &seen.inner[20..];
        payload[at..at + part.len()].copy_from_slice(part);
        let last = at + part.len() == payload.len();
        assert_eq!(seen.ip().more_fragments(), !last);
    }
    assert_eq!(payload, whole[34..]);
}

#[test]
fn tcp_fragments_follow_the_rules_of_tcp() {
    let segment = |flags| tcp(1, flags).payload(&[0; 100]).finish();
    let mut director = Director::new(SERVICES);
    // No flow, no SYN.
    let parts = cut(&segment(Flags::ACK), 5, 64);
    assert_eq!(director.verdict(&parts[0]), Verdict::Punted(PuntReason::TcpReset));
    assert_eq!(director.verdict(&parts[1]), Verdict::Held);
    director.wait(500);
    let real = director.real_of(&syn(1));
    assert_eq!(one_real(&director.receive(&parts), 2), real);
    // A fragmented SYN on a closing flow is a new connection.
    director.receive(&[rst(1)]);
    let other = one_real(&director.receive(&cut(&segment(Flags::SYN), 6, 64)), 2);
    assert_ne!(other, real);
    assert_eq!(director.counts().event(Event::FlowsReplaced), 1);
}

#[test]
fn a_first_fragment_finds_the_flow_at_another_worker() {
    for (workers, home) in [(2, 1), (3, 1), (3, 2), (5, 4)] {
        let mut director = Director::with_workers(workers, SERVICES);
        director.receive_at(home, &[udp(8), udp(9)]);
        let real = director.receive_at(home, &[udp(1)]).reals()[0];
        assert_eq!(real.octets()[3], ((home + 2) % 3 + 1) as u8);
        let outcome = director.receive(&udp_fragments(1, 5, 300, 64));
        assert_eq!(one_real(&outcome, 5), real);
        assert_eq!(outcome.event(Event::HandedOver), home as u64);
        assert_eq!(outcome.event(Event::FlowsCreated), 0);
        assert_eq!(director.workers[0].shard().len(), 0, "no replica of what has a home");
    }
}

#[test]
fn a_flow_that_begins_with_a_fragment_is_known_to_all() {
    let mut director = Director::with_workers(3, SERVICES);
    // Make the other workers' rotation point elsewhere.
    director.receive_at(1, &[udp(7), udp(8)]);
    director.receive_at(2, &[udp(9)]);
    let parts = udp_fragments(1, 5, 300, 64);
    let outcome = director.receive(&[parts[1].clone(), parts[0].clone(), parts[2].clone()]);
    let real = one_real(&outcome, 3);
    assert_eq!(outcome.event(Event::HandedOver), 3, "once round");
    let text = real.to_string();
    assert_eq!(director.gauge(&text, |s| s.replicas.get()), 2);
    let connections = director.stats.iter().map(|s| s.service(ServiceId(0)).unwrap());
    assert_eq!(connections.map(|s| s.connections.get()).sum::<u64>(), 4, "counted once");
    for worker in 0..3 {
        assert_eq!(director.receive_at(worker, &[udp(1)]).reals(), [real], "worker {worker}");
    }
    // A listing tells the copies from the flow.
    let listed = (0..3).map(|worker| {
        let wanted = FlowMatch { client: Some(client(1).into()), ..FlowMatch::default() };
        let (mut replicas, mut next) = (Vec::new(), Some(0));
        while let Some(cursor) = next {
            let (kind, rows) = (QueryKind::List, Vec::with_capacity(SCAN_BUDGET));
            let query = Query { cursor, budget: SCAN_BUDGET, kind, wanted: wanted.clone(), rows };
            let reply = director.query(worker, query);
            replicas.extend(reply.query.rows.iter().map(|r| r.replica));
            next = reply.next;
        }
        replicas
    });
    assert_eq!(listed.collect::<Vec<_>>().concat(), [false, true, true]);
    // Its end leaves nothing behind.
    director.wait(300_000);
    assert_eq!(director.gauge(&text, |s| s.replicas.get() + s.active.get()), 0);
}

#[test]
fn a_first_fragment_that_makes_no_flow_makes_no_replica() {
    let mut director = Director::with_workers(3, &["tcp 80 mh: 10.0.0.1 dr, 10.0.0.2 dr"]);
    for flags in [Flags::RST, Flags(0), Flags(Flags::SYN.0 | Flags::ACK.0)] {
        let parts = cut(&tcp(1, flags).payload(&[0; 100]).finish(), 5, 64);
        one_real(&director.receive(&parts), 2);
        assert_eq!(director.counts().event(Event::FlowsCreated), 0);
    }
    director.receive(&cut(&tcp(1, Flags::FIN).payload(&[0; 100]).finish(), 6, 64));
    assert_eq!(director.counts().event(Event::FlowsCreated), 3);
}

#[test]
fn whole_packets_may_overtake_the_news_of_a_flow() {
    let mut director = Director::with_workers(2, SERVICES);
    let first = udp_fragments(1, 5, 100, 64);
    let outcome = director.outcome(|d| {
        let buffers = first.iter().map(|p| d.census.buffer(p)).collect();
        d.burst(0, WAN, buffers);
        // Round to worker 1 and back; the news of the flow is under way.
        assert!(d.deliver_one() && d.deliver_one());
        assert!(matches!(d.wire.mail.front(), Some((_, PeerMessage::Replica { .. }))));
        let whole = d.census.buffer(&udp(1));
        d.burst(1, WAN, vec![whole]);
        d.deliver();
    });
    assert_eq!(outcome.sent.len(), 3);
    // Worker 1 has a flow of its own and keeps it.
    assert_eq!(director.gauge("10.0.0.1", |s| s.replicas.get()), 0);
    let own = director.receive_at(1, &[udp(1)]).reals();
    assert_eq!(own, [outcome.sent[2].real()]);
}

#[test]
fn a_closing_replica_counts_as_no_connection() {
    let mut director = Director::with_workers(2, &["tcp 80 rr: 10.0.0.1 dr"]);
    director.receive(&cut(&tcp(1, Flags::SYN).payload(&[0; 100]).finish(), 5, 64));
    assert_eq!(director.connections("10.0.0.1"), (1, 0));
    director.receive_at(1, &[fin(1)]);
    assert_eq!(director.connections("10.0.0.1"), (1, 0));
    // A new connection there is its own.
    director.receive_at(1, &[syn(1)]);
    assert_eq!(director.connections("10.0.0.1"), (2, 0));
    assert_eq!(director.gauge("10.0.0.1", |s| s.replicas.get()), 0);
}

#[test]
fn a_configuration_change_meets_fragments_under_way() {
    let services = ["udp 53 rr: 10.0.0.1 dr"];
    let parts = udp_fragments(1, 5, 160, 64);
    // The service goes while its first fragment looks for its flow.
    let mut director = Director::with_workers(2, &services);
    let outcome = director.outcome(|d| {
        let buffers = parts.iter().map(|p| d.census.buffer(p)).collect();
        d.burst(0, WAN, buffers);
        d.services(&[]);
        d.deliver();
    });
    assert_eq!(outcome.drops(DropReason::NoService), 1);
    assert_eq!(director.wait(500).drops(DropReason::FragmentUnknown), 2);

    // The real server goes while the news of it is under way.
    let mut director = Director::with_workers(2, &services);
    director.receive_at(1, &[udp(1)]);
    let outcome = director.outcome(|d| {
        let buffers = parts.iter().map(|p| d.census.buffer(p)).collect();
        d.burst(0, WAN, buffers);
        assert!(d.deliver_one());
        d.services(&["udp 53 rr: 10.0.0.2 dr"]);
        d.deliver();
    });
    assert_eq!(outcome.drops(DropReason::RealServerGone), 2, "those that waited");

    // A note's slot is given to another service's real server: the note is void.
    let mut director = Director::new(&services);
    director.receive(&parts[..2]);
    director.services(&[]);
    director.wait(20_000);
    for _ in 0..2 {
        director.services(&["tcp 81 rr: 10.0.0.9 dr"]);
        director.services(&["tcp 81 rr: 10.0.0.9 dr", "tcp 82 rr: 10.0.0.8 dr"]);
    }
    assert_eq!(director.verdict(&parts[2]), Verdict::Held);
}
