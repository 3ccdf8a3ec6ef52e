//! IPv6, RFC 8200. Extension headers are walked by [`ext`].
//!
//! # Limits
//! No jumbograms (RFC 2675): a payload has 65535 bytes at most.

use std::fmt;
use std::net::Ipv6Addr;

use super::HeaderError;
use super::field::{get_ipv6, get16, get32, set_ipv6, set16, set32};
use crate::types::Mac;

pub mod ext;

/// Length of the header in bytes, without extension headers.
pub const HEADER_LEN: usize = 40;
/// The smallest MTU a link may have, in bytes (RFC 8200 5).
pub const MIN_MTU: u16 = 1280;
/// Hop limit of packets the director itself originates.
pub const DEFAULT_HOP_LIMIT: u8 = 64;
/// All nodes on the link (RFC 4291 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// Next header values the director knows; those that IPv4 has too are the same numbers.
pub mod next {
    /// Hop-by-hop options, RFC 8200 4.3.
    pub const HOP_BY_HOP: u8 = 0;
    /// IPv4 in IPv6, RFC 2473.
    pub const IPV4: u8 = 4;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// IPv6 in IPv6, RFC 2473, or in IPv4, RFC 4213.
    pub const IPV6: u8 = 41;
    /// Routing header, RFC 8200 4.4.
    pub const ROUTING: u8 = 43;
    /// Fragment header, RFC 8200 4.5.
    pub const FRAGMENT: u8 = 44;
    /// GRE, RFC 7676.
    pub const GRE: u8 = 47;
    /// Encapsulating security payload, RFC 4303: nothing behind it can be read.
    pub const ESP: u8 = 50;
    /// Authentication header, RFC 4302.
    pub const AUTHENTICATION: u8 = 51;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
    /// Nothing follows, RFC 8200 4.7.
    pub const NONE: u8 = 59;
    /// Destination options, RFC 8200 4.6.
    pub const DESTINATION: u8 = 60;
}

pub(crate) mod at {
    pub(crate) const VERSION_CLASS_LABEL: usize = 0;
    pub(crate) const PAYLOAD_LEN: usize = 4;
    pub(crate) const NEXT_HEADER: usize = 6;
    pub(crate) const HOP_LIMIT: usize = 7;
    pub(crate) const SRC: usize = 8;
    pub(crate) const DST: usize = 24;
}

/// The flow label's bits in the first word, and the most it can be.
pub const FLOW_LABEL_MASK: u32 = 0x000f_ffff;

/// A view of a packet: its header, and as much of its payload as there is.
#[derive(Debug, Clone, Copy)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of `bytes`, which start with the header and may go on after the packet (Ethernet
    /// padding). The packet must be there as a whole.
    #[inline]
    pub fn new(bytes: T) -> Result<Packet<T>, HeaderError> {
        let available = bytes.as_ref().len();
        Self::new_in(bytes, available)
    }

    /// The same when `bytes` are only the first of `available` ones (the first segment of a
    /// packet, or what an ICMPv6 error quotes); the header must lie in `bytes`.
    #[inline]
    pub fn new_in(bytes: T, available: usize) -> Result<Packet<T>, HeaderError> {
        let b = bytes.as_ref();
        if b.len() < HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        if b[0] >> 4 != 6 {
            return Err(HeaderError::Malformed);
        }
        if available < HEADER_LEN + usize::from(get16(b, at::PAYLOAD_LEN)) {
            return Err(HeaderError::TooShort);
        }
        Ok(Packet { bytes })
    }

    /// Traffic class: DSCP (RFC 2474) and, in the low two bits, ECN (RFC 3168).
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (get32(self.bytes.as_ref(), at::VERSION_CLASS_LABEL) >> 20) as u8
    }

    /// Flow label, 20 bits (RFC 6437); 0 when the sender set none.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        get32(self.bytes.as_ref(), at::VERSION_CLASS_LABEL) & FLOW_LABEL_MASK
    }

    /// Length of extension headers and payload in bytes.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        get16(self.bytes.as_ref(), at::PAYLOAD_LEN)
    }

    /// What follows this header: an extension header, or the upper-layer protocol.
    #[inline]
    pub fn next_header(&self) -> u8 {
        self.bytes.as_ref()[at::NEXT_HEADER]
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.bytes.as_ref()[at::HOP_LIMIT]
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv6Addr {
        get_ipv6(self.bytes.as_ref(), at::SRC)
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv6Addr {
        get_ipv6(self.bytes.as_ref(), at::DST)
    }

    /// The packet that is there, header and payload, without Ethernet padding.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let bytes = self.bytes.as_ref();
        &bytes[..bytes.len().min(HEADER_LEN + usize::from(self.payload_len()))]
    }

    /// The payload that is there, extension headers first, without Ethernet padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes()[HEADER_LEN..]
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// One hop less. A hop limit of zero stays.
    #[inline]
    pub fn decrement_hop_limit(&mut self) {
        decrement_hop_limit(self.bytes.as_mut());
    }

    /// Sets the hop limit.
    #[inline]
    pub fn set_hop_limit(&mut self, hop_limit: u8) {
        self.bytes.as_mut()[at::HOP_LIMIT] = hop_limit;
    }

    /// Sets what follows the header, and how many bytes of it there are.
    pub fn set_payload(&mut self, next_header: u8, len: u16) {
        self.bytes.as_mut()[at::NEXT_HEADER] = next_header;
        set16(self.bytes.as_mut(), at::PAYLOAD_LEN, len);
    }

    /// Swaps source and destination; no checksum of an upper layer changes by that.
    pub fn swap_addresses(&mut self) {
        let (src, dst) = (self.src(), self.dst());
        set_ipv6(self.bytes.as_mut(), at::SRC, dst);
        set_ipv6(self.bytes.as_mut(), at::DST, src);
    }

    /// What follows the header, to be changed.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let end = self.bytes().len();
        &mut self.bytes.as_mut()[HEADER_LEN..end]
    }
}

/// One hop less in the header at the front of `header` (at least 8 bytes); there is no checksum to
/// bring along. A hop limit of zero stays.
#[inline(always)]
pub(crate) fn decrement_hop_limit(header: &mut [u8]) {
    header[at::HOP_LIMIT] = header[at::HOP_LIMIT].saturating_sub(1);
}

impl<T: AsRef<[u8]>> fmt::Display for Packet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ipv6 {} -> {} next header {} length {} hop limit {}",
            self.src(),
            self.dst(),
            self.next_header(),
            self.payload_len(),
            self.hop_limit()
        )
    }
}

/// The header as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub traffic_class: u8,
    /// Flow label, 20 bits; higher ones are not sent.
    pub flow_label: u32,
    /// Length of what follows the header, in bytes.
    pub payload_len: u16,
    /// What follows this header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
}

impl Header {
    /// Header of a packet the director originates: hop limit 64, no flow label.
    pub fn new(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, payload_len: u16) -> Header {
        Header {
            traffic_class: 0,
            flow_label: 0,
            payload_len,
            next_header,
            hop_limit: DEFAULT_HOP_LIMIT,
            src,
            dst,
        }
    }

    /// Reads the header at the front of `bytes`, which hold the whole packet.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let packet = Packet::new(bytes)?;
        Ok(Header {
            traffic_class: packet.traffic_class(),
            flow_label: packet.flow_label(),
            payload_len: packet.payload_len(),
            next_header: packet.next_header(),
            hop_limit: packet.hop_limit(),
            src: packet.src(),
            dst: packet.dst(),
        })
    }

    /// Writes the header to the front of `out`.
    pub fn emit(&self, out: &mut [u8]) -> Result<(), HeaderError> {
        let out = out.get_mut(..HEADER_LEN).ok_or(HeaderError::TooShort)?;
        let class = u32::from(self.traffic_class) << 20;
        set32(out, at::VERSION_CLASS_LABEL, 6 << 28 | class | self.flow_label & FLOW_LABEL_MASK);
        set16(out, at::PAYLOAD_LEN, self.payload_len);
        out[at::NEXT_HEADER] = self.next_header;
        out[at::HOP_LIMIT] = self.hop_limit;
        set_ipv6(out, at::SRC, self.src);
        set_ipv6(out, at::DST, self.dst);
        Ok(())
    }
}

/// Whether a source address cannot be a single host's on the wire: unspecified, loopback, multicast
/// (RFC 4291 2.5.2, 2.5.3, 2.7), or IPv4-mapped (RFC 6890 2.2.3: no source, no destination). The
/// unspecified address is right in duplicate address detection and MLD alone, which say so.
#[inline(always)]
pub const fn is_bad_source(src: Ipv6Addr) -> bool {
    let bits = src.to_bits();
    bits <= 1 || bits >> 120 == 0xff || bits >> 32 == 0xffff
}

/// Whether the address is for one link only, fe80::/10 (RFC 4291 2.5.6): never forwarded.
#[inline(always)]
pub const fn is_link_local(address: Ipv6Addr) -> bool {
    address.to_bits() >> 118 == 0xfe80 >> 6
}

/// The link-local address of a station by its Ethernet address (RFC 2464 4 and 5): fe80::/64 and
/// the modified EUI-64.
pub const fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let id = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(0xfe80 << 112 | id as u128)
}

/// The group in which a station listens for solicitations of `address` (RFC 4291 2.7.1):
/// ff02::1:ff00:0/104 and its low 24 bits.
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let prefix = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0).to_bits();
    Ipv6Addr::from_bits(prefix | address.to_bits() & 0x00ff_ffff)
}

/// The Ethernet address of an IPv6 multicast group (RFC 2464 7): 33:33 and its last four bytes.
pub const fn group_mac(group: Ipv6Addr) -> Mac {
    let [a, b, c, d] = (group.to_bits() as u32).to_be_bytes();
    Mac([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests;
