//! IPv4 in IPv4, RFC 2003 (LVS-TUN).

use std::net::Ipv4Addr;

use super::ForwardError;
use super::tunnel::{Outer, encapsulate};
use crate::packet::buf::PacketBuf;
use crate::packet::parse::Ipv4Packet;
use crate::packet::{ethernet, ipv4};
use crate::types::Mac;

/// Bytes in front of the inner packet: the outer IPv4 header.
pub const OVERHEAD: u16 = ipv4::MIN_HEADER_LEN as u16;

/// The outer header from DIP to RIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Template {
    outer: Outer,
}

impl Template {
    /// A tunnel from `dip` to `rip`.
    pub fn new(dip: Ipv4Addr, rip: Ipv4Addr) -> Template {
        Template { outer: Outer::new(dip, rip, ipv4::protocol::IPIP) }
    }
}

/// Puts the packet `ip` in `buf` into the tunnel and the frame on its way from `src_mac`, the
/// port's, to `dst_mac`, the next hop's.
///
/// Ethernet padding is cut; the inner TTL goes down by one. TOS, DF and the new TTL are copied
/// outside; `id` is the outer identification when DF is clear.
#[inline]
pub fn forward<B: PacketBuf>(
    buf: &mut B,
    src_mac: Mac,
    dst_mac: Mac,
    template: &Template,
    ip: &Ipv4Packet,
    id: u16,
) -> Result<(), ForwardError> {
    const FRONT: usize = ethernet::HEADER_LEN + OVERHEAD as usize;
    encapsulate::<FRONT, B>(buf, src_mac, dst_mac, &template.outer, ip, id)
}
