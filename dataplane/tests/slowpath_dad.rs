//! Duplicate address detection, RFC 4862 5.4.

mod slowpath_common;

use dataplane::packet::ipv6;
use dataplane::packet::ndp::Message;
use dataplane::snapshot::neighbors::Links;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, PuntReason};
use dataplane::vocabulary::{AddressState, NeighborState};
use slowpath_common::six::*;
use slowpath_common::*;

use AddressState::{Duplicate, Ready, Tentative};

const HOST: Mac = Mac([2, 0, 0, 0, 3, 3]);

fn started() -> Bench {
    let mut bench = Bench::empty();
    bench.configure(&links6(1));
    bench
}

fn probes(bench: &mut Bench) -> Vec<(u16, std::net::Ipv6Addr)> {
    let all = bench.ndps().into_iter();
    let mut all: Vec<_> = all.filter(|(_, _, m)| m.is_duplicate_probe()).collect();
    all.sort_by_key(|(port, _, m)| (port.0, m.target));
    all.into_iter()
        .map(|(port, dst, m)| {
            assert_eq!(m, Message::duplicate_probe(m.target));
            assert_eq!(dst, ipv6::group_mac(ipv6::solicited_node(m.target)));
            (port.0, m.target)
        })
        .collect()
}

#[test]
fn every_address_of_a_port_is_probed_and_no_vip() {
    let mut bench = started();
    let own = [(0, DIP6), (0, LAN_LOCAL), (1, WAN_DIP6), (1, WAN_LOCAL)];
    assert_eq!(probes(&mut bench), own);
    let state =
        |bench: &Bench| own.map(|(port, a)| bench.address(dataplane::types::PortId(port), a));
    assert_eq!(state(&bench), [Some(Tentative); 4]);
    bench.run(999);
    assert_eq!(state(&bench), [Some(Tentative); 4]);
    bench.run(1);
    assert_eq!(state(&bench), [Some(Ready); 4]);
    assert_eq!(probes(&mut bench), [], "once");
    assert_eq!(bench.slow.addresses().len(), 4);
}

#[test]
fn a_tentative_address_is_not_answered_for_nor_announced() {
    let mut bench = started();
    bench.ndps();
    bench.ndp(LAN, HOST, LAN_MAC, &Message::solicitation(HOST, CIP6, DIP6));
    assert_eq!(bench.dropped(DropReason::NdpIgnored), 1);
    let ping = dataplane::packet::build::Build::eth(ROUTER, LAN_MAC).ipv6(CIP6, DIP6);
    let ping = ping.icmp6(128, 0, 0).finish();
    bench.punt(LAN, PuntReason::Echo, &ping);
    assert_eq!(bench.dropped(DropReason::AddressNotReady), 1);
    bench.run(999);
    assert!(bench.ndps().iter().all(|(_, _, m)| m.target == VIP6 || m.target == FAR_VIP6));
    bench.run(1);
    assert!(bench.ndps().iter().any(|(_, _, m)| m.target == DIP6 && m.src == DIP6));
    bench.punt(LAN, PuntReason::Echo, &ping);
    assert_eq!(bench.event(Event::EchoReplies), 1);
    // A VIP is answered for at once.
    let mut bench = started();
    bench.ndp(LAN, HOST, LAN_MAC, &Message::solicitation(HOST, CIP6, VIP6));
    assert_eq!(bench.event(Event::NdpReplies), 1);
}

#[test]
fn another_that_has_the_address_or_wants_it_too_gets_it() {
    let has = Message {
        dst: ipv6::ALL_NODES,
        body: advertised(Some(HOST), false, true),
        ..Message::announcement(HOST, DIP6, DIP6)
    };
    let mute = Message { body: advertised(None, false, false), ..has };
    for message in [has, mute, Message::duplicate_probe(DIP6)] {
        let mut bench = started();
        bench.run(500);
        bench.sent.clear();
        bench.ndp(LAN, HOST, Mac::ZERO, &message);
        assert_eq!(bench.dropped(DropReason::NdpConflict), 1);
        assert_eq!(bench.event(Event::DadConflicts), 1);
        assert_eq!(bench.address(LAN, DIP6), Some(Duplicate));
        assert_eq!(bench.address(LAN, LAN_LOCAL), Some(Tentative));
        // It is neither announced, nor defended, nor answered for, nor asked from.
        bench.run(10_000);
        bench.ndp(LAN, HOST, LAN_MAC, &Message::solicitation(HOST, CIP6, DIP6));
        bench.ndp(LAN, HOST, Mac::ZERO, &has);
        let sent = bench.ndps();
        assert!(sent.iter().all(|(_, _, m)| m.target != DIP6 && m.src != DIP6), "{sent:?}");
        assert_eq!(bench.dropped(DropReason::NdpConflict), 2);
        assert_eq!(bench.event(Event::DadConflicts), 1, "one, however often");
        // Neighbors are asked from the link-local address instead.
        let asked = Message::solicitation(LAN_MAC, LAN_LOCAL, rip6(0));
        assert!(sent.iter().any(|(_, _, m)| *m == asked), "{sent:?}");
    }
}

#[test]
fn what_is_no_conflict() {
    let mut bench = started();
    bench.sent.clear();
    // Our own probe come back; someone who asks for the address to send to it; another port's.
    bench.ndp(LAN, LAN_MAC, Mac::ZERO, &Message::duplicate_probe(DIP6));
    bench.ndp(LAN, HOST, LAN_MAC, &Message::solicitation(HOST, CIP6, DIP6));
    bench.ndp(WAN, HOST, Mac::ZERO, &Message::duplicate_probe(DIP6));
    bench.run(1_000);
    assert_eq!(bench.address(LAN, DIP6), Some(Ready));
    // Later it is defended: by an answer, or by an announcement.
    bench.sent.clear();
    bench.ndp(LAN, HOST, Mac::ZERO, &Message::duplicate_probe(DIP6));
    assert_eq!(bench.event(Event::NdpReplies), 1);
    bench.ndp(LAN, HOST, Mac::ZERO, &Message::announcement(HOST, DIP6, DIP6));
    assert_eq!(bench.ndps().len(), 2);
    assert_eq!((bench.address(LAN, DIP6), bench.event(Event::DadConflicts)), (Some(Ready), 0));
}

#[test]
fn it_is_tried_again() {
    let mut bench = started();
    let lost = |bench: &mut Bench| {
        bench.ndp(LAN, HOST, Mac::ZERO, &Message::duplicate_probe(DIP6));
        bench.run(2_000);
        assert_eq!(bench.address(LAN, DIP6), Some(Duplicate));
        bench.sent.clear();
    };
    lost(&mut bench);
    bench.configure(&links6(1));
    assert_eq!(probes(&mut bench), [(0, DIP6)], "and no other");
    lost(&mut bench);
    bench.link_up(LAN);
    assert_eq!(probes(&mut bench), [(0, DIP6), (0, LAN_LOCAL)]);
    lost(&mut bench);
    bench.run(30_000);
    assert_eq!(bench.address(LAN, DIP6), Some(Ready), "and every half a minute");
    assert_eq!(bench.event(Event::DadConflicts), 3);
}

#[test]
fn a_port_with_nothing_left_to_ask_from_fails_its_neighbors_until_it_has() {
    let mut bench = Bench::empty();
    bench.configure(&Links { vips: vec![], ..links6(1) });
    for address in [DIP6, LAN_LOCAL] {
        bench.ndp(LAN, HOST, Mac::ZERO, &Message::duplicate_probe(address));
    }
    bench.run(2_000);
    assert_eq!(bench.state6(0), NeighborState::Failed);
    // The addresses are probed again half a minute later.
    bench.run(31_100);
    bench.answer6(0);
    assert_eq!(bench.state6(0), NeighborState::Reachable);
}

#[test]
fn a_probe_that_finds_no_buffer_is_sent_later() {
    let mut bench = Bench::empty();
    bench.buffers.set(0);
    bench.configure(&links6(0));
    bench.run(5_000);
    assert_eq!(bench.address(LAN, DIP6), Some(Tentative), "it was not probed yet");
    bench.buffers.set(usize::MAX);
    bench.run(1_100);
    assert_eq!(bench.address(LAN, DIP6), Some(Ready));
    assert_eq!(probes(&mut bench).len(), 4);
}

#[test]
fn an_address_that_is_withdrawn_is_forgotten() {
    let mut bench = started();
    bench.configure(&Links::default());
    assert_eq!(bench.slow.addresses(), []);
    bench.run(100);
    assert_eq!(bench.slow.next_deadline(), None);
}
