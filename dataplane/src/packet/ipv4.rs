//! IPv4, RFC 791.

use std::fmt;
use std::net::Ipv4Addr;

use arrayvec::ArrayVec;

use super::HeaderError;
use super::checksum;
use super::field::{get_ipv4, get16, set_ipv4, set16};

/// Length in bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Length in bytes of the longest header.
pub const MAX_HEADER_LEN: usize = 60;
/// Longest chain of options in bytes.
pub const MAX_OPTIONS_LEN: usize = MAX_HEADER_LEN - MIN_HEADER_LEN;
/// The smallest MTU a link may have (RFC 791 3.2): "every internet module must be able to forward
/// a datagram of 68 octets without further fragmentation".
pub const MIN_MTU: u16 = 68;
/// TTL of packets the director itself originates (RFC 1700, and RFC 1812 4.2.2.9: at least the
/// diameter of the Internet).
pub const DEFAULT_TTL: u8 = 64;

/// IP protocol numbers the director knows.
pub mod protocol {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// IPv4 in IPv4, RFC 2003.
    pub const IPIP: u8 = 4;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// GRE, RFC 2784.
    pub const GRE: u8 = 47;
}

pub(crate) mod at {
    pub(crate) const VERSION_IHL: usize = 0;
    pub(crate) const TOS: usize = 1;
    pub(crate) const TOTAL_LEN: usize = 2;
    pub(crate) const ID: usize = 4;
    pub(crate) const FRAGMENT: usize = 6;
    pub(crate) const TTL: usize = 8;
    pub(crate) const PROTOCOL: usize = 9;
    pub(crate) const CHECKSUM: usize = 10;
    pub(crate) const SRC: usize = 12;
    pub(crate) const DST: usize = 16;
    pub(crate) const OPTIONS: usize = 20;
}

/// The 16 bits that tell of fragmentation: reserved bit, DF, MF, and the offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct FragmentBits(pub u16);

impl FragmentBits {
    /// Don't fragment.
    pub const DF: FragmentBits = FragmentBits(0x4000);
    /// More fragments follow.
    pub const MF: FragmentBits = FragmentBits(0x2000);

    /// Whether the packet must not be fragmented.
    #[inline(always)]
    pub const fn df(self) -> bool {
        self.0 & Self::DF.0 != 0
    }

    /// Whether more fragments follow this one.
    #[inline(always)]
    pub const fn more(self) -> bool {
        self.0 & Self::MF.0 != 0
    }

    /// Where this fragment's payload stands in the whole packet's, in bytes (the field counts
    /// units of eight).
    #[inline(always)]
    pub const fn offset(self) -> u16 {
        self.0 << 3
    }

    /// Whether this is any fragment, first ones included.
    #[inline(always)]
    pub const fn is_fragment(self) -> bool {
        self.0 & 0x3fff != 0
    }

    /// Whether this is a fragment other than the first, without an L4 header.
    #[inline(always)]
    pub const fn is_later(self) -> bool {
        self.0 & 0x1fff != 0
    }

    /// These bits with another offset (bytes, rounded down to eight) and MF; the rest stays.
    #[inline]
    pub const fn with(self, offset: u16, more: bool) -> FragmentBits {
        let mf = if more { Self::MF.0 } else { 0 };
        FragmentBits(self.0 & 0xc000 | mf | offset >> 3)
    }
}

impl fmt::Debug for FragmentBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let df = if self.df() { "df " } else { "" };
        write!(f, "{df}{}{}", self.offset(), if self.more() { "+" } else { "" })
    }
}

/// A view of a packet: its header, and as much of its payload as there is.
#[derive(Debug, Clone, Copy)]
pub struct Packet<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Packet<T> {
    /// A view of `bytes`, which start with the header and may go on after the packet (Ethernet
    /// padding). The packet must be there as a whole. The checksum is not looked at.
    #[inline]
    pub fn new(bytes: T) -> Result<Packet<T>, HeaderError> {
        let available = bytes.as_ref().len();
        Self::new_in(bytes, available)
    }

    /// The same when `bytes` are only the first of `available` ones (the first segment of a
    /// packet, or what an ICMP error quotes); the header must lie in `bytes`.
    #[inline]
    pub fn new_in(bytes: T, available: usize) -> Result<Packet<T>, HeaderError> {
        let b = bytes.as_ref();
        if b.len() < MIN_HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        let header_len = usize::from(b[at::VERSION_IHL] & 0xf) * 4;
        let total_len = usize::from(get16(b, at::TOTAL_LEN));
        if b[at::VERSION_IHL] >> 4 != 4 || header_len < MIN_HEADER_LEN || total_len < header_len {
            return Err(HeaderError::Malformed);
        }
        if b.len() < header_len || available < total_len {
            return Err(HeaderError::TooShort);
        }
        Ok(Packet { bytes })
    }

    /// Length of the header with options, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes.as_ref()[at::VERSION_IHL] & 0xf) * 4
    }

    /// Type of service: DSCP (RFC 2474) and, in the low two bits, ECN (RFC 3168).
    #[inline]
    pub fn tos(&self) -> u8 {
        self.bytes.as_ref()[at::TOS]
    }

    /// Length of header and payload in bytes.
    #[inline]
    pub fn total_len(&self) -> u16 {
        get16(self.bytes.as_ref(), at::TOTAL_LEN)
    }

    /// Identification.
    #[inline]
    pub fn id(&self) -> u16 {
        get16(self.bytes.as_ref(), at::ID)
    }

    /// DF, MF and fragment offset.
    #[inline]
    pub fn fragment(&self) -> FragmentBits {
        FragmentBits(get16(self.bytes.as_ref(), at::FRAGMENT))
    }

    /// Time to live, in hops.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.bytes.as_ref()[at::TTL]
    }

    /// Protocol number of the payload.
    #[inline]
    pub fn protocol(&self) -> u8 {
        self.bytes.as_ref()[at::PROTOCOL]
    }

    /// Header checksum as it stands.
    #[inline]
    pub fn checksum(&self) -> u16 {
        get16(self.bytes.as_ref(), at::CHECKSUM)
    }

    /// Source address.
    #[inline]
    pub fn src(&self) -> Ipv4Addr {
        get_ipv4(self.bytes.as_ref(), at::SRC)
    }

    /// Destination address.
    #[inline]
    pub fn dst(&self) -> Ipv4Addr {
        get_ipv4(self.bytes.as_ref(), at::DST)
    }

    /// The header, options included.
    #[inline]
    pub fn header(&self) -> &[u8] {
        &self.bytes.as_ref()[..self.header_len()]
    }

    /// The options, a multiple of four bytes, often none.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.bytes.as_ref()[at::OPTIONS..self.header_len()]
    }

    /// The payload that is there, without Ethernet padding.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        let bytes = self.bytes.as_ref();
        &bytes[self.header_len()..bytes.len().min(usize::from(self.total_len()))]
    }

    /// Whether the header checksum is right.
    #[inline]
    pub fn verify_checksum(&self) -> bool {
        checksum::verify(self.header())
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// One hop less, and the checksum brought along (RFC 1624). A TTL of zero stays.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        decrement_ttl(self.bytes.as_mut());
    }

    /// Swaps source and destination; the checksum does not change by that.
    pub fn swap_addresses(&mut self) {
        let (src, dst) = (self.src(), self.dst());
        set_ipv4(self.bytes.as_mut(), at::SRC, dst);
        set_ipv4(self.bytes.as_mut(), at::DST, src);
    }

    /// Sets the TTL and brings the checksum along.
    pub fn set_ttl(&mut self, ttl: u8) {
        self.bytes.as_mut()[at::TTL] = ttl;
        self.fill_checksum();
    }

    /// Sets the identification and brings the checksum along.
    pub fn set_id(&mut self, id: u16) {
        set16(self.bytes.as_mut(), at::ID, id);
        self.fill_checksum();
    }

    /// Computes the header checksum anew.
    pub fn fill_checksum(&mut self) {
        set16(self.bytes.as_mut(), at::CHECKSUM, 0);
        let value = checksum::checksum(self.header());
        set16(self.bytes.as_mut(), at::CHECKSUM, value);
    }

    /// What follows the header, to be changed.
    pub fn payload_mut(&mut self) -> &mut [u8] {
        let start = self.header_len();
        let end = self.bytes.as_ref().len().min(usize::from(self.total_len()));
        &mut self.bytes.as_mut()[start..end]
    }
}

/// One hop less in the header at the front of `header` (at least 12 bytes), with the checksum
/// brought along. A TTL of zero stays.
#[inline(always)]
pub(crate) fn decrement_ttl(header: &mut [u8]) {
    let ttl = header[at::TTL];
    if ttl == 0 {
        return;
    }
    let old = get16(header, at::TTL);
    // RFC 1812 5.2.1.2 (10): the router decrements the TTL by one; RFC 1624: HC' = ~(~HC+~m+m').
    let new = old - 0x0100;
    let check = checksum::update16(get16(header, at::CHECKSUM), old, new);
    header[at::TTL] = ttl - 1;
    set16(header, at::CHECKSUM, check);
}

impl<T: AsRef<[u8]>> fmt::Display for Packet<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "ipv4 {} -> {} protocol {} length {} ttl {}",
            self.src(),
            self.dst(),
            self.protocol(),
            self.total_len(),
            self.ttl()
        )?;
        if self.fragment().is_fragment() {
            write!(f, " fragment {:?}", self.fragment())?;
        }
        Ok(())
    }
}

/// The header as a value. Its length and checksum are computed when it is emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// DSCP and ECN.
    pub tos: u8,
    /// Length of what follows the header, in bytes.
    pub payload_len: u16,
    /// Identification.
    pub id: u16,
    /// DF, MF and offset.
    pub fragment: FragmentBits,
    /// Time to live, in hops.
    pub ttl: u8,
    /// Protocol number of the payload.
    pub protocol: u8,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Options as they stand on the wire; a multiple of four bytes.
    pub options: ArrayVec<u8, MAX_OPTIONS_LEN>,
}

impl Header {
    /// Header of a packet the director originates: no options, TTL 64, DF clear, id 0.
    pub fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, payload_len: u16) -> Header {
        Header {
            tos: 0,
            payload_len,
            id: 0,
            fragment: FragmentBits::default(),
            ttl: DEFAULT_TTL,
            protocol,
            src,
            dst,
            options: ArrayVec::new(),
        }
    }

    /// Reads the header at the front of `bytes`, which hold the whole packet.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let packet = Packet::new(bytes)?;
        if !packet.verify_checksum() {
            return Err(HeaderError::Checksum);
        }
        let mut options = ArrayVec::new();
        options.try_extend_from_slice(packet.options()).map_err(|_| HeaderError::Malformed)?;
        Ok(Header {
            tos: packet.tos(),
            payload_len: packet.total_len() - packet.header_len() as u16,
            id: packet.id(),
            fragment: packet.fragment(),
            ttl: packet.ttl(),
            protocol: packet.protocol(),
            src: packet.src(),
            dst: packet.dst(),
            options,
        })
    }

    /// Length of the emitted header in bytes.
    pub fn len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Never; a header has 20 bytes at least.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the header, with its checksum, to the front of `out`.
    pub fn emit(&self, out: &mut [u8]) -> Result<(), HeaderError> {
        let len = self.len();
        if self.options.len() % 4 != 0 {
            return Err(HeaderError::Malformed);
        }
        let total_len = self.payload_len.checked_add(len as u16).ok_or(HeaderError::Malformed)?;
        let out = out.get_mut(..len).ok_or(HeaderError::TooShort)?;
        out[at::VERSION_IHL] = 0x40 | (len / 4) as u8;
        out[at::TOS] = self.tos;
        set16(out, at::TOTAL_LEN, total_len);
        set16(out, at::ID, self.id);
        set16(out, at::FRAGMENT, self.fragment.0);
        out[at::TTL] = self.ttl;
        out[at::PROTOCOL] = self.protocol;
        set16(out, at::CHECKSUM, 0);
        set_ipv4(out, at::SRC, self.src);
        set_ipv4(out, at::DST, self.dst);
        out[at::OPTIONS..].copy_from_slice(&self.options);
        let check = checksum::checksum(out);
        set16(out, at::CHECKSUM, check);
        Ok(())
    }
}

/// Whether a source address cannot be a single host's: 0/8, 127/8, multicast, 240/4 and broadcast
/// (RFC 1812 5.3.7; RFC 1122 3.2.1.3).
#[inline(always)]
pub const fn is_bad_source(src: Ipv4Addr) -> bool {
    matches!(src.to_bits() >> 24, 0 | 127 | 224..)
}

#[cfg(test)]
mod tests;
