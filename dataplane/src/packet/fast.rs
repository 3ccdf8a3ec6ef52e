//! The parser's short cut: a whole TCP or UDP packet in an IPv4 header without options.
//!
//! Nearly every packet is one. [`Ethernet::look`] and [`Head::read`] take what the pipeline needs
//! out of the frame by a few wide loads and one branch a step, and copy nothing. What they do not
//! recognise is no error: [`parse`](super::parse::parse) decides, and both agree on every frame
//! (a property of the tests).
//!
//! # RFCs
//! Those of [`parse`](super::parse).

use super::buf::RxChecksum;
use super::ipv4::{is_bad_source, protocol};
use super::{tcp, udp};
use crate::types::Mac;

/// Bytes of headers the short cut reads: Ethernet, IPv4, and a TCP header without options.
pub const HEADERS: usize = 54;

/// The first bytes of a frame.
pub type Headers = [u8; HEADERS];

/// The Ethernet header that the short cut takes: to one address, and IPv4 without options in it.
#[derive(Debug, Clone, Copy)]
pub struct Ethernet {
    /// The address in the upper six bytes, so that what follows it in a frame is shifted out.
    mac: u64,
}

/// Ethernet type IPv4, then version 4 and five words of header, as read from the wire.
const IPV4_WITHOUT_OPTIONS: u32 = u32::from_le_bytes([0x08, 0x00, 0x45, 0]);

/// The `N` bytes at `AT`, both constant: no bounds check is left.
#[inline(always)]
fn at<const AT: usize, const N: usize, const ALL: usize>(headers: &[u8; ALL]) -> [u8; N] {
    headers[AT..].first_chunk().copied().unwrap_or([0; N])
}

/// The two bytes at `AT`, as they lie there: the first is the low one.
#[inline(always)]
pub(super) fn two<const AT: usize, const ALL: usize>(headers: &[u8; ALL]) -> u16 {
    u16::from_le_bytes(at::<AT, 2, ALL>(headers))
}

#[inline(always)]
pub(super) fn four<const AT: usize, const ALL: usize>(headers: &[u8; ALL]) -> u32 {
    u32::from_le_bytes(at::<AT, 4, ALL>(headers))
}

#[inline(always)]
pub(super) fn eight<const AT: usize, const ALL: usize>(headers: &[u8; ALL]) -> u64 {
    u64::from_le_bytes(at::<AT, 8, ALL>(headers))
}

impl Ethernet {
    /// Frames to `mac`.
    pub const fn to(mac: Mac) -> Ethernet {
        let b = mac.0;
        Ethernet { mac: u64::from_le_bytes([0, 0, b[0], b[1], b[2], b[3], b[4], b[5]]) }
    }

    /// Whether the frame is for that address and holds IPv4 without options.
    #[inline(always)]
    pub fn look(self, headers: &Headers) -> bool {
        let mac = (eight::<0, HEADERS>(headers) << 16) ^ self.mac;
        let kind = (four::<12, HEADERS>(headers) ^ IPV4_WITHOUT_OPTIONS) & 0x00ff_ffff;
        mac | u64::from(kind) == 0
    }
}

/// The destination address of an IPv4 header without options, as it lies in memory.
#[inline(always)]
pub fn destination(headers: &Headers) -> u32 {
    four::<30, HEADERS>(headers)
}

/// What the pipeline needs to know of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// Source and destination address: [`FlowKey::words`](crate::types::FlowKey::words).0.
    pub addresses: u64,
    /// L4 ports and protocol: the other of the two words.
    pub ports: u64,
    /// Length of the IP packet in bytes.
    pub total_len: u16,
    /// TCP's FIN, SYN, RST, PSH and ACK bits; [`Head::DATAGRAM`] for UDP.
    pub signal: u8,
}

/// Of flags and fragment offset, the first byte's bits that say fragment: all but the reserved bit
/// and DF.
const FRAGMENT: u8 = 0x3f;

impl Head {
    /// Nothing read yet.
    pub const NONE: Head = Head { addresses: 0, ports: 0, total_len: 0, signal: 0 };

    /// [`Head::signal`] of a UDP datagram.
    pub const DATAGRAM: u8 = 0x20;

    /// [`Head::signal`] of a TCP segment.
    #[inline(always)]
    pub const fn segment(flags: tcp::Flags) -> u8 {
        flags.0 & 0x1f
    }

    /// Reads a frame of `frame_len` bytes that [`Ethernet::look`] has found right. False for
    /// fragments, protocols other than TCP and UDP, and whatever is wrong with it but for its
    /// source ([`Head::has_bad_source`]); what is in `self` then means nothing.
    #[inline(always)]
    pub fn read(&mut self, headers: &Headers, frame_len: usize, rx: RxChecksum) -> bool {
        let total_len = two::<16, HEADERS>(headers).swap_bytes();
        if headers[20] & FRAGMENT | headers[21] != 0 || usize::from(total_len) + 14 > frame_len {
            return false;
        }
        match rx {
            RxChecksum::Unknown if is_checksum_right(headers) => {}
            RxChecksum::Good => {}
            RxChecksum::Unknown | RxChecksum::Bad => return false,
        }
        // Written last: what lives across the checksum finds no register.
        self.total_len = total_len;
        self.addresses = eight::<26, HEADERS>(headers);
        self.ports = u64::from(four::<34, HEADERS>(headers)) | u64::from(headers[23]) << 32;
        // Negative when the total length does not even hold the header.
        let l4_len = i32::from(total_len) - 20;
        match headers[23] {
            protocol::UDP => {
                self.signal = Head::DATAGRAM;
                let len = i32::from(two::<38, HEADERS>(headers).swap_bytes());
                len >= udp::HEADER_LEN as i32 && len <= l4_len
            }
            protocol::TCP => {
                self.signal = Head::segment(tcp::Flags(headers[47]));
                let len = i32::from(headers[46] >> 4) * 4;
                len >= tcp::MIN_HEADER_LEN as i32 && len <= l4_len
            }
            _ => false,
        }
    }
}

impl Head {
    /// Whether the source address cannot be a host's, or is the destination's: not to be forwarded.
    /// No flow has such a key, so only packets without a flow need to be asked.
    #[inline]
    pub fn has_bad_source(&self) -> bool {
        let [a, b, c, d, e, f, g, h] = self.addresses.to_le_bytes();
        is_bad_source([a, b, c, d].into()) || [a, b, c, d] == [e, f, g, h]
    }
}

/// Whether the 20 bytes of the IPv4 header sum up to 0xffff (RFC 1071), in any byte order.
#[inline(always)]
fn is_checksum_right(headers: &Headers) -> bool {
    let (sum, carry) = eight::<14, HEADERS>(headers).overflowing_add(eight::<22, HEADERS>(headers));
    let (sum, again) =
        sum.overflowing_add(u64::from(four::<30, HEADERS>(headers)) + u64::from(carry));
    let sum = sum.wrapping_add(u64::from(again));
    // A word and its rotation by half: the upper half is the sum of both halves, the carry out of
    // the lower one added in.
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    sum.wrapping_add(sum.rotate_left(16)) >> 16 == 0xffff
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::build::Build;
    use crate::packet::checksum;
    use crate::packet::parse::{Ipv4Packet, L4, Parsed, parse};
    use crate::types::{FlowKey, Protocol};

    const PORT: Mac = Mac([2, 0, 0, 0, 0, 2]);

    /// What the short cut should make of what the parser says.
    fn expected(ip: &Ipv4Packet) -> Option<Head> {
        let (protocol, signal) = match ip.l4 {
            L4::Tcp { flags, .. } => (Protocol::Tcp, Head::segment(flags)),
            L4::Udp { .. } => (Protocol::Udp, Head::DATAGRAM),
            _ => return None,
        };
        let (client_port, vip_port) = ip.ports()?;
        let key = FlowKey { client: ip.src, vip: ip.dst, client_port, vip_port, protocol };
        let (addresses, ports) = key.words();
        let head = Head { addresses, ports, total_len: ip.total_len, signal };
        (!ip.fragment.is_fragment()).then_some(head)
    }

    /// The short cut finds what the parser finds, wherever it looks at all.
    fn agrees(frame: &[u8], rx: RxChecksum) -> bool {
        let Some(headers) = frame.first_chunk() else { return false };
        if !Ethernet::to(PORT).look(headers) {
            return false;
        }
        let by_the_book = match parse(frame, frame.len(), rx) {
            Ok(Parsed::Ipv4(ip)) => expected(&ip),
            _ => None,
        };
        let mut head = Head::NONE;
        let found = head.read(headers, frame.len(), rx).then_some(head);
        let found = found.filter(|head| !head.has_bad_source());
        assert_eq!(found, by_the_book, "{frame:02x?} {rx:?}");
        found.is_some()
    }

    fn frame(tcp: bool, payload: usize, pad: usize) -> Vec<u8> {
        let ip = Build::eth(Mac([2, 0, 0, 0, 0, 1]), PORT)
            .ipv4([198, 51, 100, 1].into(), [192, 0, 2, 80].into())
            .df(payload % 2 == 0)
            .tos(payload as u8);
        let l4 = if tcp { ip.tcp(1024, 80, tcp::Flags::ACK, 1) } else { ip.udp(0xfffe, 443) };
        l4.payload(&vec![0x55; payload]).pad(pad).finish()
    }

    #[test]
    fn reads_whole_packets() {
        for (tcp, payload) in [(true, 0), (true, 500), (false, 12), (false, 1472)] {
            assert!(agrees(&frame(tcp, payload, 60), RxChecksum::Unknown), "{tcp} {payload}");
        }
    }

    #[test]
    fn other_stations_options_and_short_frames_are_not_looked_at() {
        let right = frame(true, 10, 60);
        let looks = |frame: &[u8]| Ethernet::to(PORT).look(frame.first_chunk().expect("long"));
        assert!(looks(&right));
        for at in [0, 5, 12, 13, 14] {
            let mut other = right.clone();
            other[at] ^= 1;
            assert!(!looks(&other), "byte {at}");
        }
        for at in [6, 11, 15] {
            let mut other = right.clone();
            other[at] ^= 0xff;
            assert!(looks(&other), "byte {at}");
        }
    }

    #[test]
    fn every_source_and_every_length_is_judged_as_by_the_parser() {
        let right = |at: usize, bytes: &[u8], tcp| {
            let mut frame = frame(tcp, 30, 60);
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame[24..26].fill(0);
            let check = checksum::checksum(&frame[14..34]);
            frame[24..26].copy_from_slice(&check.to_be_bytes());
            frame
        };
        for byte in 0..=255u8 {
            for tcp in [true, false] {
                agrees(&right(26, &[byte], tcp), RxChecksum::Unknown);
                agrees(&right(23, &[byte], tcp), RxChecksum::Unknown);
                agrees(&right(20, &[byte], tcp), RxChecksum::Unknown);
                agrees(&right(46, &[byte], tcp), RxChecksum::Unknown);
                agrees(&right(16, &[0, byte], tcp), RxChecksum::Unknown);
                agrees(&right(38, &[0, byte], tcp), RxChecksum::Unknown);
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_parser_on_damaged_packets(
            tcp in any::<bool>(), payload in 0usize..60, pad in 54usize..70,
            rx in prop_oneof![Just(RxChecksum::Unknown), Just(RxChecksum::Good), Just(RxChecksum::Bad)],
            damage in proptest::collection::vec((14usize..54, any::<u8>()), 0..3),
            mend in any::<bool>(),
        ) {
            let mut frame = frame(tcp, payload, pad);
            for (at, byte) in damage {
                frame[at] = byte;
            }
            if mend {
                frame[24..26].fill(0);
                let check = checksum::checksum(&frame[14..34]);
                frame[24..26].copy_from_slice(&check.to_be_bytes());
            }
            agrees(&frame, rx);
        }

        #[test]
        fn the_checksum_is_judged_as_by_the_book(header in proptest::collection::vec(any::<u8>(), 20)) {
            let mut headers = [0; HEADERS];
            headers[14..34].copy_from_slice(&header);
            prop_assert_eq!(is_checksum_right(&headers), checksum::verify(&header));
            headers[24..26].fill(0);
            let check = checksum::checksum(&headers[14..34]);
            headers[24..26].copy_from_slice(&check.to_be_bytes());
            prop_assert_eq!(is_checksum_right(&headers), checksum::verify(&headers[14..34]));
        }
    }
}
