//! ICMP for IPv4: RFC 792, path MTU (RFC 1191), what a router may say and when (RFC 1812, 1122).
//!
//! Errors a director *sends* are built here from the packet they are about; errors it *receives*
//! about a flow are read by [`quoted`], which finds the flow in the packet they quote.

use std::fmt;
use std::net::Ipv4Addr;

use super::field::{get16, get32, set16, set32};
use super::ipv4::protocol::{ICMP, TCP, UDP};
use super::{HeaderError, checksum, ipv4};

/// Length of the header in bytes: type, code, checksum and four bytes that depend on the type.
pub const HEADER_LEN: usize = 8;
/// Longest IPv4 packet an error may be, in bytes (RFC 1812 4.3.2.3).
pub const MAX_ERROR_LEN: usize = 576;

mod at {
    pub(super) const KIND: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: usize = 2;
    pub(super) const REST: usize = 4;
}

/// Message types.
pub mod kind {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Source quench (RFC 6633: deprecated).
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// Codes of [`kind::UNREACHABLE`].
pub mod code {
    /// The destination host is unreachable.
    pub const HOST_UNREACHABLE: u8 = 1;
    /// Nothing listens on the L4 port.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
}

/// Whether a message type is an error, about a packet that it quotes (RFC 1122 3.2.2).
#[inline(always)]
pub const fn is_error(kind: u8) -> bool {
    matches!(
        kind,
        kind::UNREACHABLE
            | kind::SOURCE_QUENCH
            | kind::REDIRECT
            | kind::TIME_EXCEEDED
            | kind::PARAMETER_PROBLEM
    )
}

/// A view of a message.
#[derive(Debug, Clone, Copy)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of `bytes`, an IP payload without Ethernet padding.
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

    /// Whether the checksum over all of the message is right.
    pub fn verify_checksum(&self) -> bool {
        checksum::verify(self.bytes.as_ref())
    }

    /// The next hop's MTU in bytes that a "fragmentation needed" tells (RFC 1191 4); 0 when its
    /// sender does not know RFC 1191.
    pub fn next_hop_mtu(&self) -> Option<u16> {
        (self.kind() == kind::UNREACHABLE && self.code() == code::FRAGMENTATION_NEEDED)
            .then(|| self.rest() as u16)
    }
}

impl<T: AsRef<[u8]>> fmt::Display for Packet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "icmp type {} code {}", self.kind(), self.code())
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
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let packet = Packet::new(bytes)?;
        if !packet.verify_checksum() {
            return Err(HeaderError::Checksum);
        }
        Ok(Header { kind: packet.kind(), code: packet.code(), rest: packet.rest() })
    }

    /// Writes the header to the front of `out`, the rest of which is the payload already, and the
    /// checksum over both.
    pub fn emit(&self, out: &mut [u8]) -> Result<(), HeaderError> {
        if out.len() < HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        out[at::KIND] = self.kind;
        out[at::CODE] = self.code;
        set16(out, at::CHECKSUM, 0);
        set32(out, at::REST, self.rest);
        let check = checksum::checksum(out);
        set16(out, at::CHECKSUM, check);
        Ok(())
    }
}

/// Makes an echo request its own reply, in place. `ip` are the packet's bytes from the IP header
/// on (of its first segment); `id` is the reply's identification.
///
/// The addresses are swapped, the TTL is a new packet's, TOS and options stay (RFC 1122 3.2.2.6).
/// The ICMP checksum is brought along, not computed: a request damaged on its way makes a reply
/// that the client finds damaged, and the data need not be read: but for a reply that is all zero,
/// which the update alone cannot tell from one that sums up to minus zero.
///
/// # Errors
/// Nothing is changed and `Unsupported` returned when this is no echo request, is a fragment, or
/// carries a source route, which a reply would have to reverse.
pub fn echo_reply_in_place(ip: &mut [u8], id: u16) -> Result<(), HeaderError> {
    let mut packet = ipv4::Packet::new_in(ip, usize::from(u16::MAX))?;
    let echo = Packet::new(packet.payload())?;
    if packet.protocol() != ICMP
        || echo.kind() != kind::ECHO_REQUEST
        || echo.code() != 0
        || packet.fragment().is_fragment()
        || has_source_route(packet.options())
    {
        return Err(HeaderError::Unsupported);
    }
    packet.swap_addresses();
    packet.set_ttl(ipv4::DEFAULT_TTL);
    packet.set_id(id);
    let icmp = packet.payload_mut();
    let check = checksum::update16(
        get16(icmp, at::CHECKSUM),
        u16::from(kind::ECHO_REQUEST) << 8,
        u16::from(kind::ECHO_REPLY) << 8,
    );
    icmp[at::KIND] = kind::ECHO_REPLY;
    set16(icmp, at::CHECKSUM, check);
    // See `checksum::update16`. What lies in later segments is not looked at: where those are not
    // all zero either form of zero is right.
    if icmp.iter().all(|byte| *byte == 0) {
        set16(icmp, at::CHECKSUM, 0xffff);
    }
    Ok(())
}

/// Whether options hold a loose or strict source route (RFC 791 3.1), or cannot be read.
fn has_source_route(mut options: &[u8]) -> bool {
    loop {
        match *options {
            [] | [0, ..] => return false,
            [1, ref rest @ ..] => options = rest,
            [131 | 137, ..] => return true,
            [_, len, ..] if len >= 2 && usize::from(len) <= options.len() => {
                options = &options[usize::from(len)..];
            }
            _ => return true,
        }
    }
}

/// An error the director may send to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Error {
    /// The packet is longer than the next hop takes, and DF is set.
    FragmentationNeeded {
        /// The longest packet that would have passed, in bytes (RFC 1191).
        mtu: u16,
    },
    /// The TTL ran out here.
    TimeExceeded,
    /// No real server can be reached.
    HostUnreachable,
    /// Nothing serves this L4 port.
    PortUnreachable,
}

impl Error {
    fn header(self) -> Header {
        let (kind, code, rest) = match self {
            // RFC 1191 4: the next hop's MTU "in the low-order 16 bits of the ICMP header field
            // that is labelled "unused" in the ICMP specification".
            Error::FragmentationNeeded { mtu } => {
                (kind::UNREACHABLE, code::FRAGMENTATION_NEEDED, u32::from(mtu))
            }
            Error::TimeExceeded => (kind::TIME_EXCEEDED, 0, 0),
            Error::HostUnreachable => (kind::UNREACHABLE, code::HOST_UNREACHABLE, 0),
            Error::PortUnreachable => (kind::UNREACHABLE, code::PORT_UNREACHABLE, 0),
        };
        Header { kind, code, rest }
    }
}

/// Whether an error about this packet may be sent (RFC 1812 4.3.2.7, RFC 1122 3.2.2): not about
/// an ICMP error, a fragment other than the first, a packet to a broadcast or multicast address of
/// either layer, nor one whose source is not a single host. `l2_group` tells whether the frame was
/// sent to an Ethernet group address. Broadcast addresses of subnets are not known here.
pub fn may_send_error<T: AsRef<[u8]>>(ip: &ipv4::Packet<T>, l2_group: bool) -> bool {
    let about_error = ip.protocol() == ICMP
        // A message too short to tell its type may be an error.
        && ip.payload().first().is_none_or(|&kind| is_error(kind));
    let dst = ip.dst();
    !about_error
        && !l2_group
        && !ip.fragment().is_later()
        && !ipv4::is_bad_source(ip.src())
        && !dst.is_multicast()
        && !dst.is_broadcast()
}

/// Writes to `out` the IPv4 packet that tells `error` about the packet `about` (as received, and
/// as much of it as is in one piece), and gives its length, [`MAX_ERROR_LEN`] at most. `src` is
/// the director's address, `id` the new packet's identification. Ask [`may_send_error`] first.
///
/// # Errors
/// `TooShort` when `out` is.
pub fn emit_error<T: AsRef<[u8]>>(
    out: &mut [u8],
    error: Error,
    about: &ipv4::Packet<T>,
    src: Ipv4Addr,
    id: u16,
) -> Result<usize, HeaderError> {
    const OVERHEAD: usize = ipv4::MIN_HEADER_LEN + HEADER_LEN;
    // RFC 1812 4.3.2.3: "the ICMP datagram SHOULD contain as much of the original datagram as
    // possible without the length of the ICMP datagram exceeding 576 bytes".
    let header = about.header();
    let data = about.payload();
    let data = &data[..data.len().min(MAX_ERROR_LEN - OVERHEAD - header.len())];
    let total = OVERHEAD + header.len() + data.len();
    let out = out.get_mut(..total).ok_or(HeaderError::TooShort)?;

    let dst = about.src();
    let mut ip = ipv4::Header::new(src, dst, ICMP, (total - ipv4::MIN_HEADER_LEN) as u16);
    // RFC 1812 4.3.2.5: errors "SHOULD have their precedence value set to 6 (INTERNETWORK CONTROL)
    // or 7 (NETWORK CONTROL)".
    ip.tos = 6 << 5;
    ip.id = id;
    ip.emit(out)?;
    let (quoted_header, quoted_data) = out[OVERHEAD..].split_at_mut(header.len());
    quoted_header.copy_from_slice(header);
    quoted_data.copy_from_slice(data);
    error.header().emit(&mut out[ipv4::MIN_HEADER_LEN..])?;
    Ok(total)
}

/// What an ICMP error tells about the packet it quotes. Numbers are in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// The quoted packet's source address.
    pub src: Ipv4Addr,
    /// The quoted packet's destination address.
    pub dst: Ipv4Addr,
    /// The quoted packet's protocol number: 6, 17, or 1 (an echo).
    pub protocol: u8,
    /// The quoted packet's source L4 port; 0 for ICMP.
    pub sport: u16,
    /// The quoted packet's destination L4 port; 0 for ICMP.
    pub dport: u16,
}

/// Reads the packet an ICMP error quotes. `icmp` is the error, from the ICMP header on.
///
/// RFC 792 promises the IP header and eight bytes only, so nothing more is asked for: neither the
/// quoted packet's length nor its checksum, which routers on the way may have left wrong.
///
/// # Errors
/// `Unsupported` when this is no error, or is about a later fragment or a protocol without L4
/// ports; `TooShort` and `Malformed` when the quote cannot be read.
pub fn quoted(icmp: &[u8]) -> Result<Quoted, HeaderError> {
    let error = Packet::new(icmp)?;
    if !is_error(error.kind()) {
        return Err(HeaderError::Unsupported);
    }
    let inner = ipv4::Packet::new_in(error.payload(), usize::from(u16::MAX))?;
    if inner.fragment().is_later() {
        return Err(HeaderError::Unsupported);
    }
    let l4 = inner.payload().first_chunk::<8>().ok_or(HeaderError::TooShort)?;
    let (sport, dport) = match inner.protocol() {
        TCP | UDP => (get16(l4, 0), get16(l4, 2)),
        ICMP => (0, 0),
        _ => return Err(HeaderError::Unsupported),
    };
    Ok(Quoted { src: inner.src(), dst: inner.dst(), protocol: inner.protocol(), sport, dport })
}

#[cfg(test)]
mod tests;
