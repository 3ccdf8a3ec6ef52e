//! ICMP echo, ICMP errors, TCP resets, and ICMP messages to the director itself.
//!
//! # Choices
//! - An answer leaves by the port the packet came in on, to the station it came from. It needs no
//!   route and no neighbor, and reaches whoever could send the packet.
//! - Echo is not rate limited (nor is it in Linux): an answer is no longer than its request, and
//!   the queue to the slow path is bounded. Errors and resets are: 1000 a second, 50 at once, the
//!   figures of Linux's `icmp_msgs_per_sec` and `icmp_msgs_burst`. Each kind has its own bucket,
//!   so that a flood of packets with TTL 1 does not break path MTU discovery.
//! - The checksum of a TCP segment is not verified before it is reset: on virtual links (veth,
//!   virtio) that of a local sender is not filled in yet. Forwarding does not verify it either.
//! - Fragments to the director are dropped; it does not reassemble.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::limit::TokenBucket;
use super::output::Context;
use super::own::Own;
use super::random::Random;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet::{self, EtherType};
use crate::packet::parse::{Ipv4Packet, L4, Parsed, parse};
use crate::packet::{checksum, icmpv4, ipv4, tcp};
use crate::stats::{DropReason, Event};
use crate::types::{Mac, PortId};

const PER_SECOND: u32 = 1000;
const BURST: u32 = 50;
/// Path MTU updates kept until they are taken; more are forgotten, as they will come again.
const MAX_PATH_MTUS: usize = 256;

/// A router on the way to a real server has a smaller MTU than the egress port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtu {
    /// RIP: destination of the outer packet that was too long. Anyone can forge the message, so
    /// check that this is a real server behind a tunnel.
    pub real: Ipv4Addr,
    /// Longest outer packet that passes, in bytes, 68 or more; `None` when the router does not
    /// know RFC 1191 and does not say.
    pub mtu: Option<u16>,
}

/// Which kinds of answer are limited apart.
struct Limits {
    fragmentation_needed: TokenBucket,
    other_errors: TokenBucket,
    resets: TokenBucket,
}

/// The ICMP part of the slow path.
pub(super) struct Icmp {
    limits: Limits,
    path_mtus: BTreeMap<Ipv4Addr, Option<u16>>,
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
    /// The IP packet, as much of it as lies in the first segment.
    fn packet<'a, B: PacketBuf>(&self, buf: &'a B) -> Result<ipv4::Packet<&'a [u8]>, DropReason> {
        let bytes = buf.data().get(ethernet::HEADER_LEN..).unwrap_or_default();
        ipv4::Packet::new_in(bytes, usize::from(self.ip.total_len))
            .map_err(|_| DropReason::SlowPathUnknown)
    }

    /// Whether the sender is one single other host, on either layer.
    fn is_from_a_host(&self, own: &Own) -> bool {
        self.mac.is_station()
            && !own.is_own_mac(self.mac)
            && !self.ip.l2_group
            && !own.is_local(self.ip.src)
            && !own.is_network_or_broadcast(self.ip.src)
    }

    /// Sums up the ICMP message, across segments.
    fn verify_icmp_checksum<B: PacketBuf>(&self, buf: &B) -> Result<(), DropReason> {
        let mut at = self.ip.l4_offset();
        let end = ethernet::HEADER_LEN + usize::from(self.ip.total_len);
        // Chunks of an even length but for the last, so that their sums add up.
        let (mut chunk, mut sum) = ([0; 512], 0);
        while at < end {
            let part = &mut chunk[..(end - at).min(512)];
            if !buf.copy_to(at, part) {
                return Err(DropReason::SlowPathUnknown);
            }
            sum = checksum::add(sum, checksum::sum(part));
            at += part.len();
        }
        if sum == 0xffff { Ok(()) } else { Err(DropReason::BadIcmpChecksum) }
    }
}

/// Where the IP packet of an answer is written.
fn ip_part(frame: &mut [u8]) -> &mut [u8] {
    &mut frame[ethernet::HEADER_LEN..]
}

/// Sends an answer, `len` bytes of IP packet in `frame`, to where `received` came from, if the
/// bucket has a token. What is not to be answered takes none.
fn send_back<B: PacketBuf, P: BufPool<B>>(
    frame: &mut [u8],
    len: usize,
    received: &Received,
    bucket: &mut TokenBucket,
    port: PortId,
    buf: B,
    cx: &mut Context<'_, B, P>,
) -> Result<(), DropReason> {
    let src = cx.own.mac(port).ok_or(DropReason::SlowPathUnknown)?;
    let eth = ethernet::Header { dst: received.mac, src, ethertype: EtherType::IPV4 };
    eth.emit(frame).map_err(|_| DropReason::SlowPathUnknown)?;
    if !bucket.take(cx.now) {
        return Err(DropReason::RateLimited);
    }
    // `frame` is all zeroes after the packet: the padding of one too short for Ethernet.
    let len = (ethernet::HEADER_LEN + len).max(ethernet::MIN_FRAME_LEN).min(frame.len());
    let buf = cx.refill(buf, &frame[..len]).ok_or(DropReason::NoBuffer)?;
    cx.send(port, buf);
    Ok(())
}

impl Icmp {
    pub(super) fn new(random: &mut Random) -> Icmp {
        let bucket = || TokenBucket::new(PER_SECOND, BURST);
        Icmp {
            limits: Limits {
                fragmentation_needed: bucket(),
                other_errors: bucket(),
                resets: bucket(),
            },
            path_mtus: BTreeMap::new(),
            next_id: random.word(),
        }
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    pub(super) fn take_path_mtus(&mut self) -> Vec<PathMtu> {
        let taken = std::mem::take(&mut self.path_mtus);
        taken.into_iter().map(|(real, mtu)| PathMtu { real, mtu }).collect()
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
        if !is_echo || !cx.own.is_local(received.ip.dst) {
            return Err(DropReason::SlowPathUnknown);
        }
        if !received.is_from_a_host(cx.own) {
            return Err(DropReason::BadSource);
        }
        received.verify_icmp_checksum(&buf)?;
        let (eth, ip) = buf.data_mut().split_at_mut(ethernet::HEADER_LEN);
        // What is left to refuse: other codes, and source routes.
        icmpv4::echo_reply_in_place(ip, self.id()).map_err(|_| DropReason::SlowPathUnknown)?;
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
        if !received.is_from_a_host(cx.own)
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
            icmpv4::Error::FragmentationNeeded { .. } => &mut self.limits.fragmentation_needed,
            _ => &mut self.limits.other_errors,
        };
        send_back(&mut answer, len, &received, bucket, port, buf, cx)?;
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
        if !received.is_from_a_host(cx.own) || !cx.own.is_local(received.ip.dst) {
            return Err(DropReason::ErrorSuppressed);
        }
        const { assert!(ethernet::HEADER_LEN + tcp::RST_PACKET_LEN <= ethernet::MIN_FRAME_LEN) };
        let mut answer = [0; ethernet::MIN_FRAME_LEN];
        let len = tcp::emit_rst(ip_part(&mut answer), &about, self.id())
            .map_err(|_| DropReason::ErrorSuppressed)?;
        send_back(&mut answer, len, &received, &mut self.limits.resets, port, buf, cx)?;
        Ok(Event::TcpResets)
    }

    /// An ICMP message to a DIP that is no echo request. "Fragmentation needed" about a tunnel's
    /// packet is noted. The reason says what it was.
    pub(super) fn note_message<B: PacketBuf>(&mut self, buf: &B, own: &Own) -> DropReason {
        self.read_message(buf, own).err().unwrap_or(DropReason::IcmpToDirector)
    }

    fn read_message<B: PacketBuf>(&mut self, buf: &B, own: &Own) -> Result<(), DropReason> {
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
        if let Some(found) = path_mtu(received.packet(buf)?.payload(), own) {
            log::debug!("path MTU to {}: {:?}, says {}", found.real, found.mtu, received.ip.src);
            self.note(found);
        }
        Ok(())
    }

    /// Keeps the smallest MTU heard of each real server.
    fn note(&mut self, PathMtu { real, mtu }: PathMtu) {
        let room = self.path_mtus.len() < MAX_PATH_MTUS;
        match self.path_mtus.get_mut(&real) {
            Some(known) => *known = [*known, mtu].into_iter().flatten().min(),
            None if room => {
                self.path_mtus.insert(real, mtu);
            }
            None => {}
        }
    }
}

/// What a message tells of the path to a real server: "fragmentation needed" that quotes an outer
/// packet of ours.
fn path_mtu(icmp: &[u8], own: &Own) -> Option<PathMtu> {
    let message = icmpv4::Packet::new(icmp).ok()?;
    let mtu = message.next_hop_mtu()?;
    let quoted = ipv4::Packet::new_in(message.payload(), usize::from(u16::MAX)).ok()?;
    let is_tunnel = matches!(quoted.protocol(), ipv4::protocol::IPIP | ipv4::protocol::GRE);
    if !is_tunnel || !own.is_local(quoted.src()) || own.is_vip(quoted.src()) {
        return None;
    }
    // RFC 1191 3: "A host MUST never reduce its estimate of the Path MTU below 68 octets."
    match mtu {
        0 => Some(PathMtu { real: quoted.dst(), mtu: None }),
        ipv4::MIN_MTU.. => Some(PathMtu { real: quoted.dst(), mtu: Some(mtu) }),
        _ => None,
    }
}
