//! Tunnels of IPv4 in IPv4: [`ipip`] or [`gre`], as configured.

use std::net::Ipv4Addr;

use super::{ForwardError, GreOptions, gre, ipip};
use crate::packet::buf::PacketBuf;
use crate::packet::parse::Ipv4Packet;
use crate::types::Mac;

/// The way into one tunnel, DIP to RIP: all of the outer header that does not depend on the packet.
/// Built when the configuration is compiled; never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelTemplate {
    /// IPv4 in IPv4, RFC 2003.
    Ipip(ipip::Template),
    /// GRE, RFC 2784.
    Gre(gre::Template),
}

impl TunnelTemplate {
    /// An IPIP tunnel from `dip` to `rip`.
    pub fn ipip(dip: Ipv4Addr, rip: Ipv4Addr) -> TunnelTemplate {
        TunnelTemplate::Ipip(ipip::Template::new(dip, rip))
    }

    /// A GRE tunnel from `dip` to `rip`.
    pub fn gre(dip: Ipv4Addr, rip: Ipv4Addr, options: GreOptions) -> TunnelTemplate {
        TunnelTemplate::Gre(gre::Template::new(dip, rip, options))
    }

    /// Bytes the tunnel adds in front of the inner packet: 20 for IPIP, 24 to 32 for GRE.
    #[inline(always)]
    pub const fn overhead(&self) -> u16 {
        match self {
            TunnelTemplate::Ipip(_) => ipip::OVERHEAD,
            TunnelTemplate::Gre(template) => template.overhead(),
        }
    }

    /// Puts the packet into the tunnel: [`ipip::forward`] or [`gre::forward`].
    #[inline]
    pub fn forward<B: PacketBuf>(
        &self,
        buf: &mut B,
        src_mac: Mac,
        dst_mac: Mac,
        ip: &Ipv4Packet,
        id: u16,
    ) -> Result<(), ForwardError> {
        match self {
            TunnelTemplate::Ipip(t) => ipip::forward(buf, src_mac, dst_mac, t, ip, id),
            TunnelTemplate::Gre(t) => gre::forward(buf, src_mac, dst_mac, t, ip, id),
        }
    }
}
