//! Steps four and five: rewrite a packet for its real server, and send it.

use arrayvec::ArrayVec;

use super::family::Packet;
use super::verdict::Verdict;
use super::{BURST, Env, Output, Pipeline};
use crate::forward::{self, DualTunnel, Fit, ForwardError, FragmentError, Inner};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::ethernet;
use crate::packet::parse::Ipv4Packet;
use crate::packet::parse6::Ipv6Packet;
use crate::snapshot::neighbors::NextHop;
use crate::snapshot::{Named, Real, Tunnel};
use crate::stats::{DropReason, Event};
use crate::types::{Mac, PortId, PuntReason, RealId};

impl From<ForwardError> for DropReason {
    fn from(error: ForwardError) -> DropReason {
        match error {
            ForwardError::NoHeadroom => DropReason::NoHeadroom,
            ForwardError::TooLong => DropReason::TooLong,
            ForwardError::NoIpHeader => DropReason::TooShort,
        }
    }
}

/// How a packet leaves for its real server.
enum Leaves<'a> {
    /// As it is.
    Whole,
    /// Cut into fragments first.
    InPieces(Cut<'a>),
    /// By the slow path, once the next hop's Ethernet address is known.
    Resolved,
}

/// What of a packet is cut into fragments.
enum Cut<'a> {
    /// The packet with its outer header, to the egress port's MTU.
    Outer,
    /// The client's packet, to `mtu` bytes, before each piece goes into the tunnel.
    Inner { mtu: u16, tunnel: &'a DualTunnel, inner: Inner, dst: Mac },
}

/// Who has sent a packet to a real server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// A client: it is told when its packet cannot be sent on.
    Client,
    /// The director itself.
    Director,
}

impl<B: PacketBuf> Pipeline<B> {
    /// Sends a packet of the director's own to a real server exactly as a client's packet to it
    /// would be: rewritten by its forwarding method, with the same outer source, flow label and
    /// next hop, through the same port. So it proves the way that clients' packets take. Call
    /// [`Pipeline::finish`] after the last of a round.
    ///
    /// `frame` has an Ethernet header (its addresses do not matter, its type is IPv4's or IPv6's)
    /// and in it a whole IP packet, from an address of the director's to the VIP of the real
    /// server's virtual service. Its TTL or hop limit is 2 or more, and leaves one less, as a
    /// client's does. It may be of either family, whatever the real server's is. No flow is looked
    /// up, made or touched, and the real server's packets and bytes do not count it.
    ///
    /// It counts as `injected`, and has one verdict then: `forwarded` when it is sent; `punted` when
    /// its next hop is not known yet, for which it waits in the slow path as a client's packet does;
    /// else dropped, as `real_server_gone` when `real` is not configured any more, or stands for
    /// another since it was named (one that is out of use for what was learned of it is sent to),
    /// `neighbor_failed` when the next hop does not answer, `too_long` when it is too long for the
    /// way and may not be fragmented, `error_suppressed` when its TTL is below 2, `tx_full` when
    /// the transmit queue is full, or for what is wrong with it.
    ///
    /// Other threads give it to a worker by [`SlowEnd::inject`](crate::worker::SlowEnd::inject).
    pub fn inject<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        real: Named,
        frame: B,
    ) {
        self.stats.event(Event::Injected).add(1);
        let Some(found) = env.snapshot.configured_named(real) else {
            return self.drop_packet(DropReason::RealServerGone, frame);
        };
        let (port, target) = (found.port, (real.real, found));
        if let Some(ip) = Ipv4Packet::of(&frame) {
            self.forward_of(env, port, frame, &ip, target, Whose::Director);
        } else if let Some(ip) = Ipv6Packet::of(&frame) {
            self.forward_of(env, port, frame, &ip, target, Whose::Director);
        } else {
            self.drop_packet(DropReason::TooShort, frame);
        }
    }

    /// Carries out what was decided of a packet.
    pub(super) fn dispose<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        ip: &I,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Forward(real) => self.forward(env, ingress, buf, ip, real),
            otherwise => self.dispose_unsent(env, ingress, buf, otherwise),
        }
    }

    /// Forwards a packet as received to a real server of the snapshot.
    #[inline]
    pub(super) fn forward<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        ip: &I,
        target: RealId,
    ) {
        match env.snapshot.real(target) {
            Some(real) => self.forward_of(env, ingress, buf, ip, (target, real), Whose::Client),
            None => self.drop_packet(DropReason::RealServerGone, buf),
        }
    }

    #[inline]
    fn forward_of<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mut buf: B,
        ip: &I,
        (target, real): (RealId, &Real),
        whose: Whose,
    ) {
        let leaves = match self.rewrite(env, &mut buf, ip, real, whose) {
            Ok(leaves) => leaves,
            Err(verdict) => return self.dispose_unsent(env, ingress, buf, verdict),
        };
        if let Leaves::InPieces(cut) = leaves {
            let sent = match cut {
                Cut::Outer => self.fragment(env, real, buf, real.mtu, |_| Ok(())),
                Cut::Inner { mtu, tunnel, inner, dst } => {
                    self.fragment(env, real, buf, mtu, |piece| {
                        let len = piece.len().saturating_sub(ethernet::HEADER_LEN) as u32;
                        tunnel.forward(piece, real.src_mac, dst, &inner.piece(len), 0)
                    })
                }
            };
            if sent {
                self.count_forwarded(target, whose, ip.total_len());
            }
            return;
        }
        self.count_forwarded(target, whose, ip.total_len());
        if matches!(leaves, Leaves::Whole) {
            return self.stage(env, real.port, buf);
        }
        let reason = PuntReason::Resolve { neighbor: real.neighbor, port: real.port };
        self.punt(env, ingress, reason, buf);
    }

    /// Rewrites a packet for a real server, and tells how it leaves, or what becomes of it instead;
    /// then it is as it was.
    #[inline]
    fn rewrite<'a, I: Packet, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        buf: &mut B,
        ip: &I,
        real: &'a Real,
        whose: Whose,
    ) -> Result<Leaves<'a>, Verdict> {
        // RFC 1812 5.3.1, RFC 8200 3: a packet whose TTL would reach 0 is not forwarded.
        if ip.ttl() <= 1 {
            return Err(match whose {
                Whose::Client => PuntReason::TtlExceeded.into(),
                Whose::Director => DropReason::ErrorSuppressed.into(),
            });
        }
        let dual = match &real.tunnel {
            Some(Tunnel::Dual(tunnel)) => Some((tunnel, ip.inner(&env.snapshot.labels))),
            None | Some(Tunnel::Narrow(_)) => None,
        };
        let fit = dual.map_or_else(|| ip.fit(real), |(tunnel, inner)| tunnel.fit(&inner, real.mtu));
        match fit {
            Fit::Whole | Fit::FragmentOuter | Fit::FragmentInner { .. } => {}
            Fit::TooBig { mtu } if whose == Whose::Client => {
                return Err(PuntReason::FragmentationNeeded { mtu }.into());
            }
            // Of a client's packets: configuration refuses a port whose MTU leads here.
            Fit::TooBig { .. } | Fit::Never => return Err(DropReason::TooLong.into()),
        }
        let hop = env.hops.get(real.neighbor);
        let dst = match hop {
            NextHop::Known(mac) => mac,
            NextHop::Failed => return Err(DropReason::NeighborFailed.into()),
            NextHop::Unknown if fit == Fit::Whole => Mac::ZERO,
            // Rare twice over; the slow path resolves every configured neighbor unasked.
            NextHop::Unknown => return Err(DropReason::NeighborUnresolved.into()),
        };
        if let (Fit::FragmentInner { mtu }, Some((tunnel, inner))) = (fit, dual) {
            return Ok(Leaves::InPieces(Cut::Inner { mtu, tunnel, inner, dst }));
        }
        let rewritten = match dual {
            None => ip.rewrite(buf, real, dst, &mut self.ip_id),
            Some((tunnel, inner)) => {
                self.ip_id = self.ip_id.wrapping_add(1);
                tunnel.forward(buf, real.src_mac, dst, &inner, self.ip_id)
            }
        };
        rewritten.map_err(DropReason::from)?;
        Ok(match (hop, fit) {
            (NextHop::Known(_), Fit::FragmentOuter) => Leaves::InPieces(Cut::Outer),
            (NextHop::Known(_), _) => Leaves::Whole,
            _ => Leaves::Resolved,
        })
    }

    /// What real servers count is their clients' packets.
    fn count_forwarded(&self, target: RealId, whose: Whose, bytes: u32) {
        if whose == Whose::Director {
            return;
        }
        if let Some(stats) = self.stats.real(target) {
            stats.packets.add(1);
            stats.bytes.add(bytes.into());
        }
    }

    /// Puts a frame with its packet's verdict into the port's next burst.
    #[inline]
    pub(super) fn stage<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>, port: PortId, buf: B) {
        let Some(staged) = self.staged.get_mut(port.index()) else {
            return self.drop_packet(DropReason::PortDown, buf);
        };
        staged.push(buf);
        if staged.is_full() {
            self.flush_port(env, port);
        }
    }

    /// Sends every staged frame.
    #[inline]
    pub(super) fn flush<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>) {
        for port in 0..self.staged.len() {
            if !self.staged[port].is_empty() {
                self.flush_port(env, PortId(port as u16));
            }
        }
    }

    fn flush_port<P, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>, port: PortId) {
        let Some(staged) = self.staged.get_mut(port.index()) else { return };
        let bytes = staged.iter().map(PacketBuf::len).sum();
        let (sent, lost) = transmit(env.out, &self.stats, port, staged, bytes);
        self.stats.event(Event::Forwarded).add(sent);
        self.stats.dropped(DropReason::TxFull).add(lost);
    }

    /// Cuts the IPv4 packet in a frame into pieces of at most `mtu` bytes, and sends each after
    /// `finish`. True when there are pieces: then the packet counts as forwarded, and pieces the
    /// port does not take are counted apart. False when it was dropped.
    #[inline(never)]
    fn fragment<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        real: &Real,
        buf: B,
        mtu: u16,
        mut finish: impl FnMut(&mut B) -> Result<(), ForwardError>,
    ) -> bool {
        if real.port.index() >= self.staged.len() {
            self.drop_packet(DropReason::PortDown, buf);
            return false;
        }
        self.flush_port(env, real.port);
        let mut pieces: ArrayVec<B, BURST> = ArrayVec::new();
        let (stats, pool, out) = (&self.stats, env.pool, &mut *env.out);
        let (mut sent, mut lost, mut unfinished) = (0, 0, None);
        let mut send = |pieces: &mut ArrayVec<B, BURST>| {
            let bytes = pieces.iter().map(PacketBuf::len).sum();
            let (s, l) = transmit(out, stats, real.port, pieces, bytes);
            sent += s;
            lost += l;
        };
        let cut = forward::fragment::fragment(&buf, pool, mtu, |mut piece| {
            // All are alike: either none can be finished, or all can.
            if let Err(error) = finish(&mut piece) {
                unfinished = Some(error);
                return;
            }
            if pieces.is_full() {
                send(&mut pieces);
            }
            pieces.push(piece);
        });
        send(&mut pieces);
        let refused = match (cut, unfinished) {
            (Ok(_), None) => {
                stats.event(Event::Forwarded).add(1);
                stats.event(Event::FragmentsSent).add(sent);
                stats.event(Event::ExtraTxFull).add(lost);
                return true;
            }
            (Ok(_), Some(error)) => error.into(),
            (Err(FragmentError::NoBuffer | FragmentError::BufferTooSmall), _) => {
                DropReason::NoBuffer
            }
            (Err(FragmentError::BadPacket), _) => DropReason::TooShort,
            (Err(FragmentError::TooManyFragments | FragmentError::DontFragment), _) => {
                DropReason::TooManyFragments
            }
        };
        self.drop_packet(refused, buf);
        false
    }

    /// Sends a frame the slow path made.
    pub fn send_for_slow_path<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        port: PortId,
        frame: B,
    ) {
        let mut one: ArrayVec<B, BURST> = ArrayVec::new();
        let bytes = frame.len();
        one.push(frame);
        let (sent, lost) = transmit(env.out, &self.stats, port, &mut one, bytes);
        self.stats.event(Event::SlowPathSent).add(sent);
        self.stats.event(Event::ExtraTxFull).add(lost);
    }
}

/// Sends what the port takes of `frames`, of `bytes` bytes, and drops the rest: how many of each.
#[inline]
pub(super) fn transmit<B: PacketBuf, O: Output<B>>(
    out: &mut O,
    stats: &crate::stats::Stats,
    port: PortId,
    frames: &mut ArrayVec<B, BURST>,
    bytes: usize,
) -> (u64, u64) {
    let count = frames.len() as u64;
    out.transmit(port, frames);
    let lost = frames.len() as u64;
    let lost_bytes: usize = frames.iter().map(PacketBuf::len).sum();
    if lost > 0 {
        out.discard(frames);
    }
    if let Some(stats) = stats.port(port) {
        stats.tx_packets.add(count - lost);
        stats.tx_bytes.add((bytes - lost_bytes) as u64);
        stats.tx_full.add(lost);
    }
    (count - lost, lost)
}
