//! What the slow path answers and asks by ARP, and what it does not believe.

mod slowpath_common;

use std::net::Ipv4Addr;

use dataplane::packet::arp::{Operation, Packet};
use dataplane::packet::build::Build;
use dataplane::snapshot::neighbors::Links;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, PortId, PuntReason};
use dataplane::vocabulary::NeighborState;
use etherparse::{EtherType as WireType, NetSlice, SlicedPacket};
use slowpath_common::*;

const HOST: Mac = Mac([2, 0, 0, 0, 3, 3]);
const HOST_IP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 33);

#[test]
fn a_request_for_a_vip_gets_this_frame() {
    let mut bench = Bench::with(0);
    bench.arp(LAN, Mac::BROADCAST, &Packet::request(HOST, HOST_IP, VIP));
    let (port, frame) = bench.one();
    assert_eq!(port, LAN);
    #[rustfmt::skip]
    assert_eq!(frame[..42], [
        2, 0, 0, 0, 3, 3, 2, 0, 0, 0, 1, 0, 8, 6,
        0, 1, 8, 0, 6, 4, 0, 2,
        2, 0, 0, 0, 1, 0, 192, 168, 0, 100,
        2, 0, 0, 0, 3, 3, 192, 168, 0, 33,
    ]);
    assert_eq!(frame[42..], [0; 18], "the asker's padding is not sent back");
}

#[test]
fn a_neighbor_is_asked_for_with_this_frame() {
    let mut bench = Bench::empty();
    bench.configure(&Links { vips: vec![], ..links(1) });
    let frame = bench.sent.iter().find(|(_, f)| f[38..42] == rip(0).octets()).unwrap();
    #[rustfmt::skip]
    assert_eq!(frame.1[..42], [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 1, 0, 8, 6,
        0, 1, 8, 0, 6, 4, 0, 1,
        2, 0, 0, 0, 1, 0, 192, 168, 0, 10,
        0, 0, 0, 0, 0, 0, 192, 168, 0, 200,
    ]);
    // And as another implementation reads it.
    let sliced = SlicedPacket::from_ethernet(&frame.1).unwrap();
    let Some(NetSlice::Arp(arp)) = sliced.net else { panic!("{sliced:?}") };
    assert_eq!(arp.proto_addr_type(), WireType::IPV4);
    assert_eq!(arp.operation(), etherparse::ArpOperation::REQUEST);
    assert_eq!(arp.sender_protocol_addr(), DIP.octets());
    assert_eq!(arp.target_protocol_addr(), rip(0).octets());
}

#[test]
fn who_is_answered_on_which_port() {
    for (port, mac, address, answered) in [
        (LAN, LAN_MAC, VIP, true),
        (WAN, WAN_MAC, VIP, true),
        (LAN, LAN_MAC, FAR_VIP, true),
        (LAN, LAN_MAC, DIP, true),
        (WAN, WAN_MAC, WAN_DIP, true),
        (WAN, WAN_MAC, DIP, false),
        (LAN, LAN_MAC, WAN_DIP, false),
        (LAN, LAN_MAC, rip(0), false),
        (LAN, LAN_MAC, HOST_IP, false),
    ] {
        for asker in [HOST_IP, Ipv4Addr::UNSPECIFIED, CIP] {
            let mut bench = Bench::with(0);
            bench.arp(port, Mac::BROADCAST, &Packet::request(HOST, asker, address));
            let expected = Packet {
                operation: Operation::Reply,
                sha: mac,
                spa: address,
                tha: HOST,
                tpa: asker,
            };
            let answers = bench.arps();
            let context = format!("{address} on {port} for {asker}");
            if answered {
                assert_eq!(answers, [(port, HOST, expected)], "{context}");
                assert_eq!(bench.event(Event::ArpReplies), 1, "{context}");
            } else {
                assert_eq!(answers, [], "{context}");
                assert_eq!(bench.dropped(DropReason::ArpIgnored), 1, "{context}");
            }
        }
    }
}

#[test]
fn an_answered_request_counts_once_and_teaches_all_the_same() {
    let mut bench = Bench::empty();
    bench.configure(&links(1));
    bench.sent.clear();
    bench.arp(LAN, Mac::BROADCAST, &Packet::request(real_mac(0), rip(0), DIP));
    assert_eq!(bench.event(Event::ArpReplies), 1);
    assert_eq!(bench.event(Event::ArpLearned), 0);
    assert_eq!(bench.view(0).mac, Some(real_mac(0)));
    assert_eq!(bench.state(0), NeighborState::Stale, "used, but not confirmed");
    bench.answer(0);
    assert_eq!(bench.event(Event::ArpLearned), 1);
    assert_eq!(bench.state(0), NeighborState::Reachable);
}

#[test]
fn a_moved_real_server_announces_itself() {
    let mut bench = Bench::with(1);
    let new = Mac([2, 0, 0, 0, 2, 99]);
    bench.arp(LAN, Mac::BROADCAST, &Packet::announcement(new, rip(0)));
    assert_eq!((bench.view(0).mac, bench.state(0)), (Some(new), NeighborState::Stale));
    bench.run(1_000);
    assert_eq!(bench.arps(), [(LAN, new, Packet::request(LAN_MAC, DIP, rip(0)))]);
    bench.arp(LAN, LAN_MAC, &Packet { sha: new, ..reply(0) });
    assert_eq!(bench.state(0), NeighborState::Reachable);
}

#[test]
fn nobody_else_is_learnt() {
    let mut bench = Bench::with(1);
    for n in 0..=255 {
        let stranger = Ipv4Addr::new(192, 168, 7, n);
        bench.arp(LAN, LAN_MAC, &Packet { spa: stranger, ..reply(0) });
        bench.arp(LAN, Mac::BROADCAST, &Packet::announcement(HOST, stranger));
    }
    // A real server's address on the wrong port.
    bench.arp(WAN, Mac::BROADCAST, &Packet::announcement(HOST, rip(0)));
    assert_eq!(bench.slow.neighbors().len(), 1);
    assert_eq!(bench.view(0).mac, Some(real_mac(0)));
    assert_eq!(bench.dropped(DropReason::ArpIgnored), 513);
}

#[test]
fn impossible_messages() {
    let good = Packet::request(HOST, HOST_IP, VIP);
    let frame = |src: Mac, packet: &Packet| Build::eth(src, LAN_MAC).arp(packet).finish();
    let changed = |at: usize, value: u8| {
        let mut bytes = frame(HOST, &good);
        bytes[at] = value;
        bytes
    };
    use DropReason::{ArpIgnored, ArpInvalid};
    for (what, bytes, reason) in [
        ("sha group", frame(HOST, &Packet { sha: Mac([3; 6]), ..good }), ArpInvalid),
        ("sha broadcast", frame(HOST, &Packet { sha: Mac::BROADCAST, ..good }), ArpInvalid),
        ("sha zero", frame(HOST, &Packet { sha: Mac::ZERO, ..good }), ArpInvalid),
        ("frame source group", frame(Mac([1; 6]), &good), ArpInvalid),
        ("spa multicast", frame(HOST, &Packet { spa: [224, 0, 0, 1].into(), ..good }), ArpInvalid),
        ("spa broadcast", frame(HOST, &Packet { spa: [255; 4].into(), ..good }), ArpInvalid),
        ("spa loopback", frame(HOST, &Packet { spa: [127, 0, 0, 1].into(), ..good }), ArpInvalid),
        ("reply without spa", frame(HOST, &Packet { spa: [0; 4].into(), ..reply(0) }), ArpInvalid),
        ("hardware length", changed(18, 8), ArpInvalid),
        ("hardware type", changed(15, 6), ArpIgnored),
        ("RARP", changed(21, 3), ArpIgnored),
        ("cut", frame(HOST, &good)[..41].to_vec(), ArpInvalid),
        ("no ARP", changed(13, 0), ArpInvalid),
        ("empty", vec![], ArpInvalid),
        ("own", frame(LAN_MAC, &Packet::request(LAN_MAC, DIP, VIP)), ArpIgnored),
        ("own, other port", frame(WAN_MAC, &Packet::announcement(WAN_MAC, VIP)), ArpIgnored),
    ] {
        let mut bench = Bench::with(1);
        bench.punt(LAN, PuntReason::Arp, &bytes);
        assert_eq!(bench.dropped(reason), 1, "{what}: {:?}", bench.counts());
        assert!(bench.sent.is_empty(), "{what}");
    }
    let mut bench = Bench::with(0);
    bench.punt(PortId(9), PuntReason::Arp, &frame(HOST, &good));
    assert_eq!(bench.dropped(ArpIgnored), 1, "no such port");
}

#[test]
fn a_sender_that_differs_from_the_frames_source_is_believed() {
    let mut bench = Bench::with(0);
    let frame =
        Build::eth(Mac([2; 6]), Mac::BROADCAST).arp(&Packet::request(HOST, HOST_IP, VIP)).finish();
    bench.punt(LAN, PuntReason::Arp, &frame);
    assert_eq!(dst(&bench.one().1), HOST);
}

#[test]
fn a_claimed_address_is_defended_once_in_ten_seconds() {
    let mut bench = Bench::with(1);
    let claim = Packet::announcement(HOST, VIP);
    for _ in 0..100 {
        bench.arp(LAN, Mac::BROADCAST, &claim);
    }
    assert_eq!(bench.arps(), [(LAN, Mac::BROADCAST, Packet::announcement(LAN_MAC, VIP))]);
    assert_eq!(bench.dropped(DropReason::ArpConflict), 100);
    bench.now += 9_999;
    bench.arp(LAN, Mac::BROADCAST, &Packet { operation: Operation::Reply, ..claim });
    assert_eq!(bench.arps(), []);
    // Another address, or another port, is another dispute.
    bench.arp(LAN, Mac::BROADCAST, &Packet::request(HOST, DIP, HOST_IP));
    bench.arp(WAN, Mac::BROADCAST, &claim);
    assert_eq!(
        bench.arps(),
        [
            (LAN, Mac::BROADCAST, Packet::announcement(LAN_MAC, DIP)),
            (WAN, Mac::BROADCAST, Packet::announcement(WAN_MAC, VIP)),
        ]
    );
    bench.now += 1;
    bench.arp(LAN, Mac::BROADCAST, &claim);
    assert_eq!(bench.arps().len(), 1);
    assert_eq!(bench.view(0).mac, Some(real_mac(0)));
}

#[test]
fn addresses_are_announced_three_times_where_they_belong() {
    let mut bench = Bench::empty();
    bench.configure(&links(0));
    bench.run(10_000);
    let mut seen: Vec<_> = bench
        .arps()
        .into_iter()
        .map(|(port, dst, p)| {
            assert!(
                dst == Mac::BROADCAST && p.is_gratuitous() && p.operation == Operation::Request
            );
            assert_eq!(p.sha, if port == LAN { LAN_MAC } else { WAN_MAC });
            (port.0, p.spa)
        })
        .collect();
    seen.sort();
    let each = [(0, DIP), (0, VIP), (0, FAR_VIP), (1, FAR_VIP), (1, WAN_DIP)];
    let thrice: Vec<_> = each.iter().flat_map(|one| [*one; 3]).collect();
    assert_eq!(seen, thrice);
    assert_eq!(bench.event(Event::ArpRequests), 15);
    assert_eq!(bench.slow.next_deadline(), None, "and no more");

    // The same again: nothing new. One more VIP: that one only. A new MAC address: its port.
    bench.configure(&links(0));
    bench.run(10_000);
    assert_eq!(bench.arps(), []);
    let mut more = links(0);
    more.vips.push([192, 168, 0, 101].into());
    bench.configure(&more);
    bench.run(10_000);
    assert!(bench.arps().iter().all(|(port, _, p)| *port == LAN && more.vips[2] == p.spa));
    more.ports[1].mac = HOST;
    bench.configure(&more);
    bench.run(10_000);
    assert!(bench.arps().iter().all(|(port, _, p)| *port == WAN && p.sha == HOST));
}

#[test]
fn a_link_that_comes_up_hears_it_again() {
    let mut bench = Bench::with(0);
    bench.run(10_000);
    bench.sent.clear();
    bench.link_up(WAN);
    bench.run(10_000);
    let seen = bench.arps();
    assert_eq!(seen.len(), 2 * 3);
    assert!(seen.iter().all(|(port, ..)| *port == WAN));
}

#[test]
fn what_is_withdrawn_is_no_longer_announced_nor_answered() {
    let mut bench = Bench::empty();
    bench.configure(&links(0));
    bench.sent.clear();
    let mut less = links(0);
    less.vips.clear();
    bench.configure(&less);
    bench.run(10_000);
    assert!(bench.arps().iter().all(|(_, _, p)| p.spa == DIP || p.spa == WAN_DIP));
    bench.arp(LAN, Mac::BROADCAST, &Packet::request(HOST, HOST_IP, VIP));
    assert_eq!(bench.arps(), []);
    bench.configure(&links(0));
    bench.configure(&Links::default());
    assert_eq!(bench.slow.next_deadline(), None);
}

#[test]
fn a_vip_that_comes_back_is_defended_afresh() {
    let mut bench = Bench::with(0);
    let claim = Packet::announcement(HOST, VIP);
    bench.arp(LAN, Mac::BROADCAST, &claim);
    bench.configure(&Links { vips: vec![], ..links(0) });
    bench.arp(LAN, Mac::BROADCAST, &claim);
    assert_eq!(bench.dropped(DropReason::ArpConflict), 1, "someone else's by now");
    bench.configure(&links(0));
    bench.sent.clear();
    bench.arp(LAN, Mac::BROADCAST, &claim);
    assert_eq!(bench.arps(), [(LAN, Mac::BROADCAST, Packet::announcement(LAN_MAC, VIP))]);
}

#[test]
fn ten_thousand_vips_are_announced_in_small_batches() {
    let mut bench = Bench::empty();
    let mut many = links(0);
    many.vips = (0..10_000u32).map(|n| Ipv4Addr::from(0xc0a8_0000 + 0x1_0000 + n).into()).collect();
    many.ports.truncate(1);
    bench.configure(&many);
    assert!(bench.sent.len() <= 64, "{}", bench.sent.len());
    let mut total = bench.sent.len();
    let start = bench.now;
    while let Some(due) = bench.slow.next_deadline() {
        bench.sent.clear();
        bench.now = bench.now.max(due.0);
        bench.poll();
        assert!((1..=64).contains(&bench.sent.len()), "{}", bench.sent.len());
        total += bench.sent.len();
    }
    assert_eq!(total, 3 * 10_001);
    assert!(bench.now - start < 10_000, "in {} ms", bench.now - start);
}

#[test]
fn an_answer_needs_no_buffer_but_the_requests() {
    let mut bench = Bench::with(0);
    bench.buffers.set(0);
    for frame in [
        Build::eth(HOST, Mac::BROADCAST).arp(&Packet::request(HOST, HOST_IP, VIP)).finish(),
        Build::eth(HOST, Mac::BROADCAST)
            .arp(&Packet::request(HOST, HOST_IP, VIP))
            .pad(1500)
            .finish(),
    ] {
        bench.punt(LAN, PuntReason::Arp, &frame);
        assert_eq!(read_arp(&bench.one().1).spa, VIP);
    }
}
