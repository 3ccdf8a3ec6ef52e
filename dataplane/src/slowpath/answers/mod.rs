//! Answers to strangers: ICMP echo, ICMP errors and TCP resets of both families; and ICMP messages
//! to the director itself.
//!
//! What is asked, in which order, and what is counted is said here once. What differs between IPv4
//! and IPv6 stands in [`v4`] and [`v6`], behind [`Received`].
//!
//! # Choices
//! - An answer leaves by the port the packet came in on, to the station it came from. It needs no
//!   route and no neighbor, and reaches whoever could send the packet.
//! - Workers limit what they ask for, source by source (`pipeline/limit.rs`). Errors and resets have
//!   a limit here too, for all workers together: 1000 a second, 50 at once, the figures of Linux's
//!   `icmp_msgs_per_sec` and `icmp_msgs_burst`. Each kind of each family has its own bucket, so that
//!   a flood of packets with TTL 1 does not break path MTU discovery.
//! - Errors come from the VIP, as those of LVS's director: the client has a way to it, and so has
//!   every filter on the way. A DIP is often a private address, whose messages routers drop, and
//!   path MTU discovery with them. (RFC 1812 4.3.2.4 asks routers for an address of the interface;
//!   to the client, the director is the VIP's host.)
//! - The checksum of a TCP segment is not verified before it is reset: on virtual links (veth,
//!   virtio) that of a local sender is not filled in yet. Forwarding does not verify it either.
//! - Fragments to the director are dropped; it does not reassemble.

mod received;
mod reply;
mod v4;
mod v6;

use received::{MAX_ANSWER_LEN, Received};
pub(super) use received::{Problem, is_ipv6};
use reply::{Limits, ip_part, send_back};
use v4::V4;
use v6::V6;

use super::output::Context;
use super::own::Own;
use super::path_mtu::PathMtu;
use crate::hash::Random;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet;
use crate::packet::parse::L4;
use crate::stats::{DropReason, Event};
use crate::types::PortId;

/// The part of the slow path that answers strangers.
pub(super) struct Answers {
    limits4: Limits,
    limits6: Limits,
    /// Identification of the last IPv4 packet.
    last_id: u16,
}

impl Answers {
    pub(super) fn new(random: &mut Random) -> Answers {
        Answers { limits4: Limits::new(), limits6: Limits::new(), last_id: random.word() }
    }

    fn id(&mut self) -> u16 {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }

    /// Answers an echo request in its own buffer (RFC 1122 3.2.2.6, RFC 4443 4.2).
    pub(super) fn echo<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        ingress: PortId,
        buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let id = self.id();
        if is_ipv6(&buf) {
            echo::<V6, _, _>(id, ingress, buf, cx)
        } else {
            echo::<V4, _, _>(id, ingress, buf, cx)
        }
    }

    /// Tells a sender what is wrong with its packet.
    pub(super) fn error<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        problem: Problem,
        ingress: PortId,
        buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let id = self.id();
        if is_ipv6(&buf) {
            error::<V6, _, _>(problem, id, ingress, (buf, &mut self.limits6), cx)
        } else {
            error::<V4, _, _>(problem, id, ingress, (buf, &mut self.limits4), cx)
        }
    }

    /// Resets a TCP connection that the director does not know, in the VIP's name.
    pub(super) fn reset<B: PacketBuf, P: BufPool<B>>(
        &mut self,
        ingress: PortId,
        buf: B,
        cx: &mut Context<'_, B, P>,
    ) -> Result<Event, DropReason> {
        let id = self.id();
        if is_ipv6(&buf) {
            reset::<V6, _, _>(id, ingress, (buf, &mut self.limits6), cx)
        } else {
            reset::<V4, _, _>(id, ingress, (buf, &mut self.limits4), cx)
        }
    }
}

fn echo<R: Received, B: PacketBuf, P: BufPool<B>>(
    id: u16,
    ingress: PortId,
    mut buf: B,
    cx: &mut Context<'_, B, P>,
) -> Result<Event, DropReason> {
    let received = R::read(&buf)?;
    let own_mac = cx.own.mac(ingress).ok_or(DropReason::SlowPathUnknown)?;
    if received.is_fragment() {
        return Err(DropReason::FragmentToDirector);
    }
    if !matches!(received.l4(), L4::Icmp { kind, .. } if kind == R::ECHO_REQUEST) {
        return Err(DropReason::SlowPathUnknown);
    }
    check_used(&received, ingress, cx.own)?;
    if !is_from_a_host(&received, ingress, cx.own) {
        return Err(DropReason::BadSource);
    }
    received.verify_checksum(&buf)?;
    received.turn_round(&mut buf, id)?;
    let eth = buf.data_mut().get_mut(..ethernet::HEADER_LEN).unwrap_or_default();
    let mut eth = ethernet::Frame::new(eth).map_err(|_| DropReason::SlowPathUnknown)?;
    eth.set_addresses(own_mac, received.mac());
    cx.send(ingress, buf);
    Ok(Event::EchoReplies)
}

fn error<R: Received, B: PacketBuf, P: BufPool<B>>(
    problem: Problem,
    id: u16,
    ingress: PortId,
    (buf, limits): (B, &mut Limits),
    cx: &mut Context<'_, B, P>,
) -> Result<Event, DropReason> {
    let received = R::read(&buf)?;
    if !is_from_a_host(&received, ingress, cx.own) {
        return Err(DropReason::ErrorSuppressed);
    }
    let mut answer = [0; ethernet::HEADER_LEN + MAX_ANSWER_LEN];
    let len = received.emit_error(&buf, problem, id, cx.own, ip_part(&mut answer))?;
    let bucket = match problem {
        Problem::TooLong { .. } => &mut limits.too_long,
        Problem::Unserved => &mut limits.unserved,
        Problem::TimeExceeded => &mut limits.other_errors,
    };
    send_back(&mut answer, len, received.to(ingress), bucket, buf, cx)?;
    Ok(Event::IcmpErrors)
}

fn reset<R: Received, B: PacketBuf, P: BufPool<B>>(
    id: u16,
    ingress: PortId,
    (buf, limits): (B, &mut Limits),
    cx: &mut Context<'_, B, P>,
) -> Result<Event, DropReason> {
    let received = R::read(&buf)?;
    let is_tcp = matches!(received.l4(), L4::Tcp { .. }) && !received.is_fragment();
    if !is_tcp
        || !is_from_a_host(&received, ingress, cx.own)
        || !cx.own.is_used(ingress, received.dst())
    {
        return Err(DropReason::ErrorSuppressed);
    }
    let mut answer = [0; ethernet::HEADER_LEN + MAX_ANSWER_LEN];
    let len = received.emit_reset(&buf, id, ip_part(&mut answer))?;
    send_back(&mut answer, len, received.to(ingress), &mut limits.resets, buf, cx)?;
    Ok(Event::TcpResets)
}

/// An ICMP or ICMPv6 message to a DIP that is no echo request: what it tells of the path to a real
/// server, if it says that a tunnel's packet was too long. The reason says what it was else.
pub(super) fn read_message<B: PacketBuf>(
    buf: &B,
    own: &Own,
) -> Result<Option<PathMtu>, DropReason> {
    if is_ipv6(buf) { message::<V6, _>(buf, own) } else { message::<V4, _>(buf, own) }
}

fn message<R: Received, B: PacketBuf>(buf: &B, own: &Own) -> Result<Option<PathMtu>, DropReason> {
    let received = R::read(buf)?;
    let L4::Icmp { kind, .. } = received.l4() else {
        return Err(DropReason::SlowPathUnknown);
    };
    if received.is_fragment() {
        return Err(DropReason::FragmentToDirector);
    }
    received.verify_checksum(buf)?;
    if !R::is_error(kind) {
        return Err(DropReason::IcmpType);
    }
    let found = received.path_mtu(buf, own)?;
    if let Some(PathMtu { real, mtu }) = found {
        log::debug!("path MTU to {real}: {mtu}, says {}", received.src());
    }
    Ok(found)
}

/// An address that is not the director's is a mistake of the worker's; one that is not ready is
/// nobody's mistake.
fn check_used(received: &impl Received, ingress: PortId, own: &Own) -> Result<(), DropReason> {
    let dst = received.dst();
    if own.is_used(ingress, dst) {
        Ok(())
    } else if own.is_local(ingress, dst) {
        Err(DropReason::AddressNotReady)
    } else {
        Err(DropReason::SlowPathUnknown)
    }
}

/// Whether the sender is one single other host, on either layer.
fn is_from_a_host(received: &impl Received, ingress: PortId, own: &Own) -> bool {
    received.mac().is_station()
        && !own.is_own_mac(received.mac())
        && !received.is_l2_group()
        && !received.is_from_a_group(own)
        && !own.is_local(ingress, received.src())
}
