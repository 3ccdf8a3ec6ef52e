//! An IPv6 packet that may be answered.

use std::net::IpAddr;

use super::received::{Problem, Received};
use super::reply::verify_checksum;
use crate::packet::buf::PacketBuf;
use crate::packet::ethernet::{self, EtherType};
use crate::packet::ipv6::{self, ext, next};
use crate::packet::parse::L4;
use crate::packet::parse6::{self, Ipv6Packet};
use crate::packet::{checksum, icmpv6, tcp};
use crate::slowpath::own::Own;
use crate::slowpath::path_mtu::{PathMtu, is_gre};
use crate::snapshot::neighbors::TunnelSpec;
use crate::stats::DropReason;
use crate::types::Mac;

/// An IPv6 packet as received.
pub(super) struct V6 {
    ip: Ipv6Packet,
    /// Source of the frame.
    mac: Mac,
}

impl V6 {
    /// The IPv6 packet, as much of it as lies in the first segment.
    fn packet<'a, B: PacketBuf>(&self, buf: &'a B) -> Result<ipv6::Packet<&'a [u8]>, DropReason> {
        let bytes = buf.data().get(ethernet::HEADER_LEN..).unwrap_or_default();
        ipv6::Packet::new_in(bytes, usize::MAX).map_err(|_| DropReason::SlowPathUnknown)
    }

    /// What follows the extension headers, as much of it as lies in the first segment.
    fn upper<'a, B: PacketBuf>(&self, buf: &'a B) -> &'a [u8] {
        let bytes = buf.data().get(self.ip.l4_offset()..).unwrap_or_default();
        &bytes[..bytes.len().min(usize::from(self.ip.l4_len()))]
    }

    /// Takes the extension headers out of the packet in `buf`, if who knows none of their options
    /// may go on to what they stand before.
    fn cut_extensions<B: PacketBuf>(&self, buf: &mut B) -> Result<(), DropReason> {
        const FRONT: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN;
        let len = usize::from(self.ip.ext_len);
        if len == 0 {
            return Ok(());
        }
        let first = self.packet(buf)?.next_header();
        let chain = buf.data().get(FRONT..FRONT + len).ok_or(DropReason::SlowPathUnknown)?;
        if !ext::may_skip(first, chain) {
            return Err(DropReason::EchoRefused);
        }
        buf.data_mut().copy_within(..FRONT, len);
        if !buf.trim_front(len) {
            return Err(DropReason::SlowPathUnknown);
        }
        let ip = &mut buf.data_mut()[ethernet::HEADER_LEN..];
        let ip = ipv6::Packet::new_in(ip, usize::MAX);
        let mut ip = ip.map_err(|_| DropReason::SlowPathUnknown)?;
        ip.set_payload(self.ip.protocol, self.ip.l4_len());
        Ok(())
    }
}

impl Received for V6 {
    const ETHERTYPE: EtherType = EtherType::IPV6;
    const ECHO_REQUEST: u8 = icmpv6::kind::ECHO_REQUEST;

    fn read<B: PacketBuf>(buf: &B) -> Result<V6, DropReason> {
        let ip = parse6::parse(buf.data(), buf.len()).map_err(|_| DropReason::SlowPathUnknown)?;
        let eth = ethernet::Header::parse(buf.data()).map_err(|_| DropReason::SlowPathUnknown)?;
        Ok(V6 { ip, mac: eth.src })
    }

    fn mac(&self) -> Mac {
        self.mac
    }

    fn src(&self) -> IpAddr {
        self.ip.src.into()
    }

    fn dst(&self) -> IpAddr {
        self.ip.dst.into()
    }

    fn l4(&self) -> L4 {
        self.ip.l4
    }

    fn is_fragment(&self) -> bool {
        self.ip.is_fragment()
    }

    fn is_l2_group(&self) -> bool {
        self.ip.l2_group
    }

    fn is_from_a_group(&self, _: &Own) -> bool {
        ipv6::is_bad_source(self.ip.src)
    }

    fn is_error(kind: u8) -> bool {
        icmpv6::is_error(kind)
    }

    /// Of the message and the pseudo header.
    fn verify_checksum<B: PacketBuf>(&self, buf: &B) -> Result<(), DropReason> {
        let Ipv6Packet { src, dst, .. } = self.ip;
        let len = self.ip.l4_len();
        let pseudo = checksum::pseudo_header_v6(src, dst, next::ICMPV6, len.into());
        let at = self.ip.l4_offset();
        verify_checksum(buf, at, at + usize::from(len), pseudo)
    }

    fn turn_round<B: PacketBuf>(&self, buf: &mut B, _: u16) -> Result<(), DropReason> {
        self.cut_extensions(buf)?;
        let ip = buf.data_mut().get_mut(ethernet::HEADER_LEN..).unwrap_or_default();
        // What is left to refuse: other codes.
        icmpv6::echo_reply_in_place(ip).map_err(|_| DropReason::EchoRefused)
    }

    fn emit_error<B: PacketBuf>(
        &self,
        buf: &B,
        problem: Problem,
        _: u16,
        _: &Own,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let about = self.packet(buf)?;
        let error = match problem {
            Problem::TimeExceeded => icmpv6::Error::TimeExceeded,
            Problem::TooLong { mtu } => icmpv6::Error::PacketTooBig { mtu: mtu.into() },
            Problem::Unserved => icmpv6::Error::PortUnreachable,
        };
        // What was sent to a group would need another source; it is not forwarded, so there is
        // nothing to say about it.
        let src = about.dst();
        if src.is_multicast() || !icmpv6::may_send_error(error, &about, self.ip.l2_group) {
            return Err(DropReason::ErrorSuppressed);
        }
        icmpv6::emit_error(out, error, &about, src).map_err(|_| DropReason::ErrorSuppressed)
    }

    fn emit_reset<B: PacketBuf>(
        &self,
        buf: &B,
        _: u16,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        tcp::emit_rst6(out, self.ip.src, self.ip.dst, self.upper(buf), self.ip.l4_len())
            .map_err(|_| DropReason::ErrorSuppressed)
    }

    /// "Packet too big" that quotes an outer packet of ours, which was longer.
    fn path_mtu<B: PacketBuf>(&self, buf: &B, own: &Own) -> Result<Option<PathMtu>, DropReason> {
        Ok(path_mtu(self.upper(buf), own))
    }
}

fn path_mtu(icmp: &[u8], own: &Own) -> Option<PathMtu> {
    let message = icmpv6::Packet::new(icmp).ok()?;
    let mtu = message.next_hop_mtu()?;
    let quoted = ipv6::Packet::new_in(message.payload(), usize::MAX).ok()?;
    let (real, dip) = (quoted.dst().into(), quoted.src().into());
    let gre = is_gre(quoted.next_header())?;
    let longest = own.tunnel_mtu(&TunnelSpec { real, dip, gre })?;
    let len = ipv6::HEADER_LEN as u32 + u32::from(quoted.payload_len());
    let told = len > mtu && len <= longest.into();
    // RFC 8201 4: "A node MUST NOT reduce its estimate of the Path MTU below the IPv6 minimum link
    // MTU" because of such a message.
    let mtu = u16::try_from(mtu).ok().filter(|mtu| *mtu >= ipv6::MIN_MTU)?;
    told.then_some(PathMtu { real, mtu })
}
