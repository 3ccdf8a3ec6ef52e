//! Step one: what a frame is, and whether it is for a virtual service.

use super::family::{FlowTable, Key, Packet};
use super::fast::Info;
use super::icmp::is_handed_on;
use super::verdict::Verdict;
use super::{Env, FlowOf, Output, Pipeline};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::icmpv4;
use crate::packet::ipv4::protocol;
use crate::packet::parse::{Ipv4Packet, L4, ParseError, Parsed, parse};
use crate::packet::tag::{self, TagError};
use crate::snapshot::{Local, Snapshot};
use crate::stats::DropReason;
use crate::types::{Mac, PortId, Protocol, PuntReason};

impl From<ParseError> for DropReason {
    fn from(error: ParseError) -> DropReason {
        match error {
            ParseError::TooShort => DropReason::TooShort,
            ParseError::BadIpv4Header => DropReason::BadIpv4Header,
            ParseError::BadIpv4Checksum => DropReason::BadIpv4Checksum,
            ParseError::BadL4Header => DropReason::BadL4Header,
            ParseError::BadSource => DropReason::BadSource,
            ParseError::EtherTypeUnknown => DropReason::EtherType,
            ParseError::Vlan => DropReason::Vlan,
        }
    }
}

/// Whether a frame is for this port: to its address, or to a group.
#[inline(always)]
pub(super) fn is_for(frame: &[u8], mac: Mac) -> bool {
    frame.first_chunk::<6>().is_some_and(|dst| *dst == mac.0 || Mac(*dst).is_group())
}

/// Whether a packet to the director itself is one that somebody waits for.
pub(super) fn is_awaited(snapshot: &Snapshot, l4: L4) -> bool {
    match l4 {
        L4::Tcp { dport, .. } => snapshot.awaited.is_awaited(Protocol::Tcp, dport),
        L4::Udp { dport, .. } => snapshot.awaited.is_awaited(Protocol::Udp, dport),
        L4::Icmp { .. } | L4::LaterFragment | L4::Other => false,
    }
}

/// A frame that is not dealt with yet.
pub(super) enum Classified<B> {
    /// A whole packet to a virtual service.
    Plain(B, Info),
    /// Any other IPv4 packet, for [`Pipeline::exception`].
    Exception(B, Ipv4Packet, Option<FlowOf>),
}

/// Whether a packet that is an exception may go to a real server: then those before it in its burst
/// go first, for one of them may be of the same flow, or make it.
#[inline(always)]
pub(super) fn may_go_on(ip: &Ipv4Packet) -> bool {
    ip.fragment.is_fragment() || matches!(ip.l4, L4::Icmp { kind, .. } if is_handed_on(kind))
}

impl<B: PacketBuf> Pipeline<B> {
    /// Any frame: an IPv4 packet comes back, all others are dealt with.
    pub(super) fn classify<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        buf: B,
    ) -> Option<Classified<B>> {
        let frame = buf.data();
        // A segment without a switch, or a packet socket, shows other stations' frames too.
        if !is_for(frame, mac) {
            let reason = if frame.len() < 6 { DropReason::TooShort } else { DropReason::NotOurMac };
            self.drop_packet(reason, buf);
            return None;
        }
        let ip = match parse(frame, buf.len(), buf.rx_ip_checksum()) {
            Ok(Parsed::Ipv4(ip)) => ip,
            Ok(Parsed::Arp) => {
                self.punt(env, ingress, PuntReason::Arp, buf);
                return None;
            }
            Ok(Parsed::Ipv6) => {
                self.classify6(env, ingress, mac, buf);
                return None;
            }
            Err(ParseError::Vlan) => return self.classify_tagged(env, ingress, mac, buf),
            Err(error) => {
                self.drop_packet(error.into(), buf);
                return None;
            }
        };
        match self.flow_of(env.snapshot, &ip) {
            Some(flow) if !ip.l2_group && !ip.fragment.is_fragment() => {
                self.shard.prefetch_bucket(flow.hash);
                Some(Classified::Plain(buf, Info::of(&ip, &flow)))
            }
            flow => Some(Classified::Exception(buf, ip, flow)),
        }
    }

    /// A frame with a VLAN tag. One that names no VLAN is taken off, and the packet goes on as any
    /// other: it leaves without.
    #[inline(never)]
    fn classify_tagged<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mac: Mac,
        mut buf: B,
    ) -> Option<Classified<B>> {
        let reason = match tag::take_off(&mut buf) {
            Ok(()) => return self.classify(env, ingress, mac, buf),
            Err(TagError::TooShort) => DropReason::TooShort,
            Err(TagError::Vlan) => DropReason::Vlan,
        };
        self.drop_packet(reason, buf);
        None
    }

    /// The flow of a TCP or UDP packet to a virtual service; later fragments have none.
    #[inline(always)]
    pub(super) fn flow_of<I: Packet>(&self, snapshot: &Snapshot, ip: &I) -> Option<FlowOf<I::Key>> {
        let (key, event) = ip.flow()?;
        let service = key.find_service(snapshot)?;
        Some(FlowOf { key, hash: I::Key::shard(self).hash(&key), service, event })
    }

    /// Everything but whole packets to virtual services.
    #[inline(never)]
    pub(super) fn exception<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        ip: &Ipv4Packet,
        flow: Option<FlowOf>,
    ) {
        // RFC 1812 5.3.4: a packet in a link-layer broadcast or multicast is not forwarded, nor
        // answered.
        let verdict = match flow {
            _ if ip.l2_group => DropReason::L2Group.into(),
            Some(flow) => return self.first_fragment(env, ingress, buf, ip, &flow),
            None => match fate_without_flow(env.snapshot, ip) {
                Fate::Is(verdict) => verdict,
                Fate::IcmpError => return self.icmp_error(env, ingress, buf, ip, self.me),
                Fate::LaterFragment => return self.later_fragment(env, ingress, buf, ip),
            },
        };
        self.dispose(env, ingress, buf, ip, verdict);
    }
}

/// What is to become of a packet that is no TCP or UDP packet to a virtual service.
pub(super) enum Fate {
    /// This.
    Is(Verdict),
    /// It is an ICMP error to a VIP, and goes to the real server of the flow it is about.
    IcmpError,
    /// It is a later fragment of a packet to a VIP, and goes where the first one went.
    LaterFragment,
}

impl<T: Into<Verdict>> From<T> for Fate {
    fn from(verdict: T) -> Fate {
        Fate::Is(verdict.into())
    }
}

/// Of an IPv4 packet that has no flow, for what it is.
#[inline]
fn fate_without_flow(snapshot: &Snapshot, ip: &Ipv4Packet) -> Fate {
    let Some(local) = snapshot.local(ip.dst) else { return DropReason::NotLocal.into() };
    match (ip.l4, local) {
        (L4::Icmp { kind: icmpv4::kind::ECHO_REQUEST, .. }, _) => PuntReason::Echo.into(),
        (L4::Icmp { .. }, Local::Dip(_)) => PuntReason::IcmpToDirector.into(),
        (L4::Icmp { kind, .. }, Local::Vip) if is_handed_on(kind) => Fate::IcmpError,
        (L4::Icmp { kind: icmpv4::kind::REDIRECT, .. }, Local::Vip) => {
            DropReason::IcmpRedirect.into()
        }
        (L4::Icmp { .. }, Local::Vip) => DropReason::IcmpType.into(),
        (L4::LaterFragment, Local::Vip) if Protocol::from_number(ip.protocol).is_some() => {
            Fate::LaterFragment
        }
        (L4::LaterFragment, local)
            if ip.protocol == protocol::ICMP || matches!(local, Local::Dip(_)) =>
        {
            DropReason::FragmentToDirector.into()
        }
        (l4, Local::Dip(_)) if !ip.fragment.is_fragment() && is_awaited(snapshot, l4) => {
            PuntReason::Awaited.into()
        }
        (_, Local::Dip(_)) => DropReason::ToDirector.into(),
        (L4::Tcp { .. } | L4::Udp { .. }, Local::Vip) => DropReason::NoService.into(),
        (L4::LaterFragment | L4::Other, Local::Vip) => DropReason::ProtocolUnsupported.into(),
    }
}
