//! What workers tell one another.
//!
//! Flows belong to the worker the NIC gives their packets to. ICMP errors and fragments may come
//! to another; they are handed on, worker by worker, until one has the flow or all were asked.
//! Such packets are rare, so asking round costs less than a shared table would.

use super::family::{FlowTable, Key, Packet};
use super::fragments::FragmentKey;
use super::{Env, FlowOf, Output, Pipeline};
use crate::flow::{Event as FlowEvent, Flags};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::parse::{Ipv4Packet, L4};
use crate::packet::parse6::Ipv6Packet;
use crate::stats::{DropReason, Event};
use crate::types::{AnyFlowKey, PortId, RealId, WorkerId};

/// A packet that looks for its flow.
#[derive(Debug)]
pub struct Handoff<B> {
    /// Port it was received on.
    pub(super) ingress: PortId,
    /// Worker that received it.
    pub(super) origin: WorkerId,
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
        real: RealId,
    },
    /// A flow that began with a fragment: remember it too.
    Replica {
        /// The flow.
        key: AnyFlowKey,
        /// What its first packet was.
        event: FlowEvent,
        /// Its real server.
        real: RealId,
    },
}

impl<B: PacketBuf> Pipeline<B> {
    pub(super) fn hand_over<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        packet: Handoff<B>,
    ) {
        let next = WorkerId((self.me.0 + 1) % self.workers);
        match env.out.tell(next, PeerMessage::Seek(packet)) {
            Ok(()) => self.stats.event(Event::HandedOver).add(1),
            Err(PeerMessage::Seek(packet)) => {
                self.drop_packet(DropReason::HandoffFull, packet.buf);
            }
            Err(_) => {}
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
        if let Err(packet) = self.adopt_fragment(env, packet, ip, &flow) {
            self.hand_over(env, packet);
        }
    }

    fn replicate<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        key: K,
        event: FlowEvent,
        real: RealId,
    ) {
        let Some(service) = key.find_service(env.snapshot) else { return };
        if !Self::is_homed(env.snapshot, real, service) {
            return;
        }
        let flow = FlowOf { key, hash: K::shard(self).hash(&key), service, event };
        if K::shard(self).find(&key, flow.hash, env.now).is_none() {
            self.remember(env, &flow, real, Flags::REPLICA);
        }
    }
}
