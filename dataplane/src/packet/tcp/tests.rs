use proptest::prelude::*;

use super::*;
use crate::packet::build::Build;
use crate::types::Mac;

const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 80);

/// 198.51.100.1:1024 -> 192.0.2.80:80, SYN with MSS 1460 and data "hi", as scapy builds it.
#[rustfmt::skip]
const BYTES: [u8; 26] = [
    0x04, 0x00, 0x00, 0x50, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00, 0x00,
    0x60, 0x02, 0x20, 0x00, 0x1e, 0xdf, 0x00, 0x00,
    2, 4, 0x05, 0xb4,
    b'h', b'i',
];

fn header() -> Header {
    Header {
        sport: 1024,
        dport: 80,
        seq: 7,
        flags: Flags::SYN,
        window: 8192,
        options: [2, 4, 0x05, 0xb4].into_iter().collect(),
        ..Header::default()
    }
}

#[test]
fn emits_golden_bytes() {
    let mut out = BYTES;
    out[..24].fill(0xee);
    header().emit(&mut out, CLIENT, VIP).unwrap();
    assert_eq!(out, BYTES);
}

#[test]
fn reads_a_segment() {
    let segment = Segment::new(&BYTES[..]).unwrap();
    assert_eq!((segment.sport(), segment.dport()), (1024, 80));
    assert_eq!((segment.seq(), segment.ack(), segment.window()), (7, 0, 8192));
    assert_eq!((segment.header_len(), segment.options()), (24, &[2, 4, 0x05, 0xb4][..]));
    assert_eq!(segment.payload(), b"hi");
    assert!(segment.verify_checksum(CLIENT, VIP));
    assert!(!segment.verify_checksum(CLIENT, CLIENT));
    assert_eq!(segment.to_string(), "tcp 1024 -> 80 [S] seq 7 ack 0 length 2");
    assert_eq!(Header::parse(&BYTES), Ok(header()));
}

#[test]
fn flags() {
    let syn_ack = Flags::SYN | Flags::ACK;
    assert!(Flags::SYN.opens() && !syn_ack.opens());
    assert!((Flags::SYN | Flags::ECE | Flags::CWR).opens());
    assert!(!(Flags::SYN | Flags::RST).opens() && !(Flags::SYN | Flags::FIN).opens());
    assert!(syn_ack.syn() && syn_ack.ack() && !syn_ack.fin() && !syn_ack.rst());
    assert_eq!(syn_ack.to_string(), "[S.]");
}

fn rst_for(build: Build) -> Result<Vec<u8>, HeaderError> {
    let frame = build.finish();
    let ip = ipv4::Packet::new(&frame[14..]).unwrap();
    let mut out = [0xee; 64];
    let n = emit_rst(&mut out, &ip, 9)?;
    Ok(out[..n].to_vec())
}

fn segment(flags: Flags, seq: u32) -> Build {
    Build::eth(Mac::ZERO, Mac::ZERO).ipv4(CLIENT, VIP).tcp(1024, 80, flags, seq)
}

/// RFC 9293 3.10.7.1, case by case: (flags, seq, ack, data) -> (flags, seq, ack).
#[test]
fn resets_answer_by_the_rfc() {
    let rst_ack = Flags::RST | Flags::ACK;
    for (flags, seq, ack, data, expected) in [
        (Flags::SYN, 7, 0, 0, (rst_ack, 0, 8)),
        (Flags::SYN, u32::MAX, 0, 0, (rst_ack, 0, 0)),
        (Flags::SYN, 7, 0, 5, (rst_ack, 0, 13)),
        (Flags::FIN, 7, 0, 5, (rst_ack, 0, 13)),
        (Flags::default(), 7, 0, 5, (rst_ack, 0, 12)),
        (Flags::ACK, 7, 99, 5, (Flags::RST, 99, 0)),
        (Flags::SYN | Flags::ACK, 7, 99, 0, (Flags::RST, 99, 0)),
        (Flags::FIN | Flags::ACK, 7, 0, 0, (Flags::RST, 0, 0)),
    ] {
        let packet = rst_for(segment(flags, seq).ack(ack).payload(&vec![0; data]).pad(60)).unwrap();
        let rst = Segment::new(&packet[20..]).unwrap();
        assert_eq!((rst.flags(), rst.seq(), rst.ack()), expected, "{flags} {seq} {ack} {data}");
        let expected = Build::eth(Mac::ZERO, Mac::ZERO)
            .ipv4(VIP, CLIENT)
            .id(9)
            .tcp(80, 1024, expected.0, expected.1)
            .ack(expected.2)
            .finish();
        // All but the window, which a reset leaves zero.
        assert_eq!(packet[..34], expected[14..48]);
        assert!(rst.verify_checksum(VIP, CLIENT));
        assert!(ipv4::Packet::new(&packet).unwrap().verify_checksum());
    }
}

#[test]
fn no_reset_answers_a_reset_or_a_fragment() {
    let unsupported = Err(HeaderError::Unsupported);
    assert_eq!(rst_for(segment(Flags::RST, 1)), unsupported);
    assert_eq!(rst_for(segment(Flags::RST | Flags::ACK, 1)), unsupported);
    assert_eq!(rst_for(segment(Flags::SYN, 1).fragment(0, true)), unsupported);
    assert_eq!(rst_for(segment(Flags::SYN, 1).protocol(17)), unsupported);
    let frame = segment(Flags::SYN, 1).finish();
    let ip = ipv4::Packet::new(&frame[14..]).unwrap();
    assert_eq!(emit_rst(&mut [0; 39], &ip, 0), Err(HeaderError::TooShort));
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..90)) {
        match Header::parse(&bytes) {
            Ok(header) => {
                let mut out = bytes.clone();
                header.emit(&mut out, CLIENT, VIP).unwrap();
                prop_assert!(Segment::new(&out).unwrap().verify_checksum(CLIENT, VIP));
                out[at::CHECKSUM..at::URGENT].copy_from_slice(&bytes[at::CHECKSUM..at::URGENT]);
                prop_assert_eq!(&out, &bytes);
                let mut small = vec![0; header.header_len() - 1];
                prop_assert_eq!(header.emit(&mut small, CLIENT, VIP), Err(HeaderError::TooShort));
            }
            Err(HeaderError::Malformed) => prop_assert!(bytes[12] >> 4 < 5),
            Err(error) => {
                prop_assert_eq!(error, HeaderError::TooShort);
                prop_assert!(bytes.len() < 20 || bytes.len() < usize::from(bytes[12] >> 4) * 4);
            }
        }
    }
}
