//! A punted packet that may be answered: what answering one takes of its family.

use std::net::IpAddr;

use super::reply::To;
use crate::packet::buf::PacketBuf;
use crate::packet::ethernet::{EtherType, Frame};
use crate::packet::icmpv6;
use crate::packet::parse::L4;
use crate::slowpath::own::Own;
use crate::slowpath::path_mtu::PathMtu;
use crate::stats::DropReason;
use crate::types::{Mac, PortId};

/// The longest IP packet that answers, of either family, in bytes.
pub(super) const MAX_ANSWER_LEN: usize = icmpv6::MAX_ERROR_LEN;

/// What is wrong with a packet, as its sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    /// TTL or hop limit used up: time exceeded (RFC 792, RFC 4443 3.3).
    TimeExceeded,
    /// Too long for the way: fragmentation needed (RFC 1191), packet too big (RFC 4443 3.2).
    TooLong {
        /// What would pass, in bytes.
        mtu: u16,
    },
    /// No real server takes it: port unreachable (RFC 792, RFC 4443 3.1).
    Unserved,
}

/// A packet as received, of one family, with what an answer needs to know of it.
pub(super) trait Received: Sized {
    const ETHERTYPE: EtherType;
    /// The type of an echo request.
    const ECHO_REQUEST: u8;

    /// Reads a punted packet again. The worker that punted it found it right.
    fn read<B: PacketBuf>(buf: &B) -> Result<Self, DropReason>;

    /// The source of the frame.
    fn mac(&self) -> Mac;
    fn src(&self) -> IpAddr;
    fn dst(&self) -> IpAddr;
    fn l4(&self) -> L4;

    /// Whether something of the packet is missing. An atomic fragment (RFC 6946) is whole.
    fn is_fragment(&self) -> bool;

    /// Whether the frame was sent to more than one station.
    fn is_l2_group(&self) -> bool;

    /// Whether its source is none that a single host may have.
    fn is_from_a_group(&self, own: &Own) -> bool;

    /// Whether a message of this type tells of an error.
    fn is_error(kind: u8) -> bool;

    /// Sums up the ICMP message, across segments.
    fn verify_checksum<B: PacketBuf>(&self, buf: &B) -> Result<(), DropReason>;

    /// Makes the reply of an echo request in its place, all but the Ethernet header.
    fn turn_round<B: PacketBuf>(&self, buf: &mut B, id: u16) -> Result<(), DropReason>;

    /// Writes the IP packet that tells the sender; its length.
    fn emit_error<B: PacketBuf>(
        &self,
        buf: &B,
        problem: Problem,
        id: u16,
        own: &Own,
        out: &mut [u8],
    ) -> Result<usize, DropReason>;

    /// Writes the IP packet that resets the connection; its length.
    fn emit_reset<B: PacketBuf>(
        &self,
        buf: &B,
        id: u16,
        out: &mut [u8],
    ) -> Result<usize, DropReason>;

    /// What an ICMP error tells of the path to a real server: that an outer packet of ours, which
    /// it quotes, was too long.
    fn path_mtu<B: PacketBuf>(&self, buf: &B, own: &Own) -> Result<Option<PathMtu>, DropReason>;

    /// Where an answer goes.
    fn to(&self, port: PortId) -> To {
        To { port, mac: self.mac(), ethertype: Self::ETHERTYPE }
    }
}

/// Whether a frame says that it is of IPv6.
pub(crate) fn is_ipv6(buf: &impl PacketBuf) -> bool {
    Frame::new(buf.data()).is_ok_and(|frame| frame.ethertype() == EtherType::IPV6)
}
