//! ICMP echo, ICMP errors, TCP resets, and ICMP messages to the director itself.
//!
//! # Choices
//! - An answer leaves by the port the packet came in on, to the station it came from. It needs no
//!   route and no neighbor, and reaches whoever could send the packet.
//! - Workers limit what they ask for, source by source (`pipeline/limit.rs`). Errors and resets have
//!   a limit here too, for all workers together: 1000 a second, 50 at once, the figures of Linux's
//!   `icmp_msgs_per_sec` and `icmp_msgs_burst`. Each kind has its own bucket, so that a flood of
//!   packets with TTL 1 does not break path MTU discovery.
//! - The checksum of a TCP segment is not verified before it is reset: on virtual links (veth,
//!   virtio) that of a local sender is not filled in yet. Forwarding does not verify it either.
//! - Fragments to the director are dropped; it does not reassemble.

use super::answer::{Limits, To, ip_part, send_back, verify_checksum};
use super::output::Context;
use super::own::Own;
use super::path_mtu::{MIN_MTU4, PathMtu, is_gre};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet::{self, EtherType};
use crate::packet::parse::{Ipv4Packet, L4, Parsed, parse};
use crate::packet::{icmpv4, ipv4, tcp};
use crate::snapshot::neighbors::TunnelSpec;
use crate::stats::{DropReason, Event};
use crate::types::{Mac, PortId, Random};

/// The ICMP part of the slow path.
pub(super) struct Icmp {
    limits: Limits,
    next_id: u16,
}

/// A packet as received, with what an answer needs to know of it.
struct Received {
    ip: Ipv4Packet,
    /// Source of the frame.
    mac: Mac,
}

/// Reads a punted packet again. The worker that punted it found it right.
fn read<B: PacketBuf>(buf: &B) -> Result<Received, DropReason> {
    let Ok(Parsed::Ipv4(ip)) = parse(buf.data(), buf.len(), buf.rx_ip_checksum()) else {
        return Err(DropReason::SlowPathUnknown);
    };
    let eth = ethernet::Header::parse(buf.data()).map_err(|_| DropReason::SlowPathUnknown)?;
    Ok(Received { ip, mac: eth.src })
}

impl Received {
    fn to(&self, port: PortId) -> To {
        To { port, mac: self.mac, ethertype: EtherType::IPV4 }
    }

    /// The IP packet, as much of it as lies in the first segment.
    fn packet<'a, B: PacketBuf>(&self, buf: &'a B) -> Result<ipv4::Packet<&'a [u8]>, DropReason> {
        let bytes = buf.data().get(ethernet::HEADER_LEN..).unwrap_or_default();
        ipv4::Packet::new_in(bytes, usize::from(self.ip.total_len))
            .map_err(|_| DropReason::SlowPathUnknown)
    }

    /// Whether the sender is one single other host, on either layer.
    fn is_from_a_host(&self, port: PortId, own: &Own) -> bool {
        self.mac.is_station()
            && !own.is_own_mac(self.mac)
            && !self.ip.l2_group
            && !own.is_local(port, self.ip.src.into())
            && !own.is_network_or_broadcast(self.ip.src)
    }

    /// Sums up the ICMP message, across segments.
    fn verify_icmp_checksum<B: PacketBuf>(&self, buf: &B) -> Result<(), DropReason> {
        let end = ethernet::HEADER_LEN + usize::from(self.ip.total_len);
        verify_checksum(buf, self.ip.l4_offset(), end, 0)
    }
}

impl Icmp {
    pub(super) fn new(random: &mut Random) -> Icmp {
        Icmp { limits: Limits::new(), next_id: random.word() }
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Answers an echo request in its own buffer (RFC 1122 3.2.2.6).
    pub(super) fn echo<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        port: PortId,
        mut buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let received = read(&buf)?;
        let own_mac = cx.own.mac(port).ok_or(DropReason::SlowPathUnknown)?;
        if received.ip.fragment.is_fragment() {
            return Err(DropReason::FragmentToDirector);
        }
        let is_echo = matches!(received.ip.l4, L4::Icmp { kind: icmpv4::kind::ECHO_REQUEST, .. });
        if !is_echo || !cx.own.is_local(port, received.ip.dst.into()) {
            return Err(DropReason::SlowPathUnknown);
        }
        if !received.is_from_a_host(port, cx.own) {
            return Err(DropReason::BadSource);
        }
        received.verify_icmp_checksum(&buf)?;
        let (eth, ip) = buf.data_mut().split_at_mut(ethernet::HEADER_LEN);
        // What is left to refuse: other codes, and source routes.
        icmpv4::echo_reply_in_place(ip, self.id()).map_err(|_| DropReason::EchoRefused)?;
        let mut eth = ethernet::Frame::new(eth).map_err(|_| DropReason::SlowPathUnknown)?;
        eth.set_addresses(own_mac, received.mac);
        cx.send(port, buf);
        Ok(Event::EchoReplies)
    }

    /// Tells a sender what is wrong with its packet.
    pub(super) fn error<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        error: icmpv4::Error,
        port: PortId,
        buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let received = read(&buf)?;
        let about = received.packet(&buf)?;
        if !received.is_from_a_host(port, cx.own)
            || !icmpv4::may_send_error(&about, received.ip.l2_group)
            || cx.own.is_network_or_broadcast(received.ip.dst)
        {
            return Err(DropReason::ErrorSuppressed);
        }
        // From the VIP, as LVS's director answers: the client has a way to it, and so has every
        // filter on the way. A DIP is often a private address, whose messages routers drop, and
        // path MTU discovery with them. (RFC 1812 4.3.2.4 asks routers for an address of the
        // interface; to the client, the director is the VIP's host.)
        let src = about.dst();
        let mut answer = [0; ethernet::HEADER_LEN + icmpv4::MAX_ERROR_LEN];
        let len = icmpv4::emit_error(ip_part(&mut answer), error, &about, src, self.id())
            .map_err(|_| DropReason::ErrorSuppressed)?;
        let bucket = match error {
            icmpv4::Error::FragmentationNeeded { .. } => &mut self.limits.too_long,
            icmpv4::Error::PortUnreachable => &mut self.limits.unserved,
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
        let about = received.packet(&buf)?;
        if !received.is_from_a_host(port, cx.own) || !cx.own.is_local(port, received.ip.dst.into())
        {
            return Err(DropReason::ErrorSuppressed);
        }
        const { assert!(ethernet::HEADER_LEN + tcp::RST_PACKET_LEN <= ethernet::MIN_FRAME_LEN) };
        let mut answer = [0; ethernet::MIN_FRAME_LEN];
        let len = tcp::emit_rst(ip_part(&mut answer), &about, self.id())
            .map_err(|_| DropReason::ErrorSuppressed)?;
        send_back(&mut answer, len, received.to(port), &mut self.limits.resets, buf, cx)?;
        Ok(Event::TcpResets)
    }
}

/// An ICMP message to a DIP that is no echo request: what it tells of the path to a real server,
/// if it is "fragmentation needed" about a tunnel's packet. The reason says what it was else.
pub(super) fn read_message<B: PacketBuf>(
    buf: &B,
    own: &Own,
) -> Result<Option<PathMtu>, DropReason> {
    let received = read(buf)?;
    let L4::Icmp { kind, .. } = received.ip.l4 else {
        return Err(DropReason::SlowPathUnknown);
    };
    if received.ip.fragment.is_fragment() {
        return Err(DropReason::FragmentToDirector);
    }
    received.verify_icmp_checksum(buf)?;
    if !icmpv4::is_error(kind) {
        return Err(DropReason::IcmpType);
    }
    let found = path_mtu(received.packet(buf)?.payload(), own);
    if let Some(PathMtu { real, mtu }) = found {
        log::debug!("path MTU to {real}: {mtu}, says {}", received.ip.src);
    }
    Ok(found)
}

/// What a message tells of the path to a real server: "fragmentation needed" that quotes an outer
/// packet of ours, which was longer and not to be fragmented. A router that does not say what
/// would pass (before RFC 1191) tells nothing.
fn path_mtu(icmp: &[u8], own: &Own) -> Option<PathMtu> {
    let message = icmpv4::Packet::new(icmp).ok()?;
    let mtu = message.next_hop_mtu()?;
    let quoted = ipv4::Packet::new_in(message.payload(), usize::from(u16::MAX)).ok()?;
    let (real, dip) = (quoted.dst().into(), quoted.src().into());
    let gre = is_gre(quoted.protocol())?;
    let longest = own.tunnel_mtu(&TunnelSpec { real, dip, gre })?;
    let len = quoted.total_len();
    let told = quoted.fragment().df() && len > mtu && len <= longest;
    (told && mtu >= MIN_MTU4).then_some(PathMtu { real, mtu })
}
