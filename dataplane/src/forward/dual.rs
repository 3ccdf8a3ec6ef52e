//! Tunnels of which either side may be IPv6: 6in6 and 4in6 (RFC 2473), 6in4 (RFC 4213), and GRE
//! over IPv4 (RFC 2784) and over IPv6 (RFC 7676) with either inside.
//!
//! [`TunnelTemplate`](super::TunnelTemplate) is for IPv4 in IPv4, and stays so; what this does with
//! IPv4 in IPv4 are the same bytes (a property of the tests).
//!
//! # Choices
//! - **Hop limit and TTL** are the inner ones after the hop here, not a tunnel's own (RFC 2473 6.3
//!   leaves it to configuration): no loop through the tunnel can go on for ever. So the tunnel
//!   encapsulation limit of RFC 2473 4.1.1, which is there against loops, is not sent, and the
//!   outer packet has no extension headers.
//! - **Traffic class and TOS** are copied as they are: RFC 6040 4.1 for ECN, RFC 2983 for DSCP.
//! - **Flow label** of an outer IPv6 header is the caller's, by [`Labels`](super::Labels).
//! - **DF** of an outer IPv4 header is the inner one's. IPv6 inside sets it for packets above 1280
//!   bytes only (RFC 4213 3.2.2): no client can be asked to send shorter ones than that, so routers
//!   on the way must be free to cut them.
//! - **Too long for the egress MTU**: see [`Fit`].

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{ForwardError, GreOptions, gre, outer};
use crate::packet::buf::PacketBuf;
use crate::packet::ethernet::{self, EtherType};
use crate::packet::ipv6::next;
use crate::packet::parse::Ipv4Packet;
use crate::packet::parse6::Ipv6Packet;
use crate::packet::{ipv4, ipv6};
use crate::types::Mac;

/// Longest front of a frame in bytes: Ethernet, IPv6 and GRE with checksum and key.
const MAX_FRONT: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + gre::MAX_HEADER_LEN;

/// What a tunnel needs to know of a packet that goes into it. Numbers are in host byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    /// Length in bytes from the IP header on, without Ethernet padding.
    pub total_len: u32,
    /// Flow label for an outer IPv6 header, 20 bits.
    pub label: u32,
    /// TTL or hop limit as received.
    pub ttl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Whether it must not be fragmented: DF, and always for IPv6.
    pub df: bool,
    /// Whether it is IPv6.
    pub v6: bool,
}

impl Inner {
    /// Of an IPv4 packet; `label` is [`Labels::of4`](super::Labels::of4).
    #[inline]
    pub const fn of4(ip: &Ipv4Packet, label: u32) -> Inner {
        let (total_len, df) = (ip.total_len as u32, ip.fragment.df());
        Inner { total_len, label, ttl: ip.ttl, tos: ip.tos, df, v6: false }
    }

    /// Of an IPv6 packet; `label` is [`Labels::of6`](super::Labels::of6).
    #[inline]
    pub const fn of6(ip: &Ipv6Packet, label: u32) -> Inner {
        let (ttl, tos) = (ip.hop_limit, ip.traffic_class);
        Inner { total_len: ip.total_len(), label, ttl, tos, df: true, v6: true }
    }

    /// What a tunnel needs to know of a piece of it, `total_len` bytes from its IP header on, as
    /// [`fragment`](super::fragment()) makes them.
    #[must_use]
    pub const fn piece(self, total_len: u32) -> Inner {
        Inner { total_len, ..self }
    }
}

/// What is to be done with a packet, by its length and the egress port's MTU.
///
/// A tunnel is a link whose MTU is the port's less the overhead. An IPv4 packet too long for it
/// with DF clear is cut *before* it goes into an outer IPv6 packet, as a router does on any link.
/// RFC 2473 7.2 would have the outer packet cut instead: that needs a fragment header, which many
/// networks drop (RFC 8900), and the real server to put it together before it sees the inner one.
/// Within an outer IPv4 packet it is the outer one that is cut, as RFC 2003 3.1 wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// Send it as it is.
    Whole,
    /// Cut the outer IPv4 packet, its DF being clear, once it is made.
    FragmentOuter,
    /// Cut the inner IPv4 packet to this many bytes each, and send every piece through the tunnel.
    FragmentInner {
        /// Longest piece in bytes, from the IP header on.
        mtu: u16,
    },
    /// Drop it, and tell the client: "fragmentation needed", "packet too big" (RFC 1191, RFC 4443).
    TooBig {
        /// Longest packet the client may send, in bytes; for IPv6 never below 1280.
        mtu: u16,
    },
    /// Drop it: the port cannot take the least packet that IPv6 promises
    /// ([`DualTunnel::least_mtu`]).
    Never,
}

/// The way into one tunnel, DIP to RIP: all of the outer headers that does not depend on the
/// packet. Built when the configuration is compiled; never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DualTunnel {
    outer: Outer,
    /// GRE header with a checksum and a protocol type of zero.
    gre: [u8; gre::MAX_HEADER_LEN],
    /// Its length in bytes: 0 without GRE, else 4, 8 or 12.
    gre_len: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outer {
    V4 { src: Ipv4Addr, dst: Ipv4Addr },
    V6 { src: Ipv6Addr, dst: Ipv6Addr },
}

impl DualTunnel {
    /// IPv4 or IPv6 straight in IPv4, from `dip` to `rip`.
    pub const fn ipip4(dip: Ipv4Addr, rip: Ipv4Addr) -> DualTunnel {
        let outer = Outer::V4 { src: dip, dst: rip };
        DualTunnel { outer, gre: [0; gre::MAX_HEADER_LEN], gre_len: 0 }
    }

    /// IPv4 or IPv6 straight in IPv6, from `dip` to `rip`.
    pub const fn ipip6(dip: Ipv6Addr, rip: Ipv6Addr) -> DualTunnel {
        let outer = Outer::V6 { src: dip, dst: rip };
        DualTunnel { outer, gre: [0; gre::MAX_HEADER_LEN], gre_len: 0 }
    }

    /// IPv4 or IPv6 in GRE over IPv4, from `dip` to `rip`.
    pub fn gre4(dip: Ipv4Addr, rip: Ipv4Addr, options: GreOptions) -> DualTunnel {
        let (gre, gre_len) = gre::header(options);
        DualTunnel { gre, gre_len, ..DualTunnel::ipip4(dip, rip) }
    }

    /// IPv4 or IPv6 in GRE over IPv6, from `dip` to `rip`.
    pub fn gre6(dip: Ipv6Addr, rip: Ipv6Addr, options: GreOptions) -> DualTunnel {
        let (gre, gre_len) = gre::header(options);
        DualTunnel { gre, gre_len, ..DualTunnel::ipip6(dip, rip) }
    }

    /// Bytes the tunnel adds in front of the inner packet, 20 to 52.
    #[inline(always)]
    pub const fn overhead(&self) -> u16 {
        self.outer_len() as u16 + self.gre_len as u16
    }

    /// The least MTU of an egress port by which IPv6 can go through the tunnel, in bytes: below it
    /// a client's packet of 1280 bytes could not be delivered. Over IPv4 the outer packet can be
    /// cut, so there is none but IPv4's own.
    pub const fn least_mtu(&self) -> u16 {
        match self.outer {
            Outer::V4 { .. } => ipv4::MIN_MTU,
            Outer::V6 { .. } => ipv6::MIN_MTU + self.overhead(),
        }
    }

    /// What to do with a packet when the egress port takes `mtu` bytes from the IP header on.
    #[inline]
    pub const fn fit(&self, inner: &Inner, mtu: u16) -> Fit {
        if inner.total_len + self.overhead() as u32 <= mtu as u32 {
            return Fit::Whole;
        }
        let room = mtu.saturating_sub(self.overhead());
        let over_v4 = matches!(self.outer, Outer::V4 { .. });
        if inner.v6 {
            return match (inner.total_len > ipv6::MIN_MTU as u32, over_v4) {
                (true, _) if room > ipv6::MIN_MTU => Fit::TooBig { mtu: room },
                (true, _) => Fit::TooBig { mtu: ipv6::MIN_MTU },
                (false, true) => Fit::FragmentOuter,
                (false, false) => Fit::Never,
            };
        }
        match (inner.df, over_v4) {
            (true, _) => Fit::TooBig { mtu: room },
            (false, true) => Fit::FragmentOuter,
            (false, false) => Fit::FragmentInner { mtu: room },
        }
    }

    /// Puts the packet in `buf` into the tunnel and the frame on its way from `src_mac`, the
    /// port's, to `dst_mac`, the next hop's.
    ///
    /// Ethernet padding is cut; the inner hop limit goes down by one. `id` is the identification
    /// of an outer IPv4 header when its DF is clear.
    pub fn forward<B: PacketBuf>(
        &self,
        buf: &mut B,
        src_mac: Mac,
        dst_mac: Mac,
        inner: &Inner,
        id: u16,
    ) -> Result<(), ForwardError> {
        let inner_header = if inner.v6 { ipv6::HEADER_LEN } else { ipv4::MIN_HEADER_LEN };
        if buf.data().len() < ethernet::HEADER_LEN + inner_header {
            return Err(ForwardError::NoIpHeader);
        }
        let overhead = usize::from(self.overhead());
        let total_len = overhead + inner.total_len as usize;
        let mut bytes = [0; MAX_FRONT];
        let front = &mut bytes[..ethernet::HEADER_LEN + overhead];
        self.write_front(front, src_mac, dst_mac, inner, total_len, id)?;
        if !buf.prepend(overhead) {
            return Err(ForwardError::NoHeadroom);
        }
        // Padding longer than the last segment stays behind the outer packet as it was behind the
        // inner: both lengths are in the headers.
        let _ = buf.truncate(ethernet::HEADER_LEN + total_len);
        if let Some((to, rest)) = buf.data_mut().split_at_mut_checked(front.len()) {
            to.copy_from_slice(front);
            match rest.first_chunk_mut::<{ ipv4::MIN_HEADER_LEN }>() {
                Some(header) if inner.v6 => ipv6::decrement_hop_limit(header),
                Some(header) => ipv4::decrement_ttl(header),
                None => {}
            }
        }
        if self.gre[0] & gre::CHECKSUM_PRESENT != 0 {
            // Over GRE header and inner packet, the field itself taken as zero (RFC 2784 2.5).
            let start = ethernet::HEADER_LEN + self.outer_len();
            let check = gre::checksum_of(buf, start, total_len - self.outer_len());
            if let Some(field) = buf.data_mut().get_mut(start + 4..start + 6) {
                field.copy_from_slice(&check.to_be_bytes());
            }
        }
        Ok(())
    }

    const fn outer_len(&self) -> usize {
        match self.outer {
            Outer::V4 { .. } => ipv4::MIN_HEADER_LEN,
            Outer::V6 { .. } => ipv6::HEADER_LEN,
        }
    }

    /// All that goes in front of the inner packet, `front.len()` bytes; `total_len` is the outer
    /// packet's.
    #[inline]
    fn write_front(
        &self,
        front: &mut [u8],
        src_mac: Mac,
        dst_mac: Mac,
        inner: &Inner,
        total_len: usize,
        id: u16,
    ) -> Result<(), ForwardError> {
        let protocol = match (self.gre_len > 0, inner.v6) {
            (true, _) => next::GRE,
            (false, true) => next::IPV6,
            (false, false) => next::IPV4,
        };
        let (eth, rest) = front.split_at_mut(ethernet::HEADER_LEN);
        let (outer_bytes, gre) = rest.split_at_mut(self.outer_len());
        eth[..6].copy_from_slice(&dst_mac.0);
        eth[6..12].copy_from_slice(&src_mac.0);
        let (ethertype, fits) = match self.outer {
            Outer::V4 { src, dst } => {
                let len = u16::try_from(total_len).map_err(|_| ForwardError::TooLong)?;
                let df = inner.df && !(inner.v6 && inner.total_len <= u32::from(ipv6::MIN_MTU));
                let header = outer::Outer::new(src, dst, protocol);
                outer_bytes.copy_from_slice(&header.header((inner.tos, inner.ttl, df), len, id));
                (EtherType::IPV4, Ok(()))
            }
            Outer::V6 { src, dst } => {
                let payload_len = u16::try_from(total_len - ipv6::HEADER_LEN);
                let header = ipv6::Header {
                    traffic_class: inner.tos,
                    flow_label: inner.label,
                    payload_len: payload_len.map_err(|_| ForwardError::TooLong)?,
                    next_header: protocol,
                    hop_limit: inner.ttl.saturating_sub(1),
                    src,
                    dst,
                };
                (EtherType::IPV6, header.emit(outer_bytes))
            }
        };
        eth[12..14].copy_from_slice(&ethertype.0.to_be_bytes());
        gre.copy_from_slice(&self.gre[..usize::from(self.gre_len)]);
        if let Some(kind) = gre.get_mut(2..4) {
            let inner_type = if inner.v6 { EtherType::IPV6 } else { EtherType::IPV4 };
            kind.copy_from_slice(&inner_type.0.to_be_bytes());
        }
        fits.map_err(|_| ForwardError::TooLong)
    }
}

#[cfg(test)]
mod tests;
