//! IPv4 in IPv4, RFC 2003 (LVS-TUN).

use std::net::Ipv4Addr;

use super::ForwardError;
use super::outer::{Outer, encapsulate};
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

    pub(super) const fn outer(&self) -> &Outer {
        &self.outer
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forward::TunnelTemplate;
    use crate::packet::buf::{RxChecksum, TestBuf};
    use crate::packet::build::Build;
    use crate::packet::parse::{Parsed, parse};
    use crate::packet::tcp::Flags;

    #[test]
    fn emits_golden_bytes() {
        let (port, hop) = (Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 3]));
        let inner = Build::eth(Mac([2, 0, 0, 0, 0, 1]), port)
            .ipv4([198, 51, 100, 1].into(), [192, 0, 2, 80].into())
            .tos(0xb9)
            .tcp(1024, 80, Flags::SYN, 7)
            .pad(60)
            .finish();
        let Ok(Parsed::Ipv4(ip)) = parse(&inner, 60, RxChecksum::Unknown) else { panic!() };
        let mut buf = TestBuf::new(&inner);
        let tunnel = TunnelTemplate::ipip([192, 0, 2, 10].into(), [10, 8, 0, 9].into());
        tunnel.forward(&mut buf, port, hop, &ip, 0x1234).unwrap();
        // As scapy builds it.
        #[rustfmt::skip]
        let expected = [
            2, 0, 0, 0, 0, 3, 2, 0, 0, 0, 0, 2, 0x08, 0x00,
            0x45, 0xb9, 0x00, 0x3c, 0x12, 0x34, 0x00, 0x00, 0x3f, 0x04, 0x9c, 0xb6,
            192, 0, 2, 10, 10, 8, 0, 9,
            0x45, 0xb9, 0x00, 0x28, 0x00, 0x00, 0x00, 0x00, 0x3f, 0x06, 0x8e, 0x92,
            198, 51, 100, 1, 192, 0, 2, 80,
            0x04, 0x00, 0x00, 0x50, 0, 0, 0, 7, 0, 0, 0, 0,
            0x50, 0x02, 0xff, 0xff, 0xbf, 0x06, 0, 0,
        ];
        assert_eq!(buf.data(), expected);
    }
}
