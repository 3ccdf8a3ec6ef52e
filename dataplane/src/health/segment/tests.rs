use std::net::SocketAddr;

use etherparse::{NetHeaders, PacketHeaders, TcpOptionElement, TransportHeader};
use proptest::prelude::*;

use super::*;
use crate::packet::build::Build;
use crate::packet::ethernet;
use crate::types::Mac;

fn tuples() -> [Tuple; 2] {
    let to = |text: &str| text.parse::<SocketAddr>().unwrap();
    [
        Tuple { local: to("192.0.2.1:50000"), remote: to("203.0.113.80:80") },
        Tuple { local: to("[2001:db8::1]:50000"), remote: to("[2001:db8:f::80]:443") },
    ]
}

/// What an oracle reads of an IP packet: source, destination, hops, TCP.
fn oracle(packet: &[u8]) -> (IpAddr, IpAddr, u8, etherparse::TcpHeader) {
    let read = PacketHeaders::from_ip_slice(packet).unwrap();
    let Some(TransportHeader::Tcp(tcp)) = read.transport else { panic!("no TCP: {read:?}") };
    assert!(read.payload.slice().is_empty());
    match read.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!(usize::from(ip.total_len), packet.len());
            assert!(ip.dont_fragment && ip.identification == 0);
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(&ip, &[]).unwrap());
            (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.time_to_live, tcp)
        }
        NetHeaders::Ipv6(ip, _) => {
            assert_eq!(usize::from(ip.payload_length) + 40, packet.len());
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(&ip, &[]).unwrap());
            (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.hop_limit, tcp)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_oracle_reads_what_was_made() {
    for tuple in tuples() {
        let syn = Out { flags: Flags::SYN, seq: 0xfffe_0001, ack: 0 };
        let (src, dst, hops, tcp) = oracle(&syn.emit(&tuple).unwrap());
        assert_eq!((src, dst, hops), (tuple.local.ip(), tuple.remote.ip(), 2));
        assert_eq!((tcp.source_port, tcp.destination_port), (50_000, tuple.remote.port()));
        assert!(tcp.syn && !tcp.ack && !tcp.fin && !tcp.rst && !tcp.psh && !tcp.urg);
        assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (0xfffe_0001, 0));
        let options: Vec<_> = tcp.options_iterator().map(Result::unwrap).collect();
        assert_eq!(options, [TcpOptionElement::MaximumSegmentSize(1220)]);
        let fin = Out { flags: Flags::FIN | Flags::ACK, seq: 7, ack: 9 };
        let (.., tcp) = oracle(&fin.emit(&tuple).unwrap());
        assert!(tcp.fin && tcp.ack && !tcp.syn && !tcp.rst && tcp.options_iterator().count() == 0);
        assert_eq!((tcp.sequence_number, tcp.acknowledgment_number), (7, 9));
    }
    let [four, six] = tuples();
    let mixed = Tuple { local: four.local, remote: six.remote };
    let syn = Out { flags: Flags::SYN, seq: 1, ack: 0 };
    assert_eq!(syn.emit(&mixed), Err(HeaderError::Malformed));
}

/// An answer from VIP to DIP with three bytes of data, without Ethernet header, but padded.
fn answer(tuple: &Tuple) -> Vec<u8> {
    let build = Build::eth(Mac::ZERO, Mac::ZERO);
    let build = match (tuple.remote.ip(), tuple.local.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => build.ipv4(src, dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => build.ipv6(src, dst),
        _ => panic!("{tuple:?}"),
    };
    let frame = build
        .tcp(tuple.remote.port(), tuple.local.port(), Flags::SYN | Flags::ACK, 77)
        .ack(88)
        .payload(b"abc")
        .pad(90)
        .finish();
    frame[ethernet::HEADER_LEN..].to_vec()
}

#[test]
fn an_answer_is_read_and_a_spoilt_one_refused() {
    for tuple in tuples() {
        let packet = answer(&tuple);
        let flags = Flags::SYN | Flags::ACK;
        assert_eq!(Segment::read(&packet), Ok(Segment { tuple, flags, seq: 77, ack: 88, data: 3 }));
        let tcp = if tuple.local.is_ipv4() { 20 } else { 40 };
        let mut spoilt = packet.clone();
        spoilt[tcp + 8] ^= 1;
        assert_eq!(Segment::read(&spoilt), Err(HeaderError::Checksum));
        let mut other = packet.clone();
        other[if tuple.local.is_ipv4() { 9 } else { 6 }] = 17;
        assert_eq!(Segment::read(&other), Err(HeaderError::Unsupported));
        for cut in 0..tcp + 23 {
            assert!(Segment::read(&packet[..cut]).is_err(), "{cut}");
        }
    }
    let mut fragment = answer(&tuples()[0]);
    fragment[6] = 0x20;
    assert_eq!(Segment::read(&fragment), Err(HeaderError::Unsupported));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..120),
        first in any::<u8>(),
    ) {
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let _ = Segment::read(&bytes);
    }

    #[test]
    fn a_flipped_bit_is_noticed_or_changes_no_header_that_is_read(at in 0usize..43, bit in 0u8..8) {
        let [tuple, _] = tuples();
        let packet = answer(&tuple);
        let mut spoilt = packet.clone();
        spoilt[at] ^= 1 << bit;
        // The IPv4 header's own checksum was verified before: workers do.
        if at >= 20 {
            prop_assert_ne!(Segment::read(&spoilt), Segment::read(&packet));
        }
    }
}
