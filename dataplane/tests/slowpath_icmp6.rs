//! ICMPv6 echo, ICMPv6 errors, TCP resets over IPv6, and ICMPv6 messages to the director.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod slowpath_common;

use std::net::Ipv6Addr;

use dataplane::packet::build::Build;
use dataplane::packet::ipv6;
use dataplane::packet::tcp::Flags;
use dataplane::slowpath::{MAX_AGE, Millis, PathMtu, SlowPath};
use dataplane::snapshot::neighbors::{Links, TunnelSpec};
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, PortId, Punt, PuntReason};
use etherparse::{Icmpv6Type, SlicedPacket, TransportSlice, icmpv6};
use slowpath_common::chained::{Chained, ChainedPool};
use slowpath_common::six::*;
use slowpath_common::*;

const TTL: PuntReason = PuntReason::TtlExceeded;
const MTU: PuntReason = PuntReason::FragmentationNeeded { mtu: 1460 };
const GROUP: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);

fn ping(dst: Ipv6Addr, payload: &[u8]) -> Build {
    Build::eth(ROUTER, WAN_MAC)
        .ipv6(CIP6, dst)
        .ttl(3)
        .flow_label(0x12345)
        .icmp6(128, 0, 0x0102_0003)
        .payload(payload)
}

/// An answer, as another implementation reads it: Ethernet and IP addresses as given, hop limit 64.
fn read<'a>(frame: &'a [u8], eth: (Mac, Mac), ip: (Ipv6Addr, Ipv6Addr)) -> SlicedPacket<'a> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let link = packet.link.as_ref().unwrap().to_header().unwrap().ethernet2().unwrap();
    assert_eq!((link.source, link.destination), (eth.0.0, eth.1.0));
    let header = packet.net.as_ref().unwrap().ipv6_ref().unwrap().header().to_header();
    assert_eq!((header.source, header.destination), (ip.0.octets(), ip.1.octets()));
    assert_eq!((header.hop_limit, header.flow_label.value()), (64, 0));
    packet
}

fn icmp<'a>(packet: &SlicedPacket<'a>) -> etherparse::Icmpv6Slice<'a> {
    let Some(TransportSlice::Icmpv6(icmp)) = &packet.transport else { panic!("{packet:?}") };
    let header = packet.net.as_ref().unwrap().ipv6_ref().unwrap().header().to_header();
    assert!(icmp.is_checksum_valid(header.source, header.destination));
    icmp.clone()
}

#[test]
fn a_ping_is_answered_by_the_address_that_was_asked() {
    for (port, mac, address) in [
        (WAN, WAN_MAC, VIP6),
        (WAN, WAN_MAC, FAR_VIP6),
        (LAN, LAN_MAC, DIP6),
        (WAN, WAN_MAC, DIP6),
        (LAN, LAN_MAC, LAN_LOCAL),
    ] {
        for payload in [&[][..], &[0xa5; 3], &[0x5a; 1400]] {
            let mut bench = Bench::with6(0);
            bench.punt(port, PuntReason::Echo, &ping(address, payload).finish());
            let (out, frame) = bench.one();
            assert_eq!(out, port);
            let packet = read(&frame, (mac, ROUTER), (address, CIP6));
            let echo = etherparse::IcmpEchoHeader { id: 0x0102, seq: 3 };
            assert_eq!(icmp(&packet).icmp_type(), Icmpv6Type::EchoReply(echo));
            assert_eq!(icmp(&packet).payload(), payload);
            assert_eq!(bench.event(Event::EchoReplies), 1);
        }
    }
}

#[test]
fn a_ping_behind_extension_headers_is_answered_without_them() {
    let options = [0, 1, 4, 0, 0, 0, 0];
    let alert = [0, 5, 2, 0, 0, 1, 0];
    let long = [&[7, 1, 60][..], &[0; 60]].concat();
    for payload in [&[][..], &[0xa5; 3], &[0x5a; 1200]] {
        let ping = || ping(VIP6, payload);
        for (what, frame) in [
            ("hop-by-hop options", ping().ext(0, &alert)),
            ("destination options", ping().ext(60, &options)),
            ("long options", ping().ext(60, &long)),
            ("routing header, done", ping().ext(43, &[0; 7])),
            ("atomic fragment", ping().fragment6(0, false, 1)),
            ("all", ping().ext(0, &alert).ext(43, &[0; 7]).fragment6(0, false, 1).ext(60, &long)),
        ] {
            let mut bench = Bench::with6(0);
            bench.punt(WAN, PuntReason::Echo, &frame.finish());
            let (_, frame) = bench.one();
            assert_eq!(frame.len(), 14 + 40 + 8 + payload.len(), "{what}");
            let packet = read(&frame, (WAN_MAC, ROUTER), (VIP6, CIP6));
            let echo = etherparse::IcmpEchoHeader { id: 0x0102, seq: 3 };
            assert_eq!(icmp(&packet).icmp_type(), Icmpv6Type::EchoReply(echo), "{what}");
            assert_eq!(icmp(&packet).payload(), payload, "{what}");
        }
    }
}

#[test]
fn pings_that_are_not_answered() {
    use DropReason::{
        BadIcmpChecksum, BadSource, EchoRefused, FragmentToDirector, SlowPathUnknown,
    };
    let from =
        |src: Ipv6Addr| Build::eth(ROUTER, WAN_MAC).ipv6(src, VIP6).icmp6(128, 0, 0).finish();
    let eth = |src, dst| Build::eth(src, dst).ipv6(CIP6, VIP6).icmp6(128, 0, 0).finish();
    let mut damaged = ping(VIP6, b"data").finish();
    damaged[63] ^= 1;
    for (what, frame, reason) in [
        ("damaged", damaged, BadIcmpChecksum),
        ("first fragment", ping(VIP6, &[0; 64]).fragment6(0, true, 1).finish(), FragmentToDirector),
        (
            "later fragment",
            ping(VIP6, &[0; 64]).fragment6(64, false, 1).finish(),
            FragmentToDirector,
        ),
        ("not ours", ping(rip6(1), b"").finish(), SlowPathUnknown),
        ("another link's", ping(LAN_LOCAL, b"").finish(), SlowPathUnknown),
        ("a group", ping(ipv6::ALL_NODES, b"").finish(), SlowPathUnknown),
        ("from ourselves", from(DIP6), BadSource),
        ("from our link-local address", from(WAN_LOCAL), BadSource),
        ("group source", eth(Mac([1; 6]), WAN_MAC), BadSource),
        ("group frame", eth(ROUTER, GROUP), BadSource),
        ("own source", eth(LAN_MAC, WAN_MAC), BadSource),
        (
            "option that is not to be skipped",
            ping(VIP6, b"").ext(60, &[0, 0x41, 4, 0, 0, 0, 0]).finish(),
            EchoRefused,
        ),
        (
            "authentication header",
            ping(VIP6, b"").ext(51, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).finish(),
            EchoRefused,
        ),
        (
            "reply",
            Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, VIP6).icmp6(129, 0, 1).finish(),
            SlowPathUnknown,
        ),
        (
            "code",
            Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, VIP6).icmp6(128, 1, 1).finish(),
            EchoRefused,
        ),
        ("cut", ping(VIP6, b"data").finish()[..60].to_vec(), SlowPathUnknown),
        ("loopback", from(Ipv6Addr::LOCALHOST), SlowPathUnknown),
        ("unspecified", from(Ipv6Addr::UNSPECIFIED), SlowPathUnknown),
        ("tcp", syn6().finish(), SlowPathUnknown),
    ] {
        let mut bench = Bench::with6(0);
        bench.punt(WAN, PuntReason::Echo, &frame);
        assert_eq!(bench.dropped(reason), 1, "{what}: {:?}", bench.counts().dropped);
        assert!(bench.sent.is_empty(), "{what}");
    }
}

#[test]
fn time_exceeded_quotes_the_packet_and_comes_from_the_vip() {
    let mut bench = Bench::with6(0);
    let frame = syn6().ttl(1).pad(100).finish();
    bench.punt(WAN, TTL, &frame);
    let (port, answer) = bench.one();
    assert_eq!(port, WAN);
    let packet = read(&answer, (WAN_MAC, ROUTER), (VIP6, CIP6));
    let code = icmpv6::TimeExceededCode::HopLimitExceeded;
    assert_eq!(icmp(&packet).icmp_type(), Icmpv6Type::TimeExceeded(code));
    assert_eq!(icmp(&packet).payload(), &frame[14..74], "without Ethernet padding");
    assert_eq!(bench.event(Event::IcmpErrors), 1);
}

#[test]
fn packet_too_big_tells_the_mtu_in_1280_bytes_at_most() {
    for (mtu, told) in [(1460, 1460), (1279, 1280)] {
        let mut bench = Bench::with6(0);
        let frame = syn6().payload(&[3; 1440]).finish();
        bench.punt(WAN, PuntReason::FragmentationNeeded { mtu }, &frame);
        let (_, answer) = bench.one();
        assert_eq!(answer.len(), 14 + 1280);
        let packet = read(&answer, (WAN_MAC, ROUTER), (VIP6, CIP6));
        assert_eq!(icmp(&packet).icmp_type(), Icmpv6Type::PacketTooBig { mtu: told });
        assert_eq!(icmp(&packet).payload(), &frame[14..14 + 1280 - 48]);
    }
}

#[test]
fn a_client_that_no_real_server_takes_is_told_by_the_vip() {
    let datagram = Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, VIP6).udp(40_000, 53).payload(b"query");
    for frame in [syn6().pad(100).finish(), datagram.finish()] {
        let mut bench = Bench::with6(0);
        bench.punt(WAN, PuntReason::NoRealServer, &frame);
        let (port, answer) = bench.one();
        assert_eq!(port, WAN);
        let packet = read(&answer, (WAN_MAC, ROUTER), (VIP6, CIP6));
        let code = icmpv6::DestUnreachableCode::Port;
        assert_eq!(icmp(&packet).icmp_type(), Icmpv6Type::DestinationUnreachable(code));
        let quoted = 14 + 40 + usize::from(u16::from_be_bytes([frame[18], frame[19]]));
        assert_eq!(icmp(&packet).payload(), &frame[14..quoted]);
        assert_eq!(bench.event(Event::IcmpErrors), 1);
    }
}

#[test]
fn pings_of_zeroes_are_answered_with_a_right_checksum() {
    // The pseudo header is never all zero, so one form of zero is right.
    for id in 0..=u16::MAX {
        if id % 5 != 0 && id > 100 && id < 65_000 {
            continue;
        }
        let [high, low] = id.to_be_bytes();
        let mut bench = Bench::with6(0);
        let ping = Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, VIP6).icmp6(128, 0, 0);
        bench.punt(WAN, PuntReason::Echo, &ping.payload(&[high, low]).finish());
        let (_, answer) = bench.one();
        icmp(&read(&answer, (WAN_MAC, ROUTER), (VIP6, CIP6)));
    }
}

/// RFC 4443 2.4 (e).
#[test]
fn errors_nobody_may_send() {
    use DropReason::{ErrorSuppressed, SlowPathUnknown};
    let eth = |src, dst| Build::eth(src, dst).ipv6(CIP6, VIP6).udp(1, 2).finish();
    let ip = |src: Ipv6Addr, dst: Ipv6Addr| Build::eth(ROUTER, WAN_MAC).ipv6(src, dst).udp(1, 2);
    let icmp = |kind| Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, VIP6).icmp6(kind, 0, 0);
    let later = icmp(1).fragment6(1024, true, 1).payload(&[0; 64]).finish();
    for (what, frame, reason) in [
        ("about an error", icmp(1).finish(), ErrorSuppressed),
        ("about an unknown error", icmp(100).finish(), ErrorSuppressed),
        ("about a redirect", icmp(137).finish(), ErrorSuppressed),
        ("about a later fragment of ICMPv6", later, ErrorSuppressed),
        ("group frame", eth(ROUTER, GROUP), ErrorSuppressed),
        ("no station", eth(Mac::ZERO, WAN_MAC), ErrorSuppressed),
        ("own station", eth(WAN_MAC, WAN_MAC), ErrorSuppressed),
        ("to a group", ip(CIP6, ipv6::ALL_NODES).finish(), ErrorSuppressed),
        ("from ourselves", ip(DIP6, VIP6).finish(), ErrorSuppressed),
        ("from a VIP", ip(FAR_VIP6, VIP6).finish(), ErrorSuppressed),
        ("from a group", ip(ipv6::ALL_NODES, VIP6).finish(), SlowPathUnknown),
        ("from nobody", ip(Ipv6Addr::UNSPECIFIED, VIP6).finish(), SlowPathUnknown),
        (
            "from a mapped address",
            ip("::ffff:1.2.3.4".parse().unwrap(), VIP6).finish(),
            SlowPathUnknown,
        ),
        ("cut", syn6().finish()[..60].to_vec(), SlowPathUnknown),
    ] {
        for error in [TTL, MTU, PuntReason::NoRealServer] {
            let mut bench = Bench::with6(0);
            bench.punt(WAN, error, &frame);
            assert_eq!(bench.dropped(reason), 1, "{what}: {:?}", bench.counts().dropped);
            assert!(bench.sent.is_empty(), "{what}");
        }
    }
    // An error about a fragment, about a ping, and to a host of the link, is fine.
    let mut bench = Bench::with6(0);
    bench.punt(WAN, TTL, &syn6().fragment6(0, true, 1).payload(&[0; 68]).finish());
    bench.punt(WAN, TTL, &ping(VIP6, b"x").finish());
    bench.punt(WAN, TTL, &ip(ipv6::link_local(ROUTER), VIP6).finish());
    assert_eq!(bench.event(Event::IcmpErrors), 3);
}

#[test]
fn each_kind_of_answer_and_each_family_has_its_own_limit() {
    let mut bench = Bench::with6(0);
    let frame = syn6().finish();
    for _ in 0..1000 {
        bench.punt(WAN, TTL, &Build::eth(ROUTER, GROUP).ipv6(CIP6, VIP6).udp(1, 2).finish());
        bench.punt(WAN, TTL, &syn().finish());
    }
    for reason in [TTL, MTU, PuntReason::TcpReset, PuntReason::NoRealServer] {
        let before = bench.dropped(DropReason::RateLimited);
        bench.sent.clear();
        for _ in 0..200 {
            bench.punt(WAN, reason, &frame);
        }
        assert_eq!(bench.sent.len(), 50, "{reason:?}");
        assert_eq!(bench.dropped(DropReason::RateLimited) - before, 150);
        bench.now += 10;
        for _ in 0..200 {
            bench.punt(WAN, reason, &frame);
        }
        assert_eq!(bench.sent.len(), 60, "{reason:?}");
    }
    bench.sent.clear();
    for _ in 0..5_000 {
        bench.punt(WAN, PuntReason::Echo, &ping(VIP6, b"").finish());
    }
    assert_eq!(bench.sent.len(), 5_000, "pings are limited by workers");
}

fn reset_of(build: Build) -> (Bench, Option<etherparse::TcpHeader>) {
    let mut bench = Bench::with6(0);
    bench.punt(WAN, PuntReason::TcpReset, &build.finish());
    let reset = bench.sent.first().map(|(port, frame)| {
        assert_eq!((*port, frame.len()), (WAN, 74));
        let packet = read(frame, (WAN_MAC, ROUTER), (VIP6, CIP6));
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("{packet:?}") };
        let sum = tcp.calc_checksum_ipv6(VIP6.octets(), CIP6.octets()).unwrap();
        assert_eq!(tcp.checksum(), sum);
        tcp.to_header()
    });
    (bench, reset)
}

#[test]
fn segments_without_a_connection_are_reset_as_the_vip_would() {
    let base = || Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, VIP6);
    let (bench, reset) = reset_of(base().tcp(40_000, 80, Flags::ACK, 5).ack(777).payload(b"abc"));
    let reset = reset.unwrap();
    assert_eq!((reset.source_port, reset.destination_port), (80, 40_000));
    assert_eq!((reset.rst, reset.ack, reset.sequence_number), (true, false, 777));
    assert_eq!(bench.event(Event::TcpResets), 1);

    let (_, reset) = reset_of(base().tcp(40_000, 80, Flags::FIN, 5).payload(b"abc").pad(120));
    let reset = reset.unwrap();
    assert_eq!((reset.rst, reset.ack), (true, true));
    assert_eq!((reset.sequence_number, reset.acknowledgment_number), (0, 5 + 3 + 1));

    // Behind an extension header, too.
    let options = base().ext(60, &[0, 1, 4, 0, 0, 0, 0]).tcp(40_000, 80, Flags::ACK, 5).ack(9);
    assert_eq!(reset_of(options).1.unwrap().sequence_number, 9);

    let not_ours = Build::eth(ROUTER, WAN_MAC).ipv6(CIP6, rip6(0)).tcp(1, 80, Flags::ACK, 5);
    let fragment = base().fragment6(0, true, 1).tcp(1, 80, Flags::ACK, 5).payload(&[0; 68]);
    for (what, build) in [
        ("reset", base().tcp(1, 80, Flags::RST, 5)),
        ("fragment", fragment),
        ("udp", base().udp(1, 80)),
        ("not ours", not_ours),
    ] {
        let (bench, reset) = reset_of(build);
        assert_eq!(reset, None, "{what}");
        assert_eq!(bench.dropped(DropReason::ErrorSuppressed), 1, "{what}");
    }
}

/// "Packet too big" from a router, about an outer packet of the director, of 1500 bytes.
fn too_big(src: Ipv6Addr, dst: Ipv6Addr, protocol: u8, mtu: u32) -> Vec<u8> {
    let outer =
        Build::eth(LAN_MAC, ROUTER).ipv6(src, dst).protocol(protocol).payload(&[0x60; 1460]);
    Build::eth(ROUTER, LAN_MAC)
        .ipv6("2001:db8:9::9".parse().unwrap(), DIP6)
        .icmp6(2, 0, mtu)
        .payload(&outer.finish()[14..14 + 88])
        .finish()
}

#[test]
fn path_mtus_to_real_servers_are_learned_from_those_who_can_know() {
    let far = |n| Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, n);
    let tunnel = |n, gre| TunnelSpec { real: far(n).into(), dip: DIP6.into(), gre };
    let mut bench = Bench::empty();
    let mut tunnels: Vec<_> = (1..=10).map(|n| tunnel(n, false)).collect();
    tunnels.push(tunnel(9, true));
    bench.configure(&Links { tunnels, ..links6(0) });
    bench.run(4_000);
    for frame in [
        too_big(DIP6, far(9), 41, 1400),
        too_big(DIP6, far(9), 47, 1380),
        too_big(DIP6, far(9), 4, 1400),
        too_big(DIP6, far(10), 4, 1280),
        // Not about a tunnel, or another; not about ours; impossible.
        too_big(DIP6, far(1), 17, 1300),
        too_big(DIP6, far(1), 47, 1300),
        too_big(DIP6, far(11), 41, 1300),
        too_big(VIP6, far(2), 41, 1300),
        too_big(CIP6, far(3), 41, 1300),
        too_big(WAN_DIP6, far(3), 41, 1300),
        too_big(DIP6, far(4), 41, 1279),
        too_big(DIP6, far(5), 41, 1500),
        too_big(DIP6, far(6), 41, 100_000),
    ] {
        bench.punt(LAN, PuntReason::IcmpToDirector, &frame);
    }
    let told = |n, mtu| PathMtu { real: far(n).into(), mtu };
    assert_eq!(bench.slow.path_mtus(), [told(9, 1380), told(10, 1280)]);
    assert_eq!(bench.dropped(DropReason::IcmpToDirector), 13);
    bench.run(MAX_AGE + 60_000);
    assert_eq!(bench.slow.path_mtus(), []);
}

#[test]
fn other_messages_to_the_director() {
    use DropReason::{
        BadIcmpChecksum, FragmentToDirector, IcmpToDirector, IcmpType, SlowPathUnknown,
    };
    let to_dip = || Build::eth(ROUTER, LAN_MAC).ipv6(CIP6, DIP6);
    let mut damaged = too_big(DIP6, rip6(0), 41, 1400);
    damaged[90] ^= 1;
    let fragment = to_dip().fragment6(0, true, 1).icmp6(2, 0, 1400).payload(&[0; 64]).finish();
    for (frame, reason) in [
        (to_dip().icmp6(1, 0, 0).payload(&[0; 48]).finish(), IcmpToDirector),
        (to_dip().icmp6(2, 0, 1400).finish(), IcmpToDirector),
        (to_dip().icmp6(129, 0, 0).finish(), IcmpType),
        (to_dip().icmp6(139, 0, 0).finish(), IcmpType),
        (fragment, FragmentToDirector),
        (damaged, BadIcmpChecksum),
        (to_dip().udp(1, 2).finish(), SlowPathUnknown),
    ] {
        let mut bench = Bench::with6(0);
        bench.punt(LAN, PuntReason::IcmpToDirector, &frame);
        assert_eq!(bench.dropped(reason), 1, "{:?}", bench.counts().dropped);
    }
}

#[test]
fn nothing_is_sent_by_a_port_that_is_not_there() {
    for reason in [PuntReason::Echo, TTL, MTU, PuntReason::TcpReset] {
        let mut bench = Bench::with6(0);
        bench.punt(PortId(7), reason, &syn6().finish());
        assert!(bench.sent.is_empty());
        assert_eq!(bench.dropped(DropReason::SlowPathUnknown), 1);
    }
}

#[test]
fn packets_in_several_segments() {
    let bench = Bench::empty();
    let mut slow = SlowPath::new(ChainedPool, bench.hops.clone(), bench.stats.clone(), 1);
    let mut sent = Vec::new();
    let mut out = |_: PortId, buf: Chained| sent.push(buf.bytes);
    slow.configure(&links6(0), Millis(0), &mut |_, _| {});
    let mut punt = |reason, bytes: Vec<u8>| {
        let buf = Chained { bytes, first: 128 };
        slow.punt(Punt { ingress: WAN, reason, buf }, Millis(0), &mut out);
    };
    let long = syn6().payload(&[3; 1440]).finish();
    punt(PuntReason::Echo, ping(VIP6, &[9; 1301]).finish());
    punt(MTU, long.clone());
    punt(PuntReason::TcpReset, long.clone());
    let mut damaged = ping(VIP6, &[9; 1301]).finish();
    damaged[1300] ^= 1;
    punt(PuntReason::Echo, damaged);
    bench.check();
    assert_eq!(bench.dropped(DropReason::BadIcmpChecksum), 1);

    let echo = read(&sent[0], (WAN_MAC, ROUTER), (VIP6, CIP6));
    assert_eq!(icmp(&echo).payload(), [9; 1301]);
    let error = read(&sent[1], (WAN_MAC, ROUTER), (VIP6, CIP6));
    assert_eq!(icmp(&error).payload(), &long[14..128], "quotes what lies in one piece");
    let reset = read(&sent[2], (WAN_MAC, ROUTER), (VIP6, CIP6));
    let Some(TransportSlice::Tcp(tcp)) = &reset.transport else { panic!("{reset:?}") };
    assert_eq!(tcp.acknowledgment_number(), 1_000 + 1 + 1440);
    assert_eq!(sent.len(), 3);
}
