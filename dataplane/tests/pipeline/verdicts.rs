//! The table of design "What happens to a packet", row by row, one worker.

use std::net::Ipv4Addr;

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::packet::{arp, ethernet, icmpv4};
use dataplane::snapshot::neighbors::NextHop;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, NeighborId, Protocol, PuntReason};

use crate::director::{Director, Verdict};
use crate::packets::*;

const REAL: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

fn director() -> Director {
    Director::new(&["tcp 80 rr: 10.0.0.1 dr", "udp 53 rr: 10.0.0.1 dr", "tcp 81 rr:"])
}

fn arp_request(target: Ipv4Addr) -> Vec<u8> {
    let packet = arp::Packet {
        operation: arp::Operation::Request,
        sha: ROUTER_MAC,
        spa: GATEWAY,
        tha: Mac::ZERO,
        tpa: target,
    };
    Build::eth(ROUTER_MAC, Mac::BROADCAST).arp(&packet).pad(60).finish()
}

fn to(dst: Ipv4Addr) -> Build {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv4(client(1), dst)
}

fn echo(dst: Ipv4Addr, kind: u8) -> Vec<u8> {
    to(dst).icmp(kind, 0, 1).payload(b"ping").finish()
}

fn reframed(frame: Vec<u8>, dst: Mac) -> Vec<u8> {
    let mut frame = frame;
    frame[..6].copy_from_slice(&dst.0);
    frame
}

fn typed(ethertype: u16) -> Vec<u8> {
    Build::eth(ROUTER_MAC, WAN_MAC)
        .ethertype(ethernet::EtherType(ethertype))
        .payload(&[0; 46])
        .finish()
}

fn tagged(ethertype: u16, vlan: u16) -> Vec<u8> {
    let mut frame = typed(ethertype);
    frame[14..16].copy_from_slice(&vlan.to_be_bytes());
    frame
}

#[test]
fn one_packet_one_verdict() {
    use DropReason::*;
    use Verdict::{Dropped, Forwarded, Held, Punted};
    let broken = |at: usize, value: u8| {
        let mut frame = syn(1);
        frame[at] = value;
        frame
    };
    let fragment = |protocol: u8, offset, more| {
        from(1).protocol(protocol).fragment(offset, more).payload(&[0; 32]).finish()
    };
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<u8>, Verdict)> = vec![
        // IPv4 TCP or UDP to a virtual service.
        ("tcp syn", syn(1), Forwarded(REAL)),
        ("tcp syn padded", tcp(1, Flags::SYN).pad(60).finish(), Forwarded(REAL)),
        ("tcp syn with IP options", tcp(1, Flags::SYN).options(&[1, 1, 1, 0]).finish(), Forwarded(REAL)),
        ("udp", udp(1), Forwarded(REAL)),
        ("udp empty", datagram(1, 0).finish(), Forwarded(REAL)),
        ("first fragment", udp_fragments(1, 7, 100, 64).remove(0), Forwarded(REAL)),
        // ARP, whoever it is about: the slow path decides.
        ("arp for a VIP", arp_request(VIP), Punted(PuntReason::Arp)),
        ("arp for another", arp_request(client(1)), Punted(PuntReason::Arp)),
        ("arp reply", typed(0x0806), Punted(PuntReason::Arp)),
        // ICMP.
        ("echo to a VIP", echo(VIP, 8), Punted(PuntReason::Echo)),
        ("echo to the DIP", echo(WAN_DIP, 8), Punted(PuntReason::Echo)),
        ("echo to the other DIP", echo(LAN_DIP, 8), Punted(PuntReason::Echo)),
        ("echo reply to the DIP", echo(WAN_DIP, 0), Punted(PuntReason::IcmpToDirector)),
        ("error to the DIP", echo(WAN_DIP, 3), Punted(PuntReason::IcmpToDirector)),
        ("echo reply to a VIP", echo(VIP, 0), Dropped(IcmpType)),
        ("timestamp to a VIP", echo(VIP, 13), Dropped(IcmpType)),
        ("parameter problem to a VIP", echo(VIP, 12), Dropped(IcmpType)),
        ("redirect to a VIP", echo(VIP, 5), Dropped(IcmpRedirect)),
        ("redirect to the DIP", echo(WAN_DIP, 5), Punted(PuntReason::IcmpToDirector)),
        ("error without a quote", echo(VIP, icmpv4::kind::UNREACHABLE), Dropped(IcmpUnknownFlow)),
        ("error about no flow", icmp_error(9, Protocol::Tcp, 80), Dropped(IcmpUnknownFlow)),
        // Fragments.
        ("later fragment alone", fragment(17, 64, true), Held),
        ("later fragment of icmp", fragment(1, 64, false), Dropped(FragmentToDirector)),
        ("later fragment of sctp", fragment(132, 64, false), Dropped(ProtocolUnsupported)),
        ("first fragment of a ping", to(VIP).fragment(0, true).icmp(8, 0, 1).payload(&[0; 24]).finish(), Punted(PuntReason::Echo)),
        ("tcp fragment that hides flags", fragment(6, 8, false), Dropped(BadL4Header)),
        ("fragment past 64 KiB", fragment(17, 65528, false), Dropped(BadIpv4Header)),
        // Anything else.
        ("udp where tcp is served", from(1).udp(1, 80).finish(), Dropped(NoService)),
        ("no such L4 port", from(1).tcp(1, 8080, Flags::SYN, 1).finish(), Dropped(NoService)),
        ("tcp to the DIP", to(WAN_DIP).tcp(1, 80, Flags::SYN, 1).finish(), Dropped(ToDirector)),
        ("tcp with options to the DIP", to(WAN_DIP).options(&[1; 4]).tcp(1, 80, Flags::SYN, 1).finish(), Dropped(ToDirector)),
        ("udp to the other DIP", to(LAN_DIP).udp(1, 53).finish(), Dropped(ToDirector)),
        ("a later fragment to the DIP", to(WAN_DIP).protocol(17).fragment(64, false).payload(&[0; 8]).finish(), Dropped(FragmentToDirector)),
        ("a later fragment of a ping to the DIP", to(WAN_DIP).protocol(1).fragment(64, false).payload(&[0; 8]).finish(), Dropped(FragmentToDirector)),
        ("no real server", from(1).tcp(1, 81, Flags::SYN, 1).finish(), Punted(PuntReason::NoRealServer)),
        ("sctp to a VIP", from(1).protocol(132).payload(&[0; 20]).finish(), Dropped(ProtocolUnsupported)),
        ("gre to the DIP", to(WAN_DIP).protocol(47).payload(&[0; 20]).finish(), Dropped(ToDirector)),
        ("to another host", to(client(2)).tcp(1, 80, Flags::SYN, 1).finish(), Dropped(NotLocal)),
        ("to the real server", to(REAL).tcp(1, 80, Flags::SYN, 1).finish(), Dropped(NotLocal)),
        ("for another station", reframed(syn(1), Mac([2, 9, 9, 9, 9, 9])), Dropped(NotOurMac)),
        ("for the other port", reframed(syn(1), LAN_MAC), Dropped(NotOurMac)),
        ("broadcast frame", reframed(syn(1), Mac::BROADCAST), Dropped(L2Group)),
        ("multicast frame", reframed(syn(1), Mac([1, 0, 0x5e, 0, 0, 1])), Dropped(L2Group)),
        ("echo in a broadcast", reframed(echo(VIP, 8), Mac::BROADCAST), Dropped(L2Group)),
        ("802.1Q", tagged(0x8100, 100), Dropped(Vlan)),
        ("802.1ad", tagged(0x88a8, 100), Dropped(Vlan)),
        ("802.1Q without a VLAN, and nothing in it", typed(0x8100), Dropped(EtherType)),
        ("no ipv6", typed(0x86dd), Dropped(BadIpv6Header)),
        ("lldp", typed(0x88cc), Dropped(EtherType)),
        ("802.3 length", typed(46), Dropped(EtherType)),
        ("empty", vec![], Dropped(TooShort)),
        ("half an Ethernet header", syn(1)[..10].to_vec(), Dropped(TooShort)),
        ("half an IPv4 header", syn(1)[..30].to_vec(), Dropped(TooShort)),
        ("cut", syn(1)[..50].to_vec(), Dropped(TooShort)),
        ("ip version 5", broken(14, 0x55), Dropped(BadIpv4Header)),
        ("header length 16", broken(14, 0x44), Dropped(BadIpv4Header)),
        ("total length 10", with_ip(syn(1), |ip| ip[2..4].copy_from_slice(&[0, 10])), Dropped(BadIpv4Header)),
        ("checksum", broken(24, 0x55), Dropped(BadIpv4Checksum)),
        ("tcp data offset 4", broken(46, 0x40), Dropped(BadL4Header)),
        ("udp cut by the IP length", with_ip(udp(1), |ip| ip[2..4].copy_from_slice(&[0, 26])), Dropped(BadL4Header)),
        ("from 127.0.0.1", with_ip(syn(1), |ip| ip[12..16].copy_from_slice(&[127, 0, 0, 1])), Dropped(BadSource)),
        ("from multicast", with_ip(syn(1), |ip| ip[12..16].copy_from_slice(&[224, 0, 0, 1])), Dropped(BadSource)),
        ("from the VIP (land)", with_ip(syn(1), |ip| ip[12..16].copy_from_slice(&VIP.octets())), Dropped(BadSource)),
        // TTL: 1 would reach 0, and 0 should never have come.
        ("ttl 2", tcp(1, Flags::SYN).ttl(2).finish(), Forwarded(REAL)),
        ("ttl 1", tcp(1, Flags::SYN).ttl(1).finish(), Punted(PuntReason::TtlExceeded)),
        ("ttl 0", tcp(1, Flags::SYN).ttl(0).finish(), Punted(PuntReason::TtlExceeded)),
    ];
    for (name, packet, verdict) in table {
        let mut director = director();
        let outcome = director.receive_one(&packet);
        assert_eq!(outcome.verdict(), verdict, "{name}");
        if let Punted(_) = verdict {
            assert_eq!(outcome.punted[0].bytes, packet, "{name}: punted as received");
            assert_eq!(outcome.punted[0].ingress, WAN);
        }
        assert_eq!(outcome.event(Event::RxPackets), 1);
        assert_eq!(outcome.event(Event::RxBytes), packet.len() as u64);
    }
}

#[test]
fn the_word_of_the_nic_on_the_checksum_is_taken() {
    use dataplane::packet::buf::RxChecksum;
    let mut bad = syn(1);
    bad[24] ^= 1;
    for (rx, packet, dropped) in [
        (RxChecksum::Good, &bad, 0),
        (RxChecksum::Unknown, &bad, 1),
        (RxChecksum::Bad, &syn(1), 1),
        (RxChecksum::Unknown, &syn(1), 0),
    ] {
        let mut director = director();
        let mut buffer = director.census.buffer(packet);
        buffer.rx = rx;
        director.burst(0, WAN, vec![buffer]);
        director.check();
        assert_eq!(director.counts().drops(DropReason::BadIpv4Checksum), dropped, "{rx:?}");
    }
}

#[test]
fn a_burst_leaves_in_order_and_a_packet_sees_the_flows_of_those_before_it() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr"]);
    let burst = [syn(1), syn(2), ack(1), ack(2), syn(3), ack(3), ack(1)];
    let outcome = director.receive(&burst);
    let last: Vec<_> = outcome.reals().iter().map(|r| r.octets()[3]).collect();
    assert_eq!(last, [1, 2, 1, 2, 3, 3, 1]);
    assert_eq!(outcome.event(Event::FlowsCreated), 3);
    let ports: Vec<_> = outcome
        .sent
        .iter()
        .map(|s| etherparse::TcpHeaderSlice::from_slice(&s.inner[20..]).unwrap().source_port())
        .collect();
    assert_eq!(ports, [1, 2, 1, 2, 3, 3, 1].map(port_of));
}

#[test]
fn a_full_burst_goes_to_both_ports() {
    let mut director = Director::new(&["tcp 80 rr: 10.0.0.1 dr, 10.8.0.9 ipip"]);
    let burst: Vec<_> = (0..32).map(syn).collect();
    let outcome = director.receive(&burst);
    assert_eq!(outcome.sent.iter().filter(|s| s.port == LAN).count(), 16);
    assert_eq!(outcome.sent.iter().filter(|s| s.port == WAN).count(), 16);
    let lan = director.stats[0].port(LAN).unwrap();
    assert_eq!(lan.tx_packets.get(), 16);
    assert_eq!(lan.tx_bytes.get(), 16 * 54);
    assert_eq!(director.stats[0].port(WAN).unwrap().rx_packets.get(), 32);
}

#[test]
fn an_unknown_next_hop_is_resolved_by_the_slow_path() {
    for method in ["dr", "ipip", "gre"] {
        let mut director = Director::new(&[&format!("tcp 80 rr: 10.0.0.1 {method}")]);
        let known = director.receive(&[syn(1)]);
        director.hop(REAL, NextHop::Unknown);
        let outcome = director.receive(&[syn(1)]);
        let reason = PuntReason::Resolve { neighbor: NeighborId(0), port: LAN };
        assert_eq!(outcome.verdict(), Verdict::Punted(reason));
        // The frame is finished but for its destination.
        let mut frame = outcome.punted[0].bytes.clone();
        assert_eq!(frame[..6], [0; 6]);
        frame[..6].copy_from_slice(&mac_of(REAL).0);
        let mut seen = crate::seen::Seen::read(LAN, &frame);
        if let (Some(now), Some(then)) = (&mut seen.outer, &known.sent[0].outer) {
            assert_ne!(now.id, then.id);
            now.id = then.id;
        }
        assert_eq!(seen, known.sent[0], "{method}");

        director.hop(REAL, NextHop::Failed);
        assert_eq!(director.verdict(&syn(1)), Verdict::Dropped(DropReason::NeighborFailed));
        director.hop(REAL, NextHop::Known(Mac([2; 6])));
        assert_eq!(director.receive(&[syn(1)]).sent[0].dst_mac, Mac([2; 6]));
    }
}
