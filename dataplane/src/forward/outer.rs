//! The outer IPv4 header of every tunnel, made ready off-path and patched per packet, and how it gets
//! in front of an IPv4 packet.
//!
//! # RFCs
//! RFC 2003 3.1 and RFC 6040 (ECN) for the header, RFC 6864 for its identification.

use std::net::Ipv4Addr;

use super::ForwardError;
use crate::packet::buf::PacketBuf;
use crate::packet::parse::Ipv4Packet;
use crate::packet::{checksum, ethernet, ipv4};
use crate::types::Mac;

/// The outer IPv4 header: its constant part, and the sum of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outer {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    protocol: u8,
    /// One's complement sum of version, header length, protocol and addresses.
    sum: u16,
}

impl Outer {
    pub(super) fn new(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8) -> Outer {
        let constant = checksum::pseudo_header_v4(src, dst, protocol, 0);
        Outer { src, dst, protocol, sum: checksum::add(constant, 0x4500) }
    }

    /// Source, destination, protocol.
    pub(super) const fn constants(&self) -> (Ipv4Addr, Ipv4Addr, u8) {
        (self.src, self.dst, self.protocol)
    }

    /// The header of an outer packet of `total_len` bytes; `id` is its identification when `df` is
    /// clear. `tos` and `ttl` are the inner packet's as received, before it lost a hop.
    #[inline(always)]
    pub(super) fn header(
        &self,
        (tos, ttl, df): (u8, u8, bool),
        total_len: u16,
        id: u16,
    ) -> [u8; ipv4::MIN_HEADER_LEN] {
        // RFC 2003 3.1: DF "MUST be set" outside when it is set inside. RFC 6864 4.1: the id of a
        // packet that cannot be fragmented has no meaning; 4.2: others need a fresh one.
        let (fragment, id) = if df { (ipv4::FragmentBits::DF.0, 0) } else { (0, id) };
        // RFC 6040 4.1, normal mode: the ECN field is copied as it is, CE too; RFC 2983 for DSCP.
        // The tunnel is as many hops long as the inner packet may still go, and no loop through
        // it can go on for ever.
        let ttl = ttl.saturating_sub(1);
        let check = !checksum::fold(
            u64::from(self.sum)
                + u64::from(tos)
                + u64::from(total_len)
                + u64::from(id)
                + u64::from(fragment)
                + (u64::from(ttl) << 8),
        );
        let (len, id, fragment) =
            (total_len.to_be_bytes(), id.to_be_bytes(), u16::to_be_bytes(fragment));
        let (check, s, d) = (check.to_be_bytes(), self.src.octets(), self.dst.octets());
        #[rustfmt::skip]
        let header = [
            0x45, tos, len[0], len[1],
            id[0], id[1], fragment[0], fragment[1],
            ttl, self.protocol, check[0], check[1],
            s[0], s[1], s[2], s[3],
            d[0], d[1], d[2], d[3],
        ];
        header
    }
}

/// Puts Ethernet header, outer header and room for a tunnel header in front of the packet, and
/// takes one hop off the inner TTL. `FRONT` is the length of all that in bytes: 34 and the tunnel
/// header, which is left to the caller.
#[inline(always)]
pub(super) fn encapsulate<const FRONT: usize, B: PacketBuf>(
    buf: &mut B,
    src_mac: Mac,
    dst_mac: Mac,
    outer: &Outer,
    ip: &Ipv4Packet,
    id: u16,
) -> Result<(), ForwardError> {
    const { assert!(FRONT >= ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN) };
    let overhead = FRONT - ethernet::HEADER_LEN;
    if buf.data().len() < ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN {
        return Err(ForwardError::NoIpHeader);
    }
    let total_len = ip.total_len.checked_add(overhead as u16).ok_or(ForwardError::TooLong)?;
    if !buf.prepend(overhead) {
        return Err(ForwardError::NoHeadroom);
    }
    // Cut Ethernet padding. Where that cannot be done (padding longer than the last segment) it
    // stays behind the outer packet as it was behind the inner: both lengths are in the headers.
    let _ = buf.truncate(ethernet::HEADER_LEN + usize::from(total_len));
    if let Some((front, inner)) = buf.data_mut().split_first_chunk_mut::<FRONT>() {
        front[..6].copy_from_slice(&dst_mac.0);
        front[6..12].copy_from_slice(&src_mac.0);
        front[12..14].copy_from_slice(&ethernet::EtherType::IPV4.0.to_be_bytes());
        front[14..34].copy_from_slice(&outer.header(
            (ip.tos, ip.ttl, ip.fragment.df()),
            total_len,
            id,
        ));
        if let Some(inner) = inner.first_chunk_mut::<{ ipv4::MIN_HEADER_LEN }>() {
            ipv4::decrement_ttl(inner);
        }
    }
    Ok(())
}
