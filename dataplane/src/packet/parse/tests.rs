use proptest::prelude::*;

use super::*;
use crate::packet::build::Build;
use crate::types::Mac;

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

fn to_vip() -> Build {
    Build::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])).ipv4(CLIENT, VIP).ttl(63)
}

fn whole(frame: &[u8]) -> Result<Parsed, ParseError> {
    parse(frame, frame.len(), RxChecksum::Unknown)
}

fn ipv4_of(frame: &[u8]) -> Ipv4Packet {
    match whole(frame) {
        Ok(Parsed::Ipv4(packet)) => packet,
        other => panic!("{other:?}"),
    }
}

/// Sets header bytes and makes the IP checksum right again.
fn set(mut frame: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    let end = 14 + usize::from(frame[14] & 0xf) * 4;
    if frame.len() >= end.max(34) {
        frame[24..26].fill(0);
        let check = checksum::checksum(&frame[14..end]);
        frame[24..26].copy_from_slice(&check.to_be_bytes());
    }
    frame
}

#[test]
fn is_small() {
    assert!(size_of::<Ipv4Packet>() <= 32, "{}", size_of::<Ipv4Packet>());
    assert_eq!(size_of::<ParseError>(), 1);
}

#[test]
fn reads_tcp() {
    let frame =
        to_vip().df(true).tos(0xb8).id(9).tcp(1024, 80, Flags::SYN, 7).payload(b"hi").pad(60);
    let packet = ipv4_of(&frame.finish());
    let expected = Ipv4Packet {
        src: CLIENT,
        dst: VIP,
        l4: L4::Tcp { sport: 1024, dport: 80, flags: Flags::SYN },
        total_len: 42,
        id: 9,
        fragment: FragmentBits::DF,
        protocol: 6,
        header_len: 20,
        ttl: 63,
        tos: 0xb8,
        l2_group: false,
    };
    assert_eq!(packet, expected);
    assert_eq!((packet.l4_offset(), packet.ports()), (34, Some((1024, 80))));
    assert_eq!(packet.to_string(), "tcp 198.51.100.1:1024 -> 192.0.2.80:80 [S]");
}

#[test]
fn reads_udp_icmp_and_others() {
    // 42 bytes: shorter than the common case.
    let udp = ipv4_of(&to_vip().udp(4000, 53).finish());
    assert_eq!((udp.l4, udp.total_len), (L4::Udp { sport: 4000, dport: 53 }, 28));
    let icmp = ipv4_of(&to_vip().icmp(3, 4, 0).finish());
    assert_eq!((icmp.l4, icmp.ports()), (L4::Icmp { kind: 3, code: 4 }, None));
    let esp = ipv4_of(&to_vip().protocol(50).finish());
    assert_eq!((esp.l4, esp.protocol), (L4::Other, 50));
    assert_eq!(esp.to_string(), "protocol 50 198.51.100.1 -> 192.0.2.80");
}

#[test]
fn reads_options() {
    for n in 1..=10 {
        let packet =
            ipv4_of(&to_vip().options(&vec![1; n * 4]).tcp(1024, 80, Flags::ACK, 7).finish());
        assert_eq!(usize::from(packet.header_len), 20 + n * 4);
        assert_eq!(packet.l4, L4::Tcp { sport: 1024, dport: 80, flags: Flags::ACK });
    }
}

#[test]
fn reads_fragments() {
    let first = ipv4_of(&to_vip().udp(1, 2).payload(&[0; 24]).fragment(0, true).finish());
    assert_eq!((first.l4, first.fragment), (L4::Udp { sport: 1, dport: 2 }, FragmentBits::MF));
    let later = to_vip().id(7).protocol(17).payload(&[0; 24]).fragment(32, false).finish();
    let later = ipv4_of(&later);
    assert_eq!((later.l4, later.fragment.offset()), (L4::LaterFragment, 32));
    assert_eq!(later.to_string(), "fragment 198.51.100.1 -> 192.0.2.80 id 7 at 32");
    // The rest of a UDP datagram, and of TCP options, comes in later fragments.
    let cut = set(to_vip().udp(1, 2).payload(&[0; 8]).finish(), 38, &[5, 0]);
    assert_eq!(whole(&cut), Err(ParseError::BadL4Header));
    assert!(matches!(ipv4_of(&set(cut, 20, &[0x20, 0])).l4, L4::Udp { .. }));
    let cut = set(to_vip().tcp(1, 2, Flags::SYN, 0).payload(&[0; 4]).finish(), 46, &[0xf0]);
    assert_eq!(whole(&cut), Err(ParseError::BadL4Header));
    assert!(matches!(ipv4_of(&set(cut, 20, &[0x20, 0])).l4, L4::Tcp { .. }));
}

#[test]
fn refuses_tiny_and_overlong_fragments() {
    // RFC 1858: a first fragment of 8 or 16 bytes; one at offset 8.
    for len in [8, 16] {
        let tiny = to_vip().protocol(6).payload(&vec![0; len]).fragment(0, true).finish();
        assert_eq!(whole(&tiny), Err(ParseError::BadL4Header));
    }
    let overwrite = to_vip().protocol(6).payload(&[0; 16]).fragment(8, false);
    assert_eq!(whole(&overwrite.clone().finish()), Err(ParseError::BadL4Header));
    assert!(whole(&overwrite.clone().protocol(17).finish()).is_ok());
    assert!(whole(&overwrite.fragment(16, false).finish()).is_ok());
    // "Ping of death": the last byte at 65536 or beyond.
    let at = |offset, len: usize| {
        whole(&to_vip().protocol(1).payload(&vec![0; len]).fragment(offset, false).finish())
    };
    assert!(at(65504, 11).is_ok());
    assert_eq!(at(65504, 12), Err(ParseError::BadIpv4Header));
    assert_eq!(at(65528, 100), Err(ParseError::BadIpv4Header));
}

#[test]
fn every_reason_by_name() {
    let tcp = || to_vip().tcp(1024, 80, Flags::SYN, 7).finish();
    let udp = || to_vip().udp(1, 2).payload(&[0; 20]).finish();
    let typed = |t: u16| set(tcp(), 12, &t.to_be_bytes());
    let from = |src: Ipv4Addr| set(tcp(), 26, &src.octets());
    for (name, frame, expected) in [
        ("empty", vec![], ParseError::TooShort),
        ("Ethernet cut", tcp()[..13].to_vec(), ParseError::TooShort),
        ("IPv4 cut", tcp()[..33].to_vec(), ParseError::TooShort),
        ("TCP cut", tcp()[..53].to_vec(), ParseError::TooShort),
        ("total length beyond the frame", set(tcp(), 16, &[0, 41]), ParseError::TooShort),
        ("options cut", to_vip().options(&[1; 8]).finish()[..41].to_vec(), ParseError::TooShort),
        ("version 6", set(tcp(), 14, &[0x65]), ParseError::BadIpv4Header),
        ("header of 16 bytes", set(tcp(), 14, &[0x44]), ParseError::BadIpv4Header),
        ("total length below header's", set(tcp(), 16, &[0, 19]), ParseError::BadIpv4Header),
        (
            "total length below options'",
            { set(to_vip().options(&[1; 4]).finish(), 16, &[0, 23]) },
            ParseError::BadIpv4Header,
        ),
        ("TCP shorter than its header", set(tcp(), 16, &[0, 39]), ParseError::BadL4Header),
        ("no TCP at all", set(tcp(), 16, &[0, 20]), ParseError::BadL4Header),
        ("TCP data offset 4", set(tcp(), 46, &[0x40]), ParseError::BadL4Header),
        ("TCP data offset beyond", set(tcp(), 46, &[0x60]), ParseError::BadL4Header),
        ("UDP shorter than its header", set(udp(), 16, &[0, 27]), ParseError::BadL4Header),
        ("UDP length 7", set(udp(), 38, &[0, 7]), ParseError::BadL4Header),
        ("UDP length beyond", set(udp(), 38, &[0, 29]), ParseError::BadL4Header),
        ("ICMP cut", to_vip().protocol(1).payload(&[8, 0, 0, 0]).finish(), ParseError::BadL4Header),
        ("source 0.0.0.0", from(Ipv4Addr::UNSPECIFIED), ParseError::BadSource),
        ("source 127.0.0.1", from(Ipv4Addr::LOCALHOST), ParseError::BadSource),
        ("source 224.0.0.1", from([224, 0, 0, 1].into()), ParseError::BadSource),
        ("source broadcast", from(Ipv4Addr::BROADCAST), ParseError::BadSource),
        ("land attack", from(VIP), ParseError::BadSource),
        ("VLAN", typed(0x8100), ParseError::Vlan),
        ("QinQ", typed(0x88a8), ParseError::Vlan),
        ("802.3 length", typed(0x0026), ParseError::EtherTypeUnknown),
        ("LLDP", typed(0x88cc), ParseError::EtherTypeUnknown),
    ] {
        assert_eq!(whole(&frame), Err(expected), "{name}");
    }
    assert_eq!(whole(&typed(0x0806)), Ok(Parsed::Arp));
    assert_eq!(whole(&typed(0x86dd)), Ok(Parsed::Ipv6));
}

#[test]
fn the_checksum_is_the_nics_or_ours() {
    let good = to_vip().tcp(1024, 80, Flags::SYN, 7).finish();
    let mut bad = good.clone();
    bad[24] ^= 1;
    let with = |frame: &[u8], rx| parse(frame, frame.len(), rx).map(|_| ());
    let wrong = Err(ParseError::BadIpv4Checksum);
    assert_eq!(with(&good, RxChecksum::Unknown), Ok(()));
    assert_eq!(with(&good, RxChecksum::Good), Ok(()));
    assert_eq!(with(&good, RxChecksum::Bad), wrong);
    assert_eq!(with(&bad, RxChecksum::Unknown), wrong);
    assert_eq!(with(&bad, RxChecksum::Good), Ok(()));
}

#[test]
fn the_payload_may_lie_in_other_segments() {
    let frame = to_vip().tcp(1024, 80, Flags::ACK, 7).payload(&[0; 3000]).finish();
    let parsed = parse(&frame[..54], frame.len(), RxChecksum::Unknown);
    assert_eq!(parsed, whole(&frame));
    // But not the headers.
    let cut = parse(&frame[..53], frame.len(), RxChecksum::Unknown);
    assert_eq!(cut, Err(ParseError::TooShort));
}

#[test]
fn group_frames_are_told() {
    let to = |dst| Build::eth(Mac([2; 6]), dst).ipv4(CLIENT, VIP).udp(1, 2).finish();
    assert!(ipv4_of(&to(Mac::BROADCAST)).l2_group);
    assert!(ipv4_of(&to(Mac([1, 0, 0x5e, 0, 0, 1]))).l2_group);
    assert!(!ipv4_of(&to(Mac([2, 0, 0x5e, 0, 0, 1]))).l2_group);
}

proptest! {
    /// Both ways through the parser agree, and the last bytes of the common case are not read when
    /// the packet is shorter.
    #[test]
    fn the_common_way_is_the_other_one(mut frame in any::<[u8; 80]>(), proto in prop::sample::select(vec![1, 6, 17, 4]),
                                       len in 20u16..45, bits in prop::sample::select(vec![0u16, 0x4000, 0x2000, 1, 0x2005])) {
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame[16..18].copy_from_slice(&len.to_be_bytes());
        frame[20..22].copy_from_slice(&bits.to_be_bytes());
        frame[23] = proto;
        let frame = set(frame.to_vec(), 0, &[]);
        prop_assert_eq!(parse_uncommon(&frame, 80, RxChecksum::Unknown), whole(&frame));
        if len <= 39 && proto != 6 {
            let short = parse(&frame[..53], 80, RxChecksum::Unknown);
            prop_assert_eq!(short, whole(&frame));
        }
    }

    #[test]
    fn nothing_panics_on_any_bytes(mut frame in proptest::collection::vec(any::<u8>(), 0..120),
                                   keep in 0usize..6, frame_len in 0usize..200) {
        // From noise to nearly right.
        if keep > 0 && frame.len() > 24 {
            frame[12..14].copy_from_slice(&[8, 0]);
            if keep > 1 { frame[14] = 0x40 | frame[14] & 0xf; }
            if keep > 2 { frame[16..18].copy_from_slice(&[0, 60]); }
            if keep > 3 { frame[23] = [1, 6, 17][usize::from(frame[23]) % 3]; }
            if keep > 4 { frame = set(frame, 0, &[]); }
        }
        for rx in [RxChecksum::Unknown, RxChecksum::Good, RxChecksum::Bad] {
            if let Ok(Parsed::Ipv4(packet)) = parse(&frame, frame_len, rx) {
                prop_assert!(usize::from(packet.total_len) + 14 <= frame_len);
                prop_assert!(packet.l4_offset() <= frame.len());
                prop_assert!(u16::from(packet.header_len) <= packet.total_len);
            }
        }
    }
}
