//! GRE over IPv4, RFC 2784, with the key of RFC 2890. Sequence numbers are not sent: they would
//! tie the workers together, and replies do not come back this way.

use std::net::Ipv4Addr;

use super::ForwardError;
use super::outer::{Outer, encapsulate};
use crate::packet::buf::PacketBuf;
use crate::packet::parse::Ipv4Packet;
use crate::packet::{checksum, ethernet, ipv4};
use crate::types::Mac;

/// Length in bytes of the longest header: flags, protocol, checksum, key.
pub(super) const MAX_HEADER_LEN: usize = 12;
/// Where the GRE header starts in a frame.
const START: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;
/// RFC 2784 2.1: "Checksum Present (bit 0)".
pub(super) const CHECKSUM_PRESENT: u8 = 0x80;
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

/// The GRE header with a checksum and a protocol type of zero, and its length in bytes: 4, 8 or 12.
pub(super) fn header(options: GreOptions) -> ([u8; MAX_HEADER_LEN], u8) {
    let mut header = [0; MAX_HEADER_LEN];
    let mut len = 4;
    if options.checksum {
        header[0] |= CHECKSUM_PRESENT;
        len += 4; // Checksum and Reserved1.
    }
    if let Some(key) = options.key {
        header[0] |= KEY_PRESENT;
        header[len..len + 4].copy_from_slice(&key.to_be_bytes());
        len += 4;
    }
    (header, len as u8)
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
        let (mut header, len) = header(options);
        header[2..4].copy_from_slice(&PROTOCOL_IPV4);
        Template { outer: Outer::new(dip, rip, ipv4::protocol::GRE), header, len }
    }

    /// Bytes in front of the inner packet: outer IPv4 and GRE header.
    #[inline(always)]
    pub const fn overhead(&self) -> u16 {
        ipv4::MIN_HEADER_LEN as u16 + self.len as u16
    }

    pub(super) const fn outer(&self) -> &Outer {
        &self.outer
    }

    /// The GRE header, when it is the same for every packet.
    pub(super) fn constant_header(&self) -> Option<&[u8]> {
        if self.has_checksum() { None } else { self.header.get(..usize::from(self.len)) }
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
pub(super) fn checksum_of<B: PacketBuf>(buf: &B, start: usize, len: usize) -> u16 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::TunnelTemplate;
    use crate::packet::buf::{RxChecksum, TestBuf};
    use crate::packet::build::Build;
    use crate::packet::parse::{Parsed, parse};

    fn through(options: GreOptions) -> Vec<u8> {
        let port = Mac([2, 0, 0, 0, 0, 2]);
        let inner = Build::eth(Mac([2, 0, 0, 0, 0, 1]), port)
            .ipv4([198, 51, 100, 1].into(), [192, 0, 2, 80].into())
            .df(true)
            .udp(1024, 53)
            .payload(b"hi!")
            .pad(60)
            .finish();
        let Ok(Parsed::Ipv4(ip)) = parse(&inner, 60, RxChecksum::Unknown) else { panic!() };
        let mut buf = TestBuf::new(&inner);
        let tunnel = TunnelTemplate::gre([192, 0, 2, 10].into(), [10, 8, 0, 9].into(), options);
        tunnel.forward(&mut buf, port, Mac([2, 0, 0, 0, 0, 3]), &ip, 0x1234).unwrap();
        assert_eq!(buf.len(), 14 + usize::from(tunnel.overhead()) + 31);
        buf.data()[34..].to_vec()
    }

    /// As scapy builds it.
    #[test]
    fn emits_golden_headers() {
        let plain = through(GreOptions::default());
        assert_eq!(plain[..4], [0, 0, 0x08, 0]);
        let inner = &plain[4..];
        let key = Some(0x0102_0304);
        for (options, header) in [
            (GreOptions { checksum: false, key }, &[0x20, 0, 8, 0, 1, 2, 3, 4][..]),
            (GreOptions { checksum: true, key: None }, &[0x80, 0, 8, 0, 0x64, 0xa1, 0, 0]),
            (GreOptions { checksum: true, key }, &[0xa0, 0, 8, 0, 0x40, 0x9b, 0, 0, 1, 2, 3, 4]),
        ] {
            assert_eq!(through(options), [header, inner].concat(), "{options:?}");
        }
    }
}
