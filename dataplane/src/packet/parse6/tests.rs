use proptest::prelude::*;

use super::*;
use crate::packet::build::Build;
use crate::types::Mac;

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x80);
const PAD: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

fn from(src: Ipv6Addr, dst: Ipv6Addr) -> Build {
    Build::eth(Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])).ipv6(src, dst)
}

fn to_vip() -> Build {
    from(CLIENT, VIP).ttl(63).tos(0xb9).flow_label(0xabcde)
}

fn whole(frame: &[u8]) -> Result<Ipv6Packet, ParseError> {
    parse(frame, frame.len())
}

#[test]
fn reads_tcp() {
    let frame = to_vip().tcp(1024, 443, Flags::SYN, 7).payload(b"hi").pad(100).finish();
    let packet = whole(&frame).unwrap();
    let expected = Ipv6Packet {
        src: CLIENT,
        dst: VIP,
        l4: L4::Tcp { sport: 1024, dport: 443, flags: Flags::SYN },
        fragment: None,
        flow_label: 0xabcde,
        payload_len: 22,
        ext_len: 0,
        protocol: 6,
        hop_limit: 63,
        traffic_class: 0xb9,
        l2_group: false,
    };
    assert_eq!(packet, expected);
    assert_eq!((packet.total_len(), packet.l4_offset(), packet.l4_len()), (62, 54, 22));
    assert_eq!(packet.ports(), Some((1024, 443)));
    assert_eq!(packet.to_string(), "tcp [2001:db8::1]:1024 -> [2001:db8:80::80]:443 [S]");
}

#[test]
fn reads_udp_behind_extension_headers() {
    let frame = to_vip().ext(0, &PAD).ext(60, &PAD).fragment6(0, false, 9).udp(1, 53).finish();
    let packet = whole(&frame).unwrap();
    assert_eq!(packet.l4, L4::Udp { sport: 1, dport: 53 });
    assert_eq!((packet.ext_len, packet.l4_len(), packet.l4_offset()), (24, 8, 78));
    // An atomic fragment is whole.
    assert!(packet.fragment.is_some() && !packet.is_fragment());
}

#[test]
fn reads_fragments() {
    let first = whole(&to_vip().fragment6(0, true, 9).udp(1, 53).payload(&[0; 8]).finish());
    let first = first.unwrap();
    assert!(first.is_fragment());
    assert_eq!(first.ports(), Some((1, 53)));
    let later = to_vip().fragment6(16, false, 9).protocol(17).payload(b"end").finish();
    let later = whole(&later).unwrap();
    assert_eq!((later.l4, later.protocol, later.ports()), (L4::LaterFragment, 17, None));
    let text = "fragment 2001:db8::1 -> 2001:db8:80::80 id 9 at 16";
    assert_eq!(later.to_string(), text);
}

#[test]
fn reads_icmpv6_and_others() {
    let icmp = whole(&to_vip().icmp6(128, 0, 1).finish()).unwrap();
    assert_eq!(icmp.l4, L4::Icmp { kind: 128, code: 0 });
    for protocol in [1, 41, 47, 50, 59, 135, 255] {
        let other = whole(&to_vip().protocol(protocol).payload(b"?").finish()).unwrap();
        assert_eq!((other.l4, other.protocol), (L4::Other, protocol));
    }
}

#[test]
fn sources_no_host_can_have_are_refused() {
    for src in ["::1", "ff02::1", "::ffff:192.0.2.1", "::"] {
        let frame = from(src.parse().unwrap(), VIP).udp(1, 2).finish();
        assert_eq!(whole(&frame), Err(ParseError::BadSource), "{src}");
    }
    let land = from(VIP, VIP).udp(1, 2).finish();
    assert_eq!(whole(&land), Err(ParseError::BadSource));
}

#[test]
fn a_station_without_address_may_solicit_and_report() {
    let none = Ipv6Addr::UNSPECIFIED;
    for (kind, allowed) in [(133, true), (135, true), (143, true), (136, false), (128, false)] {
        let frame = from(none, VIP).icmp6(kind, 0, 0).finish();
        assert_eq!(whole(&frame).is_ok(), allowed, "{kind}");
    }
    let fragment = from(none, VIP).fragment6(0, true, 1).icmp6(135, 0, 0).finish();
    assert_eq!(whole(&fragment), Err(ParseError::BadSource));
}

#[test]
fn lengths_must_be_right() {
    let frame = to_vip().udp(1, 2).payload(b"hi").finish();
    for len in 0..frame.len() {
        assert_eq!(parse(&frame[..len], len), Err(ParseError::TooShort), "{len}");
    }
    // Headers in the first segment, data in the next.
    assert!(parse(&frame[..62], frame.len()).is_ok());
    assert_eq!(parse(&frame[..61], frame.len()), Err(ParseError::TooShort));
    let mut four = frame.clone();
    four[14] = 0x45;
    assert_eq!(whole(&four), Err(ParseError::BadIpv6Header));
    let mut ethertype = frame;
    ethertype[13] = 0;
    assert_eq!(whole(&ethertype), Err(ParseError::NotIpv6));
}

#[test]
fn a_first_fragment_holds_all_headers() {
    // RFC 7112: cut in an extension header, in TCP's fixed part, in its options.
    let cut = to_vip().fragment6(0, true, 9).protocol(60).payload(&[6, 1, 1, 12, 0, 0, 0, 0]);
    assert_eq!(whole(&cut.finish()), Err(ParseError::BadExtension));
    let mut tcp = [0; 24];
    tcp[12] = 0x50;
    let first =
        |tcp: &[u8]| whole(&to_vip().fragment6(0, true, 9).protocol(6).payload(tcp).finish());
    assert_eq!(first(&tcp[..16]), Err(ParseError::BadL4Header));
    assert!(first(&tcp).is_ok());
    tcp[12] = 0x70;
    assert_eq!(first(&tcp), Err(ParseError::BadL4Header));
    tcp[12] = 0x40;
    assert_eq!(first(&tcp), Err(ParseError::BadL4Header));
}

#[test]
fn a_later_fragment_may_not_overwrite_the_tcp_header() {
    for (offset, protocol, ok) in [(8, 6, false), (16, 6, false), (24, 6, true), (8, 17, true)] {
        let frame = to_vip().fragment6(offset, false, 9).protocol(protocol).payload(b"x").finish();
        assert_eq!(whole(&frame).is_ok(), ok, "{offset} {protocol}");
    }
}

#[test]
fn udp_lengths_are_judged() {
    let udp = |len: u8, data: usize, more| {
        let mut bytes = vec![0; 8 + data];
        bytes[5] = len;
        let build = if more { to_vip().fragment6(0, true, 1) } else { to_vip() };
        whole(&build.protocol(17).payload(&bytes).finish()).map(drop)
    };
    assert_eq!(udp(7, 0, false), Err(ParseError::BadL4Header));
    assert_eq!(udp(0, 0, false), Err(ParseError::BadL4Header));
    assert_eq!(udp(9, 0, false), Err(ParseError::BadL4Header));
    assert_eq!(udp(9, 0, true), Ok(()));
    assert_eq!(udp(8, 3, false), Ok(()));
}

#[test]
fn extension_headers_that_may_not_be_have_names() {
    let routed = to_vip().ext(43, &[0, 0, 1, 0, 0, 0, 0]).udp(1, 2).finish();
    assert_eq!(whole(&routed), Err(ParseError::Routing));
    let late = to_vip().ext(60, &PAD).ext(0, &PAD).udp(1, 2).finish();
    assert_eq!(whole(&late), Err(ParseError::BadExtension));
    let many = (0..9).fold(to_vip(), |build, _| build.ext(60, &PAD)).udp(1, 2).finish();
    assert_eq!(whole(&many), Err(ParseError::ExtensionLimit));
    let eight = (0..8).fold(to_vip(), |build, _| build.ext(60, &PAD)).udp(1, 2).finish();
    assert!(whole(&eight).is_ok());
}

#[test]
fn padding_is_no_header() {
    // The chain goes on behind the packet's end, in what is Ethernet padding.
    let mut frame = to_vip().protocol(60).finish();
    frame.extend([17, 0, 1, 4, 0, 0, 0, 0, 0, 1, 0, 2, 0, 8, 0, 0]);
    assert_eq!(whole(&frame), Err(ParseError::BadExtension));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_lie_within_the_packet(
        mut frame in proptest::collection::vec(any::<u8>(), 0..300),
        next in prop::sample::select(vec![0u8, 6, 17, 43, 44, 50, 51, 58, 59, 60]),
        short in 0u16..20, segment in 0usize..300,
    ) {
        if frame.len() >= 54 {
            frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            let len = (frame.len() as u16 - 54).saturating_sub(short);
            frame[18..20].copy_from_slice(&len.to_be_bytes());
            frame[20] = next;
        }
        let first = &frame[..segment.min(frame.len())];
        let whole = whole(&frame);
        if let Ok(packet) = parse(first, frame.len()) {
            prop_assert_eq!(Ok(packet), whole);
        }
        if let Ok(packet) = whole {
            prop_assert!(packet.l4_offset() + usize::from(packet.l4_len()) <= frame.len());
            prop_assert!(packet.src != packet.dst);
        }
    }

    #[test]
    fn a_segment_cut_anywhere_does_not_change_the_answer(
        exts in proptest::collection::vec(prop::sample::select(vec![43u8, 60, 51]), 0..8),
        cut in 0usize..200, data in 0usize..60, tcp: bool,
    ) {
        let build = exts.iter().fold(to_vip(), |build, &kind| match kind {
            51 => build.ext(51, &[[2].as_slice(), &[0; 14]].concat()),
            43 => build.ext(43, &[0; 7]),
            kind => build.ext(kind, &PAD),
        });
        let build = if tcp { build.tcp(1, 2, Flags::ACK, 0) } else { build.udp(1, 2) };
        let frame = build.payload(&vec![0xff; data]).finish();
        let packet = whole(&frame).unwrap();
        prop_assert_eq!(packet.ports(), Some((1, 2)));
        let l4_end = packet.l4_offset() + if tcp { 20 } else { 8 };
        let cut = cut.min(frame.len());
        let expected = if cut < l4_end { Err(ParseError::TooShort) } else { Ok(packet) };
        prop_assert_eq!(parse(&frame[..cut], frame.len()), expected);
    }
}
