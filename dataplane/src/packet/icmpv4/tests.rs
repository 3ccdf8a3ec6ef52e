use proptest::prelude::*;

use super::*;
use crate::packet::build::Build;
use crate::packet::ethernet::EtherType;
use crate::packet::tcp::Flags;
use crate::types::Mac;

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);
const DIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

fn to_vip() -> Build {
    Build::eth(Mac([2; 6]), Mac([4; 6])).ipv4(CLIENT, VIP).id(3)
}

/// The frame's IP packet.
fn ip(frame: &[u8]) -> ipv4::Packet<&[u8]> {
    ipv4::Packet::new(&frame[14..]).unwrap()
}

fn error_about(frame: &[u8], error: Error) -> Vec<u8> {
    let mut out = [0xee; MAX_ERROR_LEN];
    let n = emit_error(&mut out, error, &ip(frame), DIP, 77).unwrap();
    out[..n].to_vec()
}

#[test]
fn emits_golden_bytes() {
    // ping -s 4, identifier 1, sequence 2, as scapy builds it.
    let mut out = [0, 0, 0, 0, 0, 0, 0, 0, b'a', b'b', b'c', b'd'];
    Header { kind: kind::ECHO_REQUEST, code: 0, rest: 0x0001_0002 }.emit(&mut out).unwrap();
    assert_eq!(out, [8, 0, 0x33, 0x36, 0, 1, 0, 2, b'a', b'b', b'c', b'd']);
    assert_eq!(Packet::new(out).unwrap().to_string(), "icmp type 8 code 0");
}

#[test]
fn a_request_becomes_its_reply() {
    for data in [&b""[..], b"x", b"abcd", &[0xff; 1400]] {
        for options in [&[][..], &[7, 7, 4, 0, 0, 0, 0]] {
            let both = |src, dst| {
                let eth = Build::eth(Mac([2; 6]), Mac([4; 6]));
                eth.ipv4(src, dst).tos(0x10).df(true).options(options)
            };
            let request = both(CLIENT, VIP).ttl(3).id(4).icmp(8, 0, 0xffff_0001).payload(data);
            let reply = both(VIP, CLIENT).ttl(64).id(5).icmp(0, 0, 0xffff_0001).payload(data);
            let mut frame = request.pad(60).finish();
            echo_reply_in_place(&mut frame[14..], 5).unwrap();
            assert_eq!(frame, reply.pad(60).finish());
        }
    }
}

#[test]
fn a_damaged_request_makes_a_damaged_reply() {
    let mut frame = to_vip().icmp(8, 0, 1).payload(b"abcd").finish();
    *frame.last_mut().unwrap() ^= 1;
    echo_reply_in_place(&mut frame[14..], 0).unwrap();
    assert!(!Packet::new(ip(&frame).payload()).unwrap().verify_checksum());
}

#[test]
fn what_is_not_answered_stays() {
    for build in [
        to_vip().icmp(0, 0, 1),
        to_vip().icmp(8, 1, 1),
        to_vip().icmp(8, 0, 1).fragment(0, true),
        to_vip().icmp(8, 0, 1).fragment(8, false),
        to_vip().icmp(8, 0, 1).options(&[131, 7, 4, 1, 2, 3, 4]),
        to_vip().icmp(8, 0, 1).options(&[1, 1, 137, 3, 4]),
        to_vip().icmp(8, 0, 1).options(&[7, 0, 0, 0]),
        to_vip().icmp(8, 0, 1).protocol(6),
    ] {
        let mut frame = build.finish();
        let before = frame.clone();
        assert_eq!(echo_reply_in_place(&mut frame[14..], 5), Err(HeaderError::Unsupported));
        assert_eq!(frame, before);
    }
    assert_eq!(echo_reply_in_place(&mut [0x45; 19], 5), Err(HeaderError::TooShort));
}

#[test]
fn errors_quote_the_packet() {
    let frame = to_vip().df(true).tcp(1024, 80, Flags::ACK, 1).payload(&[7; 100]).pad(300).finish();
    for (error, kind, code, rest) in [
        (Error::FragmentationNeeded { mtu: 1480 }, 3, 4, 1480),
        (Error::TimeExceeded, 11, 0, 0),
        (Error::HostUnreachable, 3, 1, 0),
        (Error::PortUnreachable, 3, 3, 0),
    ] {
        let packet = error_about(&frame, error);
        let expected = Build::eth(Mac::ZERO, Mac::ZERO)
            .ethertype(EtherType::IPV4)
            .ipv4(DIP, CLIENT)
            .tos(0xc0)
            .id(77)
            .icmp(kind, code, rest)
            .payload(&frame[14..14 + 140]);
        assert_eq!(packet, expected.finish()[14..]);
        let icmp = Packet::new(&packet[20..]).unwrap();
        let mtu = (code == 4).then_some(1480);
        assert_eq!(icmp.next_hop_mtu(), mtu);
    }
}

#[test]
fn errors_are_576_bytes_at_most() {
    for options in [&[][..], &[1; 40]] {
        let frame = to_vip().options(options).udp(1, 2).payload(&[9; 1400]).finish();
        let packet = error_about(&frame, Error::TimeExceeded);
        assert_eq!(packet.len(), 576);
        assert_eq!(packet[28..], frame[14..14 + 548]);
        assert_eq!(
            emit_error(&mut [0; 575], Error::TimeExceeded, &ip(&frame), DIP, 0),
            Err(HeaderError::TooShort)
        );
    }
}

#[test]
fn errors_are_sent_about_the_right_packets_only() {
    let from_to = |src: &str, dst: &str| {
        Build::eth(Mac::ZERO, Mac::ZERO)
            .ipv4(src.parse().unwrap(), dst.parse().unwrap())
            .udp(1, 2)
            .finish()
    };
    let may = |frame: &[u8]| may_send_error(&ip(frame), false);
    assert!(may(&from_to("198.51.100.1", "192.0.2.80")));
    assert!(!may_send_error(&ip(&from_to("198.51.100.1", "192.0.2.80")), true));
    for dst in ["255.255.255.255", "224.0.0.1", "239.1.2.3"] {
        assert!(!may(&from_to("198.51.100.1", dst)), "{dst}");
    }
    for src in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        assert!(!may(&from_to(src, "192.0.2.80")), "{src}");
    }
    assert!(may(&to_vip().udp(1, 2).fragment(0, true).finish()));
    assert!(!may(&to_vip().udp(1, 2).fragment(8, false).finish()));
    for kind in 0..=u8::MAX {
        let expected = ![3, 4, 5, 11, 12].contains(&kind);
        assert_eq!(may(&to_vip().icmp(kind, 0, 0).finish()), expected, "{kind}");
    }
    assert!(!may(&to_vip().protocol(ICMP).finish()), "an ICMP message without a type");
}

#[test]
fn the_quoted_flow_is_found() {
    let flow = |protocol, sport, dport| Quoted { src: VIP, dst: CLIENT, protocol, sport, dport };
    let from_vip = || Build::eth(Mac::ZERO, Mac::ZERO).ipv4(VIP, CLIENT);
    let read = |build: Build| {
        let packet = error_about(&build.finish(), Error::TimeExceeded);
        quoted(&packet[20..])
    };
    let tcp = from_vip().tcp(80, 1024, Flags::ACK, 1).payload(&[0; 1000]);
    assert_eq!(read(tcp.clone()), Ok(flow(6, 80, 1024)));
    assert_eq!(read(tcp.clone().options(&[1; 40])), Ok(flow(6, 80, 1024)));
    assert_eq!(read(from_vip().udp(53, 4000)), Ok(flow(17, 53, 4000)));
    assert_eq!(read(from_vip().icmp(0, 0, 1)), Ok(flow(1, 0, 0)));
    assert_eq!(read(tcp.clone().fragment(0, true)), Ok(flow(6, 80, 1024)));
    assert_eq!(read(tcp.clone().fragment(1480, true)), Err(HeaderError::Unsupported));
    assert_eq!(read(from_vip().protocol(47).payload(&[0; 8])), Err(HeaderError::Unsupported));

    // RFC 792 quotes eight bytes only.
    let mut icmp = error_about(&tcp.finish(), Error::TimeExceeded)[20..20 + 8 + 20 + 8].to_vec();
    assert_eq!(quoted(&icmp), Ok(flow(6, 80, 1024)));
    assert_eq!(quoted(&icmp[..35]), Err(HeaderError::TooShort));
    icmp[0] = kind::ECHO_REQUEST;
    assert_eq!(quoted(&icmp), Err(HeaderError::Unsupported));
}

/// An echo request with these data behind the first four bytes, and its reply.
fn replied(rest: &[u8]) -> Vec<u8> {
    let mut icmp = [&[kind::ECHO_REQUEST, 0, 0, 0], rest].concat();
    let check = plain_checksum(&icmp);
    set16(&mut icmp, at::CHECKSUM, check);
    let (src, dst) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(203, 0, 113, 80));
    let mut packet = vec![0; ipv4::MIN_HEADER_LEN];
    ipv4::Header::new(src, dst, ICMP, icmp.len() as u16).emit(&mut packet).unwrap();
    packet.extend(icmp);
    echo_reply_in_place(&mut packet, 1).unwrap();
    packet[ipv4::MIN_HEADER_LEN..].to_vec()
}

/// RFC 1071 4.1, word by word; the checksum field is taken as it is.
fn plain_checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for word in bytes.chunks(2) {
        sum += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The reply's checksum is the one that a computation over all of it gives.
fn assert_right(rest: &[u8]) {
    let mut reply = replied(rest);
    let check = get16(&reply, at::CHECKSUM);
    assert!(Packet::new(&reply).unwrap().verify_checksum(), "{rest:02x?}: {check:04x}");
    set16(&mut reply, at::CHECKSUM, 0);
    assert_eq!(check, plain_checksum(&reply), "{rest:02x?}");
}

/// A request as it was found to be answered wrongly: identifier, sequence number and data are zero.
#[rustfmt::skip]
const ALL_ZERO: [u8; 28] = [
    0x45, 0x00, 0x00, 0x1c, 0x00, 0x01, 0x00, 0x00, 0x40, 0x01, 0x2f, 0x3e,
    198, 51, 100, 7, 192, 0, 2, 100,
    0x08, 0x00, 0xf7, 0xff, 0x00, 0x00, 0x00, 0x00,
];

#[test]
fn a_reply_that_is_all_zero_has_a_checksum_that_is_not() {
    let mut packet = ALL_ZERO;
    echo_reply_in_place(&mut packet, 7).unwrap();
    assert_eq!(packet[20..], [0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    assert!(ipv4::Packet::new(&packet[..]).unwrap().verify_checksum());
}

#[test]
fn a_replys_checksum_is_a_full_computation() {
    for len in 0..70 {
        assert_right(&vec![0; 4 + len]);
        assert_right(&vec![0xff; 4 + len]);
    }
    for word in 0..=u16::MAX {
        let [high, low] = word.to_be_bytes();
        let [h, l] = (!word).to_be_bytes();
        assert_right(&[high, low, 0, 0]);
        // Data that sum up to minus zero.
        assert_right(&[high, low, h, l]);
        assert_right(&[0, 0, 0, 0, high, low, h, l, 0]);
    }
}

proptest! {
    #[test]
    fn so_it_is_whatever_the_data(
        rest in proptest::collection::vec(prop_oneof![3 => Just(0u8), 2 => Just(0xff), 1 => any::<u8>()], 4..40)
    ) {
        assert_right(&rest);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_round_trip(mut bytes in proptest::collection::vec(any::<u8>(), 0..40), fix: bool) {
        if fix && bytes.len() >= 8 {
            set16(&mut bytes, at::CHECKSUM, 0);
            let check = checksum::checksum(&bytes);
            set16(&mut bytes, at::CHECKSUM, check);
        }
        match Header::parse(&bytes) {
            Ok(header) => {
                let mut out = bytes.clone();
                header.emit(&mut out).unwrap();
                prop_assert_eq!(out, bytes);
            }
            Err(HeaderError::Checksum) => prop_assert!(!fix),
            Err(error) => {
                prop_assert_eq!(error, HeaderError::TooShort);
                prop_assert!(bytes.len() < 8);
            }
        }
    }

    #[test]
    fn nothing_panics_on_any_bytes(mut bytes in proptest::collection::vec(any::<u8>(), 0..120), icmp: bool) {
        if let Some(first) = bytes.first_mut() {
            *first = if icmp { 3 } else { 0x45 | *first & 0xf };
        }
        if bytes.len() > 12 {
            bytes[2..4].copy_from_slice(&[0, 60]);
            bytes[8] = 0x45 + bytes[8] % 4;
        }
        let _ = quoted(&bytes);
        let mut out = [0; MAX_ERROR_LEN];
        if let Ok(packet) = ipv4::Packet::new_in(&bytes, 2000) {
            let _ = may_send_error(&packet, false);
            let n = emit_error(&mut out, Error::TimeExceeded, &packet, DIP, 0).unwrap();
            prop_assert!(Packet::new(&out[20..n]).unwrap().verify_checksum());
        }
        let _ = echo_reply_in_place(&mut bytes, 0);
    }
}
