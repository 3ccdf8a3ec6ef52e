//! The parser of the fast path: one look at a received frame.
//!
//! [`parse`] judges what must hold for every packet whoever it is for, and copies out what the
//! pipeline needs. It does not judge the TTL, the addresses' meaning or the payload. A frame has
//! one length check up front when it is the common kind: IPv4 without options, 54 bytes or more.
//!
//! # RFCs
//! RFC 791, RFC 1812 5.2.2 (header validation) and 5.3.7 (sources), RFC 1858 and 3128 (tiny
//! fragments). IP options are let through. L4 checksums are left to the real server.

use std::fmt;
use std::net::Ipv4Addr;

use super::buf::RxChecksum;
use super::ethernet::{self, EtherType};
use super::field::{get_ipv4, get16};
use super::ipv4::{self, FragmentBits, at, protocol};
use super::tcp::{self, Flags};
use super::{checksum, icmpv4, udp};

/// What a frame is, when it is something the director deals with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// ARP; not looked at any further.
    Arp,
    /// A well formed IPv4 packet.
    Ipv4(Ipv4Packet),
    /// IPv6, by its Ethernet type; [`parse6`](super::parse6::parse) reads it.
    Ipv6,
}

/// What the pipeline needs to know of an IPv4 packet. Numbers are in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Packet {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What of L4 the packet tells.
    pub l4: L4,
    /// Length of IP header and payload in bytes, without Ethernet padding.
    pub total_len: u16,
    /// Identification, that fragments of one packet share.
    pub id: u16,
    /// DF, MF and fragment offset.
    pub fragment: FragmentBits,
    /// IP protocol number.
    pub protocol: u8,
    /// Length of the IP header with options, in bytes.
    pub header_len: u8,
    /// Time to live as received, in hops; not judged.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Whether the frame was sent to a broadcast or multicast Ethernet address.
    pub l2_group: bool,
}

impl Ipv4Packet {
    /// Where the IP payload starts in the frame, in bytes.
    #[inline(always)]
    pub const fn l4_offset(&self) -> usize {
        ethernet::HEADER_LEN + self.header_len as usize
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

impl fmt::Display for Ipv4Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ipv4Packet { src, dst, .. } = self;
        match self.l4 {
            L4::Tcp { sport, dport, flags } => {
                write!(f, "tcp {src}:{sport} -> {dst}:{dport} {flags}")
            }
            L4::Udp { sport, dport } => write!(f, "udp {src}:{sport} -> {dst}:{dport}"),
            L4::Icmp { kind, code } => write!(f, "icmp {src} -> {dst} type {kind} code {code}"),
            L4::LaterFragment => {
                write!(f, "fragment {src} -> {dst} id {} at {}", self.id, self.fragment.offset())
            }
            L4::Other => write!(f, "protocol {} {src} -> {dst}", self.protocol),
        }
    }
}

/// The part of the L4 header the director goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// TCP.
    Tcp {
        /// Source L4 port.
        sport: u16,
        /// Destination L4 port.
        dport: u16,
        /// Control bits.
        flags: Flags,
    },
    /// UDP.
    Udp {
        /// Source L4 port.
        sport: u16,
        /// Destination L4 port.
        dport: u16,
    },
    /// ICMP.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// A fragment other than the first: it has no L4 header.
    LaterFragment,
    /// Another protocol.
    Other,
}

/// Why a frame is dropped without being looked at any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum ParseError {
    /// The frame is shorter than its headers say, or its headers do not lie in the first segment.
    #[error("frame shorter than its headers say")]
    TooShort,
    /// IPv4 version, header length or total length cannot be, or a fragment reaches past 64 KiB.
    #[error("bad IPv4 header")]
    BadIpv4Header,
    /// The IPv4 header checksum is wrong.
    #[error("bad IPv4 header checksum")]
    BadIpv4Checksum,
    /// The TCP, UDP or ICMP header is cut short or tells an impossible length.
    #[error("bad TCP, UDP or ICMP header")]
    BadL4Header,
    /// The source address cannot be a host's, or is the destination's (land attack).
    #[error("source address that no host can have")]
    BadSource,
    /// An Ethernet type, or an 802.3 length, the director does not know.
    #[error("unknown Ethernet type")]
    EtherTypeUnknown,
    /// A VLAN tag.
    #[error("VLAN tag")]
    Vlan,
}

const IP: usize = ethernet::HEADER_LEN;
const L4_MIN: usize = IP + ipv4::MIN_HEADER_LEN;
const COMMON: usize = L4_MIN + tcp::MIN_HEADER_LEN;

/// Parses a frame: `first` is its first segment, `frame_len` the length of all of it in bytes.
#[inline]
pub fn parse(first: &[u8], frame_len: usize, rx: RxChecksum) -> Result<Parsed, ParseError> {
    if let Some(head) = first.first_chunk::<COMMON>() {
        if get16(head, 12) == EtherType::IPV4.0 && head[IP] == 0x45 {
            // Constant ranges of an array: no bounds check is left from here on.
            return ipv4(&head[..L4_MIN], &head[L4_MIN..], frame_len, rx).map(Parsed::Ipv4);
        }
    }
    parse_uncommon(first, frame_len, rx)
}

/// Short frames, IP options, and all that is not IPv4.
#[inline(never)]
fn parse_uncommon(first: &[u8], frame_len: usize, rx: RxChecksum) -> Result<Parsed, ParseError> {
    let Some(eth) = first.first_chunk::<{ ethernet::HEADER_LEN }>() else {
        return Err(ParseError::TooShort);
    };
    match EtherType(get16(eth, 12)) {
        EtherType::IPV4 => {}
        EtherType::ARP => return Ok(Parsed::Arp),
        EtherType::IPV6 => return Ok(Parsed::Ipv6),
        EtherType::VLAN | EtherType::QINQ => return Err(ParseError::Vlan),
        _ => return Err(ParseError::EtherTypeUnknown),
    }
    if first.len() < L4_MIN {
        return Err(ParseError::TooShort);
    }
    let header_len = usize::from(first[IP] & 0xf) * 4;
    if first[IP] >> 4 != 4 || header_len < ipv4::MIN_HEADER_LEN {
        return Err(ParseError::BadIpv4Header);
    }
    if first.len() < IP + header_len {
        return Err(ParseError::TooShort);
    }
    let (head, l4) = first.split_at(IP + header_len);
    ipv4(head, l4, frame_len, rx).map(Parsed::Ipv4)
}

/// The body of both paths. `head` is the Ethernet and IPv4 header, of which version and header
/// length are checked; `l4` what follows in the first segment, Ethernet padding included.
#[inline(always)]
fn ipv4(
    head: &[u8],
    l4: &[u8],
    frame_len: usize,
    rx: RxChecksum,
) -> Result<Ipv4Packet, ParseError> {
    let (header, header_len) = (&head[IP..], head.len() - IP);
    let total_len = get16(header, at::TOTAL_LEN);
    // RFC 1812 5.2.2 (5): "large enough to hold the IP datagram header"; (1): the link layer's
    // length must be large enough to hold it all.
    if usize::from(total_len) < header_len {
        return Err(ParseError::BadIpv4Header);
    }
    if IP + usize::from(total_len) > frame_len {
        return Err(ParseError::TooShort);
    }
    match rx {
        RxChecksum::Good => {}
        RxChecksum::Unknown if checksum::verify(header) => {}
        _ => return Err(ParseError::BadIpv4Checksum),
    }
    let (src, dst) = (get_ipv4(header, at::SRC), get_ipv4(header, at::DST));
    if ipv4::is_bad_source(src) || src == dst {
        return Err(ParseError::BadSource);
    }
    let protocol = header[at::PROTOCOL];
    let fragment = FragmentBits(get16(header, at::FRAGMENT));
    let l4_len = usize::from(total_len) - header_len;
    Ok(Ipv4Packet {
        src,
        dst,
        l4: if fragment.is_later() {
            later_fragment(protocol, fragment, l4_len)?
        } else {
            l4_header(protocol, fragment, l4, l4_len)?
        },
        total_len,
        id: get16(header, at::ID),
        fragment,
        protocol,
        header_len: header_len as u8,
        ttl: header[at::TTL],
        tos: header[at::TOS],
        l2_group: head[0] & 1 != 0,
    })
}

/// What there is to say of a fragment without an L4 header.
#[inline]
fn later_fragment(protocol: u8, bits: FragmentBits, l4_len: usize) -> Result<L4, ParseError> {
    // RFC 1858 3.2.2, RFC 3128: "if FO=1 and PROTOCOL=TCP then drop": it would overwrite the
    // flags of a TCP header already seen. No honest first fragment ends there.
    if protocol == protocol::TCP && bits.offset() == 8 {
        return Err(ParseError::BadL4Header);
    }
    // A packet cannot be longer than 65535 bytes when put together ("ping of death").
    if usize::from(bits.offset()) + l4_len + ipv4::MIN_HEADER_LEN > usize::from(u16::MAX) {
        return Err(ParseError::BadIpv4Header);
    }
    Ok(L4::LaterFragment)
}

/// Reads `l4`, the bytes of the first segment after the IP header; `l4_len` are the packet's.
#[inline(always)]
fn l4_header(protocol: u8, bits: FragmentBits, l4: &[u8], l4_len: usize) -> Result<L4, ParseError> {
    match protocol {
        protocol::TCP => {
            // RFC 1858 3.2: a first fragment that cuts the TCP header hides its flags.
            if l4_len < tcp::MIN_HEADER_LEN {
                return Err(ParseError::BadL4Header);
            }
            let tcp = l4.first_chunk::<{ tcp::MIN_HEADER_LEN }>().ok_or(ParseError::TooShort)?;
            let header_len = usize::from(tcp[12] >> 4) * 4;
            // Options may go on in the next fragment.
            if header_len < tcp::MIN_HEADER_LEN || header_len > l4_len && !bits.more() {
                return Err(ParseError::BadL4Header);
            }
            Ok(L4::Tcp { sport: get16(tcp, 0), dport: get16(tcp, 2), flags: Flags(tcp[13]) })
        }
        protocol::UDP => {
            if l4_len < udp::HEADER_LEN {
                return Err(ParseError::BadL4Header);
            }
            let udp = l4.first_chunk::<{ udp::HEADER_LEN }>().ok_or(ParseError::TooShort)?;
            let len = usize::from(get16(udp, 4));
            // Shorter than the IP payload is right: RFC 9868 puts options behind.
            if len < udp::HEADER_LEN || len > l4_len && !bits.more() {
                return Err(ParseError::BadL4Header);
            }
            Ok(L4::Udp { sport: get16(udp, 0), dport: get16(udp, 2) })
        }
        protocol::ICMP => {
            if l4_len < icmpv4::HEADER_LEN {
                return Err(ParseError::BadL4Header);
            }
            let icmp = l4.first_chunk::<{ icmpv4::HEADER_LEN }>().ok_or(ParseError::TooShort)?;
            Ok(L4::Icmp { kind: icmp[0], code: icmp[1] })
        }
        _ => Ok(L4::Other),
    }
}

#[cfg(test)]
mod tests;
