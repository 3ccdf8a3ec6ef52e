//! etherparse as an independent judge of IPv6: it reads every packet emitted here, with the fields
//! meant and right checksums, and it agrees with the parser on what a frame says.

use std::net::Ipv6Addr;

use dataplane::packet::build::Build;
use dataplane::packet::ipv6::{self, ext};
use dataplane::packet::parse::L4;
use dataplane::packet::parse6::{ParseError, parse};
use dataplane::packet::tcp::{self, Flags};
use dataplane::packet::{icmpv6, mld, ndp};
use dataplane::types::Mac;
use etherparse::{IpNumber, NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, 0x80);
const DIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 8, 0, 0, 0, 0, 0x10);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Reads an IPv6 packet and checks its checksums. L4 is absent in fragments.
fn judge(ip: &[u8]) -> (etherparse::Ipv6Header, Option<TransportSlice<'_>>) {
    let sliced = SlicedPacket::from_ip(ip).expect("a packet etherparse reads");
    let Some(NetSlice::Ipv6(net)) = sliced.net else { panic!("not IPv6") };
    let header = net.header().to_header();
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let right = tcp.calc_checksum_ipv6(header.source, header.destination);
            assert_eq!(Ok(tcp.checksum()), right, "TCP checksum");
        }
        Some(TransportSlice::Udp(udp)) => {
            let right = udp.to_header().calc_checksum_ipv6(&header, udp.payload());
            assert_eq!(Ok(udp.checksum()), right, "UDP checksum");
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            assert!(icmp.is_checksum_valid(header.source, header.destination), "ICMPv6 checksum");
        }
        _ => {}
    }
    (header, sliced.transport)
}

#[derive(Debug, Clone)]
struct Sent {
    src: u64,
    tos: u8,
    ttl: u8,
    label: u32,
    kinds: Vec<u8>,
    fragment: Option<(u16, bool)>,
    l4: u8,
    ports: (u16, u16),
    flags: u8,
    payload: Vec<u8>,
    padding: usize,
}

impl Sent {
    fn build(&self) -> Vec<u8> {
        let src = Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(self.src));
        let mut build = Build::eth(MAC, MAC).ipv6(src, VIP);
        build = build.tos(self.tos).ttl(self.ttl).flow_label(self.label);
        for &kind in &self.kinds {
            build = match kind {
                51 => build.ext(51, &[&[4][..], &[0; 22]].concat()),
                43 => build.ext(43, &[0; 7]),
                kind => build.ext(kind, &[0, 1, 4, 0, 0, 0, 0]),
            };
        }
        if let Some((offset, more)) = self.fragment {
            build = build.fragment6(offset, more, 0x0102_0304);
        }
        let (sport, dport) = self.ports;
        build = match self.l4 {
            _ if self.fragment.is_some_and(|(offset, _)| offset > 0) => build.protocol(17),
            6 => build.tcp(sport, dport, Flags(self.flags), 7),
            17 => build.udp(sport, dport),
            58 => build.icmp6(128, 0, u32::from(sport)),
            other => build.protocol(other),
        };
        let mut frame = build.payload(&self.payload).finish();
        frame.resize(frame.len() + self.padding, 0xa5);
        frame
    }
}

prop_compose! {
    fn sent()(
        src in 1u64.., tos: u8, ttl: u8, label in 0u32..1 << 20,
        first in prop::option::of(Just(0u8)),
        kinds in prop::collection::vec(prop::sample::select(vec![43u8, 51, 60]), 0..4),
        fragment in prop_oneof![
            3 => Just(None),
            // etherparse 0.19 takes offsets of 32, 64 and 96 bytes for none.
            1 => (0u16..400, any::<bool>())
                .prop_filter("not what etherparse misreads", |(n, _)| ![4, 8, 12].contains(n))
                .prop_map(|(n, more)| Some((n * 8, more))),
        ],
        l4 in prop::sample::select(vec![6u8, 17, 58, 47, 50, 59]),
        ports: (u16, u16), flags: u8,
        payload in prop::collection::vec(any::<u8>(), 0..100), padding in 0usize..30,
    ) -> Sent {
        let kinds = first.into_iter().chain(kinds).collect();
        let mut payload = payload;
        if fragment.is_some_and(|(_, more)| more) {
            // "an integer multiple of 8 octets long", and TCP is 20.
            let l4_len = match (fragment, l4) {
                (Some((0, _)), 6) => 20,
                _ => 0,
            };
            payload.truncate(payload.len() / 8 * 8);
            payload.resize(payload.len() + (8 - l4_len % 8) % 8, 0);
        }
        Sent { src, tos, ttl, label, kinds, fragment, l4, ports, flags, payload, padding }
    }
}

proptest! {
    #[test]
    fn the_parser_agrees_with_etherparse(sent in sent()) {
        let frame = sent.build();
        let ours = parse(&frame, frame.len()).unwrap();
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(NetSlice::Ipv6(net)) = sliced.net else { panic!("not IPv6") };
        let header = net.header();
        prop_assert_eq!((ours.src, ours.dst), (header.source_addr(), header.destination_addr()));
        prop_assert_eq!(ours.payload_len, header.payload_length());
        prop_assert_eq!(ours.hop_limit, header.hop_limit());
        prop_assert_eq!(ours.traffic_class, header.traffic_class());
        prop_assert_eq!(ours.flow_label, header.flow_label().value());
        if ours.payload_len == 0 {
            // etherparse takes it for a jumbogram's, and Ethernet padding for its payload.
            return Ok(());
        }
        let payload = net.payload();
        prop_assert_eq!(ours.protocol, payload.ip_number.0);
        prop_assert_eq!(ours.is_fragment(), payload.fragmented);
        prop_assert_eq!(usize::from(ours.l4_len()), payload.payload.len());
        prop_assert_eq!(&frame[ours.l4_offset()..][..payload.payload.len()], payload.payload);
        if payload.fragmented {
            prop_assert!(sliced.transport.is_none());
            let later = ours.fragment.unwrap().is_later();
            prop_assert_eq!(later, ours.l4 == L4::LaterFragment);
            return Ok(());
        }
        let expected = match &sliced.transport {
            Some(TransportSlice::Tcp(tcp)) => L4::Tcp {
                sport: tcp.source_port(),
                dport: tcp.destination_port(),
                flags: Flags(tcp.slice()[13]),
            },
            Some(TransportSlice::Udp(udp)) => {
                L4::Udp { sport: udp.source_port(), dport: udp.destination_port() }
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                L4::Icmp { kind: icmp.type_u8(), code: icmp.code_u8() }
            }
            _ => L4::Other,
        };
        prop_assert_eq!(ours.l4, expected);
        judge(&frame[14..14 + ours.total_len() as usize]);
    }

    #[test]
    fn what_is_read_of_damaged_frames_etherparse_reads_too(
        sent in sent(), changes in prop::collection::vec((12usize..140, any::<u8>()), 1..4),
        len in 0usize..200,
    ) {
        let mut frame = sent.build();
        for (at, byte) in changes {
            if let Some(to) = frame.get_mut(at) {
                *to = byte;
            }
        }
        frame.truncate(len.max(20));
        let Ok(ours) = parse(&frame, frame.len()) else { return Ok(()) };
        // etherparse takes a payload length of zero for a jumbogram's, and has limits of its own
        // on extension headers that come twice.
        let lax = etherparse::LaxSlicedPacket::from_ethernet(&frame).unwrap();
        let Some(etherparse::LaxNetSlice::Ipv6(net)) = lax.net else { panic!("not IPv6") };
        prop_assert_eq!((ours.src, ours.dst), {
            let header = net.header();
            (header.source_addr(), header.destination_addr())
        });
        if ours.payload_len > 0 && net.payload().ip_number.0 == ours.protocol {
            prop_assert!(net.payload().payload.len() >= usize::from(ours.l4_len()));
        }
    }

    #[test]
    fn errors_are_read_by_etherparse(sent in sent(), mtu in 1280u32..9000) {
        let frame = sent.build();
        let about = ipv6::Packet::new(&frame[14..]).unwrap();
        let mut out = [0; icmpv6::MAX_ERROR_LEN];
        let error = icmpv6::Error::PacketTooBig { mtu };
        let n = icmpv6::emit_error(&mut out, error, &about, DIP).unwrap();
        let (header, transport) = judge(&out[..n]);
        prop_assert_eq!(header.destination_addr(), about.src());
        prop_assert_eq!(header.next_header, IpNumber::IPV6_ICMP);
        let Some(TransportSlice::Icmpv6(icmp)) = transport else { panic!("no ICMPv6") };
        prop_assert_eq!(icmp.icmp_type(), etherparse::Icmpv6Type::PacketTooBig { mtu });
        prop_assert_eq!(icmp.payload(), &about.bytes()[..about.bytes().len().min(1232)]);
    }
}

#[test]
fn messages_of_the_link_are_read_by_etherparse() {
    let mut out = [0; 1400];
    let solicitation = ndp::Message::solicitation(MAC, DIP, VIP);
    for message in [
        solicitation,
        ndp::Message::probe(MAC, DIP, VIP),
        ndp::Message::duplicate_probe(VIP),
        ndp::Message::announcement(MAC, VIP, VIP),
        solicitation.answer(MAC),
    ] {
        let n = message.emit(&mut out).unwrap();
        let (header, transport) = judge(&out[..n]);
        assert_eq!((header.hop_limit, header.destination_addr()), (255, message.dst));
        let Some(TransportSlice::Icmpv6(icmp)) = transport else { panic!("no ICMPv6") };
        let advertised = matches!(message.body, ndp::Body::Advertisement { .. });
        assert_eq!(icmp.type_u8(), if advertised { 136 } else { 135 });
    }
    let groups = vec![ipv6::solicited_node(VIP); mld::MAX_GROUPS];
    let src = ipv6::link_local(MAC);
    let n = mld::emit_report(&mut out, MAC, src, mld::Record::Join, &groups).unwrap();
    let (header, transport) = judge(&out[14..n]);
    assert_eq!((header.hop_limit, header.next_header), (1, IpNumber::IPV6_HEADER_HOP_BY_HOP));
    let Some(TransportSlice::Icmpv6(icmp)) = transport else { panic!("no ICMPv6") };
    assert_eq!(icmp.type_u8(), 143);
}

#[test]
fn resets_are_read_by_etherparse() {
    let frame = Build::eth(MAC, MAC).ipv6(CLIENT, VIP).ext(60, &[0, 1, 4, 0, 0, 0, 0]);
    let frame = frame.tcp(1024, 443, Flags::SYN, 7).payload(b"hi").finish();
    let mut out = [0; tcp::RST_PACKET_LEN6];
    let about = parse(&frame, frame.len()).unwrap();
    let l4 = &frame[about.l4_offset()..];
    let n = tcp::emit_rst6(&mut out, CLIENT, VIP, l4, about.l4_len()).unwrap();
    assert_eq!(n, out.len());
    let (header, transport) = judge(&out);
    assert_eq!((header.source_addr(), header.destination_addr()), (VIP, CLIENT));
    let Some(TransportSlice::Tcp(tcp)) = transport else { panic!("no TCP") };
    assert_eq!((tcp.source_port(), tcp.destination_port()), (443, 1024));
    assert_eq!((tcp.rst(), tcp.ack(), tcp.acknowledgment_number()), (true, true, 7 + 1 + 2));
}

#[test]
fn limits_are_those_documented() {
    let many = |n: usize| {
        let ip = Build::eth(MAC, MAC).ipv6(CLIENT, VIP);
        let build = (0..n).fold(ip, |build, _| build.ext(60, &[0, 1, 4, 0, 0, 0, 0]));
        let frame = build.udp(1, 2).finish();
        parse(&frame, frame.len()).map(drop)
    };
    assert_eq!(many(ext::MAX_HEADERS), Ok(()));
    assert_eq!(many(ext::MAX_HEADERS + 1), Err(ParseError::ExtensionLimit));
}
