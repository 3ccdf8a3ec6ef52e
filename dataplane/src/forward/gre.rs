//! GRE over IPv4, RFC 2784, with the key of RFC 2890. Sequence numbers are not sent: they would
//! tie the workers together, and replies do not come back this way.

use std::net::Ipv4Addr;

use super::ForwardError;
use super::tunnel::{Outer, encapsulate};
use crate::packet::buf::PacketBuf;
use crate::packet::parse::Ipv4Packet;
use crate::packet::{checksum, ethernet, ipv4};
use crate::types::Mac;

/// Length in bytes of the longest header: flags, protocol, checksum, key.
const MAX_HEADER_LEN: usize = 12;
/// Where the GRE header starts in a frame.
const START: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
/// RFC 2784 2.1: "Checksum Present (bit 0)".
const CHECKSUM_PRESENT: u8 = 0x80;
/// RFC 2890 2: "Key Present (bit 2)".
const KEY_PRESENT: u8 = 0x20;
/// "Protocol Type": IPv4's Ethernet type.
const PROTOCOL_IPV4: [u8; 2] = ethernet::EtherType::IPV4.0.to_be_bytes();

/// The optional parts of the GRE header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GreOptions {
    /// Send a checksum over GRE header and inner packet. It costs a pass over the whole packet.
    pub checksum: bool,
    /// Send this key.
    pub key: Option<u32>,
}

/// Outer and GRE header from DIP to RIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    outer: Outer,
    /// The GRE header with a checksum of zero.
    header: [u8; MAX_HEADER_LEN],
    /// Its length in bytes: 4, 8 or 12.
    len: u8,
}

impl Template {
    /// A tunnel from `dip` to `rip`.
    pub fn new(dip: Ipv4Addr, rip: Ipv4Addr, options: GreOptions) -> Template {
        let mut header = [0; MAX_HEADER_LEN];
        let mut len = 4;
        header[2..4].copy_from_slice(&PROTOCOL_IPV4);
        if options.checksum {
            header[0] |= CHECKSUM_PRESENT;
            len += 4; // Checksum and Reserved1.
        }
        if let Some(key) = options.key {
            header[0] |= KEY_PRESENT;
            header[len..len + 4].copy_from_slice(&key.to_be_bytes());
            len += 4;
        }
        Template { outer: Outer::new(dip, rip, ipv4::protocol::GRE), header, len: len as u8 }
    }

    /// Bytes in front of the inner packet: outer IPv4 and GRE header.
    #[inline(always)]
    pub const fn overhead(&self) -> u16 {
        ipv4::MIN_HEADER_LEN as u16 + self.len as u16
    }

    #[inline(always)]
    const fn has_checksum(&self) -> bool {
        self.header[0] & CHECKSUM_PRESENT != 0
    }
}

/// Puts the packet `ip` in `buf` into the tunnel and the frame on its way, as
/// [`ipip::forward`](super::ipip::forward) does.
#[inline]
pub fn forward<B: PacketBuf>(
    buf: &mut B,
    src_mac: Mac,
    dst_mac: Mac,
    template: &Template,
    ip: &Ipv4Packet,
    id: u16,
) -> Result<(), ForwardError> {
    match template.len {
        4 => with_header::<4, { START + 4 }, B>(buf, src_mac, dst_mac, template, ip, id),
        8 => with_header::<8, { START + 8 }, B>(buf, src_mac, dst_mac, template, ip, id),
        _ => with_header::<12, { START + 12 }, B>(buf, src_mac, dst_mac, template, ip, id),
    }
}

/// One body for the three lengths of the GRE header, so that each copies a constant length.
#[inline(always)]
fn with_header<const LEN: usize, const FRONT: usize, B: PacketBuf>(
    buf: &mut B,
    src_mac: Mac,
    dst_mac: Mac,
    template: &Template,
    ip: &Ipv4Packet,
    id: u16,
) -> Result<(), ForwardError> {
    const { assert!(FRONT == START + LEN && LEN <= MAX_HEADER_LEN) };
    encapsulate::<FRONT, B>(buf, src_mac, dst_mac, &template.outer, ip, id)?;
    if let Some(front) = buf.data_mut().first_chunk_mut::<FRONT>() {
        front[START..].copy_from_slice(&template.header[..LEN]);
    }
    if template.has_checksum() {
        // RFC 2784 2.5: "the IP (one's complement) checksum sum of the all the 16 bit words in the
        // GRE header and the payload packet", the field itself taken as zero.
        let check = checksum_of(buf, START, LEN + usize::from(ip.total_len));
        if let Some(front) = buf.data_mut().first_chunk_mut::<FRONT>() {
            front[START + 4..START + 6].copy_from_slice(&check.to_be_bytes());
        }
    }
    Ok(())
}

/// The checksum of `len` bytes at `start`, wherever segments end.
fn checksum_of<B: PacketBuf>(buf: &B, start: usize, len: usize) -> u16 {
    /// Bytes copied at a time; even, so that sums of chunks add up.
    const CHUNK: usize = 256;
    if let Some(bytes) = buf.data().get(start..start + len) {
        return checksum::checksum(bytes);
    }
    let mut chunk = [0; CHUNK];
    let (mut sum, mut done) = (0, 0);
    while done < len {
        let part = &mut chunk[..CHUNK.min(len - done)];
        if !buf.copy_to(start + done, part) {
            break;
        }
        sum = checksum::add(sum, checksum::sum(part));
        done += part.len();
    }
    !sum
}
