//! What the slow path answers and asks by neighbor discovery, and what it does not believe.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod slowpath_common;

use std::net::Ipv6Addr;

use dataplane::packet::build::Build;
use dataplane::packet::ipv6::{self, ALL_NODES};
use dataplane::packet::ndp::{Body, Message};
use dataplane::slowpath::MAX_WAIT;
use dataplane::snapshot::neighbors::{Links, NeighborSpec, NextHop};
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, NeighborId, PortId, PuntReason};
use dataplane::vocabulary::NeighborState;
use slowpath_common::six::*;
use slowpath_common::*;

const HOST: Mac = Mac([2, 0, 0, 0, 3, 3]);
const HOST_IP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x33);

fn who_has(src: Ipv6Addr, target: Ipv6Addr) -> Message {
    Message::solicitation(HOST, src, target)
}

fn answer_to(dst: Ipv6Addr, target: Ipv6Addr, mac: Mac) -> Message {
    let solicited = dst != ALL_NODES;
    Message { src: target, dst, target, body: advertised(Some(mac), solicited, true) }
}

#[test]
fn a_solicitation_for_a_vip_gets_this_frame() {
    let mut bench = Bench::with6(0);
    bench.ndp(LAN, HOST, LAN_MAC, &who_has(HOST_IP, VIP6));
    let (port, frame) = bench.one();
    assert_eq!(port, LAN);
    #[rustfmt::skip]
    let expected = [
        2, 0, 0, 0, 3, 3, 2, 0, 0, 0, 1, 0, 0x86, 0xdd,
        0x60, 0, 0, 0, 0, 32, 58, 255,
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x33,
        136, 0, 0x5f, 0xb8, 0x60, 0, 0, 0,
        0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0,
        2, 1, 2, 0, 0, 0, 1, 0,
    ];
    let no_sum = |f: &[u8]| [&f[..56], &f[58..]].concat();
    assert_eq!(no_sum(&frame), no_sum(&expected));
    // The checksum, as another implementation computes it.
    let sliced = etherparse::SlicedPacket::from_ethernet(&frame).unwrap();
    let Some(etherparse::TransportSlice::Icmpv6(icmp)) = sliced.transport else { panic!() };
    assert!(icmp.is_checksum_valid(VIP6.octets(), HOST_IP.octets()));
}

#[test]
fn who_is_answered_on_which_port() {
    for (port, mac, address, answered) in [
        (LAN, LAN_MAC, VIP6, true),
        (WAN, WAN_MAC, VIP6, true),
        (LAN, LAN_MAC, FAR_VIP6, true),
        (LAN, LAN_MAC, DIP6, true),
        (LAN, LAN_MAC, LAN_LOCAL, true),
        (WAN, WAN_MAC, WAN_DIP6, true),
        (WAN, WAN_MAC, WAN_LOCAL, true),
        (WAN, WAN_MAC, DIP6, false),
        (LAN, LAN_MAC, WAN_DIP6, false),
        (LAN, LAN_MAC, WAN_LOCAL, false),
        (LAN, LAN_MAC, rip6(0), false),
        (LAN, LAN_MAC, HOST_IP, false),
    ] {
        for asker in [HOST_IP, CIP6, ipv6::link_local(HOST), Ipv6Addr::UNSPECIFIED] {
            let mut bench = Bench::with6(0);
            let probe = asker.is_unspecified();
            let question =
                if probe { Message::duplicate_probe(address) } else { who_has(asker, address) };
            bench.ndp(port, HOST, Mac::ZERO, &question);
            let context = format!("{address} on {port} for {asker}");
            if answered {
                let to = if probe { ALL_NODES } else { asker };
                let to_mac = if probe { Mac([0x33, 0x33, 0, 0, 0, 1]) } else { HOST };
                let expected = answer_to(to, address, mac);
                assert_eq!(bench.ndps(), [(port, to_mac, expected)], "{context}");
                assert_eq!(bench.event(Event::NdpReplies), 1, "{context}");
            } else {
                assert_eq!(bench.ndps(), [], "{context}");
                assert_eq!(bench.dropped(DropReason::NdpIgnored), 1, "{context}");
            }
        }
    }
}

#[test]
fn a_solicitation_without_an_address_is_answered_to_the_frames_source() {
    let mut bench = Bench::with6(0);
    let body = Body::Solicitation { mac: None };
    let question = Message { dst: DIP6, body, ..who_has(HOST_IP, DIP6) };
    bench.ndp(LAN, HOST, LAN_MAC, &question);
    assert_eq!(bench.ndps(), [(LAN, HOST, answer_to(HOST_IP, DIP6, LAN_MAC))]);
}

#[test]
fn a_director_without_ipv6_says_and_answers_nothing() {
    let mut bench = Bench::with(1);
    bench.run(100_000);
    assert!(bench.sent.iter().all(|(_, f)| f[12..14] == [8, 6]));
    bench.ndp(LAN, HOST, LAN_MAC, &who_has(ipv6::link_local(HOST), LAN_LOCAL));
    assert_eq!(bench.dropped(DropReason::NdpIgnored), 1);
    assert_eq!(bench.slow.addresses(), []);
}

#[test]
fn an_answered_solicitation_counts_once_and_teaches_all_the_same() {
    let mut bench = Bench::empty();
    bench.configure(&links6(1));
    bench.run(1_000);
    bench.ndps();
    let ask = Message::solicitation(real_mac(0), rip6(0), DIP6);
    bench.ndp(LAN, real_mac(0), LAN_MAC, &ask);
    assert_eq!((bench.event(Event::NdpReplies), bench.event(Event::NdpLearned)), (1, 0));
    assert_eq!(bench.view6(0).mac, Some(real_mac(0)));
    assert_eq!(bench.state6(0), NeighborState::Stale, "used, but not confirmed");
    bench.answer6(0);
    assert_eq!(bench.event(Event::NdpLearned), 1);
    assert_eq!(bench.state6(0), NeighborState::Reachable);
}

#[test]
fn a_moved_real_server_is_followed() {
    let new = Mac([2, 0, 0, 0, 2, 99]);
    // By an unsolicited advertisement, and by the address in a solicitation (RFC 4861 7.2.3).
    for message in
        [Message::announcement(new, rip6(0), rip6(0)), Message::solicitation(new, rip6(0), DIP6)]
    {
        let mut bench = Bench::with6(1);
        bench.ndp(LAN, new, Mac::ZERO, &message);
        bench.ndps();
        assert_eq!((bench.view6(0).mac, bench.state6(0)), (Some(new), NeighborState::Stale));
        bench.run(1_000);
        assert_eq!(bench.ndps(), [(LAN, new, Message::probe(LAN_MAC, DIP6, rip6(0)))]);
        let answer = Message { body: advertised(None, true, false), ..advertisement(0) };
        bench.ndp(LAN, new, LAN_MAC, &answer);
        assert_eq!((bench.view6(0).mac, bench.state6(0)), (Some(new), NeighborState::Reachable));
    }
    // A proxy that does not override only casts doubt.
    let mut bench = Bench::with6(1);
    let proxy = Message { body: advertised(Some(new), false, false), ..advertisement(0) };
    bench.ndp(LAN, new, LAN_MAC, &proxy);
    assert_eq!((bench.view6(0).mac, bench.state6(0)), (Some(real_mac(0)), NeighborState::Stale));
}

#[test]
fn a_solicitation_for_another_teaches_nothing() {
    let new = Mac([2, 0, 0, 0, 2, 99]);
    for target in [HOST_IP, rip6(1), WAN_DIP6, WAN_LOCAL] {
        let mut bench = Bench::with6(1);
        bench.ndp(LAN, new, Mac::ZERO, &Message::solicitation(new, rip6(0), target));
        assert_eq!(bench.view6(0).mac, Some(real_mac(0)), "{target}");
        assert_eq!(bench.state6(0), NeighborState::Reachable, "{target}");
        assert_eq!(bench.dropped(DropReason::NdpIgnored), 1, "{target}");
    }
    // Nor does one for an address that is being probed.
    let mut bench = Bench::empty();
    bench.configure(&links6(1));
    bench.ndp(LAN, new, Mac::ZERO, &Message::solicitation(new, rip6(0), DIP6));
    assert_eq!(bench.view6(0).mac, None);
    assert_eq!(bench.dropped(DropReason::NdpIgnored), 1);
}

#[test]
fn nobody_else_is_learnt() {
    let mut bench = Bench::with6(1);
    for n in 0..=255 {
        let stranger = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 7, n);
        bench.ndp(LAN, HOST, LAN_MAC, &Message { target: stranger, ..advertisement(0) });
        bench.ndp(LAN, HOST, Mac::ZERO, &who_has(stranger, HOST_IP));
    }
    // A real server's address on the wrong port.
    bench.ndp(WAN, HOST, Mac::ZERO, &Message::announcement(HOST, rip6(0), rip6(0)));
    assert_eq!(bench.slow.neighbors().len(), 1);
    assert_eq!(bench.view6(0).mac, Some(real_mac(0)));
    assert_eq!(bench.dropped(DropReason::NdpIgnored), 513);
}

#[test]
fn messages_that_rfc_4861_refuses() {
    let frame = |src: Mac, message: &Message| {
        let mut frame = vec![0; 100];
        let len = message.emit_frame(src, LAN_MAC, &mut frame).unwrap();
        frame.truncate(len);
        frame
    };
    let good = who_has(HOST_IP, VIP6);
    let raw = |ttl, kind, code, target: Ipv6Addr, options: &[u8]| {
        let build = Build::eth(HOST, LAN_MAC).ipv6(HOST_IP, VIP6).ttl(ttl).icmp6(kind, code, 0);
        build.payload(&target.octets()).payload(options).finish()
    };
    let mut damaged = frame(HOST, &good);
    damaged[56] ^= 1;
    let behind =
        Build::eth(HOST, LAN_MAC).ipv6(HOST_IP, VIP6).ttl(255).ext(60, &[0, 1, 4, 0, 0, 0, 0]);
    let behind = behind.icmp6(135, 0, 0).payload(&VIP6.octets()).finish();
    let loose = Message { dst: ALL_NODES, ..Message::duplicate_probe(VIP6) };
    let told =
        Message { body: Body::Solicitation { mac: Some(HOST) }, ..Message::duplicate_probe(VIP6) };
    let group = Message { dst: ALL_NODES, ..advertisement(0) };
    use DropReason::{NdpIgnored, NdpInvalid};
    for (what, bytes, reason) in [
        ("hop limit", raw(254, 135, 0, VIP6, &[]), NdpInvalid),
        ("code", raw(255, 135, 1, VIP6, &[]), NdpInvalid),
        ("checksum", damaged, NdpInvalid),
        ("short", raw(255, 135, 0, VIP6, &[])[..77].to_vec(), NdpInvalid),
        ("group as target", raw(255, 135, 0, ALL_NODES, &[]), NdpInvalid),
        ("option of length 0", raw(255, 135, 0, VIP6, &[9, 0, 0, 0, 0, 0, 0, 0]), NdpInvalid),
        ("option cut", raw(255, 135, 0, VIP6, &[1, 2, 0, 0, 0, 0, 0, 0]), NdpInvalid),
        ("group's mac", raw(255, 135, 0, VIP6, &[1, 1, 3, 0, 0, 0, 0, 0]), NdpInvalid),
        ("probe to all nodes", frame(HOST, &loose), NdpInvalid),
        ("probe with mac", frame(HOST, &told), NdpInvalid),
        ("solicited to a group", frame(HOST, &group), NdpInvalid),
        ("extension header", behind, NdpInvalid),
        ("frame source group", frame(Mac([1; 6]), &good), NdpInvalid),
        ("no IPv6", frame(HOST, &good)[..30].to_vec(), NdpInvalid),
        ("empty", vec![], NdpInvalid),
        ("unknown", raw(255, 138, 0, VIP6, &[]), NdpInvalid),
        ("router solicitation", raw(255, 133, 0, VIP6, &[]), NdpInvalid),
        ("router advertisement", raw(255, 134, 0, VIP6, &[]), NdpInvalid),
        ("redirect", raw(255, 137, 0, VIP6, &CIP6.octets()), NdpInvalid),
        ("own", frame(LAN_MAC, &Message::duplicate_probe(DIP6)), NdpIgnored),
        (
            "own, other port",
            frame(WAN_MAC, &Message::announcement(WAN_MAC, VIP6, VIP6)),
            NdpIgnored,
        ),
    ] {
        let mut bench = Bench::with6(1);
        bench.punt(LAN, PuntReason::Ndp, &bytes);
        assert_eq!(bench.dropped(reason), 1, "{what}: {:?}", bench.counts());
        assert!(bench.sent.is_empty(), "{what}");
        assert_eq!(bench.view6(0).mac, Some(real_mac(0)), "{what}");
    }
    let mut bench = Bench::with6(0);
    bench.punt(PortId(9), PuntReason::Ndp, &frame(HOST, &good));
    assert_eq!(bench.dropped(NdpIgnored), 1, "no such port");
}

#[test]
fn a_claimed_address_is_defended_once_in_ten_seconds() {
    let mut bench = Bench::with6(1);
    let claim = Message::announcement(HOST, VIP6, VIP6);
    let defence = |port, mac, address| {
        (port, Mac([0x33, 0x33, 0, 0, 0, 1]), Message::announcement(mac, address, address))
    };
    for _ in 0..100 {
        bench.ndp(LAN, HOST, Mac::ZERO, &claim);
    }
    assert_eq!(bench.ndps(), [defence(LAN, LAN_MAC, VIP6)]);
    assert_eq!(bench.dropped(DropReason::NdpConflict), 100);
    bench.now += 9_999;
    bench.ndp(LAN, HOST, LAN_MAC, &Message { dst: DIP6, ..claim });
    assert_eq!(bench.ndps(), []);
    // Another address, or another port, is another dispute.
    bench.ndp(LAN, HOST, Mac::ZERO, &who_has(DIP6, HOST_IP));
    bench.ndp(WAN, HOST, Mac::ZERO, &claim);
    assert_eq!(bench.ndps(), [defence(LAN, LAN_MAC, DIP6), defence(WAN, WAN_MAC, VIP6)]);
    bench.now += 1;
    bench.ndp(LAN, HOST, Mac::ZERO, &claim);
    assert_eq!(bench.ndps().len(), 1);
    assert_eq!(bench.view6(0).mac, Some(real_mac(0)));
}

#[test]
fn addresses_are_announced_three_times_where_they_belong() {
    let mut bench = Bench::empty();
    bench.configure(&links6(0));
    bench.run(10_000);
    let mut seen: Vec<_> = bench.ndps();
    seen.retain(|(_, _, m)| !m.is_duplicate_probe());
    let mut seen: Vec<_> = seen
        .into_iter()
        .map(|(port, _, m)| {
            let mac = if port == LAN { LAN_MAC } else { WAN_MAC };
            assert_eq!(m, Message::announcement(mac, m.target, m.target));
            (port.0, m.target)
        })
        .collect();
    seen.sort();
    let each = [(0, DIP6), (0, VIP6), (0, FAR_VIP6), (1, WAN_DIP6), (1, FAR_VIP6)];
    let thrice: Vec<_> = each.iter().flat_map(|one| [*one; 3]).collect();
    assert_eq!(seen, thrice);
    bench.reports();
    assert!(bench.sent.is_empty());
    assert_eq!(bench.slow.next_deadline(), None, "and no more");

    // The same again: nothing new. One more VIP: that one only.
    bench.configure(&links6(0));
    bench.run(10_000);
    assert!(bench.sent.is_empty());
    let mut more = links6(0);
    let new = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x101);
    more.vips.push(new.into());
    bench.configure(&more);
    bench.run(10_000);
    let seen = bench.ndps();
    assert!(seen.len() == 3 && seen.iter().all(|(port, _, m)| *port == LAN && m.target == new));
}

#[test]
fn a_link_that_comes_up_hears_it_again() {
    let mut bench = Bench::with6(0);
    bench.run(10_000);
    bench.sent.clear();
    bench.link_up(WAN);
    bench.run(10_000);
    let seen = bench.ndps();
    assert!(seen.iter().all(|(port, ..)| *port == WAN));
    assert_eq!(seen.iter().filter(|(_, _, m)| m.is_duplicate_probe()).count(), 2);
    assert_eq!(seen.iter().filter(|(_, _, m)| m.target == FAR_VIP6).count(), 3);
    assert_eq!(seen.iter().filter(|(_, _, m)| m.target == WAN_DIP6).count(), 1 + 3);
}

/// Real server 0 configured and asked for, but not answering.
fn unresolved() -> Bench {
    let mut bench = Bench::empty();
    bench.configure(&Links { vips: vec![], ..links6(1) });
    bench.run(1_050);
    bench.sent.clear();
    bench
}

#[test]
fn a_neighbor_is_asked_for_once_there_is_an_address_to_ask_from() {
    let mut bench = Bench::empty();
    bench.configure(&links6(2));
    let asks = |bench: &mut Bench| -> Vec<_> {
        let all = bench.ndps().into_iter();
        all.filter(|(_, _, m)| m.target == rip6(0) || m.target == rip6(1)).collect()
    };
    assert_eq!(asks(&mut bench), []);
    bench.run(1_000);
    let ask = |n| {
        let question = Message::solicitation(LAN_MAC, DIP6, rip6(n));
        (LAN, ipv6::group_mac(ipv6::solicited_node(rip6(n))), question)
    };
    assert_eq!(asks(&mut bench), [ask(0), ask(1)]);
}

#[test]
fn packets_wait_for_the_answer_and_leave_in_order() {
    let mut bench = unresolved();
    for mark in 1..=5 {
        bench.resolve6(0, mark);
    }
    assert_eq!((bench.slow.waiting(), bench.view6(0).waiting), (3, 3));
    assert_eq!(bench.dropped(DropReason::NeighborUnresolved), 2);
    bench.ndps();
    bench.sent.clear();
    bench.answer6(0);
    let expected = [3, 4, 5].map(|mark| {
        let mut frame = frame_to_real6(mark);
        frame[..6].copy_from_slice(&real_mac(0).0);
        (LAN, frame)
    });
    assert_eq!(bench.sent, expected);
    assert_eq!(bench.event(Event::NeighborForwarded), 3);
}

#[test]
fn one_that_never_answers_fails_and_one_that_falls_silent_is_probed() {
    let mut bench = unresolved();
    bench.resolve6(0, 1);
    bench.run(MAX_WAIT + 100);
    assert_eq!((bench.state6(0), bench.slow.waiting()), (NeighborState::Failed, 0));
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Failed);
    bench.run(1_000);
    bench.answer6(0);
    assert_eq!(bench.state6(0), NeighborState::Reachable);
    bench.ndps();
    bench.run(45_000 + 5_000);
    assert_eq!(bench.state6(0), NeighborState::Failed);
    let probe = (LAN, real_mac(0), Message::probe(LAN_MAC, DIP6, rip6(0)));
    assert_eq!(bench.ndps()[..3], [probe; 3]);
}

#[test]
fn one_that_answers_every_probe_stays_for_ever() {
    let mut bench = Bench::with6(1);
    bench.run(2_000);
    bench.sent.clear();
    for _ in 0..200 {
        let due = bench.slow.next_deadline().unwrap();
        bench.now = due.0;
        bench.poll();
        assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Known(real_mac(0)));
        for (_, dst, message) in bench.ndps() {
            assert_eq!((dst, message.target), (real_mac(0), rip6(0)));
            bench.answer6(0);
        }
    }
}

#[test]
fn a_link_local_gateway_is_asked_from_the_link_local_address() {
    let mut bench = Bench::empty();
    let gateway = ipv6::link_local(ROUTER);
    let mut links = links6(0);
    links.neighbors = vec![NeighborSpec { address: gateway.into(), ..neighbor(0) }];
    bench.configure(&links);
    bench.run(1_000);
    let asked = bench.ndps();
    let question = Message::solicitation(LAN_MAC, LAN_LOCAL, gateway);
    assert!(asked.iter().any(|(port, _, m)| *port == LAN && *m == question), "{asked:?}");
    // The same address on the other port is another neighbor.
    let told = Message {
        src: gateway,
        dst: WAN_LOCAL,
        target: gateway,
        body: advertised(Some(ROUTER), true, true),
    };
    bench.ndp(WAN, ROUTER, WAN_MAC, &told);
    assert_eq!(bench.dropped(DropReason::NdpIgnored), 1);
    bench.ndp(LAN, ROUTER, LAN_MAC, &Message { dst: LAN_LOCAL, ..told });
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Known(ROUTER));
}

#[test]
fn static_neighbors_are_not_moved() {
    let fixed = NeighborSpec { fixed: Some(HOST), ..neighbor6(0) };
    let mut bench = Bench::empty();
    bench.configure(&Links { neighbors: vec![fixed], ..links6(0) });
    bench.ndp(LAN, real_mac(0), Mac::ZERO, &Message::announcement(real_mac(0), rip6(0), rip6(0)));
    bench.answer6(0);
    assert_eq!((bench.view6(0).mac, bench.state6(0)), (Some(HOST), NeighborState::Static));
    assert_eq!(bench.dropped(DropReason::NdpIgnored), 2);
}

#[test]
fn both_families_live_side_by_side() {
    let mut both = links(1);
    let six = links6(1);
    for (port, more) in both.ports.iter_mut().zip(&six.ports) {
        port.addresses.extend(more.addresses.iter().copied());
    }
    both.vips.extend(six.vips.iter().copied());
    both.neighbors.push(NeighborSpec { id: NeighborId(1), ..neighbor6(0) });
    let mut bench = Bench::empty();
    bench.configure(&both);
    bench.run(1_000);
    bench.answer(0);
    bench.answer6(0);
    assert_eq!(
        (bench.state(0), bench.state6(0)),
        (NeighborState::Reachable, NeighborState::Reachable)
    );
    assert_eq!(bench.hops.get(NeighborId(0)), NextHop::Known(real_mac(0)));
    assert_eq!(bench.hops.get(NeighborId(1)), NextHop::Known(real_mac(0)));
}

#[test]
fn an_answer_needs_no_buffer() {
    let mut bench = Bench::with6(0);
    bench.buffers.set(0);
    bench.ndp(LAN, HOST, LAN_MAC, &who_has(HOST_IP, VIP6));
    assert_eq!(bench.ndps().len(), 1);
    let body = Body::Solicitation { mac: None };
    bench.ndp(LAN, HOST, LAN_MAC, &Message { body, dst: VIP6, ..who_has(HOST_IP, VIP6) });
    assert_eq!(bench.ndps().len(), 1, "longer than the question");
}
