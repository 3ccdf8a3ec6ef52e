//! etherparse as an independent judge: it reads every packet emitted here, with the fields meant
//! and right checksums, and it agrees with the fast-path parser on what a frame says.

use std::net::Ipv4Addr;

use dataplane::packet::buf::RxChecksum;
use dataplane::packet::build::Build;
use dataplane::packet::parse::{L4, Parsed, parse};
use dataplane::packet::tcp::{self, Flags};
use dataplane::packet::{icmpv4, ipv4};
use dataplane::types::Mac;
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

const DIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// Reads an IPv4 packet and checks its checksums. L4 is absent in fragments.
fn judge(ip: &[u8]) -> (etherparse::Ipv4Header, Option<TransportSlice<'_>>) {
    let sliced = SlicedPacket::from_ip(ip).expect("a packet etherparse reads");
    let Some(NetSlice::Ipv4(net)) = sliced.net else { panic!("not IPv4") };
    let header = net.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 checksum");
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let right = tcp.calc_checksum_ipv4(header.source, header.destination);
            assert_eq!(Ok(tcp.checksum()), right, "TCP checksum");
        }
        Some(TransportSlice::Udp(udp)) => {
            let right = udp.to_header().calc_checksum_ipv4(&header, udp.payload());
            assert_eq!(Ok(udp.checksum()), right, "UDP checksum");
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            let right = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), right, "ICMP checksum");
        }
        _ => {}
    }
    (header, sliced.transport)
}

/// A unicast source and a destination other than it.
fn addresses() -> impl Strategy<Value = (Ipv4Addr, Ipv4Addr)> {
    (1u8..224, any::<[u8; 3]>(), any::<[u8; 4]>())
        .prop_map(|(a, [b, c, d], dst)| (Ipv4Addr::new(a, b, c, d), Ipv4Addr::from(dst)))
        .prop_filter("a host, and another", |(src, dst)| src.octets()[0] != 127 && src != dst)
}

#[derive(Debug, Clone)]
struct Ip {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    tos: u8,
    ttl: u8,
    id: u16,
    df: bool,
    options: usize,
    payload: Vec<u8>,
    padding: usize,
}

impl Ip {
    fn build(&self) -> Build {
        Build::eth(Mac([2; 6]), Mac([4; 6]))
            .ipv4(self.src, self.dst)
            .tos(self.tos)
            .ttl(self.ttl)
            .id(self.id)
            .df(self.df)
            .options(&vec![1; self.options * 4])
            .payload(&self.payload)
    }

    /// The frame with padding, and its length without.
    fn finish(&self, build: Build) -> (Vec<u8>, usize) {
        let mut frame = build.finish();
        let len = frame.len();
        frame.resize(len + self.padding, 0xa5);
        (frame, len)
    }
}

prop_compose! {
    fn ip()(
        (src, dst) in addresses(), tos: u8, ttl: u8, id: u16, df: bool, options in 0usize..=10,
        payload in proptest::collection::vec(any::<u8>(), 0..700),
        padding in prop_oneof![Just(0), 0usize..50],
    ) -> Ip {
        Ip { src, dst, tos, ttl, id, df, options, payload, padding }
    }
}

/// Checks that both say the same of the IP header.
fn agree(frame: &[u8], ip: &Ip) -> L4 {
    let ours = match parse(frame, frame.len(), RxChecksum::Unknown) {
        Ok(Parsed::Ipv4(packet)) => packet,
        other => panic!("{other:?}"),
    };
    let (header, _) = judge(&frame[14..]);
    assert_eq!((ours.tos, ours.ttl, ours.id), (ip.tos, ip.ttl, ip.id));
    assert_eq!(ours.src.octets(), header.source);
    assert_eq!(ours.dst.octets(), header.destination);
    assert_eq!(ours.tos, header.dscp.value() << 2 | header.ecn.value());
    assert_eq!((ours.ttl, ours.id), (header.time_to_live, header.identification));
    assert_eq!(ours.protocol, header.protocol.0);
    assert_eq!(usize::from(ours.header_len), header.header_len());
    assert_eq!(ours.total_len, header.total_len);
    assert_eq!(ours.fragment.df(), header.dont_fragment);
    assert_eq!(ours.fragment.more(), header.more_fragments);
    assert_eq!(u32::from(ours.fragment.offset()), u32::from(header.fragment_offset.value()) * 8);
    ours.l4
}

proptest! {
    #[test]
    fn tcp_is_read_alike(ip in ip(), sport: u16, dport: u16, flags: u8, seq: u32, ack: u32) {
        let build = ip.build().tcp(sport, dport, Flags(flags), seq).ack(ack);
        let (frame, len) = ip.finish(build);
        let l4 = agree(&frame, &ip);
        prop_assert_eq!(l4, L4::Tcp { sport, dport, flags: Flags(flags) });
        let (_, Some(TransportSlice::Tcp(tcp))) = judge(&frame[14..len]) else { panic!() };
        prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (sport, dport));
        prop_assert_eq!((tcp.sequence_number(), tcp.acknowledgment_number()), (seq, ack));
        let low = [tcp.fin(), tcp.syn(), tcp.rst(), tcp.psh()];
        let high = [tcp.ack(), tcp.urg(), tcp.ece(), tcp.cwr()];
        for (i, bit) in low.into_iter().chain(high).enumerate() {
            prop_assert_eq!(bit, flags >> i & 1 == 1);
        }
        prop_assert_eq!(tcp.payload(), &ip.payload);
    }

    #[test]
    fn udp_is_read_alike(ip in ip(), sport: u16, dport: u16) {
        let (frame, len) = ip.finish(ip.build().udp(sport, dport));
        prop_assert_eq!(agree(&frame, &ip), L4::Udp { sport, dport });
        let (_, Some(TransportSlice::Udp(udp))) = judge(&frame[14..len]) else { panic!() };
        prop_assert_eq!((udp.source_port(), udp.destination_port()), (sport, dport));
        prop_assert_eq!(udp.payload(), &ip.payload);
    }

    #[test]
    fn icmp_is_read_alike(ip in ip(), rest: u32) {
        let (frame, len) = ip.finish(ip.build().icmp(8, 0, rest));
        prop_assert_eq!(agree(&frame, &ip), L4::Icmp { kind: 8, code: 0 });
        let (_, Some(TransportSlice::Icmpv4(icmp))) = judge(&frame[14..len]) else { panic!() };
        prop_assert_eq!(icmp.bytes5to8(), rest.to_be_bytes());
        prop_assert_eq!(icmp.payload(), &ip.payload);
    }

    #[test]
    fn fragments_are_read_alike(ip in ip(), units in 3u16..8000, more: bool) {
        let (frame, _) = ip.finish(ip.build().protocol(17).fragment(units * 8, more));
        prop_assert_eq!(agree(&frame, &ip), L4::LaterFragment);
    }

    #[test]
    fn what_we_read_etherparse_reads(
        mut frame in proptest::array::uniform32(any::<[u8; 3]>()).prop_map(|a| a.concat()),
        ihl in 5u8..9, len in 20u16..80, protocol in prop::sample::select(vec![1u8, 6, 17, 4]),
        offset in 5u8..12,
    ) {
        frame[12..14].copy_from_slice(&[8, 0]);
        frame[14] = 0x40 | ihl;
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        frame[20] &= 0xe0;
        frame[21] = 0;
        frame[23] = protocol;
        let l4_at = 14 + usize::from(ihl) * 4;
        match protocol {
            6 => frame[l4_at + 12] = offset << 4,
            17 => frame[l4_at + 4..l4_at + 6].copy_from_slice(&[0, offset]),
            _ => {}
        }
        if let Ok(Parsed::Ipv4(ours)) = parse(&frame, frame.len(), RxChecksum::Good) {
            let theirs = etherparse::Ipv4HeaderSlice::from_slice(&frame[14..]);
            let theirs = theirs.expect("etherparse reads it too").to_header();
            prop_assert_eq!(ours.src.octets(), theirs.source);
            prop_assert_eq!(ours.total_len, theirs.total_len);
            let l4 = &frame[ours.l4_offset()..14 + usize::from(ours.total_len)];
            match ours.l4 {
                L4::Tcp { sport, .. } if !ours.fragment.is_fragment() => {
                    let tcp = etherparse::TcpSlice::from_slice(l4).unwrap();
                    prop_assert_eq!(tcp.source_port(), sport);
                }
                L4::Udp { sport, .. } if !ours.fragment.is_fragment() => {
                    let udp = etherparse::UdpSlice::from_slice(l4).unwrap();
                    prop_assert_eq!(udp.source_port(), sport);
                }
                _ => {}
            }
        }
    }

    #[test]
    fn resets_are_right(ip in ip(), sport: u16, dport: u16, flags: u8, seq: u32, ack: u32, id: u16) {
        let build = ip.build().tcp(sport, dport, Flags(flags), seq).ack(ack);
        let (frame, _) = ip.finish(build);
        let about = ipv4::Packet::new(&frame[14..]).unwrap();
        let mut out = [0; 64];
        let result = tcp::emit_rst(&mut out, &about, id);
        if flags & 4 != 0 {
            prop_assert!(result.is_err());
            return Ok(());
        }
        let (header, l4) = judge(&out[..result.unwrap()]);
        let Some(TransportSlice::Tcp(rst)) = l4 else { panic!() };
        prop_assert_eq!(header.source, ip.dst.octets());
        prop_assert_eq!(header.destination, ip.src.octets());
        prop_assert_eq!((rst.source_port(), rst.destination_port()), (dport, sport));
        prop_assert!(rst.rst() && !rst.syn() && !rst.fin());
        let len = ip.payload.len() as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        let expected =
            if flags & 0x10 != 0 { (false, ack, 0) } else { (true, 0, seq.wrapping_add(len)) };
        prop_assert_eq!((rst.ack(), rst.sequence_number(), rst.acknowledgment_number()), expected);
    }

    #[test]
    fn icmp_errors_are_right(ip in ip(), mtu: u16, id: u16) {
        let (frame, len) = ip.finish(ip.build().udp(1, 2));
        let about = ipv4::Packet::new(&frame[14..]).unwrap();
        let mut out = [0; 600];
        let error = icmpv4::Error::FragmentationNeeded { mtu };
        let n = icmpv4::emit_error(&mut out, error, &about, DIP, id).unwrap();
        prop_assert!(n <= 576);
        let (header, Some(TransportSlice::Icmpv4(icmp))) = judge(&out[..n]) else { panic!() };
        prop_assert_eq!(header.source, DIP.octets());
        prop_assert_eq!(header.destination, ip.src.octets());
        let kind = etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu },
        );
        prop_assert_eq!(icmp.icmp_type(), kind);
        prop_assert_eq!(icmp.payload(), &frame[14..len.min(14 + 548)]);
        let flow = icmpv4::quoted(&out[20..n]).unwrap();
        prop_assert_eq!((flow.src, flow.dst, flow.sport, flow.dport), (ip.src, ip.dst, 1, 2));
    }

    #[test]
    fn echo_replies_are_right(ip in ip(), rest: u32, id: u16) {
        let (mut frame, len) = ip.finish(ip.build().icmp(8, 0, rest));
        let padding = frame[len..].to_vec();
        icmpv4::echo_reply_in_place(&mut frame[14..], id).unwrap();
        let (header, Some(TransportSlice::Icmpv4(icmp))) = judge(&frame[14..len]) else { panic!() };
        prop_assert_eq!(header.source, ip.dst.octets());
        prop_assert_eq!(header.destination, ip.src.octets());
        prop_assert_eq!((header.time_to_live, header.identification), (64, id));
        prop_assert_eq!((icmp.type_u8(), icmp.code_u8()), (0, 0));
        prop_assert_eq!(icmp.bytes5to8(), rest.to_be_bytes());
        prop_assert_eq!(icmp.payload(), &ip.payload);
        prop_assert_eq!(&frame[len..], padding);
    }
}
