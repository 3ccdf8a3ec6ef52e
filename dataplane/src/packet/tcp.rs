//! TCP, RFC 9293: what a director reads of it, and the reset it may answer with.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use arrayvec::ArrayVec;

use super::field::{get16, get32, set16, set32};
use super::{HeaderError, checksum, ipv4, ipv6};

/// Length in bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Longest chain of options in bytes.
pub const MAX_OPTIONS_LEN: usize = 40;

mod at {
    pub(super) const SPORT: usize = 0;
    pub(super) const DPORT: usize = 2;
    pub(super) const SEQ: usize = 4;
    pub(super) const ACK: usize = 8;
    pub(super) const DATA_OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: usize = 14;
    pub(super) const CHECKSUM: usize = 16;
    pub(super) const URGENT: usize = 18;
    pub(super) const OPTIONS: usize = 20;
}

/// The control bits (RFC 9293 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronise sequence numbers: a connection begins.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment field is significant.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer is significant.
    pub const URG: Flags = Flags(0x20);
    /// ECN echo, RFC 3168.
    pub const ECE: Flags = Flags(0x40);
    /// Congestion window reduced, RFC 3168.
    pub const CWR: Flags = Flags(0x80);

    /// Whether all bits of `other` are set.
    #[inline(always)]
    pub const fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// FIN.
    #[inline(always)]
    pub const fn fin(self) -> bool {
        self.contains(Flags::FIN)
    }

    /// SYN.
    #[inline(always)]
    pub const fn syn(self) -> bool {
        self.contains(Flags::SYN)
    }

    /// RST.
    #[inline(always)]
    pub const fn rst(self) -> bool {
        self.contains(Flags::RST)
    }

    /// ACK.
    #[inline(always)]
    pub const fn ack(self) -> bool {
        self.contains(Flags::ACK)
    }

    /// Whether this opens a connection: SYN, but neither ACK nor RST nor FIN.
    #[inline(always)]
    pub const fn opens(self) -> bool {
        self.0 & (Flags::SYN.0 | Flags::ACK.0 | Flags::RST.0 | Flags::FIN.0) == Flags::SYN.0
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Display for Flags {
    /// As tcpdump writes it: `[S.]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (flag, letter) in [
            (Flags::FIN, "F"),
            (Flags::SYN, "S"),
            (Flags::RST, "R"),
            (Flags::PSH, "P"),
            (Flags::ACK, "."),
            (Flags::URG, "U"),
            (Flags::ECE, "E"),
            (Flags::CWR, "W"),
        ] {
            if self.contains(flag) {
                f.write_str(letter)?;
            }
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A view of a segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<T> {
    bytes: T,
}

impl<T: AsRef<[u8]>> Segment<T> {
    /// A view of `bytes`, an IP payload without Ethernet padding.
    #[inline]
    pub fn new(bytes: T) -> Result<Segment<T>, HeaderError> {
        let b = bytes.as_ref();
        if b.len() < MIN_HEADER_LEN {
            return Err(HeaderError::TooShort);
        }
        let header_len = usize::from(b[at::DATA_OFFSET] >> 4) * 4;
        if header_len < MIN_HEADER_LEN {
            return Err(HeaderError::Malformed);
        }
        if b.len() < header_len {
            return Err(HeaderError::TooShort);
        }
        Ok(Segment { bytes })
    }

    /// Source L4 port.
    #[inline]
    pub fn sport(&self) -> u16 {
        get16(self.bytes.as_ref(), at::SPORT)
    }

    /// Destination L4 port.
    #[inline]
    pub fn dport(&self) -> u16 {
        get16(self.bytes.as_ref(), at::DPORT)
    }

    /// Sequence number.
    #[inline]
    pub fn seq(&self) -> u32 {
        get32(self.bytes.as_ref(), at::SEQ)
    }

    /// Acknowledgment number; significant with [`Flags::ACK`].
    #[inline]
    pub fn ack(&self) -> u32 {
        get32(self.bytes.as_ref(), at::ACK)
    }

    /// Length of the header with options, in bytes.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes.as_ref()[at::DATA_OFFSET] >> 4) * 4
    }

    /// Control bits.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.bytes.as_ref()[at::FLAGS])
    }

    /// Window as it stands, unscaled.
    #[inline]
    pub fn window(&self) -> u16 {
        get16(self.bytes.as_ref(), at::WINDOW)
    }

    /// Options.
    #[inline]
    pub fn options(&self) -> &[u8] {
        &self.bytes.as_ref()[at::OPTIONS..self.header_len()]
    }

    /// Data.
    #[inline]
    pub fn payload(&self) -> &[u8] {
        &self.bytes.as_ref()[self.header_len()..]
    }

    /// Whether the checksum is right for these addresses.
    pub fn verify_checksum(&self, src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        let bytes = self.bytes.as_ref();
        let pseudo = checksum::pseudo_header_v4(src, dst, ipv4::protocol::TCP, bytes.len() as u16);
        checksum::add(checksum::sum(bytes), pseudo) == 0xffff
    }

    /// Whether the checksum is right for these IPv6 addresses.
    pub fn verify_checksum6(&self, src: Ipv6Addr, dst: Ipv6Addr) -> bool {
        let bytes = self.bytes.as_ref();
        let len = bytes.len() as u32;
        let pseudo = checksum::pseudo_header_v6(src, dst, ipv6::next::TCP, len);
        checksum::add(checksum::sum(bytes), pseudo) == 0xffff
    }
}

impl<T: AsRef<[u8]>> fmt::Display for Segment<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tcp {} -> {} {} seq {} ack {} length {}",
            self.sport(),
            self.dport(),
            self.flags(),
            self.seq(),
            self.ack(),
            self.payload().len()
        )
    }
}

/// The header as a value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Source L4 port.
    pub sport: u16,
    /// Destination L4 port.
    pub dport: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgment number.
    pub ack: u32,
    /// Reserved bits, 0 to 15: to be sent as zero, and to be ignored when received.
    pub reserved: u8,
    /// Control bits.
    pub flags: Flags,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Options as they stand on the wire; a multiple of four bytes.
    pub options: ArrayVec<u8, MAX_OPTIONS_LEN>,
}

impl Header {
    /// Reads the header at the front of `bytes`. The checksum is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        let segment = Segment::new(bytes)?;
        let mut options = ArrayVec::new();
        options.try_extend_from_slice(segment.options()).map_err(|_| HeaderError::Malformed)?;
        Ok(Header {
            sport: segment.sport(),
            dport: segment.dport(),
            seq: segment.seq(),
            ack: segment.ack(),
            reserved: bytes[at::DATA_OFFSET] & 0xf,
            flags: segment.flags(),
            window: segment.window(),
            urgent: get16(bytes, at::URGENT),
            options,
        })
    }

    /// Length of the emitted header in bytes.
    pub fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options.len()
    }

    /// Writes the header to the front of `out`, the rest of which is the data already, and the
    /// checksum over both.
    pub fn emit(&self, out: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr) -> Result<(), HeaderError> {
        self.emit_with(out, |len| checksum::pseudo_header_v4(src, dst, ipv4::protocol::TCP, len))
    }

    /// The same over IPv6 (RFC 8200 8.1).
    pub fn emit6(&self, out: &mut [u8], src: Ipv6Addr, dst: Ipv6Addr) -> Result<(), HeaderError> {
        let tcp = ipv4::protocol::TCP;
        self.emit_with(out, |len| checksum::pseudo_header_v6(src, dst, tcp, u32::from(len)))
    }

    /// `pseudo` gives the sum of the pseudo header for the length of the segment in bytes.
    #[inline]
    fn emit_with(
        &self,
        out: &mut [u8],
        pseudo: impl FnOnce(u16) -> u16,
    ) -> Result<(), HeaderError> {
        let len = self.header_len();
        if self.options.len() % 4 != 0 || self.reserved > 0xf {
            return Err(HeaderError::Malformed);
        }
        if out.len() < len {
            return Err(HeaderError::TooShort);
        }
        let total = u16::try_from(out.len()).map_err(|_| HeaderError::Malformed)?;
        set16(out, at::SPORT, self.sport);
        set16(out, at::DPORT, self.dport);
        set32(out, at::SEQ, self.seq);
        set32(out, at::ACK, self.ack);
        out[at::DATA_OFFSET] = ((len / 4) as u8) << 4 | self.reserved;
        out[at::FLAGS] = self.flags.0;
        set16(out, at::WINDOW, self.window);
        set16(out, at::CHECKSUM, 0);
        set16(out, at::URGENT, self.urgent);
        out[at::OPTIONS..len].copy_from_slice(&self.options);
        let check = !checksum::add(checksum::sum(out), pseudo(total));
        set16(out, at::CHECKSUM, check);
        Ok(())
    }
}

/// Length in bytes of the packet [`emit_rst`] writes.
pub const RST_PACKET_LEN: usize = ipv4::MIN_HEADER_LEN + MIN_HEADER_LEN;

/// Writes to `out` the IPv4 packet that resets the connection the segment in `ip` belongs to, as
/// if there were none (RFC 9293 3.10.7.1, CLOSED state), and gives its length. `id` is the packet's
/// identification.
///
/// # Errors
/// `Unsupported` when the segment is itself a reset, or `ip` is a fragment or no TCP; others when
/// it is malformed or `out` is shorter than [`RST_PACKET_LEN`].
pub fn emit_rst<T: AsRef<[u8]>>(
    out: &mut [u8],
    ip: &ipv4::Packet<T>,
    id: u16,
) -> Result<usize, HeaderError> {
    if ip.protocol() != ipv4::protocol::TCP || ip.fragment().is_fragment() {
        return Err(HeaderError::Unsupported);
    }
    let len = usize::from(ip.total_len()) - ip.header_len();
    let tcp = reset(&Segment::new(ip.payload())?, len)?;
    let out = out.get_mut(..RST_PACKET_LEN).ok_or(HeaderError::TooShort)?;
    let (src, dst) = (ip.dst(), ip.src());
    let mut header = ipv4::Header::new(src, dst, ipv4::protocol::TCP, MIN_HEADER_LEN as u16);
    header.id = id;
    header.emit(out)?;
    tcp.emit(&mut out[ipv4::MIN_HEADER_LEN..], src, dst)?;
    Ok(RST_PACKET_LEN)
}

/// Length in bytes of the packet [`emit_rst6`] writes.
pub const RST_PACKET_LEN6: usize = ipv6::HEADER_LEN + MIN_HEADER_LEN;

/// The same for IPv6. The segment came from `src` to `dst`, not in fragments; `l4` are its bytes
/// from the TCP header on (of the packet's first segment), `len` those of header and data in all.
///
/// # Errors
/// `Unsupported` when the segment is itself a reset; others when it is malformed or `out` is
/// shorter than [`RST_PACKET_LEN6`].
pub fn emit_rst6(
    out: &mut [u8],
    src: Ipv6Addr,
    dst: Ipv6Addr,
    l4: &[u8],
    len: u16,
) -> Result<usize, HeaderError> {
    let l4 = &l4[..l4.len().min(usize::from(len))];
    let tcp = reset(&Segment::new(l4)?, usize::from(len))?;
    let out = out.get_mut(..RST_PACKET_LEN6).ok_or(HeaderError::TooShort)?;
    let payload_len = MIN_HEADER_LEN as u16;
    ipv6::Header::new(dst, src, ipv6::next::TCP, payload_len).emit(out)?;
    tcp.emit6(&mut out[ipv6::HEADER_LEN..], dst, src)?;
    Ok(RST_PACKET_LEN6)
}

/// The header that resets the connection of `segment`, whose header and data are `len` bytes. Not
/// all data need lie in the first segment of the buffer, so the IP header tells their length.
fn reset(segment: &Segment<&[u8]>, len: usize) -> Result<Header, HeaderError> {
    let flags = segment.flags();
    // "An incoming segment containing a RST is discarded."
    if flags.rst() {
        return Err(HeaderError::Unsupported);
    }
    // SEG.LEN counts data, SYN and FIN (RFC 9293 3.4).
    let data = len - segment.header_len();
    let seg_len = data as u32 + u32::from(flags.syn()) + u32::from(flags.fin());
    let (seq, ack, reply) = if flags.ack() {
        // "If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>".
        (segment.ack(), 0, Flags::RST)
    } else {
        // "If the ACK bit is off, sequence number zero is used,
        // <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>".
        (0, segment.seq().wrapping_add(seg_len), Flags::RST | Flags::ACK)
    };
    Ok(Header {
        sport: segment.dport(),
        dport: segment.sport(),
        seq,
        ack,
        flags: reply,
        ..Header::default()
    })
}

#[cfg(test)]
mod tests;
