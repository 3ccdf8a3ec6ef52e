//! IPv6, one worker: the table of verdicts, the bytes that leave, and what is too long.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::packet::build::Build;
use dataplane::packet::icmpv6::kind;
use dataplane::packet::ipv6;
use dataplane::packet::tcp::Flags;
use dataplane::snapshot::neighbors::NextHop;
use dataplane::stats::{DropReason, Event};
use dataplane::types::{Mac, NeighborId, Protocol, PuntReason};

use crate::director::{Director, Verdict, spec};
use crate::packets::*;
use crate::packets6::*;
use crate::seen::{Gre, Outer, Outer6};

const REAL: Ipv6Addr = real6(1);

fn director() -> Director {
    Director::new(&[
        "tcp6 80 rr: 2001:db8:a::1 dr",
        "udp6 53 rr: 2001:db8:a::1 dr",
        "tcp6 81 rr:",
        "tcp 80 rr: 10.0.0.1 dr",
    ])
}

fn to(dst: Ipv6Addr) -> Build {
    Build::eth(ROUTER_MAC, WAN_MAC).ipv6(client6(1), dst)
}

fn icmp(dst: Ipv6Addr, kind: u8, hops: u8) -> Vec<u8> {
    to(dst).ttl(hops).icmp6(kind, 0, 1).payload(b"0123456789abcdef").finish()
}

/// The same in a frame to the group.
fn to_group(frame: &[u8], group: Ipv6Addr) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[..6].copy_from_slice(&ipv6::group_mac(group).0);
    frame
}

#[test]
fn one_packet_one_verdict() {
    use DropReason::*;
    use Verdict::{Dropped, Forwarded6, Held, Punted};
    let own = ipv6::link_local(WAN_MAC);
    let asked = ipv6::solicited_node(VIP6);
    let all_routers = "ff02::2".parse().unwrap();
    let ext = |kind: u8, rest: &[u8]| from6(1).ext(kind, rest).tcp(port_of(1), 80, Flags::SYN, 1);
    let options = [0, 1, 4, 0, 0, 0, 0];
    let later = |protocol: u8| {
        from6(1).fragment6(64, true, 9).protocol(protocol).payload(&[0; 32]).finish()
    };
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<u8>, Verdict)> = vec![
        // TCP or UDP to a virtual service.
        ("tcp syn", syn6(1), Forwarded6(REAL)),
        ("tcp syn padded", tcp6(1, Flags::SYN).pad(90).finish(), Forwarded6(REAL)),
        ("udp", udp6(1), Forwarded6(REAL)),
        ("udp empty", datagram6(1, 0).finish(), Forwarded6(REAL)),
        ("hop-by-hop options", ext(0, &options).finish(), Forwarded6(REAL)),
        ("destination options", ext(60, &options).finish(), Forwarded6(REAL)),
        ("routing header, done", ext(43, &[0; 7]).finish(), Forwarded6(REAL)),
        ("atomic fragment", from6(1).fragment6(0, false, 9).udp(port_of(1), 53).finish(), Forwarded6(REAL)),
        ("first fragment", udp_fragments6(1, 7, 100, 64).remove(0), Forwarded6(REAL)),
        // Neighbor discovery, to a group or an address, whoever it is about.
        ("solicitation of a VIP", to_group(&icmp(asked, kind::NEIGHBOR_SOLICITATION, 255), asked), Punted(PuntReason::Ndp)),
        ("solicitation, unicast", icmp(VIP6, kind::NEIGHBOR_SOLICITATION, 255), Punted(PuntReason::Ndp)),
        ("advertisement to a DIP", icmp(WAN_DIP6, kind::NEIGHBOR_ADVERTISEMENT, 255), Punted(PuntReason::Ndp)),
        ("advertisement to the port", icmp(own, kind::NEIGHBOR_ADVERTISEMENT, 255), Punted(PuntReason::Ndp)),
        // What routers tell takes no room in the queue.
        ("router solicitation", to_group(&icmp(all_routers, kind::ROUTER_SOLICITATION, 255), all_routers), Dropped(NdpRouter)),
        ("router advertisement", to_group(&icmp(ipv6::ALL_NODES, kind::ROUTER_ADVERTISEMENT, 255), ipv6::ALL_NODES), Dropped(NdpRouter)),
        ("redirect", icmp(WAN_DIP6, kind::REDIRECT, 255), Dropped(NdpRouter)),
        ("redirect from afar", icmp(WAN_DIP6, kind::REDIRECT, 254), Dropped(NdpInvalid)),
        ("redirect to another", icmp(client6(2), kind::REDIRECT, 255), Dropped(NotLocal)),
        ("solicitation from afar", icmp(VIP6, kind::NEIGHBOR_SOLICITATION, 254), Dropped(NdpInvalid)),
        ("solicitation in a fragment", from6(1).ttl(255).fragment6(0, false, 1).icmp6(kind::NEIGHBOR_SOLICITATION, 0, 0).payload(&[0; 16]).finish(), Dropped(NdpInvalid)),
        ("solicitation to another", icmp(client6(2), kind::NEIGHBOR_SOLICITATION, 255), Dropped(NotLocal)),
        ("advertisement to the other port", icmp(ipv6::link_local(LAN_MAC), kind::NEIGHBOR_ADVERTISEMENT, 255), Dropped(NotLocal)),
        // Multicast listener discovery.
        ("query", to_group(&icmp(ipv6::ALL_NODES, kind::LISTENER_QUERY, 1), ipv6::ALL_NODES), Punted(PuntReason::Mld)),
        ("query to the port", icmp(own, kind::LISTENER_QUERY, 1), Punted(PuntReason::Mld)),
        ("query to a VIP", icmp(VIP6, kind::LISTENER_QUERY, 1), Dropped(IcmpType)),
        ("report", to_group(&icmp("ff02::16".parse().unwrap(), kind::LISTENER_REPORT_V2, 1), "ff02::16".parse().unwrap()), Dropped(L2Group)),
        // ICMPv6.
        ("echo to a VIP", icmp(VIP6, kind::ECHO_REQUEST, 64), Punted(PuntReason::Echo)),
        ("echo to the DIP", icmp(WAN_DIP6, kind::ECHO_REQUEST, 64), Punted(PuntReason::Echo)),
        ("echo to the other DIP", icmp(LAN_DIP6, kind::ECHO_REQUEST, 64), Punted(PuntReason::Echo)),
        ("echo to the port", icmp(own, kind::ECHO_REQUEST, 64), Punted(PuntReason::Echo)),
        ("echo behind options", to(VIP6).ext(0, &options).ext(60, &options).icmp6(kind::ECHO_REQUEST, 0, 1).finish(), Punted(PuntReason::Echo)),
        ("echo in an atomic fragment", to(VIP6).fragment6(0, false, 9).icmp6(kind::ECHO_REQUEST, 0, 1).finish(), Punted(PuntReason::Echo)),
        ("echo to all nodes", to_group(&icmp(ipv6::ALL_NODES, kind::ECHO_REQUEST, 1), ipv6::ALL_NODES), Dropped(L2Group)),
        ("echo to all nodes, in a frame to us", icmp(ipv6::ALL_NODES, kind::ECHO_REQUEST, 1), Dropped(NotLocal)),
        ("echo reply to the DIP", icmp(WAN_DIP6, kind::ECHO_REPLY, 64), Punted(PuntReason::IcmpToDirector)),
        ("error to the DIP", icmp(WAN_DIP6, kind::PACKET_TOO_BIG, 64), Punted(PuntReason::IcmpToDirector)),
        ("echo reply to a VIP", icmp(VIP6, kind::ECHO_REPLY, 64), Dropped(IcmpType)),
        ("error without a quote", to(VIP6).icmp6(kind::UNREACHABLE, 0, 0).finish(), Dropped(IcmpUnknownFlow)),
        ("error about no flow", icmp_error6(9, Protocol::Tcp, 80), Dropped(IcmpUnknownFlow)),
        // Fragments.
        ("later fragment alone", later(17), Held),
        ("later fragment behind options", later(60), Held),
        ("later fragment of icmp", later(58), Dropped(FragmentToDirector)),
        ("later fragment to the DIP", to(WAN_DIP6).fragment6(64, false, 9).protocol(17).payload(&[0; 8]).finish(), Dropped(FragmentToDirector)),
        ("tcp fragment that hides flags", from6(1).fragment6(8, false, 9).protocol(6).payload(&[0; 32]).finish(), Dropped(BadExtension)),
        ("fragment twice", from6(1).fragment6(0, true, 9).fragment6(0, true, 8).udp(port_of(1), 53).payload(&[0; 8]).finish(), Dropped(BadExtension)),
        // Anything else.
        ("udp where tcp is served", from6(1).udp(1, 80).finish(), Dropped(NoService)),
        ("served over IPv4 only", from6(1).tcp(1, 53, Flags::SYN, 1).finish(), Dropped(NoService)),
        ("tcp to the DIP", to(WAN_DIP6).tcp(1, 80, Flags::SYN, 1).finish(), Dropped(ToDirector)),
        ("no real server", from6(1).tcp(1, 81, Flags::SYN, 1).finish(), Punted(PuntReason::NoRealServer)),
        ("sctp", from6(1).protocol(132).payload(&[0; 20]).finish(), Dropped(ProtocolUnsupported)),
        ("no next header", from6(1).protocol(59).finish(), Dropped(ProtocolUnsupported)),
        ("to another host", to(client6(2)).tcp(1, 80, Flags::SYN, 1).finish(), Dropped(NotLocal)),
        ("to the VIP of IPv4, mapped", to(VIP.to_ipv6_mapped()).tcp(1, 80, Flags::SYN, 1).finish(), Dropped(NotLocal)),
        ("routing header", ext(43, &[0, 2, 1, 0, 0, 0, 0]).finish(), Dropped(RoutingHeader)),
        ("nine extension headers", (0..9).fold(from6(1), |b, _| b.ext(60, &options)).udp(1, 53).finish(), Dropped(ExtensionLimit)),
        ("hop-by-hop options late", from6(1).ext(60, &options).ext(0, &options).udp(1, 53).finish(), Dropped(BadExtension)),
        ("for another station", { let mut f = syn6(1); f[5] ^= 1; f }, Dropped(NotOurMac)),
        ("a packet in a group's frame", to_group(&syn6(1), ipv6::ALL_NODES), Dropped(L2Group)),
        ("broadcast", { let mut f = udp6(1); f[..6].fill(0xff); f }, Dropped(L2Group)),
        ("mdns", to_group(&to("ff02::fb".parse().unwrap()).udp(5353, 5353).finish(), "ff02::fb".parse().unwrap()), Dropped(L2Group)),
        ("half a header", syn6(1)[..40].to_vec(), Dropped(TooShort)),
        ("cut", syn6(1)[..60].to_vec(), Dropped(TooShort)),
        ("version 4", with_ip6(syn6(1), |ip| ip[0] = 0x40), Dropped(BadIpv6Header)),
        ("tcp data offset 4", with_ip6(syn6(1), |ip| ip[52] = 0x40), Dropped(BadL4Header)),
        ("from loopback", with_ip6(syn6(1), |ip| { ip[8..24].fill(0); ip[23] = 1; }), Dropped(BadSource)),
        ("from nobody", with_ip6(syn6(1), |ip| ip[8..24].fill(0)), Dropped(BadSource)),
        ("from a link-local address", with_ip6(syn6(1), |ip| { ip[8..16].fill(0); ip[8..10].copy_from_slice(&[0xfe, 0x80]); }), Dropped(BadSource)),
        ("from a group", with_ip6(syn6(1), |ip| ip[8] = 0xff), Dropped(BadSource)),
        ("from the VIP (land)", with_ip6(syn6(1), |ip| ip[8..24].copy_from_slice(&VIP6.octets())), Dropped(BadSource)),
        // The hop limit: 1 would reach 0, and 0 should never have come.
        ("hop limit 2", tcp6(1, Flags::SYN).ttl(2).finish(), Forwarded6(REAL)),
        ("hop limit 1", tcp6(1, Flags::SYN).ttl(1).finish(), Punted(PuntReason::TtlExceeded)),
        ("hop limit 0", tcp6(1, Flags::SYN).ttl(0).finish(), Punted(PuntReason::TtlExceeded)),
        // A segment without a flow.
        ("ack", ack6(1), Punted(PuntReason::TcpReset)),
        ("rst", tcp6(1, Flags::RST).finish(), Dropped(ErrorSuppressed)),
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

const FAR4: Ipv4Addr = Ipv4Addr::new(10, 8, 0, 9);

#[test]
fn each_method_sends_its_bytes() {
    let lan4 = Outer {
        src: LAN_DIP,
        dst: [10, 0, 0, 1].into(),
        tos: 0xb9,
        ttl: 8,
        id: 1,
        df: false,
        fragment: (0, false),
        gre: None,
    };
    let lan6 = Outer6 { src: LAN_DIP6, dst: REAL, tos: 0xb9, ttl: 8, label: 0, gre: None };
    let gre = |checksum, key| Some(Gre { checksum, key });
    let over4 = |gre| (Some(Outer { gre, ..lan4.clone() }), None);
    let over6 = |gre| (None, Some(Outer6 { gre, ..lan6.clone() }));
    let far4 = (Some(Outer { src: WAN_DIP, dst: FAR4, ..lan4.clone() }), None);
    let far6 = (None, Some(Outer6 { src: WAN_DIP6, dst: FAR6, ..lan6.clone() }));
    let (lan, real, real4) = ((LAN, LAN_MAC), mac_of(REAL), mac_of([10, 0, 0, 1]));
    let wan = (WAN, WAN_MAC);
    let tcp6 = tcp6(1, Flags::SYN).ttl(9).tos(0xb9).flow_label(0x12345).payload(b"odd");
    let tcp4 = tcp(1, Flags::SYN).ttl(9).tos(0xb9).id(77).payload(b"odd");
    let (tcp6, tcp4) = (tcp6.pad(120).finish(), tcp4.pad(120).finish());
    for (frame, service, (port, src_mac), dst_mac, outer) in [
        (&tcp6, "tcp6 80 rr: 2001:db8:a::1 dr", lan, real, (None, None)),
        (&tcp6, "tcp6 80 rr: 2001:db8:a::1 ipip", lan, real, over6(None)),
        (&tcp6, "tcp6 80 rr: 10.0.0.1 ipip", lan, real4, over4(None)),
        (&tcp4, "tcp 80 rr: 2001:db8:a::1 ipip", lan, real, over6(None)),
        (&tcp6, "tcp6 80 rr: 2001:db8:a::1 gre", lan, real, over6(gre(false, None))),
        (&tcp6, "tcp6 80 rr: 2001:db8:a::1 gre key=7 sum", lan, real, over6(gre(true, Some(7)))),
        (&tcp6, "tcp6 80 rr: 10.0.0.1 gre key=7", lan, real4, over4(gre(false, Some(7)))),
        (&tcp6, "tcp6 80 rr: 10.0.0.1 gre sum", lan, real4, over4(gre(true, None))),
        (&tcp4, "tcp 80 rr: 2001:db8:a::1 gre sum", lan, real, over6(gre(true, None))),
        (&tcp6, "tcp6 80 rr: 2001:db8:f::9 ipip", wan, mac_of(GATEWAY6), far6.clone()),
        (&tcp4, "tcp 80 rr: 2001:db8:f::9 ipip", wan, mac_of(GATEWAY6), far6),
        (&tcp6, "tcp6 80 rr: 10.8.0.9 ipip", wan, mac_of(GATEWAY), far4),
    ] {
        let mut director = Director::new(&[service]);
        let outcome = director.receive_one(frame);
        assert_eq!(outcome.sent.len(), 1, "{service}");
        let seen = &outcome.sent[0];
        assert_eq!((seen.port, seen.src_mac, seen.dst_mac), (port, src_mac, dst_mac), "{service}");
        let delivered = match frame[14] >> 4 {
            6 => one_hop_less6(frame),
            _ => with_ip(frame[..14 + seen.inner.len()].to_vec(), |ip| ip[8] -= 1)[14..].to_vec(),
        };
        assert_eq!(seen.inner, delivered, "{service}: inner untouched but the hop");
        let labels = seen.outer6.as_ref().map_or(0, |o| o.label);
        assert_eq!(seen.outer6.is_some(), labels != 0, "{service}: labelled");
        let mut outer6 = seen.outer6.clone();
        outer6.iter_mut().for_each(|o| o.label = 0);
        // IPv4 with DF clear has a fresh id, and 6in4 of no more than 1280 bytes is like it.
        assert_eq!((seen.outer.clone(), outer6), outer, "{service}");
        let kept = match outer {
            (None, None) => frame.len() - 14 - seen.inner.len(),
            _ => 0,
        };
        assert_eq!(seen.padding, kept, "{service}: padding never ends up inside a tunnel");
        let real = director.stats[0].real(director.real_id(service.split(' ').nth(3).unwrap()));
        let real = real.unwrap();
        assert_eq!((real.packets.get(), real.bytes.get()), (1, seen.inner.len() as u64));
    }
}

#[test]
fn packets_of_a_flow_have_one_label_and_flows_differ() {
    let mut director = Director::new(&["tcp6 80 rr: 2001:db8:a::1 ipip"]);
    let label = |d: &mut Director, packet: &[u8]| {
        d.receive_one(packet).sent[0].outer6.as_ref().unwrap().label
    };
    let first = label(&mut director, &syn6(1));
    assert_eq!(label(&mut director, &ack6(1)), first);
    assert_ne!(label(&mut director, &syn6(2)), first);
}

/// A segment whose IPv6 packet is `len` bytes long.
fn segment6(n: u16, len: usize) -> Vec<u8> {
    tcp6(n, Flags::SYN).payload(&vec![0x5a; len - 60]).finish()
}

#[test]
fn what_is_too_big_is_told_and_never_below_1280() {
    let punted = |mtu| Verdict::Punted(PuntReason::FragmentationNeeded { mtu });
    for (real, overhead) in [
        ("2001:db8:a::1 dr", 0),
        ("2001:db8:a::1 ipip", 40),
        ("2001:db8:a::1 gre key=1", 48),
        ("10.0.0.1 ipip", 20),
        ("10.0.0.1 gre sum", 28),
    ] {
        let mut director = Director::new(&[&format!("tcp6 80 rr: {real}")]);
        let fits = segment6(1, MTU - overhead);
        let outcome = director.receive_one(&fits);
        assert!(matches!(outcome.verdict(), Verdict::Forwarded(_) | Verdict::Forwarded6(_)));
        assert_eq!(outcome.sent[0].ip_len(), MTU, "{real}");
        if let Some(outer) = &outcome.sent[0].outer {
            assert!(outer.df, "above 1280 bytes routers must not cut");
        }
        let long = segment6(1, MTU - overhead + 1);
        assert_eq!(director.verdict(&long), punted((MTU - overhead) as u16), "{real}");
        // The hop limit comes first.
        let dying = with_ip6(long, |ip| ip[7] = 1);
        assert_eq!(director.verdict(&dying), Verdict::Punted(PuntReason::TtlExceeded));
    }
}

fn with_mtu(mtu: u16, service: &str) -> Director {
    let mut spec = spec(&[service]);
    spec.ports[1].mtu = mtu;
    Director::of(1, 100, spec)
}

#[test]
fn a_packet_of_1280_bytes_is_delivered_by_a_narrow_port_through_ipv4() {
    let mut spec = spec(&["tcp6 80 rr: 10.0.0.1 ipip"]);
    spec.ports[1].mtu = 600;
    spec.ports[1].addresses.truncate(1);
    let mut director = Director::of(1, 100, spec);
    let packet = segment6(1, 1280);
    let outcome = director.receive_one(&packet);
    assert_eq!(outcome.verdict(), Verdict::Forwarded([10, 0, 0, 1].into()));
    assert!(
        outcome.event(Event::FragmentsSent) == 3 && outcome.sent.iter().all(|s| s.ip_len() <= 600)
    );
    let whole: Vec<u8> = outcome.sent.iter().flat_map(|s| s.inner.clone()).collect();
    assert_eq!(whole, one_hop_less6(&packet));
    let long = director.verdict(&segment6(1, 1281));
    assert_eq!(long, Verdict::Punted(PuntReason::FragmentationNeeded { mtu: 1280 }));
}

#[test]
fn ipv4_too_long_for_ipv6_is_cut_before_it_goes_in() {
    for (method, overhead) in [("ipip", 40), ("gre key=5 sum", 52)] {
        let mut director = with_mtu(1500, &format!("tcp 80 rr: 2001:db8:a::1 {method}"));
        let df = tcp(1, Flags::SYN).df(true).payload(&vec![1; 1500 - 40 - overhead + 1]).finish();
        let mtu = (1500 - overhead) as u16;
        let told = Verdict::Punted(PuntReason::FragmentationNeeded { mtu });
        assert_eq!(director.verdict(&df), told);
        let packet = tcp(1, Flags::SYN).id(9).payload(&[7; 3000]).finish();
        let outcome = director.receive_one(&packet);
        assert_eq!(outcome.verdict(), Verdict::Forwarded6(REAL));
        assert_eq!(outcome.event(Event::FragmentsSent), 3, "{method}");
        let mut whole: Vec<u8> = Vec::new();
        for seen in &outcome.sent {
            assert!(seen.ip_len() <= 1500);
            let ip = seen.ip();
            assert_eq!((ip.identification(), ip.ttl()), (9, 63));
            assert_eq!(usize::from(ip.fragments_offset().value()) * 8, whole.len());
            whole.extend(&seen.inner[20..]);
        }
        assert_eq!(whole, packet[34..], "{method}");
        let real = director.stats[0].real(director.real_id("2001:db8:a::1")).unwrap();
        assert_eq!((real.packets.get(), real.bytes.get()), (1, packet.len() as u64 - 14));
        // Nothing of it goes when there is no room for all.
        director.pool.left.set(2);
        assert_eq!(director.verdict(&packet), Verdict::Dropped(DropReason::NoBuffer));
        let traffic = director.real_traffic(director.real_id("2001:db8:a::1"));
        assert_eq!(traffic.packets, 1, "{method}: no more than were forwarded");
    }
}

#[test]
fn a_learned_path_mtu_is_told_to_clients_but_never_below_1280() {
    let too_big = |mtu| Verdict::Punted(PuntReason::FragmentationNeeded { mtu });
    for (real, overhead) in [("2001:db8:a::1", 40), ("10.0.0.1", 20)] {
        let mut director = Director::new(&[&format!("tcp6 80 rr: {real} ipip")]);
        director.learn(&[(real, 1400)]);
        let longest = segment6(1, 1400 - overhead);
        let delivered = director.receive_one(&longest);
        assert_eq!(delivered.event(Event::Forwarded), 1, "{real}");
        let verdict = director.verdict(&segment6(1, 1400 - overhead + 1));
        assert_eq!(verdict, too_big(1400 - overhead as u16), "{real}");
        // A path too narrow for IPv6: what clients may always send goes out all the same.
        director.learn(&[(real, 1290)]);
        assert_eq!(director.verdict(&segment6(1, 1281)), too_big(1280), "{real}");
        assert_eq!(director.receive_one(&segment6(1, 1280)).event(Event::Forwarded), 1, "{real}");
    }
    // IPv4 inside: cut to what passes, before it goes in.
    let mut director = Director::new(&["tcp 80 rr: 2001:db8:a::1 ipip"]);
    director.learn(&[("2001:db8:a::1", 1300)]);
    let cut = director.receive_one(&tcp(1, Flags::SYN).payload(&[7; 1400]).finish());
    assert_eq!(cut.event(Event::FragmentsSent), 2);
    assert!(cut.sent.iter().all(|s| s.ip_len() <= 1300));
}

#[test]
fn an_unknown_next_hop_is_resolved_by_the_slow_path() {
    for (service, hop) in [
        ("tcp6 80 rr: 2001:db8:a::1 dr", IpAddr::from(REAL)),
        ("tcp6 80 rr: 2001:db8:f::9 ipip", GATEWAY6.into()),
        ("tcp6 80 rr: 10.0.0.1 gre", [10, 0, 0, 1].into()),
    ] {
        let mut director = Director::new(&[service]);
        let known = director.receive(&[syn6(1)]).sent.remove(0);
        director.hop(hop, NextHop::Unknown);
        let outcome = director.receive(&[syn6(1)]);
        let reason = PuntReason::Resolve { neighbor: NeighborId(0), port: known.port };
        assert_eq!(outcome.verdict(), Verdict::Punted(reason));
        let mut frame = outcome.punted[0].bytes.clone();
        assert_eq!(frame[..6], [0; 6]);
        frame[..6].copy_from_slice(&mac_of(hop).0);
        let mut seen = crate::seen::Seen::read(known.port, &frame);
        if let (Some(now), Some(then)) = (&mut seen.outer, &known.outer) {
            now.id = then.id;
        }
        assert_eq!(seen, known, "{service}");
        director.hop(hop, NextHop::Failed);
        assert_eq!(director.verdict(&syn6(1)), Verdict::Dropped(DropReason::NeighborFailed));
        director.hop(hop, NextHop::Known(Mac([2; 6])));
        assert_eq!(director.receive(&[syn6(1)]).sent[0].dst_mac, Mac([2; 6]));
    }
}

#[test]
fn without_headroom_a_tunnel_cannot_be_entered() {
    let mut director = Director::new(&["tcp6 80 rr: 2001:db8:a::1 ipip"]);
    let outcome = director.outcome(|d| {
        let mut tight = d.census.buffer(&syn6(1));
        tight.headroom = 39;
        let mut enough = d.census.buffer(&syn6(2));
        enough.headroom = 40;
        d.burst(0, WAN, vec![tight, enough]);
    });
    assert_eq!(outcome.drops(DropReason::NoHeadroom), 1);
    assert_eq!(outcome.event(Event::Forwarded), 1);
}
