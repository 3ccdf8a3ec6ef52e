//! Steps four and five: rewrite a packet for its real server, and send it.

use arrayvec::ArrayVec;

use super::{BURST, Env, Output, Pipeline};
use crate::forward::{self, ForwardError, FragmentError};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::parse::Ipv4Packet;
use crate::snapshot::Real;
use crate::snapshot::neighbors::NextHop;
use crate::stats::{DropReason, Event};
use crate::types::{Mac, PortId, PuntReason, RealId};

impl<B: PacketBuf> Pipeline<B> {
    /// Forwards a packet as received to a real server of the snapshot.
    #[inline]
    pub(super) fn forward<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        mut buf: B,
        ip: &Ipv4Packet,
        target: RealId,
    ) {
        let snapshot = env.snapshot;
        let Some(real) = snapshot.real(target) else {
            return self.drop_packet(DropReason::NoRealServer, buf);
        };
        // RFC 1812 5.3.1: a packet whose TTL would reach 0 is not forwarded.
        if ip.ttl <= 1 {
            return self.punt(env, ingress, PuntReason::TtlExceeded, buf);
        }
        let overhead = real.tunnel.as_ref().map_or(0, forward::TunnelTemplate::overhead);
        let oversize = forward::needs_fragmentation(ip.total_len, overhead, real.mtu);
        if oversize && ip.fragment.df() {
            let mtu = real.mtu.saturating_sub(overhead);
            return self.punt(env, ingress, PuntReason::FragmentationNeeded { mtu }, buf);
        }
        let hop = env.hops.get(real.neighbor);
        if hop == NextHop::Failed {
            return self.drop_packet(DropReason::NeighborFailed, buf);
        }
        let dst = if let NextHop::Known(mac) = hop { mac } else { Mac::ZERO };
        match self.rewrite(&mut buf, ip, real, dst) {
            Ok(()) => {}
            Err(ForwardError::NoHeadroom) => return self.drop_packet(DropReason::NoHeadroom, buf),
            Err(ForwardError::TooLong | ForwardError::NotIpv4) => {
                return self.drop_packet(DropReason::TooLong, buf);
            }
        }
        let bytes = u64::from(ip.total_len);
        if let Some(stats) = self.stats.real(target) {
            stats.packets.add(1);
            stats.bytes.add(bytes);
        }
        match (hop, oversize) {
            (NextHop::Known(_), false) => self.stage(env, real.port, buf),
            (NextHop::Known(_), true) => self.fragment(env, real, buf),
            (_, false) => {
                let reason = PuntReason::Resolve { neighbor: real.neighbor, port: real.port };
                self.punt(env, ingress, reason, buf);
            }
            // Rare twice over; the slow path resolves every configured neighbor unasked.
            (_, true) => self.drop_packet(DropReason::NeighborUnresolved, buf),
        }
    }

    #[inline(always)]
    fn rewrite(
        &mut self,
        buf: &mut B,
        ip: &Ipv4Packet,
        real: &Real,
        dst: Mac,
    ) -> Result<(), ForwardError> {
        match &real.tunnel {
            None => forward::dr::forward(buf, real.src_mac, dst),
            Some(tunnel) => {
                // Only a packet that may be fragmented uses one up.
                self.ip_id = self.ip_id.wrapping_add(u16::from(!ip.fragment.df()));
                tunnel.forward(buf, real.src_mac, dst, ip, self.ip_id)
            }
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

    /// Cuts a rewritten frame that is too long and sends the pieces. The packet counts as
    /// forwarded; pieces the port does not take are counted apart.
    #[inline(never)]
    fn fragment<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        real: &Real,
        buf: B,
    ) {
        if real.port.index() >= self.staged.len() {
            return self.drop_packet(DropReason::PortDown, buf);
        }
        self.flush_port(env, real.port);
        let mut pieces: ArrayVec<B, BURST> = ArrayVec::new();
        let (stats, pool, out) = (&self.stats, env.pool, &mut *env.out);
        let (mut sent, mut lost) = (0, 0);
        let mut send = |pieces: &mut ArrayVec<B, BURST>| {
            let bytes = pieces.iter().map(PacketBuf::len).sum();
            let (s, l) = transmit(out, stats, real.port, pieces, bytes);
            sent += s;
            lost += l;
        };
        let cut = forward::fragment::fragment(&buf, pool, real.mtu, |piece| {
            if pieces.is_full() {
                send(&mut pieces);
            }
            pieces.push(piece);
        });
        send(&mut pieces);
        match cut {
            Ok(_) => {
                stats.event(Event::Forwarded).add(1);
                stats.event(Event::FragmentsSent).add(sent);
                stats.event(Event::ExtraTxFull).add(lost);
            }
            Err(FragmentError::NoBuffer | FragmentError::BufferTooSmall) => {
                self.drop_packet(DropReason::NoBuffer, buf);
            }
            Err(_) => self.drop_packet(DropReason::TooManyFragments, buf),
        }
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
