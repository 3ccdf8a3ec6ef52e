use proptest::prelude::*;

use super::*;

/// A header with the router alert option (RFC 2113), as scapy builds it.
#[rustfmt::skip]
const BYTES: [u8; 27] = [
    0x46, 0xb8, 0, 27, 0x12, 0x34, 0x40, 0, 64, 2, 0xf0, 0xd8,
    192, 0, 2, 1, 224, 0, 0, 22,
    0x94, 4, 0, 0,
    1, 2, 3,
];

fn header() -> Header {
    Header {
        tos: 0xb8,
        payload_len: 3,
        id: 0x1234,
        fragment: FragmentBits::DF,
        ttl: 64,
        protocol: 2,
        src: Ipv4Addr::new(192, 0, 2, 1),
        dst: Ipv4Addr::new(224, 0, 0, 22),
        options: [0x94, 4, 0, 0].into_iter().collect(),
    }
}

#[test]
fn emits_golden_bytes() {
    let mut out = BYTES;
    out[..24].fill(0xee);
    header().emit(&mut out).unwrap();
    assert_eq!(out, BYTES);
}

#[test]
fn reads_a_packet() {
    let mut padded = BYTES.to_vec();
    padded.extend([0; 19]);
    let packet = Packet::new(&padded).unwrap();
    assert!(packet.verify_checksum());
    assert_eq!((packet.header_len(), packet.total_len()), (24, 27));
    assert_eq!(packet.options(), [0x94, 4, 0, 0]);
    assert_eq!(packet.payload(), [1, 2, 3]);
    assert!(packet.fragment().df() && !packet.fragment().is_fragment());
    assert_eq!(packet.to_string(), "ipv4 192.0.2.1 -> 224.0.0.22 protocol 2 length 27 ttl 64");
    assert_eq!(Header::parse(&padded), Ok(header()));
}

#[test]
fn refuses_what_cannot_be() {
    let with = |at: usize, value: u8| {
        let mut bytes = BYTES;
        bytes[at] = value;
        Packet::new(&bytes[..]).map(|_| ())
    };
    assert_eq!(with(0, 0x56), Err(HeaderError::Malformed)); // version
    assert_eq!(with(0, 0x44), Err(HeaderError::Malformed)); // header length 16
    assert_eq!(with(0, 0x4f), Err(HeaderError::Malformed)); // header longer than the packet
    assert_eq!(with(3, 23), Err(HeaderError::Malformed)); // packet shorter than its header
    assert_eq!(with(3, 24), Ok(()));
    assert_eq!(with(3, 28), Err(HeaderError::TooShort));
    assert_eq!(
        Header::parse(&[&BYTES[..8], &[63], &BYTES[9..]].concat()),
        Err(HeaderError::Checksum)
    );
    let odd = Header { options: [1].into_iter().collect(), ..header() };
    assert_eq!(odd.emit(&mut [0; 60]), Err(HeaderError::Malformed));
    let long = Header { payload_len: 65535 - 23, ..header() };
    assert_eq!(long.emit(&mut [0; 60]), Err(HeaderError::Malformed));
}

#[test]
fn the_first_segment_may_end_in_the_payload() {
    let packet = Packet::new_in(&BYTES[..25], 27).unwrap();
    assert_eq!(packet.payload(), [1]);
    assert!(Packet::new_in(&BYTES[..25], 26).is_err());
    assert!(Packet::new_in(&BYTES[..23], 27).is_err());
}

#[test]
fn fragment_bits() {
    let bits = FragmentBits(0x2000 | 185);
    assert!(bits.more() && bits.is_fragment() && bits.is_later() && !bits.df());
    assert_eq!(bits.offset(), 1480);
    assert_eq!(format!("{bits:?}"), "1480+");
    assert_eq!(FragmentBits::DF.with(16, true), FragmentBits(0x6002));
    assert_eq!(bits.with(65528, false), FragmentBits(0x1fff));
    assert!(FragmentBits::MF.is_fragment() && !FragmentBits::MF.is_later());
}

#[test]
fn sources_that_are_no_host() {
    for bad in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"] {
        assert!(is_bad_source(bad.parse().unwrap()), "{bad}");
    }
    for good in ["1.0.0.0", "126.255.255.255", "128.0.0.1", "223.255.255.255", "10.0.0.1"] {
        assert!(!is_bad_source(good.parse().unwrap()), "{good}");
    }
}

/// All TTLs and protocols, and enough headers that all checksums occur: the incremental update is
/// the full computation.
#[test]
fn a_ttl_step_is_a_full_computation() {
    for ttl in 0..=u8::MAX {
        for protocol in 0..=u8::MAX {
            for id in [0, 1, 0x7fff, 0xb1e7, 0xfffe, 0xffff] {
                let mut out = [0; 20];
                let mut header =
                    Header::new([192, 0, 2, 1].into(), [198, 51, 100, 2].into(), protocol, 0);
                (header.ttl, header.id) = (ttl, id);
                header.emit(&mut out).unwrap();
                let mut packet = Packet::new(&mut out[..]).unwrap();
                packet.decrement_ttl();
                let (check, now) = (packet.checksum(), packet.ttl());
                packet.fill_checksum();
                assert_eq!(check, packet.checksum(), "ttl {ttl} protocol {protocol} id {id}");
                assert_eq!(now, ttl.saturating_sub(1));
            }
        }
    }
}

#[test]
fn a_ttl_step_is_right_for_every_checksum() {
    for id in 0..=u16::MAX {
        let mut out = [0; 20];
        let mut header = Header::new([192, 0, 2, 1].into(), [198, 51, 100, 2].into(), 6, 0);
        header.id = id;
        header.emit(&mut out).unwrap();
        let mut packet = Packet::new(&mut out[..]).unwrap();
        packet.decrement_ttl();
        let check = packet.checksum();
        packet.fill_checksum();
        assert_eq!(check, packet.checksum(), "id {id}");
    }
}

prop_compose! {
    fn headers()(tos: u8, payload_len in 0u16..100, id: u16, fragment: u16, ttl: u8, protocol: u8,
                 src: [u8; 4], dst: [u8; 4], words in proptest::collection::vec(any::<[u8; 4]>(), 0..=10))
                 -> Header {
        Header {
            tos, payload_len, id, ttl, protocol,
            fragment: FragmentBits(fragment),
            src: src.into(),
            dst: dst.into(),
            options: words.concat().into_iter().collect(),
        }
    }
}

proptest! {
    #[test]
    fn values_round_trip(header in headers(), short in 0usize..60) {
        let mut out = vec![0; header.len() + usize::from(header.payload_len)];
        header.emit(&mut out).unwrap();
        prop_assert_eq!(Header::parse(&out), Ok(header.clone()));
        prop_assert_eq!(Header::parse(&out[..short.min(out.len() - 1)]), Err(HeaderError::TooShort));
        let mut small = vec![0; short.min(header.len() - 1)];
        prop_assert_eq!(header.emit(&mut small), Err(HeaderError::TooShort));
    }

    #[test]
    fn any_bytes_are_refused_or_round_trip(mut bytes in proptest::collection::vec(any::<u8>(), 0..100),
                                           ihl in 0x43u8..=0x4f, len in 0u16..100, fix: bool) {
        // Half way to a header: random bytes hardly ever are one.
        if bytes.len() >= 20 {
            bytes[0] = ihl;
            set16(&mut bytes, at::TOTAL_LEN, len);
            let header_len = usize::from(ihl & 0xf) * 4;
            if fix && bytes.len() >= header_len {
                set16(&mut bytes, at::CHECKSUM, 0);
                let check = checksum::checksum(&bytes[..header_len]);
                set16(&mut bytes, at::CHECKSUM, check);
            }
        }
        if let Ok(header) = Header::parse(&bytes) {
            let mut out = vec![0; header.len()];
            header.emit(&mut out).unwrap();
            prop_assert_eq!(&out[..], &bytes[..out.len()]);
        } else if bytes.len() >= 20 {
            let header_len = (ihl & 0xf) as usize * 4;
            let valid = ihl >= 0x45 && bytes.len() >= header_len && usize::from(len) >= header_len
                && usize::from(len) <= bytes.len() && checksum::verify(&bytes[..header_len]);
            prop_assert!(!valid);
        }
    }
}
