//! The general parser for IPv6: one look at a received frame, as [`parse`](super::parse) for IPv4.
//!
//! It judges what must hold for every packet whoever it is for, follows the extension headers, and
//! copies out what the pipeline needs. It does not judge the hop limit, the destination's meaning
//! or the payload. L4 checksums are left to the real server.
//!
//! # RFCs
//! RFC 8200 (header, extension headers), RFC 4291 (sources), RFC 7112 (a first fragment holds all
//! headers, L4's too), RFC 1858 and 3128 (later fragments that reach into the TCP header).

use std::fmt;
use std::net::Ipv6Addr;

use super::ethernet::{self, EtherType};
use super::field::{get_ipv6, get16, get32};
use super::icmpv6::{self, kind};
use super::ipv6::ext::{self, ChainError, Fragment};
use super::ipv6::{self, at, next};
use super::parse::L4;
use super::tcp::{self, Flags};
use super::udp;

/// What the pipeline needs to know of an IPv6 packet. Numbers are in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv6Packet {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// What of L4 the packet tells.
    pub l4: L4,
    /// The fragment header, when there is one; an atomic fragment (RFC 6946) has it too.
    pub fragment: Option<Fragment>,
    /// Flow label, 20 bits.
    pub flow_label: u32,
    /// Length of extension headers and payload in bytes, without Ethernet padding.
    pub payload_len: u16,
    /// Bytes of extension headers.
    pub ext_len: u16,
    /// Upper-layer protocol; of a later fragment, what its first fragment begins with.
    pub protocol: u8,
    /// Hop limit as received; not judged.
    pub hop_limit: u8,
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Whether the frame was sent to a broadcast or multicast Ethernet address.
    pub l2_group: bool,
}

impl Ipv6Packet {
    /// Where the upper-layer header starts in the frame, in bytes.
    #[inline(always)]
    pub const fn l4_offset(&self) -> usize {
        L4_MIN + self.ext_len as usize
    }

    /// Length of the upper-layer header and its data in bytes.
    #[inline(always)]
    pub const fn l4_len(&self) -> u16 {
        self.payload_len - self.ext_len
    }

    /// Length of IPv6 header, extension headers and payload in bytes, 65575 at most.
    #[inline(always)]
    pub const fn total_len(&self) -> u32 {
        ipv6::HEADER_LEN as u32 + self.payload_len as u32
    }

    /// Whether this is one piece of several.
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.fragment.is_some_and(|f| f.is_fragment())
    }

    /// Source and destination L4 ports, of TCP and UDP but for later fragments.
    #[inline(always)]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.l4 {
            L4::Tcp { sport, dport, .. } | L4::Udp { sport, dport } => Some((sport, dport)),
            _ => None,
        }
    }
}

impl fmt::Display for Ipv6Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ipv6Packet { src, dst, .. } = self;
        match self.l4 {
            L4::Tcp { sport, dport, flags } => {
                write!(f, "tcp [{src}]:{sport} -> [{dst}]:{dport} {flags}")
            }
            L4::Udp { sport, dport } => write!(f, "udp [{src}]:{sport} -> [{dst}]:{dport}"),
            L4::Icmp { kind, code } => write!(f, "icmpv6 {src} -> {dst} type {kind} code {code}"),
            L4::LaterFragment => {
                let (id, offset) = self.fragment.map_or((0, 0), |f| (f.id, f.offset));
                write!(f, "fragment {src} -> {dst} id {id} at {offset}")
            }
            L4::Other => write!(f, "protocol {} {src} -> {dst}", self.protocol),
        }
    }
}

/// Why a frame is dropped without being looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum ParseError {
    /// The frame is shorter than its headers say, or its headers do not lie in the first segment.
    #[error("frame shorter than its headers say")]
    TooShort,
    /// No IPv6 by its Ethernet type.
    #[error("not IPv6")]
    NotIpv6,
    /// The version is not 6.
    #[error("bad IPv6 header")]
    BadIpv6Header,
    /// An extension header is cut, stands where it may not, or tells an impossible fragment.
    #[error("bad IPv6 extension header")]
    BadExtension,
    /// More extension headers, or longer ones, than the director reads.
    #[error("too many IPv6 extension headers")]
    ExtensionLimit,
    /// A routing header with segments left: the packet is on its way elsewhere.
    #[error("IPv6 routing header with segments left")]
    Routing,
    /// The TCP, UDP or ICMPv6 header is cut short or tells an impossible length.
    #[error("bad TCP, UDP or ICMPv6 header")]
    BadL4Header,
    /// The source address cannot be a host's, or is the destination's (land attack).
    #[error("source address that no host can have")]
    BadSource,
}

impl From<ChainError> for ParseError {
    fn from(error: ChainError) -> ParseError {
        match error {
            ChainError::NotInSegment => ParseError::TooShort,
            ChainError::Cut | ChainError::Malformed => ParseError::BadExtension,
            ChainError::Limit => ParseError::ExtensionLimit,
            ChainError::Routing => ParseError::Routing,
        }
    }
}

const IP: usize = ethernet::HEADER_LEN;
const L4_MIN: usize = IP + ipv6::HEADER_LEN;

/// Parses a frame: `first` is its first segment, `frame_len` the length of all of it in bytes.
#[inline]
pub fn parse(first: &[u8], frame_len: usize) -> Result<Ipv6Packet, ParseError> {
    if first.len() < ethernet::HEADER_LEN {
        return Err(ParseError::TooShort);
    }
    if get16(first, 12) != EtherType::IPV6.0 {
        return Err(ParseError::NotIpv6);
    }
    let Some((head, rest)) = first.split_first_chunk::<L4_MIN>() else {
        return Err(ParseError::TooShort);
    };
    let header = &head[IP..];
    let word = get32(header, at::VERSION_CLASS_LABEL);
    if word >> 28 != 6 {
        return Err(ParseError::BadIpv6Header);
    }
    let payload_len = get16(header, at::PAYLOAD_LEN);
    if L4_MIN + usize::from(payload_len) > frame_len {
        return Err(ParseError::TooShort);
    }
    let (src, dst) = (get_ipv6(header, at::SRC), get_ipv6(header, at::DST));
    if src == dst || ipv6::is_bad_source(src) && !src.is_unspecified() {
        return Err(ParseError::BadSource);
    }
    // Bytes after the packet are Ethernet padding, and no header.
    let payload = &rest[..rest.len().min(usize::from(payload_len))];
    let chain = ext::walk(header[at::NEXT_HEADER], payload, usize::from(payload_len))?;
    let ext_len = usize::from(chain.len);
    let l4_len = usize::from(payload_len) - ext_len;
    let l4 = payload.get(ext_len..).ok_or(ParseError::TooShort)?;
    let l4 = match chain.fragment {
        Some(fragment) if fragment.is_later() => later_fragment(chain.protocol, fragment)?,
        fragment => l4_header(chain.protocol, fragment.is_some_and(|f| f.more), l4, l4_len)?,
    };
    if src.is_unspecified() && !may_be_unspecified(l4, chain.fragment) {
        return Err(ParseError::BadSource);
    }
    Ok(Ipv6Packet {
        src,
        dst,
        l4,
        fragment: chain.fragment,
        flow_label: word & ipv6::FLOW_LABEL_MASK,
        payload_len,
        ext_len: chain.len,
        protocol: chain.protocol,
        hop_limit: header[at::HOP_LIMIT],
        traffic_class: (word >> 20) as u8,
        l2_group: head[0] & 1 != 0,
    })
}

/// The messages of a station that has no address yet: duplicate address detection (RFC 4862
/// 5.4.2), its router solicitation (RFC 4861 4.1) and its listener report (RFC 3590).
fn may_be_unspecified(l4: L4, fragment: Option<Fragment>) -> bool {
    const ALLOWED: [u8; 3] =
        [kind::NEIGHBOR_SOLICITATION, kind::ROUTER_SOLICITATION, kind::LISTENER_REPORT_V2];
    matches!(l4, L4::Icmp { kind, .. } if fragment.is_none() && ALLOWED.contains(&kind))
}

/// What there is to say of a fragment without an L4 header.
fn later_fragment(protocol: u8, fragment: Fragment) -> Result<L4, ParseError> {
    // RFC 1858 3.2.2: it would overwrite the TCP header of the first fragment, which holds all of
    // it (RFC 7112), so that no honest one begins there.
    if protocol == next::TCP && usize::from(fragment.offset) < tcp::MIN_HEADER_LEN {
        return Err(ParseError::BadExtension);
    }
    Ok(L4::LaterFragment)
}

/// Reads `l4`, the bytes of the first segment after the extension headers; `l4_len` are the
/// packet's. `more` tells of a first fragment.
#[inline(always)]
fn l4_header(protocol: u8, more: bool, l4: &[u8], l4_len: usize) -> Result<L4, ParseError> {
    match protocol {
        next::TCP => {
            if l4_len < tcp::MIN_HEADER_LEN {
                return Err(ParseError::BadL4Header);
            }
            let tcp = l4.first_chunk::<{ tcp::MIN_HEADER_LEN }>().ok_or(ParseError::TooShort)?;
            let header_len = usize::from(tcp[12] >> 4) * 4;
            // RFC 7112 5: a host that fragments puts the entire header chain into the first
            // fragment; unlike in IPv4, TCP's options may not go on in the next.
            if header_len < tcp::MIN_HEADER_LEN || header_len > l4_len {
                return Err(ParseError::BadL4Header);
            }
            Ok(L4::Tcp { sport: get16(tcp, 0), dport: get16(tcp, 2), flags: Flags(tcp[13]) })
        }
        next::UDP => {
            if l4_len < udp::HEADER_LEN {
                return Err(ParseError::BadL4Header);
            }
            let udp = l4.first_chunk::<{ udp::HEADER_LEN }>().ok_or(ParseError::TooShort)?;
            let len = usize::from(get16(udp, 4));
            // Shorter than the payload is right: RFC 9868 puts options behind.
            if len < udp::HEADER_LEN || len > l4_len && !more {
                return Err(ParseError::BadL4Header);
            }
            Ok(L4::Udp { sport: get16(udp, 0), dport: get16(udp, 2) })
        }
        next::ICMPV6 => {
            if l4_len < icmpv6::MIN_LEN {
                return Err(ParseError::BadL4Header);
            }
            let icmp = l4.first_chunk::<{ icmpv6::MIN_LEN }>().ok_or(ParseError::TooShort)?;
            Ok(L4::Icmp { kind: icmp[0], code: icmp[1] })
        }
        _ => Ok(L4::Other),
    }
}

#[cfg(test)]
mod tests;
