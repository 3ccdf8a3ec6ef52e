//! The chain of IPv6 extension headers, RFC 8200 4, and what it may not be.
//!
//! A chain is walked once, within [`MAX_HEADERS`] and [`MAX_LEN`]: a sender must not be able to
//! make the director read for long. RFC 8504 5.3 allows a node such limits. Options inside
//! hop-by-hop and destination headers are not looked at on the way to a real server: the director
//! is a router to the former, which may skip them (RFC 8200 4.3), and not the destination the
//! latter are for. Where it is the destination, [`may_skip`] looks.
//!
//! # RFCs
//! RFC 8200 4.1 (order; any is accepted, but hop-by-hop first only), RFC 4302 (AH), RFC 6946
//! (atomic fragments), RFC 7112 (the first fragment holds the whole chain), RFC 5095 and RFC 8200
//! 4.4 (routing headers with segments left are refused: the packet is not for its destination).

use super::super::HeaderError;
use super::next;
use crate::packet::field::{get16, get32, set16, set32};

/// Most extension headers of one packet.
pub const MAX_HEADERS: usize = 8;
/// Most bytes of extension headers of one packet.
pub const MAX_LEN: usize = 512;
/// Length of a fragment header in bytes.
pub const FRAGMENT_LEN: usize = 8;

/// What a fragment header tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Identification that fragments of one packet share, with source and destination address.
    pub id: u32,
    /// Where this fragment stands in the fragmentable part, in bytes (a multiple of eight).
    pub offset: u16,
    /// Whether more fragments follow this one.
    pub more: bool,
}

impl Fragment {
    /// Whether the packet is in several pieces. An atomic fragment (RFC 6946) is not.
    #[inline(always)]
    pub const fn is_fragment(&self) -> bool {
        self.more || self.offset != 0
    }

    /// Whether this is a fragment other than the first, without an L4 header.
    #[inline(always)]
    pub const fn is_later(&self) -> bool {
        self.offset != 0
    }

    /// The fragment header at the front of `bytes`.
    #[inline]
    fn parse(bytes: &[u8; FRAGMENT_LEN]) -> Fragment {
        let word = get16(bytes, 2);
        Fragment { id: get32(bytes, 4), offset: word & !7, more: word & 1 != 0 }
    }

    /// Writes the header to the front of `out`; `next_header` is what it stands before.
    ///
    /// # Errors
    /// `TooShort` when `out` is, `Malformed` when the offset is no multiple of eight.
    pub fn emit(&self, out: &mut [u8], next_header: u8) -> Result<(), HeaderError> {
        let out = out.get_mut(..FRAGMENT_LEN).ok_or(HeaderError::TooShort)?;
        if self.offset % 8 != 0 {
            return Err(HeaderError::Malformed);
        }
        out[0] = next_header;
        out[1] = 0;
        set16(out, 2, self.offset | u16::from(self.more));
        set32(out, 4, self.id);
        Ok(())
    }
}

/// Why a chain is not followed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChainError {
    /// It goes on after the bytes that can be read, but within the packet.
    #[error("extension headers do not lie in the first segment")]
    NotInSegment,
    /// It goes on after the packet's end; of a first fragment, in the next (RFC 7112).
    #[error("extension headers end after the packet")]
    Cut,
    /// A header stands where it may not, or a fragment has an impossible length.
    #[error("extension headers the protocol does not allow")]
    Malformed,
    /// More headers or bytes than are read here.
    #[error("more extension headers than are read")]
    Limit,
    /// A routing header with segments left.
    #[error("routing header with segments left")]
    Routing,
}

/// Where a chain leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Chain {
    /// The upper-layer protocol; of a later fragment, what its first fragment begins with.
    pub protocol: u8,
    /// Bytes of extension headers, from the end of the IPv6 header on.
    pub len: u16,
    /// The fragment header, when there is one.
    pub fragment: Option<Fragment>,
}

/// Walks the extension headers at the front of `bytes`, the part that can be read of a payload of
/// `payload_len` bytes. `first` is the IPv6 header's next header.
///
/// The chain ends at a later fragment, whose payload begins anywhere, and at the first header that
/// is not an extension header known here: TCP, ESP, "no next header" and unknown ones alike.
#[inline]
pub fn walk(first: u8, bytes: &[u8], payload_len: usize) -> Result<Chain, ChainError> {
    let mut chain = Chain { protocol: first, len: 0, fragment: None };
    for count in 0.. {
        let at = usize::from(chain.len);
        let header_of = |len: usize| match bytes.get(at..at + len) {
            _ if at + len > payload_len => Err(ChainError::Cut),
            Some(header) => Ok(header),
            None => Err(ChainError::NotInSegment),
        };
        match chain.protocol {
            // "restricted to appear immediately after an IPv6 header only" (RFC 8200 4.1).
            next::HOP_BY_HOP if count > 0 => return Err(ChainError::Malformed),
            next::HOP_BY_HOP
            | next::DESTINATION
            | next::ROUTING
            | next::FRAGMENT
            | next::AUTHENTICATION => {}
            _ => return Ok(chain),
        }
        if count == MAX_HEADERS {
            return Err(ChainError::Limit);
        }
        let head = header_of(FRAGMENT_LEN)?;
        let len = match chain.protocol {
            next::FRAGMENT => FRAGMENT_LEN,
            // RFC 4302 2.2: "in 32-bit words (4-byte units), minus '2'".
            next::AUTHENTICATION => (usize::from(head[1]) + 2) * 4,
            // "in 8-octet units, not including the first 8 octets".
            _ => (usize::from(head[1]) + 1) * 8,
        };
        if at + len > MAX_LEN {
            return Err(ChainError::Limit);
        }
        match chain.protocol {
            // RFC 8200 4.4: with "Segments Left" zero it is ignored. Otherwise its destination is
            // another one yet, by which the L4 checksum goes; and RFC 5095 wants type 0 refused.
            next::ROUTING if head[3] != 0 => return Err(ChainError::Routing),
            next::FRAGMENT => {
                let fragment = match head.first_chunk::<FRAGMENT_LEN>() {
                    // A fragment of a fragment has no honest use.
                    Some(head) if chain.fragment.is_none() => Fragment::parse(head),
                    _ => return Err(ChainError::Malformed),
                };
                check_fragment(&fragment, at, payload_len)?;
                chain.fragment = Some(fragment);
            }
            _ => {}
        }
        // All of it must be in the packet, and its successor be readable, unless nothing is left.
        header_of(len)?;
        chain.protocol = head[0];
        chain.len += len as u16;
        if chain.fragment.is_some_and(|f| f.is_later()) {
            return Ok(chain);
        }
    }
    Err(ChainError::Limit)
}

/// Whether the destination of a packet may go on to what follows the extension headers `chain`,
/// which [`walk`] found behind `first`, when it knows no options but padding: none says that who
/// does not know it must drop the packet (RFC 8200 4.2). Behind an authentication header it may
/// not, for nobody here can tell whether that is right.
pub fn may_skip(first: u8, chain: &[u8]) -> bool {
    let (mut protocol, mut left) = (first, chain);
    while let [next, len, ..] = *left {
        let len = match protocol {
            next::FRAGMENT => FRAGMENT_LEN,
            next::HOP_BY_HOP | next::DESTINATION | next::ROUTING => (usize::from(len) + 1) * 8,
            _ => return false,
        };
        let Some((header, rest)) = left.split_at_checked(len) else { return false };
        let has_options = matches!(protocol, next::HOP_BY_HOP | next::DESTINATION);
        if has_options && !may_skip_options(&header[2..]) {
            return false;
        }
        (protocol, left) = (next, rest);
    }
    left.is_empty()
}

/// Walks the options in one header.
fn may_skip_options(mut left: &[u8]) -> bool {
    const PAD1: u8 = 0;
    while let [kind, rest @ ..] = left {
        left = match (*kind, rest) {
            (PAD1, _) => rest,
            // "The highest-order 2 bits specify the action that must be taken if the processing
            // IPv6 node does not recognize the Option Type: 00 - skip over this option".
            (1..=0x3f, [len, data @ ..]) if usize::from(*len) <= data.len() => {
                &data[usize::from(*len)..]
            }
            _ => return false,
        };
    }
    true
}

/// RFC 8200 4.5, of a fragment whose header stands at `at` of a payload of `payload_len` bytes.
fn check_fragment(fragment: &Fragment, at: usize, payload_len: usize) -> Result<(), ChainError> {
    let data = payload_len - at - FRAGMENT_LEN;
    // "If the length of a fragment ... is not a multiple of 8 octets and the M flag of that
    // fragment is 1, then that fragment must be discarded".
    if fragment.more && data % 8 != 0 {
        return Err(ChainError::Malformed);
    }
    // "If the length and offset of a fragment are such that the Payload Length of the packet
    // reassembled from that fragment would exceed 65,535 octets, then that fragment must be
    // discarded". `at` bytes are the unfragmentable part.
    if at + usize::from(fragment.offset) + data > usize::from(u16::MAX) {
        return Err(ChainError::Malformed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TCP: u8 = next::TCP;

    fn whole(first: u8, bytes: &[u8]) -> Result<Chain, ChainError> {
        walk(first, bytes, bytes.len())
    }

    #[test]
    fn without_extension_headers_there_is_nothing_to_walk() {
        for protocol in [next::TCP, next::UDP, next::ESP, next::NONE, next::ICMPV6, 135, 255] {
            assert_eq!(whole(protocol, &[]), Ok(Chain { protocol, len: 0, fragment: None }));
        }
    }

    #[test]
    fn walks_headers_of_every_kind() {
        #[rustfmt::skip]
        let bytes = [
            60, 0, 1, 4, 0, 0, 0, 0,                                     // hop-by-hop
            43, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,            // destination options
            51, 0, 4, 0, 0, 0, 0, 0,                                     // routing, none left
            44, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,                         // AH, 12 bytes
            TCP, 0, 0, 0, 1, 2, 3, 4,                                    // atomic fragment
            9, 9,
        ];
        let fragment = Fragment { id: 0x0102_0304, offset: 0, more: false };
        assert!(!fragment.is_fragment());
        let chain = Chain { protocol: TCP, len: 52, fragment: Some(fragment) };
        assert_eq!(whole(next::HOP_BY_HOP, &bytes), Ok(chain));
    }

    #[test]
    fn hop_by_hop_options_come_first_only() {
        let bytes = [0, 0, 1, 4, 0, 0, 0, 0, TCP, 0, 1, 4, 0, 0, 0, 0];
        assert_eq!(whole(next::DESTINATION, &bytes), Err(ChainError::Malformed));
        assert_eq!(whole(next::HOP_BY_HOP, &bytes), Err(ChainError::Malformed));
    }

    #[test]
    fn segments_left_are_refused_whatever_the_type() {
        for kind in [0, 2, 4] {
            let bytes = [TCP, 0, kind, 1, 0, 0, 0, 0];
            assert_eq!(whole(next::ROUTING, &bytes), Err(ChainError::Routing));
        }
    }

    #[test]
    fn a_later_fragment_ends_the_chain() {
        // What follows looks like an endless destination header, but is payload.
        let mut bytes = [0xff; 24];
        let later = Fragment { id: 7, offset: 8, more: true };
        later.emit(&mut bytes, next::DESTINATION).unwrap();
        let chain = Chain { protocol: next::DESTINATION, len: 8, fragment: Some(later) };
        assert_eq!(whole(next::FRAGMENT, &bytes), Ok(chain));
        assert_eq!(whole(next::FRAGMENT, &bytes[..20]), Err(ChainError::Malformed));
    }

    #[test]
    fn a_packet_past_64_kib_is_refused() {
        let mut bytes = [0; 16];
        Fragment { id: 7, offset: 65528, more: false }.emit(&mut bytes, TCP).unwrap();
        assert_eq!(whole(next::FRAGMENT, &bytes), Err(ChainError::Malformed));
        assert!(whole(next::FRAGMENT, &bytes[..15]).is_ok());
    }

    #[test]
    fn a_second_fragment_header_is_refused() {
        let bytes = [44, 0, 0, 0, 0, 0, 0, 1, TCP, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(whole(next::FRAGMENT, &bytes), Err(ChainError::Malformed));
    }

    #[test]
    fn the_walk_has_an_end() {
        let header = [next::DESTINATION, 0, 1, 4, 0, 0, 0, 0];
        let mut bytes = header.repeat(MAX_HEADERS);
        let last = bytes.len() - 8;
        bytes[last] = TCP;
        assert_eq!(whole(next::DESTINATION, &bytes).unwrap().len, 64);
        bytes[last] = next::DESTINATION;
        bytes.extend(header);
        assert_eq!(whole(next::DESTINATION, &bytes), Err(ChainError::Limit));
        let mut long = [0; 1000];
        long[..2].copy_from_slice(&[TCP, 63]);
        assert_eq!(whole(next::DESTINATION, &long).unwrap().len, 512);
        long[1] = 64;
        assert_eq!(whole(next::DESTINATION, &long), Err(ChainError::Limit));
    }

    #[test]
    fn a_chain_cut_by_packet_or_segment_is_told_apart() {
        let bytes = [TCP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        for len in 0..16 {
            assert_eq!(whole(next::DESTINATION, &bytes[..len]), Err(ChainError::Cut));
            let segment = walk(next::DESTINATION, &bytes[..len], 16);
            assert_eq!(segment, Err(ChainError::NotInSegment));
        }
        assert!(whole(next::DESTINATION, &bytes).is_ok());
    }

    #[test]
    fn options_may_be_skipped_that_say_so() {
        let options = |rest: &[u8]| [&[TCP, (rest.len() / 8) as u8], rest].concat();
        for (rest, may) in [
            (&[1, 4, 0, 0, 0, 0][..], true),
            (&[0; 6], true),
            (&[5, 2, 0, 0, 1, 0], true),
            (&[0, 0, 0, 0, 0x3e, 0], true),
            (&[0x7e, 4, 0, 0, 0, 0], false),
            (&[0x80, 4, 0, 0, 0, 0], false),
            (&[0xc2, 4, 0, 1, 0, 0], false),
            (&[1, 0, 0, 0xc0, 1, 0], false),
            (&[1, 5, 0, 0, 0, 0], false),
            (&[1, 3, 0, 0, 0, 1], false),
            (&[1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true),
        ] {
            for first in [next::HOP_BY_HOP, next::DESTINATION] {
                assert_eq!(may_skip(first, &options(rest)), may, "{rest:?}");
            }
            assert!(may_skip(next::ROUTING, &options(rest)), "none in there");
        }
        assert!(may_skip(TCP, &[]));
        assert!(!may_skip(next::AUTHENTICATION, &[TCP, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        let pad = [1, 4, 0, 0, 0, 0];
        let chain = |kinds: [u8; 2], rest: &[u8]| {
            [&[kinds[0], 0], &pad[..], &[kinds[1], 0, 0, 0, 0, 0, 0, 1, TCP, 0], rest].concat()
        };
        let kinds = [next::FRAGMENT, next::DESTINATION];
        assert!(may_skip(next::HOP_BY_HOP, &chain(kinds, &pad)));
        assert!(!may_skip(next::HOP_BY_HOP, &chain(kinds, &[0x80, 4, 0, 0, 0, 0])));
        assert!(!may_skip(next::HOP_BY_HOP, &chain(kinds, &pad[1..])));
    }

    #[test]
    fn emits_golden_fragment_headers() {
        let mut out = [0xee; 8];
        let fragment = Fragment { id: 0x0102_0304, offset: 1448, more: true };
        fragment.emit(&mut out, next::UDP).unwrap();
        assert_eq!(out, [17, 0, 0x05, 0xa9, 1, 2, 3, 4]);
        assert!(Fragment { offset: 4, ..fragment }.emit(&mut out, 17).is_err());
        assert!(fragment.emit(&mut out[..7], 17).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_within_the_limits(
            first in prop::sample::select(vec![0u8, 43, 44, 51, 60, 6]),
            mut bytes in proptest::collection::vec(any::<u8>(), 0..600),
            kinds in proptest::collection::vec(prop::sample::select(vec![43u8, 44, 51, 60, 17]), 75),
            more in 0usize..100,
        ) {
            for (unit, kind) in bytes.chunks_mut(8).zip(kinds) {
                unit[0] = kind;
                if let Some(len) = unit.get_mut(1) {
                    *len %= 3;
                }
            }
            may_skip(first, &bytes);
            if let Ok(chain) = walk(first, &bytes, bytes.len() + more) {
                prop_assert!(usize::from(chain.len) <= bytes.len().min(MAX_LEN));
            }
        }
    }
}
