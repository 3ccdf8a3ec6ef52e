use proptest::prelude::*;

use super::*;

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

fn header() -> Header {
    Header {
        traffic_class: 0xb9,
        flow_label: 0x0a_bcde,
        payload_len: 3,
        next_header: next::NONE,
        hop_limit: 7,
        src: ip("2001:db8::1"),
        dst: ip("2001:db8:80::2"),
    }
}

/// As scapy builds it.
#[rustfmt::skip]
const BYTES: [u8; 43] = [
    0x6b, 0x9a, 0xbc, 0xde, 0, 3, 59, 7,
    0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
    0x20, 0x01, 0x0d, 0xb8, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
    b'H', b'i', b'\n',
];

#[test]
fn emits_golden_bytes() {
    let mut out = BYTES;
    out[..40].fill(0xee);
    header().emit(&mut out).unwrap();
    assert_eq!(out, BYTES);
    assert_eq!(header().emit(&mut out[..39]), Err(HeaderError::TooShort));
}

#[test]
fn reads_a_packet_without_its_padding() {
    let mut padded = BYTES.to_vec();
    padded.extend([0xee; 9]);
    assert_eq!(Header::parse(&padded), Ok(header()));
    let packet = Packet::new(&padded).unwrap();
    assert_eq!((packet.bytes(), packet.payload()), (&BYTES[..], &b"Hi\n"[..]));
    let text = "ipv6 2001:db8::1 -> 2001:db8:80::2 next header 59 length 3 hop limit 7";
    assert_eq!(packet.to_string(), text);
}

#[test]
fn what_is_cut_or_of_another_version_is_refused() {
    assert_eq!(Packet::new(&BYTES[..39]).unwrap_err(), HeaderError::TooShort);
    assert_eq!(Packet::new(&BYTES[..42]).unwrap_err(), HeaderError::TooShort);
    assert_eq!(Packet::new_in(&BYTES[..40], 43).unwrap().payload(), b"");
    let mut four = BYTES;
    four[0] = 0x45;
    assert_eq!(Packet::new(four).unwrap_err(), HeaderError::Malformed);
}

#[test]
fn changes_a_header_in_place() {
    let mut packet = Packet::new(BYTES).unwrap();
    packet.swap_addresses();
    packet.decrement_hop_limit();
    assert_eq!((packet.src(), packet.dst()), (header().dst, header().src));
    assert_eq!(packet.hop_limit(), 6);
    packet.set_hop_limit(0);
    packet.decrement_hop_limit();
    assert_eq!(packet.hop_limit(), 0);
    packet.payload_mut()[0] = b'h';
    assert_eq!(packet.payload(), b"hi\n");
}

#[test]
fn knows_addresses_no_host_sends_from() {
    for bad in ["::", "::1", "ff02::1", "ff0e::1", "::ffff:192.0.2.1"] {
        assert!(is_bad_source(ip(bad)), "{bad}");
    }
    for good in ["::2", "fe80::1", "2001:db8::1", "fd00::1", "64:ff9b::192.0.2.1", "fec0::1"] {
        assert!(!is_bad_source(ip(good)), "{good}");
    }
    assert!(is_link_local(ip("fe80::1")) && is_link_local(ip("febf::1")));
    assert!(!is_link_local(ip("fec0::1")) && !is_link_local(ip("fe7f::1")));
}

#[test]
fn makes_the_addresses_of_a_link() {
    // RFC 2464 4 and 7, RFC 4291 2.7.1: their own examples.
    let mac = Mac([0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde]);
    assert_eq!(link_local(mac), ip("fe80::3656:78ff:fe9a:bcde"));
    let group = solicited_node(ip("4037::01:800:200e:8c6c"));
    assert_eq!(group, ip("ff02::1:ff0e:8c6c"));
    assert_eq!(group_mac(group), Mac([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_round_trip(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..80), len in 0u16..60, six: bool,
    ) {
        if let (true, Some(head)) = (six, bytes.get_mut(..6)) {
            head[0] = 0x60 | head[0] & 0xf;
            head[4..].copy_from_slice(&len.to_be_bytes());
        }
        if let Ok(header) = Header::parse(&bytes) {
            let mut out = bytes.clone();
            out[..HEADER_LEN].fill(0);
            header.emit(&mut out).unwrap();
            prop_assert_eq!(out, bytes);
        }
    }
}
