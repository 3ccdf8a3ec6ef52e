//! ICMPv6 echo, ICMPv6 errors, TCP resets over IPv6, and ICMPv6 messages to the director itself.
//!
//! As [`super::icmp`], whose choices hold here too; the limits are as high, and apart.

use super::answer::{Limits, To, ip_part, send_back, verify_checksum};
use super::output::Context;
use super::own::Own;
use super::path_mtu::{PathMtu, is_gre};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet::{self, EtherType};
use crate::packet::ipv6::{self, ext, next};
use crate::packet::parse::L4;
use crate::packet::parse6::{self, Ipv6Packet};
use crate::packet::{checksum, icmpv6, tcp};
use crate::snapshot::neighbors::TunnelSpec;
use crate::stats::{DropReason, Event};
use crate::types::{Mac, PortId};

/// The ICMPv6 part of the slow path.
pub(super) struct Icmp6 {
    limits: Limits,
}

/// A packet as received, with what an answer needs to know of it.
struct Received {
    ip: Ipv6Packet,
    /// Source of the frame.
    mac: Mac,
}

/// Reads a punted packet again. The worker that punted it found it right.
fn read<B: PacketBuf>(buf: &B) -> Result<Received, DropReason> {
    let ip = parse6::parse(buf.data(), buf.len()).map_err(|_| DropReason::SlowPathUnknown)?;
    let eth = ethernet::Header::parse(buf.data()).map_err(|_| DropReason::SlowPathUnknown)?;
    Ok(Received { ip, mac: eth.src })
}

impl Received {
    fn to(&self, port: PortId) -> To {
        To { port, mac: self.mac, ethertype: EtherType::IPV6 }
    }

    /// The IPv6 packet, as much of it as lies in the first segment.
    fn packet<'a, B: PacketBuf>(&self, buf: &'a B) -> Result<ipv6::Packet<&'a [u8]>, DropReason> {
        let bytes = buf.data().get(ethernet::HEADER_LEN..).unwrap_or_default();
        ipv6::Packet::new_in(bytes, usize::MAX).map_err(|_| DropReason::SlowPathUnknown)
    }

    /// What follows the extension headers, as much of it as lies in the first segment.
    fn l4<'a, B: PacketBuf>(&self, buf: &'a B) -> &'a [u8] {
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

    /// Whether the sender is one single other host, on either layer.
    fn is_from_a_host(&self, port: PortId, own: &Own) -> bool {
        self.mac.is_station()
            && !own.is_own_mac(self.mac)
            && !self.ip.l2_group
            && !ipv6::is_bad_source(self.ip.src)
            && !own.is_local(port, self.ip.src.into())
    }

    /// Sums up the ICMPv6 message and the pseudo header, across segments.
    fn verify_icmp_checksum<B: PacketBuf>(&self, buf: &B) -> Result<(), DropReason> {
        let Ipv6Packet { src, dst, .. } = self.ip;
        let len = self.ip.l4_len();
        let pseudo = checksum::pseudo_header_v6(src, dst, next::ICMPV6, len.into());
        let at = self.ip.l4_offset();
        verify_checksum(buf, at, at + usize::from(len), pseudo)
    }
}

/// An address that is not the director's is a mistake of the worker's; one that is not ready is
/// nobody's mistake.
fn check_used(port: PortId, ip: &Ipv6Packet, own: &Own) -> Result<(), DropReason> {
    let dst = ip.dst.into();
    if own.is_used(port, dst) {
        Ok(())
    } else if own.is_local(port, dst) {
        Err(DropReason::AddressNotReady)
    } else {
        Err(DropReason::SlowPathUnknown)
    }
}

impl Icmp6 {
    pub(super) fn new() -> Icmp6 {
        Icmp6 { limits: Limits::new() }
    }

    /// Answers an echo request in its own buffer (RFC 4443 4.2).
    pub(super) fn echo<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        port: PortId,
        mut buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let received = read(&buf)?;
        let own_mac = cx.own.mac(port).ok_or(DropReason::SlowPathUnknown)?;
        // An atomic fragment is whole (RFC 6946).
        if received.ip.is_fragment() {
            return Err(DropReason::FragmentToDirector);
        }
        if !matches!(received.ip.l4, L4::Icmp { kind: icmpv6::kind::ECHO_REQUEST, .. }) {
            return Err(DropReason::SlowPathUnknown);
        }
        check_used(port, &received.ip, cx.own)?;
        if !received.is_from_a_host(port, cx.own) {
            return Err(DropReason::BadSource);
        }
        received.verify_icmp_checksum(&buf)?;
        received.cut_extensions(&mut buf)?;
        let (eth, ip) = buf.data_mut().split_at_mut(ethernet::HEADER_LEN);
        // What is left to refuse: other codes.
        icmpv6::echo_reply_in_place(ip).map_err(|_| DropReason::EchoRefused)?;
        let mut eth = ethernet::Frame::new(eth).map_err(|_| DropReason::SlowPathUnknown)?;
        eth.set_addresses(own_mac, received.mac);
        cx.send(port, buf);
        Ok(Event::EchoReplies)
    }

    /// Tells a sender what is wrong with its packet.
    pub(super) fn error<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        error: icmpv6::Error,
        port: PortId,
        buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let received = read(&buf)?;
        let about = received.packet(&buf)?;
        // From the VIP, as for IPv4. What was sent to a group would need another source; it is not
        // forwarded, so there is nothing to say about it.
        let src = about.dst();
        if !received.is_from_a_host(port, cx.own)
            || src.is_multicast()
            || !icmpv6::may_send_error(error, &about, received.ip.l2_group)
        {
            return Err(DropReason::ErrorSuppressed);
        }
        let mut answer = [0; ethernet::HEADER_LEN + icmpv6::MAX_ERROR_LEN];
        let len = icmpv6::emit_error(ip_part(&mut answer), error, &about, src)
            .map_err(|_| DropReason::ErrorSuppressed)?;
        let bucket = match error {
            icmpv6::Error::PacketTooBig { .. } => &mut self.limits.too_long,
            icmpv6::Error::PortUnreachable => &mut self.limits.unserved,
            _ => &mut self.limits.other_errors,
        };
        send_back(&mut answer, len, received.to(port), bucket, buf, cx)?;
        Ok(Event::IcmpErrors)
    }

    /// Resets a TCP connection that the director does not know, in the VIP's name.
    pub(super) fn reset<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        port: PortId,
        buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let received = read(&buf)?;
        let Ipv6Packet { src, dst, .. } = received.ip;
        let is_tcp = matches!(received.ip.l4, L4::Tcp { .. }) && !received.ip.is_fragment();
        if !is_tcp || !received.is_from_a_host(port, cx.own) || !cx.own.is_used(port, dst.into()) {
            return Err(DropReason::ErrorSuppressed);
        }
        let mut answer = [0; ethernet::HEADER_LEN + tcp::RST_PACKET_LEN6];
        let l4 = received.l4(&buf);
        let len = tcp::emit_rst6(ip_part(&mut answer), src, dst, l4, received.ip.l4_len())
            .map_err(|_| DropReason::ErrorSuppressed)?;
        send_back(&mut answer, len, received.to(port), &mut self.limits.resets, buf, cx)?;
        Ok(Event::TcpResets)
    }
}

/// An ICMPv6 message to a DIP that is no echo request: what it tells of the path to a real server,
/// if it is "packet too big" about a tunnel's packet. The reason says what it was else.
pub(super) fn read_message<B: PacketBuf>(
    buf: &B,
    own: &Own,
) -> Result<Option<PathMtu>, DropReason> {
    let received = read(buf)?;
    let L4::Icmp { kind, .. } = received.ip.l4 else {
        return Err(DropReason::SlowPathUnknown);
    };
    if received.ip.is_fragment() {
        return Err(DropReason::FragmentToDirector);
    }
    received.verify_icmp_checksum(buf)?;
    if !icmpv6::is_error(kind) {
        return Err(DropReason::IcmpType);
    }
    let found = path_mtu(received.l4(buf), own);
    if let Some(PathMtu { real, mtu }) = found {
        log::debug!("path MTU to {real}: {mtu}, says {}", received.ip.src);
    }
    Ok(found)
}

/// What a message tells of the path to a real server: "packet too big" that quotes an outer packet
/// of ours, which was longer.
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
