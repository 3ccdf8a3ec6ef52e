//! ICMP for IPv6, RFC 4443: echo, errors a router sends and when, the packet an error quotes.
//!
//! Neighbor discovery is in [`ndp`](super::ndp), multicast listener reports in [`mld`](super::mld).

use std::fmt;
use std::net::Ipv6Addr;

use super::field::{get16, get32, set16, set32};
use super::ipv6::{self, ext, next};
use super::{HeaderError, checksum};

/// Length in bytes of the header as read and written here: type, code, checksum and four bytes
/// that depend on the type.
pub const HEADER_LEN: usize = 8;
/// Length in bytes of what every message has: type, code, checksum (RFC 4443 2.1).
pub const MIN_LEN: usize = 4;
/// Longest IPv6 packet an error may be, in bytes: the least MTU there is (RFC 4443 2.4 (c)).
pub const MAX_ERROR_LEN: usize = ipv6::MIN_MTU as usize;

mod at {
    pub(super) const KIND: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const REST: usize = 4;
}

/// Message types.
pub mod kind {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// Multicast listener query, RFC 3810 5.1.
    pub const LISTENER_QUERY: u8 = 130;
    /// Router solicitation, RFC 4861 4.1.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Router advertisement, RFC 4861 4.2.
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    /// Neighbor solicitation, RFC 4861 4.3.
    pub const NEIGHBOR_SOLICITATION: u8 = 135;
    /// Neighbor advertisement, RFC 4861 4.4.
    pub const NEIGHBOR_ADVERTISEMENT: u8 = 136;
    /// Redirect, RFC 4861 4.5.
    pub const REDIRECT: u8 = 137;
    /// Version 2 multicast listener report, RFC 3810 5.2.
    pub const LISTENER_REPORT_V2: u8 = 143;
}

/// Codes of [`kind::UNREACHABLE`].
pub mod code {
    /// No route to the destination.
    pub const NO_ROUTE: u8 = 0;
    /// The destination's link-layer address cannot be found, or the like.
    pub const ADDRESS_UNREACHABLE: u8 = 3;
    /// Nothing listens on the L4 port.
    pub const PORT_UNREACHABLE: u8 = 4;
}

/// Whether a message type is an error, about a packet that it quotes: "a zero in the high-order
/// bit" (RFC 4443 2.1).
#[inline(always)]
pub const fn is_error(kind: u8) -> bool {
    kind < 128
}

/// A view of a message.
#[derive(Debug, Clone, Copy)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of `bytes`, an IPv6 payload without extension headers and Ethernet padding.
    #[inline]
    pub fn new(bytes: T) -> Result<Packet<T>, HeaderError> {
        if bytes.as_ref().len() < HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        Ok(Packet { bytes })
    }

    /// Type.
    #[inline]
    pub fn kind(&self) -> u8 {
        self.bytes.as_ref()[at::KIND]
    }

    /// Code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.bytes.as_ref()[at::CODE]
    }

    /// The four bytes that depend on the type.
    #[inline]
    pub fn rest(&self) -> u32 {
        get32(self.bytes.as_ref(), at::REST)
    }

    /// What follows the header: echo data, or the packet an error quotes.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[HEADER_LEN..]
    }

    /// Whether the checksum over pseudo header and all of the message is right (RFC 4443 2.3).
    pub fn verify_checksum(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        let bytes = self.bytes.as_ref();
        let pseudo = checksum::pseudo_header_v6(src, dst, next::ICMPV6, bytes.len() as u32);
        checksum::add(pseudo, checksum::sum(bytes)) == 0xffff
    }

    /// The next hop's MTU in bytes that a "packet too big" tells (RFC 4443 3.2). It may be a lie,
    /// and below [`ipv6::MIN_MTU`] it is not to be believed (RFC 8201 4).
    pub fn next_hop_mtu(&self) -> Option<u32> {
        (self.kind() == kind::PACKET_TOO_BIG).then(|| self.rest())
    }
}

impl<T: AsRef<[u8]>> fmt::Display for Packet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "icmpv6 type {} code {}", self.kind(), self.code())
    }
}

/// The header as a value. Its checksum is computed when it is emitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The four bytes that depend on the type.
    pub rest: u32,
}

impl Header {
    /// Reads the header at the front of `bytes`, and checks the checksum over all of them.
    pub fn parse(bytes: &[u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<Header, HeaderError> {
        let packet = Packet::new(bytes)?;
        if !packet.verify_checksum(src, dst) {
            return Err(HeaderError::Checksum);
        }
        Ok(Header { kind: packet.kind(), code: packet.code(), rest: packet.rest() })
    }

    /// Writes the header to the front of `out`, the rest of which is the payload already, and the
    /// checksum over both and the pseudo header.
    pub fn emit(&self, out: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), HeaderError> {
        if out.len() < HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        let len = u32::try_from(out.len()).map_err(|_| HeaderError::Malformed)?;
        out[at::KIND] = self.kind;
        out[at::CODE] = self.code;
        set16(out, at::CHECKSUM, 0);
        set32(out, at::REST, self.rest);
        let pseudo = checksum::pseudo_header_v6(src, dst, next::ICMPV6, len);
        let check = !checksum::add(pseudo, checksum::sum(out));
        set16(out, at::CHECKSUM, check);
        Ok(())
    }
}

/// Makes an echo request its own reply, in place (RFC 4443 4.2). `ip` are the packet's bytes from
/// the IPv6 header on (of its first segment).
///
/// The addresses are swapped, the hop limit is a new packet's. The checksum is brought along, not
/// computed: a request damaged on its way makes a reply that the client finds damaged, and the
/// data need not be read. The flow label, which was the client's to choose, is cleared.
///
/// # Errors
/// Nothing is changed and `Unsupported` returned when this is no echo request, has extension
/// headers (fragments too), or was sent to a group, whose reply must have another source.
pub fn echo_reply_in_place(ip: &mut [u8]) -> Result<(), HeaderError> {
    let mut packet = ipv6::Packet::new_in(&mut *ip, usize::MAX)?;
    if packet.next_header() != next::ICMPV6 || packet.dst().is_multicast() {
        return Err(HeaderError::Unsupported);
    }
    let echo = Packet::new(packet.payload())?;
    if echo.kind() != kind::ECHO_REQUEST || echo.code() != 0 {
        return Err(HeaderError::Unsupported);
    }
    packet.swap_addresses();
    packet.set_hop_limit(ipv6::DEFAULT_HOP_LIMIT);
    let icmp = packet.payload_mut();
    let check = checksum::update16(
        get16(icmp, at::CHECKSUM),
        u16::from(kind::ECHO_REQUEST) << 8,
        u16::from(kind::ECHO_REPLY) << 8,
    );
    icmp[at::KIND] = kind::ECHO_REPLY;
    set16(icmp, at::CHECKSUM, check);
    let word = get32(ip, ipv6::at::VERSION_CLASS_LABEL);
    set32(ip, ipv6::at::VERSION_CLASS_LABEL, word & !ipv6::FLOW_LABEL_MASK);
    Ok(())
}

/// An error the director may send to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// The packet is longer than the next hop takes (RFC 4443 3.2); routers do not fragment IPv6.
    PacketTooBig {
        /// The longest packet that would have passed, in bytes. Never sent below
        /// [`ipv6::MIN_MTU`], which every path must take (RFC 8200 5).
        mtu: u32,
    },
    /// The hop limit ran out here.
    TimeExceeded,
    /// No real server can be reached.
    AddressUnreachable,
    /// Nothing serves this L4 port.
    PortUnreachable,
}

impl Error {
    fn header(self) -> Header {
        let (kind, code, rest) = match self {
            Error::PacketTooBig { mtu } => {
                (kind::PACKET_TOO_BIG, 0, mtu.max(u32::from(ipv6::MIN_MTU)))
            }
            Error::TimeExceeded => (kind::TIME_EXCEEDED, 0, 0),
            Error::AddressUnreachable => (kind::UNREACHABLE, code::ADDRESS_UNREACHABLE, 0),
            Error::PortUnreachable => (kind::UNREACHABLE, code::PORT_UNREACHABLE, 0),
        };
        Header { kind, code, rest }
    }
}

/// Whether `error` about this packet may be sent (RFC 4443 2.4 (e)): not about an ICMPv6 error or
/// a redirect, a packet to a group of either layer (but for "packet too big"), nor one whose source
/// is not a single host. `l2_group` tells whether the frame was sent to an Ethernet group address.
///
/// A packet whose extension headers cannot be followed may be an ICMPv6 error, so there is none
/// about it; nor about a later fragment of an ICMPv6 message.
pub fn may_send_error<T: AsRef<[u8]>>(error: Error, ip: &ipv6::Packet<T>, l2_group: bool) -> bool {
    let payload = ip.payload();
    let Ok(chain) = ext::walk(ip.next_header(), payload, usize::from(ip.payload_len())) else {
        return false;
    };
    let about_error = chain.protocol == next::ICMPV6
        && (chain.fragment.is_some_and(|f| f.is_later())
            || payload
                .get(usize::from(chain.len))
                .is_none_or(|&kind| is_error(kind) || kind == kind::REDIRECT));
    let to_group = l2_group || ip.dst().is_multicast();
    let group_allowed = matches!(error, Error::PacketTooBig { .. });
    !about_error && (!to_group || group_allowed) && !ipv6::is_bad_source(ip.src())
}

/// Writes to `out` the IPv6 packet that tells `error` about the packet `about` (as received, and
/// as much of it as is in one piece), and gives its length, [`MAX_ERROR_LEN`] at most. `src` is
/// the director's address. Ask [`may_send_error`] first.
///
/// # Errors
/// `TooShort` when `out` is.
pub fn emit_error<T: AsRef<[u8]>>(
    out: &mut [u8],
    error: Error,
    about: &ipv6::Packet<T>,
    src: Ipv6Addr,
) -> Result<usize, HeaderError> {
    const OVERHEAD: usize = ipv6::HEADER_LEN + HEADER_LEN;
    // RFC 4443 2.4 (c): "MUST include as much of the IPv6 offending (invoking) packet ... as
    // possible without making the error message packet exceed the minimum IPv6 MTU".
    let quote = about.bytes();
    let quote = &quote[..quote.len().min(MAX_ERROR_LEN - OVERHEAD)];
    let total = OVERHEAD + quote.len();
    let out = out.get_mut(..total).ok_or(HeaderError::TooShort)?;
    let (front, data) = out.split_at_mut(OVERHEAD);
    data.copy_from_slice(quote);
    let dst = about.src();
    let payload_len = (total - ipv6::HEADER_LEN) as u16;
    ipv6::Header::new(src, dst, next::ICMPV6, payload_len).emit(front)?;
    error.header().emit(&mut out[ipv6::HEADER_LEN..], src, dst)?;
    Ok(total)
}

/// What an ICMPv6 error tells about the packet it quotes. Numbers are in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// The quoted packet's source address.
    pub src: Ipv6Addr,
    /// The quoted packet's destination address.
    pub dst: Ipv6Addr,
    /// The quoted packet's upper-layer protocol: 6, 17, or 58 (an echo).
    pub protocol: u8,
    /// The quoted packet's source L4 port; 0 for ICMPv6.
    pub sport: u16,
    /// The quoted packet's destination L4 port; 0 for ICMPv6.
    pub dport: u16,
}

/// Reads the packet an ICMPv6 error quotes. `icmp` is the error, from the ICMPv6 header on.
/// The quoted packet's length is not asked for: it is cut as a rule.
///
/// # Errors
/// `Unsupported` when this is no error, or is about a later fragment or a protocol without L4
/// ports; `TooShort` and `Malformed` when the quote cannot be read.
pub fn quoted(icmp: &[u8]) -> Result<Quoted, HeaderError> {
    let error = Packet::new(icmp)?;
    if !is_error(error.kind()) {
        return Err(HeaderError::Unsupported);
    }
    let inner = ipv6::Packet::new_in(error.payload(), usize::MAX)?;
    let payload = inner.payload();
    let chain = ext::walk(inner.next_header(), payload, usize::from(inner.payload_len())).map_err(
        |error| match error {
            ext::ChainError::NotInSegment => HeaderError::TooShort,
            _ => HeaderError::Malformed,
        },
    )?;
    if chain.fragment.is_some_and(|f| f.is_later()) {
        return Err(HeaderError::Unsupported);
    }
    let l4 = payload.get(usize::from(chain.len)..).unwrap_or_default();
    let (sport, dport) = match (chain.protocol, l4.first_chunk::<4>()) {
        (next::TCP | next::UDP, Some(ports)) => (get16(ports, 0), get16(ports, 2)),
        (next::ICMPV6, Some(_)) => (0, 0),
        (next::TCP | next::UDP | next::ICMPV6, None) => return Err(HeaderError::TooShort),
        _ => return Err(HeaderError::Unsupported),
    };
    let (src, dst) = (inner.src(), inner.dst());
    Ok(Quoted { src, dst, protocol: chain.protocol, sport, dport })
}

#[cfg(test)]
mod tests;
