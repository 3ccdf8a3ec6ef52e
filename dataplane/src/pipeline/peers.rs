//! What workers tell one another.
//!
//! Flows belong to the worker the NIC gives their packets to. ICMP errors and fragments may come
//! to another; they are handed on, worker by worker, until one has the flow or all were asked.
//! Such packets are rare, so asking round costs less than a shared table would.

use super::fragments::FragmentKey;
use super::{Env, FlowOf, Output, Pipeline};
use crate::flow::{Event as FlowEvent, Flags};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::parse::{L4, Parsed, parse};
use crate::stats::{DropReason, Event};
use crate::types::{FlowKey, PortId, RealId, WorkerId};

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
        key: FlowKey,
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
            PeerMessage::FragmentOwner { fragment, real } => {
                self.learn_fragment(env, fragment, real);
            }
            PeerMessage::Replica { key, event, real } => self.replicate(env, key, event, real),
        }
    }

    fn sought<P: BufPool<B>, O: Output<B>>(&mut self, env: &mut Env<'_, P, O>, packet: Handoff<B>) {
        let parsed = parse(packet.buf.data(), packet.buf.len(), packet.buf.rx_ip_checksum());
        let Ok(Parsed::Ipv4(ip)) = parsed else {
            return self.drop_packet(DropReason::TooShort, packet.buf);
        };
        if let L4::Icmp { .. } = ip.l4 {
            return self.icmp_error(env, packet.ingress, packet.buf, &ip, packet.origin);
        }
        // The configuration may have changed on the way.
        let Some(flow) = self.flow_of(env.snapshot, &ip) else {
            return self.drop_packet(DropReason::NoService, packet.buf);
        };
        if packet.origin == self.me {
            return self.schedule_fragment(env, packet.ingress, packet.buf, &ip, &flow);
        }
        if let Err(packet) = self.adopt_fragment(env, packet, &ip, &flow) {
            self.hand_over(env, packet);
        }
    }

    fn replicate<P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        key: FlowKey,
        event: FlowEvent,
        real: RealId,
    ) {
        let service = env.snapshot.find_service(key.vip, key.vip_port, key.protocol);
        let Some(service) = service else { return };
        if !Self::is_homed(env.snapshot, real, service) {
            return;
        }
        let flow = FlowOf { key, hash: self.shard.hash(&key), service, event };
        if self.shard.find(&key, flow.hash, env.now).is_none() {
            self.remember(env, &flow, real, Flags::REPLICA);
        }
    }
}
