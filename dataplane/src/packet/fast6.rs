//! The parser's short cut for IPv6: a whole TCP or UDP packet without extension headers.
//!
//! As [`fast`](super::fast) for IPv4: what [`Head6::read`] does not recognise is no error, the general
//! [parser](super::parse6) decides, and both agree on every frame (a property of the tests).
//!
//! # RFCs
//! Those of [`parse6`](super::parse6).

use super::fast::{Head, eight, four, two};
use super::parse::L4;
use super::parse6::Ipv6Packet;
use super::{ethernet, ipv6, tcp, udp};
use crate::types::{FlowKey6, Mac};

/// Bytes of headers the short cut reads of any packet: Ethernet, IPv6 and UDP.
pub const HEADERS: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + udp::HEADER_LEN;

/// The first bytes of a frame.
pub type Headers = [u8; HEADERS];

/// Ethernet type IPv6, then version 6, as read from the wire.
const IPV6: u32 = u32::from_le_bytes([0x86, 0xdd, 0x60, 0]);
const IPV6_MASK: u32 = u32::from_le_bytes([0xff, 0xff, 0xf0, 0]);

/// What the pipeline needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head6 {
    /// Source and destination address: the first four of [`FlowKey6::words`].
    pub addresses: [u64; 4],
    /// L4 ports and protocol: the last of the words.
    pub ports: u64,
    /// Length of the IP packet in bytes.
    pub total_len: u32,
    /// As [`Head::signal`].
    pub signal: u8,
}

impl Head6 {
    /// Of a packet that the general parser has read, and its key.
    pub fn of(ip: &Ipv6Packet, key: &FlowKey6) -> Head6 {
        let [a, b, c, d, ports] = key.words();
        let signal = match ip.l4 {
            L4::Tcp { flags, .. } => Head::segment(flags),
            _ => Head::DATAGRAM,
        };
        Head6 { addresses: [a, b, c, d], ports, total_len: ip.total_len(), signal }
    }

    /// The five [words](FlowKey6::words) of the key.
    #[inline(always)]
    pub fn words(&self) -> [u64; 5] {
        let [a, b, c, d] = self.addresses;
        [a, b, c, d, self.ports]
    }

    /// Both halves of the destination address, as they lie in memory.
    #[inline(always)]
    pub fn destination(&self) -> [u64; 2] {
        [self.addresses[2], self.addresses[3]]
    }

    /// Reads a frame of `frame_len` bytes to `mac`, of which `first` is the first segment. `None` for
    /// other stations' frames, other protocols, fragments and other extension headers, and
    /// whatever is wrong but for the source address, which no flow has.
    #[inline(always)]
    pub fn read(first: &[u8], frame_len: usize, mac: Mac) -> Option<Head6> {
        let headers: &Headers = first.first_chunk()?;
        if four::<12, HEADERS>(headers) & IPV6_MASK != IPV6 {
            return None;
        }
        let payload_len = two::<18, HEADERS>(headers).swap_bytes();
        let total_len = ipv6::HEADER_LEN as u32 + u32::from(payload_len);
        if eight::<0, HEADERS>(headers) << 16 != mac.to_wire() << 16
            || total_len as usize + ethernet::HEADER_LEN > frame_len
        {
            return None;
        }
        let protocol = headers[20];
        let (signal, len, least) = match protocol {
            ipv6::next::TCP => {
                let headers: &[u8; HEADERS - udp::HEADER_LEN + tcp::MIN_HEADER_LEN] =
                    first.first_chunk()?;
                let (offset, flags) = (headers[66], tcp::Flags(headers[67]));
                (Head::segment(flags), u16::from(offset >> 4) * 4, tcp::MIN_HEADER_LEN)
            }
            ipv6::next::UDP => {
                (Head::DATAGRAM, two::<58, HEADERS>(headers).swap_bytes(), udp::HEADER_LEN)
            }
            _ => return None,
        };
        let addresses = [
            eight::<22, HEADERS>(headers),
            eight::<30, HEADERS>(headers),
            eight::<38, HEADERS>(headers),
            eight::<46, HEADERS>(headers),
        ];
        let ports = u64::from(four::<54, HEADERS>(headers)) | u64::from(protocol) << 32;
        let right = usize::from(len) >= least && len <= payload_len;
        right.then_some(Head6 { addresses, ports, total_len, signal })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::build::Build;
    use crate::packet::parse6::{ParseError, parse};
    use crate::types::Protocol;

    const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);

    fn frame(tcp: bool, payload: usize, pad: usize) -> Vec<u8> {
        let client = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into();
        let vip = [0x2001, 0xdb8, 0x80, 0, 0, 0, 0, 0x50].into();
        let ip = Build::eth(Mac([2, 0, 0, 0, 0, 1]), PORT).ipv6(client, vip).flow_label(0xabcde);
        let l4 = if tcp { ip.tcp(1024, 80, tcp::Flags::ACK, 1) } else { ip.udp(0xfffe, 443) };
        l4.payload(&vec![0x55; payload]).pad(pad).finish()
    }

    /// The short cut finds what the parser finds, whether all of the packet lies in the first segment
    /// or less; of sources it judges nothing.
    fn agrees(frame: &[u8]) -> bool {
        for first in 0..frame.len().min(80) {
            agrees_on(&frame[..first], frame.len());
        }
        agrees_on(frame, frame.len())
    }

    fn agrees_on(frame: &[u8], frame_len: usize) -> bool {
        let found = Head6::read(frame, frame_len, PORT);
        let ip = match parse(frame, frame_len) {
            Ok(ip) => ip,
            Err(error) => {
                assert!(found.is_none() || error == ParseError::BadSource, "{frame:02x?} {error}");
                return false;
            }
        };
        let protocol = Protocol::from_number(ip.protocol);
        let plain = protocol.zip(ip.ports()).filter(|_| {
            ip.ext_len == 0 && frame[..6] == PORT.0 && !crate::packet::ipv6::is_bad_source(ip.src)
        });
        let expected = plain.map(|(protocol, (client_port, vip_port))| {
            let key = FlowKey6 { client: ip.src, vip: ip.dst, client_port, vip_port, protocol };
            let head = Head6::of(&ip, &key);
            assert_eq!(head.words(), key.words());
            assert_eq!(head.destination()[..], key.words()[2..4]);
            head
        });
        assert_eq!(found, expected, "{frame:02x?}");
        found.is_some()
    }

    #[test]
    fn reads_whole_packets_and_no_others() {
        for (tcp, payload) in [(true, 0), (true, 500), (false, 0), (false, 12), (false, 1400)] {
            let right = frame(tcp, payload, 60);
            assert!(agrees(&right), "{tcp} {payload}");
            for at in [0, 5, 12, 13, 14, 20] {
                let mut other = right.clone();
                other[at] ^= 0x40;
                assert!(!agrees(&other), "{tcp} {payload} byte {at}");
            }
        }
        let cut = frame(true, 0, 60);
        assert!(cut.len() == 74 && (0..74).all(|len| !agrees(&cut[..len])));
        let cut = frame(false, 0, 60);
        assert!(cut.len() == 62 && (0..62).all(|len| !agrees(&cut[..len])));
    }

    #[test]
    fn every_length_is_judged_as_by_the_parser() {
        for (tcp, at) in [(true, 18), (false, 18), (false, 58), (true, 66), (true, 20), (false, 20)]
        {
            for high in [0, 1] {
                for low in 0..=255u8 {
                    let mut frame = frame(tcp, 30, 60);
                    match at {
                        18 | 58 => frame[at..at + 2].copy_from_slice(&[high, low]),
                        _ => frame[at] = low,
                    }
                    agrees(&frame);
                }
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_parser_on_damaged_packets(
            tcp in any::<bool>(), payload in 0usize..60, pad in 54usize..90,
            damage in proptest::collection::vec((0usize..74, any::<u8>()), 0..3),
        ) {
            let mut frame = frame(tcp, payload, pad);
            for (at, byte) in damage {
                if let Some(there) = frame.get_mut(at) {
                    *there = byte;
                }
            }
            agrees(&frame);
        }
    }
}
