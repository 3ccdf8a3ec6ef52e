//! The same first step for IPv6: what a frame is, and what becomes of it.
//!
//! Packets of flows go through fewer stages than IPv4's, but go through them together: parse all
//! and ask for flow buckets, ask for flow entries, then look up and forward one by one.

use super::family::Packet;
use super::{Env, FlowOf, Output, Pipeline};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::icmpv6::{self, kind};
use crate::packet::parse::L4;
use crate::packet::parse6::{Ipv6Packet, ParseError, parse};
use crate::packet::{ipv6, ndp};
use crate::snapshot::Local;
use crate::stats::DropReason;
use crate::types::{FlowKey6, Mac, PortId, Protocol, PuntReason};

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> DropReason {
        match error {
            ParseError::TooShort => DropReason::TooShort,
            ParseError::NotIpv6 => DropReason::EtherType,
            ParseError::BadIpv6Header => DropReason::BadIpv6Header,
            ParseError::BadExtension => DropReason::BadExtension,
            ParseError::ExtensionLimit => DropReason::ExtensionLimit,
            ParseError::Routing => DropReason::RoutingHeader,
            ParseError::BadL4Header => DropReason::BadL4Header,
            ParseError::BadSource => DropReason::BadSource,
        }
    }
}

/// A whole packet to a virtual service, until the rest of its burst is parsed.
pub(super) struct Aside<B> {
    buf: B,
    ip: Ipv6Packet,
    flow: FlowOf<FlowKey6>,
}

/// Whose an IPv6 destination is.
enum To {
    /// A multicast group's, ours or not.
    Group,
    Vip,
    /// The director's own: a DIP, or the link-local address of the port it came in by.
    Director,
    Stranger,
}

impl<B: PacketBuf> Pipeline<B> {
    /// An IPv6 frame to this port or a group. A whole packet to a virtual service is put aside, for
    /// [`Pipeline::pass6`].
    #[inline(never)]
    pub(super) fn classify6<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        buf: B,
    ) {
        let ip = match parse(buf.data(), buf.len()) {
            Ok(ip) => ip,
            Err(error) => return self.drop_packet(error.into(), buf),
        };
        match self.flow_of(env.snapshot, &ip) {
            // As for IPv4: a packet in a link-layer group is not forwarded, nor answered.
            Some(_) if ip.l2_group => self.drop_packet(DropReason::L2Group, buf),
            // RFC 4291 2.5.6: its address means nothing beyond this link, where the answer comes from.
            Some(_) if ipv6::is_link_local(ip.src) => self.drop_packet(DropReason::BadSource, buf),
            // A NIC that does not look behind extension headers, or takes a packet with a fragment
            // header for a fragment (RFC 6946), chooses the worker by addresses alone.
            Some(flow) if ip.is_fragment() || ip.ext_len > 0 && self.workers > 1 => {
                self.first_fragment(env, ingress, buf, &ip, &flow);
            }
            Some(flow) => {
                self.shard6.prefetch_bucket(flow.hash);
                self.aside.push(Aside { buf, ip, flow });
            }
            None => self.exception6(env, ingress, mac, buf, &ip),
        }
    }

    /// Forwards the packets to virtual services that [`Pipeline::classify6`] has put aside.
    #[inline(never)]
    pub(super) fn pass6<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
    ) {
        let mut aside = std::mem::take(&mut self.aside);
        if self.shard6.is_crowded() {
            aside.iter().for_each(|packet| self.shard6.prefetch_next(packet.flow.hash));
        }
        for Aside { buf, ip, flow } in aside.drain(..) {
            if let Some((buf, real)) = self.balance(env, ingress, buf, &flow) {
                self.forward(env, ingress, buf, &ip, real);
            }
        }
        self.aside = aside;
    }

    /// Everything but packets of flows.
    #[inline(never)]
    fn exception6<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        buf: B,
        ip: &Ipv6Packet,
    ) {
        let to = match env.snapshot.local6(ip.dst) {
            Some(Local::Vip) => To::Vip,
            Some(Local::Dip(_)) => To::Director,
            None if ip.dst.is_multicast() => To::Group,
            None if ip.dst == ipv6::link_local(mac) => To::Director,
            None => To::Stranger,
        };
        // What neighbors tell one another comes to groups; nothing else that does is for us.
        let from_neighbor = match ip.l4 {
            L4::Icmp { kind, .. } => self.neighborly(ip, kind, &to),
            _ => None,
        };
        match from_neighbor {
            Some(Ok(reason)) => return self.punt(env, ingress, reason, buf),
            Some(Err(reason)) => return self.drop_packet(reason, buf),
            None if ip.l2_group => return self.drop_packet(DropReason::L2Group, buf),
            None => {}
        }
        match (ip.l4, to) {
            (_, To::Group | To::Stranger) => self.drop_packet(DropReason::NotLocal, buf),
            (L4::Icmp { kind: kind::ECHO_REQUEST, .. }, _) => {
                self.punt(env, ingress, PuntReason::Echo, buf);
            }
            (L4::Icmp { .. }, To::Director) => {
                self.punt(env, ingress, PuntReason::IcmpToDirector, buf);
            }
            (L4::Icmp { kind, .. }, To::Vip) if icmpv6::is_error(kind) => {
                self.icmp_error(env, ingress, buf, ip, self.me);
            }
            (L4::Icmp { .. }, To::Vip) => self.drop_packet(DropReason::IcmpType, buf),
            (L4::LaterFragment, To::Vip)
                if ip.may_be(Protocol::Tcp) || ip.may_be(Protocol::Udp) =>
            {
                self.later_fragment(env, ingress, buf, ip);
            }
            (L4::Tcp { .. } | L4::Udp { .. }, _) => self.drop_packet(DropReason::NoService, buf),
            (L4::LaterFragment | L4::Other, _) => {
                self.drop_packet(DropReason::ProtocolUnsupported, buf);
            }
        }
    }

    /// What becomes of neighbor discovery and multicast listener discovery; `None` for all else.
    fn neighborly(
        &self,
        ip: &Ipv6Packet,
        kind: u8,
        to: &To,
    ) -> Option<Result<PuntReason, DropReason>> {
        Some(match (kind, to) {
            (kind::ROUTER_SOLICITATION..=kind::REDIRECT, To::Stranger) => Err(DropReason::NotLocal),
            (kind::ROUTER_SOLICITATION..=kind::REDIRECT, _) => {
                // RFC 4861 7.1: one with a lower hop limit has crossed a router. RFC 6980 5: one in
                // fragments is ignored.
                let valid = ip.hop_limit == ndp::HOP_LIMIT && ip.fragment.is_none();
                match kind {
                    _ if !valid => Err(DropReason::NdpInvalid),
                    kind::NEIGHBOR_SOLICITATION | kind::NEIGHBOR_ADVERTISEMENT => {
                        Ok(PuntReason::Ndp)
                    }
                    // Nobody reads them; they must not take the queue from the others.
                    _ => Err(DropReason::NdpRouter),
                }
            }
            (kind::LISTENER_QUERY, To::Group | To::Director) => Ok(PuntReason::Mld),
            _ => return None,
        })
    }
}
