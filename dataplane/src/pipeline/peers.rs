//! What workers tell one another.
//!
//! Flows belong to the worker the NIC gives their packets to. ICMP errors and fragments may come
//! to another; they are handed on, worker by worker, until one has the flow or all were asked.
//! Such packets are rare, so asking round costs less than a shared table would. Anybody can make
//! many of them, so a worker hands over so many at most, of each kind and of each source network.

use super::family::Packet;
use super::fragments::FragmentKey;
use super::quota::{Measure, Quota, SourceNetwork};
use super::{Env, Output, Pipeline};
use crate::flow::Event as FlowEvent;
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::parse::{Ipv4Packet, L4};
use crate::packet::parse6::Ipv6Packet;
use crate::snapshot::Named;
use crate::stats::{DropReason, Event};
use crate::types::{AnyFlowKey, PortId, Tick, WorkerId};

/// A packet that looks for its flow.
#[derive(Debug)]
pub struct Handoff<B> {
    /// Port it was received on.
    pub(super) ingress: PortId,
    /// Worker that received it.
    pub(super) origin: WorkerId,
    /// What it is.
    pub(super) what: Seeking,
    /// The packet, as received.
    pub(super) buf: B,
}

/// From one worker to another.
#[derive(Debug)]
pub enum PeerMessage<B> {
    /// Do you have this packet's flow?
    Seek(Handoff<B>),
    /// The first fragment you were asking about went to this real server.
    FragmentOwner {
        /// The packet it is a fragment of.
        fragment: FragmentKey,
        /// Where it went.
        real: Named,
    },
    /// A flow that began with a fragment: remember it too.
    Replica {
        /// The flow.
        key: AnyFlowKey,
        /// What its first packet was.
        event: FlowEvent,
        /// Its real server.
        real: Named,
    },
}

impl<B> PeerMessage<B> {
    /// How many places of a ring with so many are not for this message: they are for kinds that
    /// wait for an answer, or that nothing else can help. A worker that loses its processor for a
    /// while finds its rings full of what comes most often; fragments, and answers about them, have
    /// room even then.
    #[must_use]
    pub const fn leaves(&self, places: usize) -> usize {
        match self {
            PeerMessage::FragmentOwner { .. } => 0,
            PeerMessage::Seek(Handoff { what: Seeking::Fragment, .. }) => places / 8,
            PeerMessage::Replica { .. }
            | PeerMessage::Seek(Handoff { what: Seeking::Packet, .. }) => places / 4,
            PeerMessage::Seek(Handoff { what: Seeking::Error, .. }) => places / 2,
        }
    }
}

/// What looks for its flow at other workers. What one kind takes is not another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seeking {
    /// The first fragment of a packet.
    Fragment,
    /// A whole packet whose NIC may not have found its L4 ports.
    Packet,
    /// An ICMP error.
    Error,
}

/// Packets of a kind that a worker is asked about at most, each millisecond: a few hundred
/// nanoseconds each, so less than a tenth of its time.
const ASKED: u32 = 256;
/// How many it is asked about at once at most: its queue's length.
const AT_ONCE: u32 = 512;
/// Replicas that a worker is told of at most, each millisecond.
const TOLD: u32 = 32;

/// What a worker may hand over: its part of what the others are asked about.
#[derive(Debug)]
pub(super) struct Quotas([Quota; 3]);

impl Quotas {
    pub(super) fn new(workers: u16) -> Quotas {
        let part = |all: u32| (all / u32::from(workers).max(1)).max(8);
        let measure = Measure { depth: part(2 * AT_ONCE), rate: part(ASKED) };
        Quotas([(); 3].map(|()| Quota::new(measure)))
    }

    fn take(&mut self, what: Seeking, network: SourceNetwork, alone: bool, now: Tick) -> bool {
        self.0.get_mut(what as usize).is_some_and(|quota| quota.take(network, alone, now))
    }
}

/// What a worker may have copied to the others.
pub(super) fn copies(workers: u16) -> Quota {
    let part = (TOLD / u32::from(workers).max(1)).max(2);
    Quota::new(Measure { depth: 16 * part, rate: part })
}

impl<B: PacketBuf> Pipeline<B> {
    /// Looks for the flow of a packet at other workers, the first of which is asked: back when there
    /// is none, or when no more may be asked about. One that can be decided `alone` takes no place
    /// that another needs.
    pub(super) fn seek<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        packet: Handoff<B>,
        network: SourceNetwork,
        alone: bool,
    ) -> Result<(), Handoff<B>> {
        if self.workers == 1 || !self.quotas.take(packet.what, network, alone, env.now) {
            return Err(packet);
        }
        self.hand_over(env, packet)
    }

    /// Gives a packet to the next worker; back when its queue is full.
    pub(super) fn hand_over<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        packet: Handoff<B>,
    ) -> Result<(), Handoff<B>> {
        let next = WorkerId((self.me.0 + 1) % self.workers);
        match env.out.tell(next, PeerMessage::Seek(packet)) {
            Err(PeerMessage::Seek(packet)) => Err(packet),
            Ok(()) | Err(_) => {
                self.stats.event(Event::HandedOver).add(1);
                Ok(())
            }
        }
    }

    /// A message from another worker. Call [`Pipeline::finish`] after the last of a round.
    pub fn peer<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        message: PeerMessage<B>,
    ) {
        match message {
            PeerMessage::Seek(packet) => {
                self.stats.event(Event::TakenOver).add(1);
                self.sought(env, packet);
            }
            PeerMessage::FragmentOwner { fragment, real } => match fragment {
                FragmentKey::V4(key) => {
                    self.learn_fragment::<Ipv4Packet, P, O>(env, key, real);
                }
                FragmentKey::V6(key) => {
                    self.learn_fragment::<Ipv6Packet, P, O>(env, key, real);
                }
            },
            PeerMessage::Replica { key, event, real } => match key {
                AnyFlowKey::V4(key) => self.replicate(env, key, event, real),
                AnyFlowKey::V6(key) => self.replicate(env, key, event, real),
            },
        }
    }

    fn sought<P: BufPool<B>, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>, packet: Handoff<B>) {
        if let Some(ip) = Ipv4Packet::of(&packet.buf) {
            self.sought_packet(env, packet, &ip);
        } else if let Some(ip) = Ipv6Packet::of(&packet.buf) {
            self.sought_packet(env, packet, &ip);
        } else {
            self.drop_packet(DropReason::TooShort, packet.buf);
        }
    }

    fn sought_packet<I: Packet, P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        packet: Handoff<B>,
        ip: &I,
    ) {
        if let L4::Icmp { .. } = ip.l4() {
            return self.icmp_error(env, packet.ingress, packet.buf, ip, packet.origin);
        }
        // The configuration may have changed on the way.
        let Some(flow) = self.flow_of(env.snapshot, ip) else {
            return self.drop_packet(DropReason::NoService, packet.buf);
        };
        if packet.origin == self.me {
            return self.schedule_fragment(env, packet.ingress, packet.buf, ip, &flow);
        }
        let left = self.adopt_fragment(env, packet, ip, &flow);
        if let Err(packet) = left.or_else(|packet| self.hand_over(env, packet)) {
            self.drop_packet(DropReason::HandoffFull, packet.buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_ring_each_kind_leaves_room_to_those_that_matter_more() {
        let seek = |what| {
            let (ingress, origin) = (PortId(0), WorkerId(0));
            PeerMessage::Seek(Handoff { ingress, origin, what, buf: () }).leaves(512)
        };
        let [fragment, packet, error] =
            [Seeking::Fragment, Seeking::Packet, Seeking::Error].map(seek);
        assert!(0 < fragment && fragment < packet && packet < error && error < 512);
    }
}
