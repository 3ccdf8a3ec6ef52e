//! The same first step for IPv6: what a frame is, and what becomes of it.
//!
//! Packets of flows go through fewer stages than IPv4's, but go through them together: read all
//! and ask for flow buckets, then look up and forward one by one.

use super::classify::{Fate, is_awaited};
use super::family::Packet;
use super::verdict::Verdict;
use super::{Env, FlowOf, Output, Pipeline};
use crate::flow::Passed;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::fast6::Head6;
use crate::packet::icmpv6::{self, kind};
use crate::packet::parse::L4;
use crate::packet::parse6::{Ipv6Packet, ParseError, parse};
use crate::packet::{ipv6, ndp};
use crate::snapshot::{Local, Snapshot};
use crate::stats::DropReason;
use crate::types::{FlowKey6, Mac, PortId, Protocol, PuntReason, RealId};

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

/// A packet that may be of a flow, until the rest of its burst is read.
pub(super) struct Aside<B> {
    buf: B,
    head: Head6,
    hash: u64,
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
    /// The first look at a frame that is no plain IPv4 packet: a plain one of IPv6 that may be of a
    /// flow is put aside, for [`Pipeline::pass6`], one to a stranger is dropped. Anything else
    /// comes back.
    #[inline(always)]
    pub(super) fn look6<P, O: Output<B>>(
        &mut self,
        env: &Env<'_, P, O>,
        mac: Mac,
        buf: B,
    ) -> Option<B> {
        let Some(head) = Head6::read(buf.data(), buf.len(), mac) else { return Some(buf) };
        if env.snapshot.may_be_local6(head.destination()) {
            self.put_aside(buf, head, self.shard6.hash_words(&head.words()));
        } else {
            self.drop_packet(DropReason::NotLocal, buf);
        }
        None
    }

    #[inline(always)]
    fn put_aside(&mut self, buf: B, head: Head6, hash: u64) {
        self.shard6.prefetch_bucket(hash);
        // A burst at most, for which there is room.
        self.aside.push(Aside { buf, head, hash });
    }

    /// Any IPv6 frame to this port or a group: a whole packet to a virtual service is put aside, all
    /// others are dealt with.
    #[inline(never)]
    pub(super) fn classify6<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        buf: B,
    ) {
        if let Some((buf, ip, flow)) = self.packet6(env, ingress, mac, buf) {
            self.put_aside(buf, Head6::of(&ip, &flow.key), flow.hash);
        }
    }

    /// The same: a whole packet to a virtual service comes back.
    #[inline(always)]
    fn packet6<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        buf: B,
    ) -> Option<(B, Ipv6Packet, FlowOf<FlowKey6>)> {
        let ip = match parse(buf.data(), buf.len()) {
            Ok(ip) => ip,
            Err(error) => {
                self.drop_packet(error.into(), buf);
                return None;
            }
        };
        match self.flow_of(env.snapshot, &ip) {
            // As for IPv4: a packet in a link-layer group is not forwarded, nor answered.
            Some(_) if ip.l2_group => self.drop_packet(DropReason::L2Group, buf),
            // RFC 4291 2.5.6: its address means nothing beyond this link, where answers come from.
            Some(_) if ipv6::is_link_local(ip.src) => self.drop_packet(DropReason::BadSource, buf),
            Some(flow) if ip.is_fragment() => {
                self.pass6(env, ingress, mac);
                self.first_fragment(env, ingress, buf, &ip, &flow);
            }
            Some(flow) => return Some((buf, ip, flow)),
            None => self.exception6(env, ingress, mac, buf, &ip),
        }
        None
    }

    /// Deals with the packets that were put aside, in the order in which they came. Called at the
    /// end of a burst, and before a packet that may go to a real server by another way.
    #[inline(never)]
    pub(super) fn pass6<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
    ) {
        if self.aside.is_empty() {
            return;
        }
        let mut aside = std::mem::take(&mut self.aside);
        if self.shard6.is_crowded() {
            aside.iter().for_each(|packet| self.shard6.prefetch_next(packet.hash));
        }
        for Aside { mut buf, head, hash } in aside.drain(..) {
            let (ports, signal) = (head.ports as u32, head.signal);
            let passed = self.shard6.pass(hash, &head.addresses, ports, signal, env.now);
            let real = match passed {
                Passed::Real(real) => Some(real),
                Passed::Absent => None,
                Passed::Unknown => {
                    self.shard6.pass_new(hash, &head.addresses, ports, signal, env.now)
                }
            };
            let Some(real) = real else {
                self.pass6_slowly(env, ingress, mac, buf);
                continue;
            };
            match self.rewrite6(env, &mut buf, &head, real) {
                Some(port) => self.stage(env, port, buf),
                None => self.forward6_slowly(env, ingress, mac, Aside { buf, head, hash }, real),
            }
        }
        self.aside = aside;
    }

    /// Rewrites a packet by dr, counts it, and tells where it goes, or leaves it as it is.
    #[inline(always)]
    fn rewrite6<P, O>(
        &self,
        env: &Env<'_, P, O>,
        buf: &mut B,
        head: &Head6,
        real: RealId,
    ) -> Option<PortId> {
        let way = env.snapshot.adjacency(real)?;
        if head.total_len > way.limit.into() {
            return None;
        }
        let hop = env.hops.known(way.neighbor)?;
        if !way.rewrite.write6(buf, hop) {
            return None;
        }
        if let Some(stats) = self.stats.forwarded().get(real.index()) {
            stats.add(1, head.total_len.into());
        }
        Some(way.port)
    }

    /// A packet whose flow is not there, or not to be left as it is.
    #[inline(never)]
    fn pass6_slowly<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        buf: B,
    ) {
        let Some((buf, ip, flow)) = self.packet6(env, ingress, mac, buf) else { return };
        // A NIC that does not look behind extension headers, or takes a packet with a fragment
        // header for a fragment (RFC 6946), chooses the worker by addresses alone.
        if ip.ext_len > 0 && self.workers > 1 {
            return self.first_fragment(env, ingress, buf, &ip, &flow);
        }
        let verdict = self.balance(env, &flow);
        self.dispose(env, ingress, buf, &ip, verdict);
    }

    /// A packet of a flow that the short way did not rewrite: its real server may be gone since.
    #[inline(never)]
    fn forward6_slowly<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        packet: Aside<B>,
        real: RealId,
    ) {
        let Aside { buf, head, hash } = packet;
        if env.snapshot.real(real).is_none() {
            self.let_go(env, &FlowKey6::from_words(&head.words()), hash);
            return self.pass6_slowly(env, ingress, mac, buf);
        }
        match parse(buf.data(), buf.len()) {
            Ok(ip) => self.forward(env, ingress, buf, &ip, real),
            // Never: no flow has a source that the parser refuses.
            Err(error) => self.drop_packet(error.into(), buf),
        }
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
        let verdict = match fate_without_flow(env.snapshot, mac, ip) {
            Fate::Is(verdict) => verdict,
            Fate::IcmpError => {
                self.pass6(env, ingress, mac);
                return self.icmp_error(env, ingress, buf, ip, self.me);
            }
            Fate::LaterFragment => {
                self.pass6(env, ingress, mac);
                return self.later_fragment(env, ingress, buf, ip);
            }
        };
        self.dispose(env, ingress, buf, ip, verdict);
    }
}

/// Of an IPv6 packet that has no flow, for what it is; `mac` is the Ethernet address of the port it
/// came in by.
#[inline]
fn fate_without_flow(snapshot: &Snapshot, mac: Mac, ip: &Ipv6Packet) -> Fate {
    let to = match snapshot.local6(ip.dst) {
        Some(Local::Vip) => To::Vip,
        Some(Local::Dip(_)) => To::Director,
        None if ip.dst.is_multicast() => To::Group,
        None if ip.dst == ipv6::link_local(mac) => To::Director,
        None => To::Stranger,
    };
    // What neighbors tell one another comes to groups; nothing else that does is for us.
    let from_neighbor = match ip.l4 {
        L4::Icmp { kind, .. } => neighborly(ip, kind, &to),
        _ => None,
    };
    if let Some(verdict) = from_neighbor {
        return verdict.into();
    }
    match (ip.l4, to) {
        _ if ip.l2_group => DropReason::L2Group.into(),
        (_, To::Group | To::Stranger) => DropReason::NotLocal.into(),
        (L4::Icmp { kind: kind::ECHO_REQUEST, .. }, _) => PuntReason::Echo.into(),
        (L4::Icmp { .. }, To::Director) => PuntReason::IcmpToDirector.into(),
        (L4::Icmp { kind, .. }, To::Vip) if icmpv6::is_error(kind) => Fate::IcmpError,
        (L4::Icmp { .. }, To::Vip) => DropReason::IcmpType.into(),
        (L4::LaterFragment, To::Vip) if ip.may_be(Protocol::Tcp) || ip.may_be(Protocol::Udp) => {
            Fate::LaterFragment
        }
        (L4::LaterFragment, to)
            if ip.protocol == ipv6::next::ICMPV6 || matches!(to, To::Director) =>
        {
            DropReason::FragmentToDirector.into()
        }
        (l4, To::Director) if !ip.is_fragment() && is_awaited(snapshot, l4) => {
            PuntReason::Awaited.into()
        }
        (_, To::Director) => DropReason::ToDirector.into(),
        (L4::Tcp { .. } | L4::Udp { .. }, To::Vip) => DropReason::NoService.into(),
        (L4::LaterFragment | L4::Other, To::Vip) => DropReason::ProtocolUnsupported.into(),
    }
}

/// What becomes of neighbor discovery and multicast listener discovery; `None` for all else.
fn neighborly(ip: &Ipv6Packet, kind: u8, to: &To) -> Option<Verdict> {
    Some(match (kind, to) {
        (kind::ROUTER_SOLICITATION..=kind::REDIRECT, To::Stranger) => DropReason::NotLocal.into(),
        (kind::ROUTER_SOLICITATION..=kind::REDIRECT, _) => {
            // RFC 4861 7.1: one with a lower hop limit has crossed a router. RFC 6980 5: one in
            // fragments is ignored.
            let valid = ip.hop_limit == ndp::HOP_LIMIT && ip.fragment.is_none();
            match kind {
                _ if !valid => DropReason::NdpInvalid.into(),
                kind::NEIGHBOR_SOLICITATION | kind::NEIGHBOR_ADVERTISEMENT => {
                    PuntReason::Ndp.into()
                }
                // Nobody reads them; they must not take the queue from the others.
                _ => DropReason::NdpRouter.into(),
            }
        }
        (kind::LISTENER_QUERY, To::Group | To::Director) => PuntReason::Mld.into(),
        _ => return None,
    })
}
