//! What to do with a received message of neighbor discovery (RFC 4861, RFC 4862).
//!
//! # Choices
//! - As with ARP, a solicitation for one of our addresses is answered wherever the asker is, and
//!   an entry is only ever there because the configuration needs it: no sender adds one.
//! - A solicitation for another's address, or for one of ours that is not ready, teaches nothing
//!   (RFC 4861 7.2.3, RFC 4862 5.4.3); but when its source is our address, that is a conflict.
//! - Router solicitations, router advertisements and redirects do not come here; workers count
//!   them (`ndp_router`) and forget them: gateways and addresses are configured, and the director
//!   is not a router to its link.
//! - The router flag of an advertisement (RFC 4861 7.2.5) is not looked at, for the same reason.
//! - A solicitation without link-layer address is answered to the frame's source.

use std::net::IpAddr;

use super::addresses::Addresses;
use super::neighbors::Neighbors;
use super::neighbors::state::{Advertised, Heard};
use super::output::Context;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet::{EtherType, Frame};
use crate::packet::ipv6;
use crate::packet::ndp::{Body, MAX_FRAME_LEN, Message};
use crate::stats::{DropReason, Event};
use crate::types::{Mac, PortId};

/// The parts that a message may concern.
pub(super) struct Parts<'a, B> {
    pub(super) neighbors: &'a mut Neighbors<B>,
    pub(super) addresses: &'a mut Addresses,
}

/// One message. A solicitation that is answered counts as answered, whatever else it taught.
pub(super) fn receive<B: PacketBuf, P: BufPool<B>>(
    parts: &mut Parts<'_, B>,
    port: PortId,
    buf: B,
    cx: &mut Context<'_, B, P>,
) -> Result<Event, DropReason> {
    let (mac, message) = read(buf.data())?;
    let told = message.neighbor().map(|(_, told)| told);
    // Our own frame come back, or heard by another port on the same segment.
    let is_own = |mac| cx.own.is_own_mac(mac);
    let Some(own_mac) = cx.own.mac(port).filter(|_| !is_own(mac) && !told.is_some_and(is_own))
    else {
        return Err(DropReason::NdpIgnored);
    };
    let sender = told.unwrap_or(mac);
    match message.body {
        Body::Solicitation { mac: told } => {
            solicited(parts, port, (&message, told, sender, own_mac), buf, cx)
        }
        Body::Advertisement { mac: told, solicited, overrides, .. } => {
            let what = Advertised { mac: told, solicited, overrides };
            advertised(parts, port, &message, what, sender, cx)
        }
    }
}

/// A solicitation: of an address of ours by a station that wants to send to it, or to have it.
fn solicited<B: PacketBuf, P: BufPool<B>>(
    parts: &mut Parts<'_, B>,
    port: PortId,
    (message, told, sender, own_mac): (&Message, Option<Mac>, Mac, Mac),
    buf: B,
    cx: &mut Context<'_, B, P>,
) -> Result<Event, DropReason> {
    let target = IpAddr::V6(message.target);
    if message.is_duplicate_probe() {
        // RFC 4862 5.4.3: two want the address, and neither is to have it.
        if parts.addresses.probed_too(port, message.target, sender, cx) {
            return Err(DropReason::NdpConflict);
        }
    } else {
        let src = IpAddr::V6(message.src);
        if used_too(parts, port, src, sender, cx) {
            return Err(DropReason::NdpConflict);
        }
        // RFC 4861 7.2.3: the sender's address is taken for what it says, by the one that is asked.
        if let Some(told) = told.filter(|_| cx.own.answers_for(port, target)) {
            parts.neighbors.hear(port, src, told, Heard::Gratuitous, cx);
        }
    }
    if !cx.own.answers_for(port, target) {
        return Err(DropReason::NdpIgnored);
    }
    let mut frame = [0; MAX_FRAME_LEN];
    let answer = message.answer(own_mac).emit_frame(own_mac, sender, &mut frame);
    let frame =
        answer.ok().and_then(|len| cx.refill(buf, &frame[..len])).ok_or(DropReason::NoBuffer)?;
    cx.send(port, frame);
    Ok(Event::NdpReplies)
}

/// An advertisement: of a neighbor, or of a station that has an address of ours.
fn advertised<B: PacketBuf, P: BufPool<B>>(
    parts: &mut Parts<'_, B>,
    port: PortId,
    message: &Message,
    what: Advertised,
    sender: Mac,
    cx: &mut Context<'_, B, P>,
) -> Result<Event, DropReason> {
    // RFC 4862 5.4.4: it has what we are about to take.
    if parts.addresses.probed_too(port, message.target, sender, cx) {
        return Err(DropReason::NdpConflict);
    }
    for address in [message.target, message.src].map(IpAddr::V6) {
        if used_too(parts, port, address, sender, cx) {
            return Err(DropReason::NdpConflict);
        }
    }
    let taught = parts.neighbors.advertised(port, message.target, what, cx);
    if taught { Ok(Event::NdpLearned) } else { Err(DropReason::NdpIgnored) }
}

/// Whether `address`, which another station uses, is ours.
fn used_too<B: PacketBuf, P: BufPool<B>>(
    parts: &mut Parts<'_, B>,
    port: PortId,
    address: IpAddr,
    mac: Mac,
    cx: &mut Context<'_, B, P>,
) -> bool {
    let neighbors = &*parts.neighbors;
    parts.addresses.used_too(port, address, mac, |port, mac| neighbors.with_mac(port, mac), cx)
}

/// The message in a frame, with the frame's source, when it is one that a station may send.
fn read(frame: &[u8]) -> Result<(Mac, Message), DropReason> {
    let frame = Frame::new(frame).map_err(|_| DropReason::NdpInvalid)?;
    if frame.ethertype() != EtherType::IPV6 || !frame.src().is_station() {
        return Err(DropReason::NdpInvalid);
    }
    let ip = ipv6::Packet::new(frame.payload()).map_err(|_| DropReason::NdpInvalid)?;
    let message = Message::parse(&ip).map_err(|_| DropReason::NdpInvalid)?;
    Ok((frame.src(), message))
}
