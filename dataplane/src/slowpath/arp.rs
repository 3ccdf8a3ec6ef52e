//! What to do with a received ARP message (RFC 826 "Packet Reception", RFC 5227, RFC 5494).
//!
//! # Choices
//! - The sender's hardware address counts, not the frame's source: RFC 826 knows no other, and
//!   clusters and bonds that answer with an address other than the frame's are common.
//! - RFC 826 updates a known sender's entry whoever is asked for. So does this; but an entry is
//!   only ever there because the configuration needs it.
//! - A request for one of our addresses is answered even when the sender is in none of our
//!   networks, as a VIP often is in none.

use std::net::IpAddr;

use super::addresses::Addresses;
use super::neighbors::Neighbors;
use super::neighbors::state::Heard;
use super::output::{Context, arp_frame};
use crate::packet::arp::{Operation, Packet};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet::{EtherType, Frame};
use crate::packet::{HeaderError, ipv4};
use crate::stats::{DropReason, Event};
use crate::types::PortId;

/// One message. A request that is answered counts as answered, whatever else it taught.
pub(super) fn receive<B: PacketBuf, P: BufPool<B>>(
    neighbors: &mut Neighbors<B>,
    addresses: &mut Addresses,
    port: PortId,
    buf: B,
    cx: &mut Context<'_, B, P>,
) -> Result<Event, DropReason> {
    let packet = read(buf.data())?;
    // Our own frame come back, or heard by another port on the same segment.
    let Some(own_mac) = cx.own.mac(port).filter(|_| !cx.own.is_own_mac(packet.sha)) else {
        return Err(DropReason::ArpIgnored);
    };
    let spa = IpAddr::V4(packet.spa);
    if addresses.used_too(port, spa, packet.sha, |port, mac| neighbors.with_mac(port, mac), cx) {
        return Err(DropReason::ArpConflict);
    }
    let for_us = cx.own.answers_for(port, packet.tpa.into());
    // RFC 5227 1.1: nothing is learnt from a probe, whose sender's address is zero.
    let taught = !packet.is_probe() && {
        let how = match packet.operation {
            _ if packet.is_gratuitous() => Heard::Gratuitous,
            Operation::Reply if for_us && packet.tha == own_mac => Heard::Answer,
            _ => Heard::Aside,
        };
        neighbors.hear(port, spa, packet.sha, how, cx)
    };
    if packet.operation == Operation::Request && for_us {
        // RFC 826: "Send the packet to the (new) target hardware address".
        let frame = arp_frame(&packet.reply(own_mac), packet.sha)
            .and_then(|frame| cx.refill(buf, &frame))
            .ok_or(DropReason::NoBuffer)?;
        cx.send(port, frame);
        return Ok(Event::ArpReplies);
    }
    if taught { Ok(Event::ArpLearned) } else { Err(DropReason::ArpIgnored) }
}

/// The message in a frame, when it is one that a station may send.
fn read(frame: &[u8]) -> Result<Packet, DropReason> {
    let frame = Frame::new(frame).map_err(|_| DropReason::ArpInvalid)?;
    if frame.ethertype() != EtherType::ARP {
        return Err(DropReason::ArpInvalid);
    }
    let packet = Packet::parse(frame.payload()).map_err(|error| match error {
        // Other hardware, protocols and operations (RARP, InARP) are legal; not spoken here.
        HeaderError::Unsupported => DropReason::ArpIgnored,
        _ => DropReason::ArpInvalid,
    })?;
    // A group address would make every answer a broadcast (RFC 1812 3.3.2 for replies).
    let possible = packet.sha.is_station()
        && frame.src().is_station()
        && (packet.is_probe() || !ipv4::is_bad_source(packet.spa));
    if possible { Ok(packet) } else { Err(DropReason::ArpInvalid) }
}
