use proptest::prelude::*;

use super::*;
use crate::packet::build::Build;
use crate::types::Mac;

const CLIENT: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const VIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x80);
const DIP: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
const TOO_BIG: Error = Error::PacketTooBig { mtu: 1460 };

fn to_vip() -> Build {
    from(CLIENT, VIP)
}

fn from(src: Ipv6Addr, dst: Ipv6Addr) -> Build {
    Build::eth(Mac::ZERO, Mac::ZERO).ipv6(src, dst).ttl(9)
}

/// Packets as scapy builds them: an echo request, its reply, a "packet too big".
fn golden(payload: &[u8], hop_limit: u8, src: Ipv6Addr, dst: Ipv6Addr) -> Vec<u8> {
    let head = [0x60, 0, 0, 0, 0, payload.len() as u8, 58, hop_limit];
    [&head[..], &src.octets(), &dst.octets(), payload].concat()
}

#[test]
fn answers_an_echo_with_golden_bytes() {
    let request = [0x80, 0, 0x9a, 0x5a, 0, 1, 0, 2, b'h', b'i', b'!'];
    let mut packet = golden(&request, 9, CLIENT, VIP);
    assert_eq!(packet, to_vip().icmp6(128, 0, 0x0001_0002).payload(b"hi!").finish()[14..]);
    // A flow label and a traffic class.
    packet[..4].copy_from_slice(&[0x6b, 0x9a, 0xbc, 0xde]);
    echo_reply_in_place(&mut packet).unwrap();
    let reply = [0x81, 0, 0x99, 0x5a, 0, 1, 0, 2, b'h', b'i', b'!'];
    let mut expected = golden(&reply, 64, VIP, CLIENT);
    expected[..2].copy_from_slice(&[0x6b, 0x90]);
    assert_eq!(packet, expected);
    assert!(Packet::new(&packet[40..]).unwrap().verify_checksum(VIP, CLIENT));
}

#[test]
fn what_is_no_plain_echo_request_is_not_answered() {
    for frame in [
        to_vip().icmp6(129, 0, 1).finish(),
        to_vip().icmp6(128, 1, 1).finish(),
        to_vip().fragment6(0, true, 1).icmp6(128, 0, 1).finish(),
        to_vip().ext(0, &[0, 1, 4, 0, 0, 0, 0]).icmp6(128, 0, 1).finish(),
        from(CLIENT, ipv6::ALL_NODES).icmp6(128, 0, 1).finish(),
        to_vip().udp(128, 1).finish(),
    ] {
        let mut packet = frame[14..].to_vec();
        assert_eq!(echo_reply_in_place(&mut packet), Err(HeaderError::Unsupported));
        assert_eq!(packet, frame[14..]);
    }
}

#[test]
fn emits_a_golden_packet_too_big() {
    let frame = to_vip().udp(1024, 53).payload(b"hi!").pad(120).finish();
    let about = ipv6::Packet::new(&frame[14..]).unwrap();
    let mut out = [0xee; 200];
    let n = emit_error(&mut out, TOO_BIG, &about, DIP).unwrap();
    let head = [2, 0, 0x2b, 0x5b, 0, 0, 0x05, 0xb4];
    let quote = &frame[14..14 + 51];
    assert_eq!(out[..n], golden(&[&head, quote].concat(), 64, DIP, CLIENT));
    assert!(emit_error(&mut out[..n - 1], TOO_BIG, &about, DIP).is_err());
    let error = Packet::new(&out[40..n]).unwrap();
    assert_eq!(error.next_hop_mtu(), Some(1460));
    assert_eq!(error.to_string(), "icmpv6 type 2 code 0");
    let expected = Quoted { src: CLIENT, dst: VIP, protocol: 17, sport: 1024, dport: 53 };
    assert_eq!(quoted(&out[40..n]), Ok(expected));
}

#[test]
fn an_error_fits_the_least_mtu_and_tells_none_below_it() {
    let frame = to_vip().udp(1, 2).payload(&[7; 3000]).finish();
    let about = ipv6::Packet::new(&frame[14..]).unwrap();
    let mut out = [0; 2000];
    let n = emit_error(&mut out, Error::PacketTooBig { mtu: 1000 }, &about, DIP).unwrap();
    assert_eq!(n, 1280);
    let header = Header::parse(&out[40..n], DIP, CLIENT).unwrap();
    assert_eq!(header, Header { kind: 2, code: 0, rest: 1280 });
    assert_eq!(out[48..n], frame[14..14 + 1232]);
    for (error, kind, code) in [
        (Error::TimeExceeded, 3, 0),
        (Error::AddressUnreachable, 1, 3),
        (Error::PortUnreachable, 1, 4),
    ] {
        let n = emit_error(&mut out, error, &about, DIP).unwrap();
        assert_eq!(Header::parse(&out[40..n], DIP, CLIENT), Ok(Header { kind, code, rest: 0 }));
    }
}

#[test]
fn errors_are_sent_when_rfc_4443_allows() {
    let may = |build: Build, error, l2_group| {
        may_send_error(error, &ipv6::Packet::new(&build.finish()[14..]).unwrap(), l2_group)
    };
    let other = Error::TimeExceeded;
    for (build, too_big, others) in [
        (to_vip().udp(1, 2), true, true),
        (to_vip().icmp6(128, 0, 1), true, true),
        (to_vip().icmp6(1, 0, 0), false, false),
        (to_vip().icmp6(127, 0, 0), false, false),
        (to_vip().icmp6(137, 0, 0), false, false),
        (to_vip().ext(60, &[0; 7]).icmp6(3, 0, 0), false, false),
        // Cut before its type: may be an error.
        (to_vip().protocol(58), false, false),
        (to_vip().fragment6(8, false, 1).protocol(58).payload(b"?"), false, false),
        (to_vip().fragment6(8, false, 1).protocol(17).payload(b"?"), true, true),
        // Not to be followed.
        (to_vip().protocol(60).payload(b"?"), false, false),
        (from(CLIENT, ipv6::ALL_NODES).udp(1, 2), true, false),
        (from(Ipv6Addr::UNSPECIFIED, VIP).udp(1, 2), false, false),
        (from(ipv6::ALL_NODES, VIP).udp(1, 2), false, false),
    ] {
        assert_eq!(may(build.clone(), TOO_BIG, false), too_big, "{build:?}");
        assert_eq!(may(build.clone(), other, false), others, "{build:?}");
    }
    assert!(may(to_vip().udp(1, 2), TOO_BIG, true));
    assert!(!may(to_vip().udp(1, 2), other, true));
}

#[test]
fn reads_what_errors_quote() {
    let error = |inner: &[u8]| {
        let frame = to_vip().icmp6(1, 4, 0).payload(inner).finish();
        quoted(&frame[54..])
    };
    let reply =
        from(VIP, CLIENT).ext(0, &[0, 1, 4, 0, 0, 0, 0]).tcp(443, 1024, Default::default(), 1);
    let reply = reply.finish()[14..].to_vec();
    let expected = Quoted { src: VIP, dst: CLIENT, protocol: 6, sport: 443, dport: 1024 };
    assert_eq!(error(&reply[..52]), Ok(expected));
    assert_eq!(error(&reply[..51]), Err(HeaderError::TooShort));
    assert_eq!(error(&reply[..47]), Err(HeaderError::TooShort));
    assert_eq!(error(&reply[..39]), Err(HeaderError::TooShort));
    let echo = from(VIP, CLIENT).icmp6(129, 0, 1).finish();
    assert_eq!(error(&echo[14..]).map(|q| (q.protocol, q.sport)), Ok((58, 0)));
    let later = from(VIP, CLIENT).fragment6(8, false, 1).protocol(17).payload(&[0; 8]).finish();
    assert_eq!(error(&later[14..]), Err(HeaderError::Unsupported));
    let esp = from(VIP, CLIENT).protocol(50).payload(&[0; 8]).finish();
    assert_eq!(error(&esp[14..]), Err(HeaderError::Unsupported));
    assert_eq!(error(&[0x45; 60]), Err(HeaderError::Malformed));
    let no_error = to_vip().icmp6(128, 0, 0).payload(&reply).finish();
    assert_eq!(quoted(&no_error[54..]), Err(HeaderError::Unsupported));
}

proptest! {
    #[test]
    fn a_damaged_message_is_noticed(
        data in proptest::collection::vec(any::<u8>(), 0..50), kind: u8, rest: u32, at in 0usize..58,
        bit in 0u8..8,
    ) {
        let mut bytes = [vec![0; 8], data].concat();
        let header = Header { kind, code: 1, rest };
        header.emit(&mut bytes, CLIENT, VIP).unwrap();
        prop_assert_eq!(Header::parse(&bytes, CLIENT, VIP), Ok(header));
        prop_assert_eq!(Header::parse(&bytes, CLIENT, DIP), Err(HeaderError::Checksum));
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert_eq!(Header::parse(&bytes, CLIENT, VIP), Err(HeaderError::Checksum));
    }

    #[test]
    fn any_bytes_are_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        if bytes.len() > 48 {
            bytes[0] &= 0x7f;
            bytes[8] = 0x60;
        }
        let _ = quoted(&bytes);
        if let Ok(packet) = ipv6::Packet::new_in(bytes.get(8..).unwrap_or_default(), usize::MAX) {
            let _ = may_send_error(TOO_BIG, &packet, false);
            let mut out = [0; 1280];
            prop_assert!(emit_error(&mut out, TOO_BIG, &packet, DIP).is_ok());
        }
        let _ = echo_reply_in_place(&mut bytes);
    }
}
