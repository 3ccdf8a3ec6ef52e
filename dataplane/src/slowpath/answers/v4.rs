//! An IPv4 packet that may be answered.

use std::net::IpAddr;

use super::received::{Problem, Received};
use super::reply::verify_checksum;
use crate::packet::buf::PacketBuf;
use crate::packet::ethernet::{self, EtherType};
use crate::packet::parse::{Ipv4Packet, L4, Parsed, parse};
use crate::packet::{icmpv4, ipv4, tcp};
use crate::slowpath::own::Own;
use crate::slowpath::path_mtu::{MIN_MTU4, PathMtu, is_gre};
use crate::snapshot::neighbors::TunnelSpec;
use crate::stats::DropReason;
use crate::types::Mac;

/// An IPv4 packet as received.
pub(super) struct V4 {
    ip: Ipv4Packet,
    /// Source of the frame.
    mac: Mac,
}

impl V4 {
    /// The IP packet, as much of it as lies in the first segment.
    fn packet<'a, B: PacketBuf>(&self, buf: &'a B) -> Result<ipv4::Packet<&'a [u8]>, DropReason> {
        let bytes = buf.data().get(ethernet::HEADER_LEN..).unwrap_or_default();
        ipv4::Packet::new_in(bytes, usize::from(self.ip.total_len))
            .map_err(|_| DropReason::SlowPathUnknown)
    }
}

impl Received for V4 {
    const ETHERTYPE: EtherType = EtherType::IPV4;
    const ECHO_REQUEST: u8 = icmpv4::kind::ECHO_REQUEST;

    fn read<B: PacketBuf>(buf: &B) -> Result<V4, DropReason> {
        let Ok(Parsed::Ipv4(ip)) = parse(buf.data(), buf.len(), buf.rx_ip_checksum()) else {
            return Err(DropReason::SlowPathUnknown);
        };
        let eth = ethernet::Header::parse(buf.data()).map_err(|_| DropReason::SlowPathUnknown)?;
        Ok(V4 { ip, mac: eth.src })
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
        self.ip.fragment.is_fragment()
    }

    fn is_l2_group(&self) -> bool {
        self.ip.l2_group
    }

    fn is_from_a_group(&self, own: &Own) -> bool {
        own.is_network_or_broadcast(self.ip.src)
    }

    fn is_error(kind: u8) -> bool {
        icmpv4::is_error(kind)
    }

    fn verify_checksum<B: PacketBuf>(&self, buf: &B) -> Result<(), DropReason> {
        let end = ethernet::HEADER_LEN + usize::from(self.ip.total_len);
        verify_checksum(buf, self.ip.l4_offset(), end, 0)
    }

    fn turn_round<B: PacketBuf>(&self, buf: &mut B, id: u16) -> Result<(), DropReason> {
        let ip = buf.data_mut().get_mut(ethernet::HEADER_LEN..).unwrap_or_default();
        // What is left to refuse: other codes, and source routes.
        icmpv4::echo_reply_in_place(ip, id).map_err(|_| DropReason::EchoRefused)
    }

    fn emit_error<B: PacketBuf>(
        &self,
        buf: &B,
        problem: Problem,
        id: u16,
        own: &Own,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        let about = self.packet(buf)?;
        if !icmpv4::may_send_error(&about, self.ip.l2_group)
            || own.is_network_or_broadcast(self.ip.dst)
        {
            return Err(DropReason::ErrorSuppressed);
        }
        let error = match problem {
            Problem::TimeExceeded => icmpv4::Error::TimeExceeded,
            Problem::TooLong { mtu } => icmpv4::Error::FragmentationNeeded { mtu },
            Problem::Unserved => icmpv4::Error::PortUnreachable,
        };
        icmpv4::emit_error(out, error, &about, about.dst(), id)
            .map_err(|_| DropReason::ErrorSuppressed)
    }

    fn emit_reset<B: PacketBuf>(
        &self,
        buf: &B,
        id: u16,
        out: &mut [u8],
    ) -> Result<usize, DropReason> {
        tcp::emit_rst(out, &self.packet(buf)?, id).map_err(|_| DropReason::ErrorSuppressed)
    }

    /// "Fragmentation needed" that quotes an outer packet of ours, which was longer and not to be
    /// fragmented. A router that does not say what would pass (before RFC 1191) tells nothing.
    fn path_mtu<B: PacketBuf>(&self, buf: &B, own: &Own) -> Result<Option<PathMtu>, DropReason> {
        Ok(path_mtu(self.packet(buf)?.payload(), own))
    }
}

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
