//! Echo, ICMP errors, TCP resets, and ICMP messages to the director.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod slowpath_common;

use std::net::Ipv4Addr;

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::slowpath::{Millis, PathMtu, SlowPath};
use dataplane::snapshot::neighbors::{Links, TunnelSpec};
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, PortId, Punt, PuntReason};
use etherparse::{Icmpv4Type, SlicedPacket, TransportSlice, icmpv4};
use slowpath_common::chained::{Chained, ChainedPool};
use slowpath_common::*;

const TTL: PuntReason = PuntReason::TtlExceeded;
const MTU: PuntReason = PuntReason::FragmentationNeeded { mtu: 1480 };

fn ping(dst: Ipv4Addr, payload: &[u8]) -> Build {
    Build::eth(ROUTER, WAN_MAC).ipv4(CIP, dst).ttl(3).icmp(8, 0, 0x0102_0003).payload(payload)
}

/// An answer, as another implementation reads it: checksums right, Ethernet and IP addresses as
/// given, TTL 64.
fn read<'a>(frame: &'a [u8], eth: (Mac, Mac), ip: (Ipv4Addr, Ipv4Addr)) -> SlicedPacket<'a> {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let link = packet.link.as_ref().unwrap().to_header().unwrap().ethernet2().unwrap();
    assert_eq!((link.source, link.destination), (eth.0.0, eth.1.0));
    let header = packet.net.as_ref().unwrap().ipv4_ref().unwrap().header().to_header();
    assert_eq!((header.source, header.destination), (ip.0.octets(), ip.1.octets()));
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    assert_eq!(header.time_to_live, 64);
    packet
}

fn icmp<'a>(packet: &SlicedPacket<'a>) -> etherparse::Icmpv4Slice<'a> {
    let Some(TransportSlice::Icmpv4(icmp)) = &packet.transport else { panic!("{packet:?}") };
    let sum = icmp.icmp_type().calc_checksum(icmp.payload());
    assert_eq!(icmp.checksum(), sum, "ICMP checksum");
    icmp.clone()
}

#[test]
fn a_ping_is_answered_by_the_address_that_was_asked() {
    for (port, mac, address) in
        [(WAN, WAN_MAC, VIP), (WAN, WAN_MAC, FAR_VIP), (LAN, LAN_MAC, DIP), (WAN, WAN_MAC, DIP)]
    {
        for payload in [&[][..], &[0xa5; 3], &[0x5a; 1400]] {
            let mut bench = Bench::with(0);
            bench.punt(port, PuntReason::Echo, &ping(address, payload).pad(60).finish());
            let (out, frame) = bench.one();
            assert_eq!(out, port);
            let packet = read(&frame, (mac, ROUTER), (address, CIP));
            let echo = etherparse::IcmpEchoHeader { id: 0x0102, seq: 3 };
            assert_eq!(icmp(&packet).icmp_type(), Icmpv4Type::EchoReply(echo));
            assert_eq!(icmp(&packet).payload(), payload);
            assert_eq!(bench.event(Event::EchoReplies), 1);
        }
    }
}

#[test]
fn pings_that_are_not_answered() {
    use DropReason::{
        BadIcmpChecksum, BadSource, EchoRefused, FragmentToDirector, SlowPathUnknown,
    };
    let from = |src: [u8; 4]| {
        Build::eth(ROUTER, WAN_MAC).ipv4(src.into(), VIP).icmp(8, 0, 1).payload(b"data")
    };
    let mut damaged = ping(VIP, b"data").finish();
    damaged[43] ^= 1;
    let mut damaged_long = ping(VIP, &[7; 1400]).finish();
    damaged_long[1200] ^= 0x80;
    let eth = |src, dst| Build::eth(src, dst).ipv4(CIP, VIP).icmp(8, 0, 1).finish();
    for (what, frame, reason) in [
        ("damaged", damaged, BadIcmpChecksum),
        ("damaged far behind", damaged_long, BadIcmpChecksum),
        ("first fragment", ping(VIP, &[0; 64]).fragment(0, true).finish(), FragmentToDirector),
        ("later fragment", ping(VIP, &[0; 64]).fragment(64, false).finish(), FragmentToDirector),
        ("not ours", ping(rip(1), b"").finish(), SlowPathUnknown),
        ("from ourselves", from(DIP.octets()).finish(), BadSource),
        ("from a broadcast address", from([192, 168, 0, 255]).finish(), BadSource),
        ("group source", eth(Mac([1; 6]), WAN_MAC), BadSource),
        ("broadcast frame", eth(ROUTER, Mac::BROADCAST), BadSource),
        ("own source", eth(LAN_MAC, WAN_MAC), BadSource),
        ("source route", ping(VIP, b"").options(&[131, 7, 4, 1, 2, 3, 4]).finish(), EchoRefused),
        (
            "reply",
            Build::eth(ROUTER, WAN_MAC).ipv4(CIP, VIP).icmp(0, 0, 1).finish(),
            SlowPathUnknown,
        ),
        ("code", Build::eth(ROUTER, WAN_MAC).ipv4(CIP, VIP).icmp(8, 1, 1).finish(), EchoRefused),
        ("cut", ping(VIP, b"data").finish()[..45].to_vec(), SlowPathUnknown),
        ("loopback", from([127, 0, 0, 1]).finish(), SlowPathUnknown),
        ("tcp", syn().finish(), SlowPathUnknown),
        ("nothing", vec![], SlowPathUnknown),
    ] {
        let mut bench = Bench::with(0);
        bench.punt(WAN, PuntReason::Echo, &frame);
        assert_eq!(bench.dropped(reason), 1, "{what}: {:?}", bench.counts().dropped);
        assert!(bench.sent.is_empty(), "{what}");
    }
}

/// The request that was answered wrongly: identifier, sequence number and data are zero.
#[rustfmt::skip]
const ALL_ZERO: [u8; 42] = [
    0x02, 0x00, 0x00, 0x00, 0x01, 0x01, 0x02, 0x00, 0x00, 0x00, 0x09, 0x09, 0x08, 0x00,
    0x45, 0x00, 0x00, 0x1c, 0x00, 0x01, 0x00, 0x00, 0x40, 0x01, 0x4a, 0x1b,
    100, 64, 7, 7, 192, 168, 0, 100,
    0x08, 0x00, 0xf7, 0xff, 0x00, 0x00, 0x00, 0x00,
];

#[test]
fn a_ping_of_zeroes_is_answered_with_a_right_checksum() {
    let mut frame = ALL_ZERO.to_vec();
    let sum = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]).unwrap();
    let sum = sum.to_header().calc_header_checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    for zeroes in [0, 1, 2, 56, 1400] {
        let built = ping(VIP, &vec![0; zeroes]).icmp(8, 0, 0).pad(60).finish();
        for frame in [&frame, &built] {
            let mut bench = Bench::with(0);
            bench.punt(WAN, PuntReason::Echo, frame);
            let (_, answer) = bench.one();
            // Which verifies the checksum by another implementation.
            let packet = read(&answer, (WAN_MAC, ROUTER), (VIP, CIP));
            assert_eq!(icmp(&packet).checksum(), 0xffff);
        }
    }
    // In several segments.
    let mut reply = Vec::new();
    let stats = std::sync::Arc::new(dataplane::stats::Stats::new(2, 0, 0));
    let hops = std::sync::Arc::new(dataplane::snapshot::neighbors::NextHops::new(1));
    let mut slow = SlowPath::new(ChainedPool, hops, stats, 1);
    slow.configure(&links(0), Millis(0), &mut |_, _| {});
    for tail in [&[0; 8][..], &[0, 0, 0xff, 0xff, 0, 0]] {
        let frame = ping(VIP, tail).icmp(8, 0, 0).finish();
        let buf = Chained { bytes: frame, first: 42 };
        let punt = Punt { ingress: WAN, reason: PuntReason::Echo, buf };
        slow.punt(punt, Millis(5), &mut |_, buf: Chained| reply = buf.bytes);
        let checked = etherparse::Icmpv4Slice::from_slice(&reply[34..]).unwrap();
        let sum = plain_sum(&reply[34..]);
        assert_eq!(sum, 0xffff, "{checked:?}");
    }
}

/// The one's complement sum, word by word.
fn plain_sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    words.fold(0, |sum, word| (sum + word) % 0x1_0000 + (sum + word) / 0x1_0000) as u16
}

#[test]
fn pings_are_not_limited_here() {
    let mut bench = Bench::with(0);
    for _ in 0..5_000 {
        bench.punt(WAN, PuntReason::Echo, &ping(VIP, b"").finish());
    }
    assert_eq!(bench.event(Event::EchoReplies), 5_000);
}

#[test]
fn time_exceeded_quotes_the_packet_and_comes_from_the_ports_address() {
    let mut bench = Bench::with(0);
    let frame = syn().ttl(1).pad(60).finish();
    bench.punt(WAN, TTL, &frame);
    let (port, answer) = bench.one();
    assert_eq!(port, WAN);
    let packet = read(&answer, (WAN_MAC, ROUTER), (VIP, CIP));
    let code = icmpv4::TimeExceededCode::TtlExceededInTransit;
    assert_eq!(icmp(&packet).icmp_type(), Icmpv4Type::TimeExceeded(code));
    assert_eq!(icmp(&packet).payload(), &frame[14..54], "without Ethernet padding");
    assert_eq!(bench.event(Event::IcmpErrors), 1);
}

#[test]
fn fragmentation_needed_tells_the_mtu_in_576_bytes_at_most() {
    let mut bench = Bench::with(0);
    let frame = syn().df(true).payload(&[3; 1460]).finish();
    bench.punt(WAN, MTU, &frame);
    let (_, answer) = bench.one();
    assert_eq!(answer.len(), 14 + 576);
    let packet = read(&answer, (WAN_MAC, ROUTER), (VIP, CIP));
    let next_hop_mtu = 1480;
    let header = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu };
    assert_eq!(icmp(&packet).icmp_type(), Icmpv4Type::DestinationUnreachable(header));
    assert_eq!(icmp(&packet).payload(), &frame[14..14 + 576 - 28]);
}

#[test]
fn a_client_that_no_real_server_takes_is_told_by_the_vip() {
    let datagram = Build::eth(ROUTER, WAN_MAC).ipv4(CIP, VIP).udp(40_000, 53).payload(b"query");
    for frame in [syn().pad(60).finish(), datagram.finish()] {
        let mut bench = Bench::with(0);
        bench.punt(WAN, PuntReason::NoRealServer, &frame);
        let (port, answer) = bench.one();
        assert_eq!(port, WAN);
        let packet = read(&answer, (WAN_MAC, ROUTER), (VIP, CIP));
        let header = icmpv4::DestUnreachableHeader::Port;
        assert_eq!(icmp(&packet).icmp_type(), Icmpv4Type::DestinationUnreachable(header));
        let quoted = 14 + usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        assert_eq!(icmp(&packet).payload(), &frame[14..quoted]);
        assert_eq!(bench.event(Event::IcmpErrors), 1);
    }
}

#[test]
fn errors_no_router_may_send() {
    use DropReason::{ErrorSuppressed, SlowPathUnknown};
    let eth = |src, dst| Build::eth(src, dst).ipv4(CIP, VIP).udp(1, 2).finish();
    let ip = |src: [u8; 4], dst: [u8; 4]| {
        Build::eth(ROUTER, WAN_MAC).ipv4(src.into(), dst.into()).udp(1, 2).finish()
    };
    let (cip, vip) = (CIP.octets(), VIP.octets());
    for (what, frame, reason) in [
        (
            "about an error",
            Build::eth(ROUTER, WAN_MAC).ipv4(CIP, VIP).icmp(3, 1, 0).finish(),
            ErrorSuppressed,
        ),
        ("later fragment", syn().fragment(1024, true).payload(&[0; 64]).finish(), ErrorSuppressed),
        ("broadcast frame", eth(ROUTER, Mac::BROADCAST), ErrorSuppressed),
        ("multicast frame", eth(ROUTER, Mac([1, 0, 0x5e, 0, 0, 1])), ErrorSuppressed),
        ("no station", eth(Mac::ZERO, WAN_MAC), ErrorSuppressed),
        ("own station", eth(WAN_MAC, WAN_MAC), ErrorSuppressed),
        ("to a broadcast address", ip(cip, [192, 168, 0, 255]), ErrorSuppressed),
        ("to everyone", ip(cip, [255; 4]), ErrorSuppressed),
        ("to a group", ip(cip, [224, 0, 0, 1]), ErrorSuppressed),
        ("from a broadcast address", ip([203, 0, 113, 255], vip), ErrorSuppressed),
        ("from ourselves", ip([192, 168, 0, 10], vip), ErrorSuppressed),
        ("from a VIP", ip(FAR_VIP.octets(), vip), ErrorSuppressed),
        ("from nobody", ip([0; 4], vip), SlowPathUnknown),
        ("cut", syn().finish()[..40].to_vec(), SlowPathUnknown),
        ("nothing", vec![], SlowPathUnknown),
    ] {
        for error in [TTL, MTU, PuntReason::NoRealServer] {
            let mut bench = Bench::with(0);
            bench.punt(WAN, error, &frame);
            assert_eq!(bench.dropped(reason), 1, "{what}: {:?}", bench.counts().dropped);
            assert!(bench.sent.is_empty(), "{what}");
        }
    }
    // An error about a first fragment, and about a ping, is fine.
    let mut bench = Bench::with(0);
    bench.punt(WAN, TTL, &syn().fragment(0, true).payload(&[0; 64]).finish());
    bench.punt(WAN, TTL, &ping(VIP, b"x").finish());
    assert_eq!(bench.event(Event::IcmpErrors), 2);
}

#[test]
fn each_kind_of_answer_has_its_own_limit() {
    let mut bench = Bench::with(0);
    let frame = syn().df(true).finish();
    // What is suppressed takes no token.
    for _ in 0..1000 {
        bench.punt(WAN, TTL, &Build::eth(ROUTER, Mac::BROADCAST).ipv4(CIP, VIP).udp(1, 2).finish());
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
}

fn reset_of(build: Build) -> (Bench, Option<etherparse::TcpHeader>) {
    let mut bench = Bench::with(0);
    bench.punt(WAN, PuntReason::TcpReset, &build.finish());
    let reset = bench.sent.first().map(|(port, frame)| {
        assert_eq!((*port, frame.len()), (WAN, 60));
        let packet = read(frame, (WAN_MAC, ROUTER), (VIP, CIP));
        let Some(TransportSlice::Tcp(tcp)) = &packet.transport else { panic!("{packet:?}") };
        let sum = tcp.calc_checksum_ipv4(VIP.octets(), CIP.octets()).unwrap();
        assert_eq!(tcp.checksum(), sum);
        tcp.to_header()
    });
    (bench, reset)
}

#[test]
fn segments_without_a_connection_are_reset_as_the_vip_would() {
    let base = || Build::eth(ROUTER, WAN_MAC).ipv4(CIP, VIP);
    let (bench, reset) = reset_of(base().tcp(40_000, 80, Flags::ACK, 5).ack(777).payload(b"abc"));
    let reset = reset.unwrap();
    assert_eq!((reset.source_port, reset.destination_port), (80, 40_000));
    assert_eq!((reset.rst, reset.ack, reset.sequence_number), (true, false, 777));
    assert_eq!(bench.event(Event::TcpResets), 1);

    let (_, reset) = reset_of(base().tcp(40_000, 80, Flags::FIN, 5).payload(b"abc").pad(80));
    let reset = reset.unwrap();
    assert_eq!((reset.rst, reset.ack), (true, true));
    assert_eq!((reset.sequence_number, reset.acknowledgment_number), (0, 5 + 3 + 1));

    use DropReason::{ErrorSuppressed, SlowPathUnknown};
    for (what, build, reason) in [
        ("reset", base().tcp(1, 80, Flags::RST, 5), ErrorSuppressed),
        (
            "fragment",
            base().tcp(1, 80, Flags::ACK, 5).payload(&[0; 64]).fragment(0, true),
            ErrorSuppressed,
        ),
        ("udp", base().udp(1, 80), ErrorSuppressed),
        (
            "not ours",
            Build::eth(ROUTER, WAN_MAC).ipv4(CIP, rip(0)).tcp(1, 80, Flags::ACK, 5),
            ErrorSuppressed,
        ),
        (
            "bad source",
            Build::eth(ROUTER, WAN_MAC).ipv4([0, 0, 0, 1].into(), VIP).tcp(1, 80, Flags::ACK, 5),
            SlowPathUnknown,
        ),
    ] {
        let (bench, reset) = reset_of(build);
        assert_eq!(reset, None, "{what}");
        assert_eq!(bench.dropped(reason), 1, "{what}: {:?}", bench.counts().dropped);
    }
}

/// "Fragmentation needed" from a router, about an outer packet of the director, of 1500 bytes.
fn too_long(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, mtu: u16) -> Vec<u8> {
    too_long_about(|b| b, (src, dst, protocol), mtu)
}

fn too_long_about(
    change: impl FnOnce(Build) -> Build,
    (src, dst, protocol): (Ipv4Addr, Ipv4Addr, u8),
    mtu: u16,
) -> Vec<u8> {
    let outer = Build::eth(LAN_MAC, ROUTER).ipv4(src, dst).protocol(protocol).df(true);
    let outer = change(outer.payload(&[0x45; 1480])).finish();
    Build::eth(ROUTER, LAN_MAC)
        .ipv4(Ipv4Addr::new(10, 9, 9, 9), DIP)
        .icmp(3, 4, mtu.into())
        .payload(&outer[14..14 + 48])
        .finish()
}

const fn far(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 8, 0, n)
}

/// Tunnels from the LAN's DIP: to the ninth by both methods, to others by one.
fn tunnels() -> Vec<TunnelSpec> {
    let tunnel = |n, gre| TunnelSpec { real: far(n).into(), dip: DIP.into(), gre };
    let mut all: Vec<_> = (1..=20).map(|n| tunnel(n, n % 2 == 0)).collect();
    all.push(tunnel(9, true));
    all
}

fn tunneling() -> Bench {
    let mut bench = Bench::empty();
    bench.configure(&Links { tunnels: tunnels(), ..links(0) });
    bench.run(4_000);
    bench
}

fn told(n: u8, mtu: u16) -> PathMtu {
    PathMtu { real: far(n).into(), mtu }
}

#[test]
fn path_mtus_to_real_servers_are_learned() {
    let mut bench = tunneling();
    for frame in [
        too_long(DIP, far(9), 4, 1400),
        too_long(DIP, far(9), 47, 1380),
        too_long(DIP, far(9), 4, 1400),
        // IPv6 inside.
        too_long(DIP, far(11), 41, 1499),
        too_long(DIP, far(10), 47, 1280),
    ] {
        bench.punt(LAN, PuntReason::IcmpToDirector, &frame);
    }
    assert_eq!(bench.slow.path_mtus(), [told(9, 1380), told(10, 1280), told(11, 1499)]);
    assert_eq!(bench.dropped(DropReason::IcmpToDirector), 5);
}

#[test]
fn made_up_path_mtus_are_not_believed() {
    let about = |change: fn(Build) -> Build| too_long_about(change, (DIP, far(1), 4), 1400);
    for (what, frame) in [
        ("no tunnel's", too_long(DIP, far(1), 17, 1300)),
        ("another method's", too_long(DIP, far(1), 47, 1300)),
        ("another method's", too_long(DIP, far(2), 4, 1300)),
        ("no real server", too_long(DIP, far(21), 4, 1300)),
        ("a real server that has no tunnel", too_long(DIP, rip(0), 4, 1300)),
        ("not from us", too_long(VIP, far(1), 4, 1300)),
        ("not from us", too_long(CIP, far(1), 4, 1300)),
        ("from another DIP", too_long(WAN_DIP, far(1), 4, 1300)),
        ("too small", too_long(DIP, far(1), 4, 1279)),
        ("not said", too_long(DIP, far(1), 4, 0)),
        ("would have passed", too_long(DIP, far(1), 4, 1500)),
        ("might have been cut", about(|b| b.df(false))),
        ("quote cut", too_long(DIP, far(1), 4, 1300)[..14 + 28 + 19].to_vec()),
    ] {
        let mut bench = tunneling();
        bench.punt(LAN, PuntReason::IcmpToDirector, &frame);
        assert_eq!(bench.slow.path_mtus(), [], "{what}");
    }
    // Whatever comes, there is one for each real server at most.
    let mut bench = tunneling();
    for n in 0..=u16::MAX {
        let [a, b] = n.to_be_bytes();
        let frame = too_long(DIP, Ipv4Addr::new(10, 8, a % 3, b), 4, 1400 - n % 100);
        bench.punt(LAN, PuntReason::IcmpToDirector, &frame);
    }
    assert_eq!(bench.slow.path_mtus().len(), 10);
}

#[test]
fn path_mtus_are_forgotten_after_ten_minutes_or_with_their_tunnel() {
    let mut bench = tunneling();
    bench.punt(LAN, PuntReason::IcmpToDirector, &too_long(DIP, far(1), 4, 1400));
    bench.punt(LAN, PuntReason::IcmpToDirector, &too_long(DIP, far(3), 4, 1300));
    bench.run(300_000);
    // A larger one is about an earlier packet, and does not keep it.
    bench.punt(LAN, PuntReason::IcmpToDirector, &too_long(DIP, far(1), 4, 1450));
    bench.punt(LAN, PuntReason::IcmpToDirector, &too_long(DIP, far(3), 4, 1300));
    bench.run(299_999);
    assert_eq!(bench.slow.path_mtus(), [told(1, 1400), told(3, 1300)]);
    // At the next whole minute.
    bench.run(60_001);
    assert_eq!(bench.slow.path_mtus(), [told(3, 1300)]);
    bench.punt(LAN, PuntReason::IcmpToDirector, &too_long(DIP, far(1), 4, 1450));
    assert_eq!(bench.slow.path_mtus(), [told(1, 1450), told(3, 1300)]);
    let mut less = Links { tunnels: tunnels(), ..links(0) };
    less.tunnels.remove(0);
    bench.configure(&less);
    assert_eq!(bench.slow.path_mtus(), [told(3, 1300)]);
    bench.run(300_000);
    assert_eq!(bench.slow.path_mtus(), []);
    assert_eq!(bench.slow.next_deadline(), None);
}

#[test]
fn other_messages_to_the_director() {
    use DropReason::{
        BadIcmpChecksum, FragmentToDirector, IcmpToDirector, IcmpType, SlowPathUnknown,
    };
    let to_dip = || Build::eth(ROUTER, LAN_MAC).ipv4(CIP, DIP);
    let mut damaged = too_long(DIP, rip(0), 4, 1400);
    damaged[60] ^= 1;
    for (frame, reason) in [
        (to_dip().icmp(3, 1, 0).payload(&[0; 28]).finish(), IcmpToDirector),
        (to_dip().icmp(11, 0, 0).finish(), IcmpToDirector),
        (to_dip().icmp(13, 0, 0).finish(), IcmpType),
        (to_dip().icmp(0, 0, 0).finish(), IcmpType),
        (to_dip().icmp(3, 4, 0).payload(&[0; 64]).fragment(0, true).finish(), FragmentToDirector),
        (damaged, BadIcmpChecksum),
        (to_dip().udp(1, 2).finish(), SlowPathUnknown),
    ] {
        let mut bench = Bench::with(0);
        bench.punt(LAN, PuntReason::IcmpToDirector, &frame);
        assert_eq!(bench.dropped(reason), 1, "{:?}", bench.counts().dropped);
    }
}

#[test]
fn nothing_is_sent_by_a_port_that_is_not_there() {
    for reason in [PuntReason::Echo, TTL, MTU, PuntReason::TcpReset] {
        let mut bench = Bench::with(0);
        bench.punt(PortId(7), reason, &syn().finish());
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
    slow.configure(&links(0), Millis(0), &mut |_, _| {});
    let mut punt = |reason, bytes: Vec<u8>| {
        slow.punt(
            Punt { ingress: WAN, reason, buf: Chained { bytes, first: 128 } },
            Millis(0),
            &mut out,
        );
    };
    let long = syn().df(true).payload(&[3; 1460]).finish();
    punt(PuntReason::Echo, ping(VIP, &[9; 1301]).finish());
    punt(MTU, long.clone());
    punt(PuntReason::TcpReset, long.clone());
    let mut damaged = ping(VIP, &[9; 1301]).finish();
    damaged[1300] ^= 1;
    punt(PuntReason::Echo, damaged);
    bench.check();
    assert_eq!(bench.dropped(DropReason::BadIcmpChecksum), 1);

    let echo = read(&sent[0], (WAN_MAC, ROUTER), (VIP, CIP));
    assert_eq!(icmp(&echo).payload(), [9; 1301]);
    let error = read(&sent[1], (WAN_MAC, ROUTER), (VIP, CIP));
    assert_eq!(icmp(&error).payload(), &long[14..128], "quotes what lies in one piece");
    let reset = read(&sent[2], (WAN_MAC, ROUTER), (VIP, CIP));
    let Some(TransportSlice::Tcp(tcp)) = &reset.transport else { panic!("{reset:?}") };
    assert_eq!(tcp.acknowledgment_number(), 1_000 + 1 + 1460);
    assert_eq!(sent.len(), 3);
}
