//! The neighbor table: packets that wait, what workers see, reconfiguration.

mod slowpath_common;

use std::net::Ipv4Addr;

use dataplane::packet::arp::Packet;
use dataplane::slowpath::{MAX_WAIT, MAX_WAITING, Millis};
use dataplane::snapshot::neighbors::{Links, NeighborSpec, NextHop};
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, NeighborId, PuntReason};
use dataplane::vocabulary::NeighborState;
use slowpath_common::*;

const STATIC_MAC: Mac = Mac([2, 0, 0, 0, 5, 5]);

/// Real server 0 configured and asked for, but not answering.
fn unresolved() -> Bench {
    let mut bench = Bench::empty();
    bench.configure(&Links { vips: vec![], ..links(1) });
    bench.sent.clear();
    bench
}

/// Frames that came out other than ARP.
fn forwarded(bench: &mut Bench) -> Vec<Vec<u8>> {
    let sent = std::mem::take(&mut bench.sent);
    sent.into_iter().map(|(_, f)| f).filter(|f| f[12..14] != [8, 6]).collect()
}

#[test]
fn every_neighbor_is_asked_for_as_soon_as_it_is_configured() {
    let mut bench = Bench::empty();
    bench.configure(&links(3));
    let asked: Vec<_> = bench.arps().into_iter().filter(|(_, _, p)| !p.is_gratuitous()).collect();
    let request = |n| (LAN, Mac::BROADCAST, Packet::request(LAN_MAC, DIP, rip(n)));
    assert_eq!(asked, [request(0), request(1), request(2)]);
    assert!((0..3).all(|n| bench.state(n) == NeighborState::Incomplete));
}

#[test]
fn packets_wait_for_the_answer_and_leave_in_order() {
    let mut bench = unresolved();
    for mark in 1..=3 {
        bench.resolve(0, mark);
    }
    assert_eq!((bench.slow.waiting(), bench.view(0).waiting), (3, 3));
    assert_eq!(forwarded(&mut bench), Vec::<Vec<u8>>::new());
    bench.now += 7;
    bench.answer(0);
    let expected = [1, 2, 3].map(|mark| {
        let mut frame = frame_to_real(mark);
        frame[..6].copy_from_slice(&real_mac(0).0);
        (LAN, frame)
    });
    assert_eq!(bench.sent, expected);
    assert_eq!(bench.event(Event::NeighborQueued), 3);
    assert_eq!(bench.event(Event::NeighborForwarded), 3);
    assert_eq!(bench.view(0).confirmed, Some(Millis(bench.now)));
    assert_eq!(bench.slow.waiting(), 0);
}

#[test]
fn the_oldest_makes_room_for_the_latest() {
    let mut bench = unresolved();
    for mark in 1..=5 {
        bench.resolve(0, mark);
        assert!(bench.slow.waiting() <= MAX_WAITING);
    }
    assert_eq!(bench.dropped(DropReason::NeighborUnresolved), 2);
    bench.answer(0);
    let marks: Vec<_> = forwarded(&mut bench).iter().map(|f| f[f.len() - 1]).collect();
    assert_eq!(marks, [3, 4, 5]);
}

#[test]
fn a_packet_for_a_neighbor_known_by_now_is_sent_at_once() {
    let mut bench = Bench::with(1);
    bench.resolve(0, 1);
    let (port, frame) = bench.one();
    assert_eq!((port, dst(&frame)), (LAN, real_mac(0)));
    assert_eq!(bench.event(Event::NeighborForwarded), 1);
    assert_eq!(bench.event(Event::NeighborQueued), 0);
}

#[test]
fn packets_for_one_that_does_not_answer_are_dropped_when_it_fails() {
    let mut bench = unresolved();
    bench.now += 10;
    bench.resolve(0, 1);
    bench.run(2_989);
    assert_eq!((bench.state(0), bench.slow.waiting()), (NeighborState::Incomplete, 1));
    bench.run(1);
    assert_eq!((bench.state(0), bench.slow.waiting()), (NeighborState::Failed, 0));
    assert_eq!(bench.dropped(DropReason::NeighborFailed), 1);
    // One that was on its way when the neighbor failed: dropped, but the neighbor is asked.
    bench.run(30_000);
    bench.sent.clear();
    bench.resolve(0, 2);
    assert_eq!(bench.dropped(DropReason::NeighborFailed), 2);
    assert_eq!(bench.arps().len(), 1, "without waiting for its turn");
    for _ in 0..20 {
        bench.resolve(0, 3);
    }
    assert_eq!(bench.arps().len(), 0, "once a second");
    bench.answer(0);
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Known(real_mac(0)));
}

#[test]
fn no_packet_waits_longer_than_three_seconds() {
    let mut bench = unresolved();
    // Without buffers nothing can be asked, so the neighbor does not fail.
    bench.buffers.set(0);
    bench.resolve(0, 1);
    bench.run(500);
    bench.resolve(0, 2);
    bench.run(MAX_WAIT - 501);
    assert_eq!(bench.slow.waiting(), 2);
    bench.run(1);
    assert_eq!(bench.slow.waiting(), 1);
    bench.run(500);
    assert_eq!(bench.slow.waiting(), 0);
    assert_eq!(bench.dropped(DropReason::NeighborUnresolved), 2);
    assert_eq!(bench.state(0), NeighborState::Incomplete);
    bench.buffers.set(100);
    bench.run(3_200);
    assert_eq!(bench.state(0), NeighborState::Failed, "our own shortage is no try of its");
}

#[test]
fn an_answer_after_a_late_poll_does_not_bring_old_packets_back() {
    let mut bench = unresolved();
    bench.resolve(0, 1);
    bench.now += MAX_WAIT;
    bench.answer(0);
    assert_eq!(forwarded(&mut bench).len(), 0);
    assert_eq!(bench.dropped(DropReason::NeighborUnresolved), 1);
}

#[test]
fn a_silent_neighbor_fails_and_comes_back() {
    let mut bench = Bench::with(1);
    bench.run(45_000 + 5_000);
    assert_eq!(bench.state(0), NeighborState::Failed);
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Failed);
    let probes: Vec<_> = bench.arps();
    assert_eq!(probes.iter().filter(|(_, dst, _)| *dst == real_mac(0)).count(), 3);
    bench.run(100_000);
    assert!(bench.arps().len() <= 10);
    bench.answer(0);
    assert_eq!(bench.state(0), NeighborState::Reachable);
}

#[test]
fn one_that_answers_every_probe_stays_for_ever() {
    let mut bench = Bench::with(1);
    for _ in 0..200 {
        let due = bench.slow.next_deadline().unwrap();
        bench.now = due.0;
        bench.poll();
        assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Known(real_mac(0)));
        for (_, dst, packet) in bench.arps() {
            assert_eq!((dst, packet.tpa), (real_mac(0), rip(0)));
            bench.answer(0);
        }
    }
    assert!(bench.now > 200 * 15_000 / 3);
}

#[test]
fn static_neighbors_are_known_at_once_and_not_moved() {
    let mut bench = Bench::empty();
    let fixed = NeighborSpec { fixed: Some(STATIC_MAC), ..neighbor(0) };
    bench.configure(&Links { neighbors: vec![fixed], vips: vec![], ..links(0) });
    assert!(bench.arps().iter().all(|(_, _, p)| p.is_gratuitous()));
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Known(STATIC_MAC));
    assert_eq!(bench.state(0), NeighborState::Static);
    bench.arp(LAN, Mac::BROADCAST, &Packet::announcement(real_mac(0), rip(0)));
    bench.answer(0);
    assert_eq!(bench.view(0).mac, Some(STATIC_MAC));
    assert_eq!(bench.dropped(DropReason::ArpIgnored), 2);
    bench.run(100_000);
    assert!(bench.arps().iter().all(|(_, _, p)| p.is_gratuitous()));
}

#[test]
fn a_neighbor_that_becomes_static_releases_what_waits() {
    let mut bench = unresolved();
    bench.resolve(0, 1);
    let fixed = NeighborSpec { fixed: Some(STATIC_MAC), ..neighbor(0) };
    bench.configure(&Links { neighbors: vec![fixed], vips: vec![], ..links(0) });
    assert_eq!(dst(&forwarded(&mut bench)[0]), STATIC_MAC);
    bench.configure(&links(1));
    assert_eq!(bench.state(0), NeighborState::Incomplete, "and back: asked for anew");
}

#[test]
fn reconfiguration_keeps_who_stays_and_forgets_who_goes() {
    let mut bench = Bench::with(2);
    let confirmed = bench.view(0).confirmed;
    bench.run(1_000);
    bench.sent.clear();
    // Real server 1 goes, 2 comes into another slot, 3 takes 1's slot.
    let mut next = links(1);
    next.neighbors.push(neighbor(2));
    next.neighbors.push(NeighborSpec { id: NeighborId(1), ..neighbor(3) });
    bench.configure(&next);
    assert_eq!((bench.state(0), bench.view(0).confirmed), (NeighborState::Reachable, confirmed));
    assert_eq!(bench.hops.get(NeighborId(1)), NextHop::Unknown, "not the old one's address");
    let asked: Vec<_> = bench.arps().iter().map(|(_, _, p)| p.tpa).collect();
    assert_eq!(asked, [rip(3), rip(2)]);
    bench.answer(1);
    assert_eq!(bench.dropped(DropReason::ArpIgnored), 1, "no longer needed");
    bench.answer(3);
    assert_eq!(bench.hops.get(NeighborId(1)), NextHop::Known(real_mac(3)));
}

#[test]
fn one_that_goes_is_unknown_to_workers_at_once() {
    let mut bench = Bench::with(1);
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Known(real_mac(0)));
    bench.configure(&links(0));
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Unknown);
}

#[test]
fn only_an_answer_to_us_confirms() {
    let mut bench = unresolved();
    bench.arp(LAN, LAN_MAC, &Packet { tha: STATIC_MAC, ..reply(0) });
    assert_eq!((bench.state(0), bench.view(0).confirmed), (NeighborState::Stale, None));
    bench.answer(0);
    assert_eq!(bench.state(0), NeighborState::Reachable);
}

#[test]
fn packets_waiting_for_one_that_goes_are_dropped() {
    let mut bench = unresolved();
    bench.resolve(0, 1);
    bench.configure(&links(0));
    assert_eq!(bench.slow.waiting(), 0);
    assert_eq!(bench.dropped(DropReason::NeighborUnresolved), 1);
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Unknown);
    // A packet punted by a worker that still has the old configuration.
    bench.resolve(0, 2);
    assert_eq!(bench.dropped(DropReason::SlowPathUnknown), 1);
    bench.run(60_000);
}

#[test]
fn a_frame_for_a_wrong_port_or_without_header_is_dropped() {
    let mut bench = Bench::with(1);
    let wrong = PuntReason::Resolve { neighbor: NeighborId(0), port: WAN };
    bench.punt(LAN, wrong, &frame_to_real(1));
    let right = PuntReason::Resolve { neighbor: NeighborId(0), port: LAN };
    bench.punt(LAN, right, &frame_to_real(1)[..13]);
    bench.punt(LAN, right, &[]);
    assert_eq!(bench.dropped(DropReason::SlowPathUnknown), 3);
    assert!(bench.sent.is_empty());
}

#[test]
fn a_port_without_an_address_cannot_ask() {
    let mut bench = Bench::empty();
    let mut bare = links(1);
    bare.ports[0].addresses.clear();
    bench.configure(&bare);
    assert_eq!(bench.state(0), NeighborState::Failed);
    bench.run(60_000);
    assert!(bench.arps().iter().all(|(_, _, p)| p.is_gratuitous()));
    bench.resolve(0, 1);
    assert_eq!(bench.dropped(DropReason::NeighborFailed), 1);
    // Given an address, it asks.
    bench.configure(&links(1));
    assert!(bench.arps().iter().any(|(_, _, p)| p.tpa == rip(0)));
    bench.answer(0);
    assert_eq!(bench.state(0), NeighborState::Reachable);
}

#[test]
fn a_change_elsewhere_asks_nobody_again_that_failed() {
    let mut bench = Bench::empty();
    bench.configure(&links(2));
    bench.run(10_000);
    assert_eq!(bench.state(0), NeighborState::Failed);
    bench.sent.clear();
    // Another neighbor and another VIP come, one goes.
    let mut more = links(3);
    more.neighbors.remove(1);
    more.vips.push([203, 0, 113, 99].into());
    bench.configure(&more);
    let asked: Vec<_> = bench.arps().iter().map(|(_, _, p)| p.tpa).collect();
    assert!(asked.contains(&rip(2)) && !asked.contains(&rip(0)), "{asked:?}");
    assert_eq!(
        (bench.state(0), bench.state(2)),
        (NeighborState::Failed, NeighborState::Incomplete)
    );
    assert_eq!(bench.hops.get(NeighborId(1)), NextHop::Unknown, "gone");
    // Taken back, it is asked as a new one.
    bench.configure(&links(2));
    assert!(bench.arps().iter().any(|(_, _, p)| p.tpa == rip(1)));
}

#[test]
fn a_link_that_comes_up_has_its_neighbors_checked() {
    let mut bench = Bench::with(1);
    bench.link_up(WAN);
    assert_eq!(bench.state(0), NeighborState::Reachable);
    bench.link_up(LAN);
    assert_eq!(bench.state(0), NeighborState::Stale);
    bench.run(4_000);
    assert_eq!(bench.state(0), NeighborState::Failed);
    bench.run(60_000);
    bench.sent.clear();
    bench.link_up(LAN);
    assert!(bench.arps().iter().any(|(_, _, p)| p.tpa == rip(0)));
}

#[test]
fn shutdown_drops_what_waits() {
    let mut bench = unresolved();
    bench.resolve(0, 1);
    bench.resolve(0, 2);
    bench.slow.shutdown();
    bench.check();
    assert_eq!(bench.dropped(DropReason::Shutdown), 2);
    assert_eq!(bench.slow.waiting(), 0);
    bench.run(10_000);
}

#[test]
fn many_neighbors_are_asked_in_small_batches() {
    let mut bench = Bench::empty();
    let many = Links {
        ports: vec![lan()],
        vips: vec![],
        neighbors: (0..5_000u32)
            .map(|n| NeighborSpec {
                id: NeighborId(n),
                address: Ipv4Addr::from(0xc0a8_0000 + 300 + n).into(),
                ..neighbor(0)
            })
            .collect(),
        tunnels: vec![],
    };
    bench.configure(&many);
    let mut asked = 0;
    let start = bench.now;
    while bench.now - start < 1_000 {
        assert!(bench.sent.len() <= 130, "{}", bench.sent.len());
        asked += bench.arps().iter().filter(|(_, _, p)| !p.is_gratuitous()).count();
        let due = bench.slow.next_deadline().unwrap();
        bench.now = bench.now.max(due.0);
        bench.poll();
    }
    assert_eq!(asked, 5_000);
}
