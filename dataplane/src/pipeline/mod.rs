//! What happens to a burst.
//!
//! [`Pipeline::burst`] is the list of steps: parse all, look up all, rewrite all, send. The
//! exceptions (ICMP errors, fragments, packets too long, other workers' flows) each have a file.
//!
//! # Threading
//! One pipeline per worker, used by that worker only. It writes its own shard, its own counters,
//! and speaks to others only through [`Output`].
//!
//! # Invariants
//! Every packet ends in exactly one verdict; [`crate::stats`] says how they add up. Every buffer
//! is sent, punted, handed over, held or dropped.
#![forbid(unsafe_code)]

mod balance;
mod classify;
mod emit;
mod fragments;
mod icmp;
mod loads;
mod maintain;
mod peers;
mod query;

use std::sync::Arc;

use arrayvec::ArrayVec;

pub use balance::Settings;
pub use loads::LoadBoard;
pub use maintain::SWEEP_PERIOD_MS;
pub use peers::{Handoff, PeerMessage};
pub use query::{FlowMatch, FlowRecord, Query, QueryKind, QueryReply, SCAN_BUDGET};

use fragments::Fragments;

use crate::flow::{Event as FlowEvent, Guess, Seed, Shard};
use crate::packet::buf::{BufPool, PacketBuf};
use crate::packet::parse::Ipv4Packet;
use crate::schedule::Cursor;
use crate::snapshot::Snapshot;
use crate::snapshot::neighbors::NextHops;
use crate::stats::{DropReason, Event, Stats};
use crate::types::{FlowKey, PortId, Punt, PuntReason, ServiceId, Tick, WorkerId};

/// Packets a worker handles together. Larger bursts hide more memory latency and need more cache.
pub const BURST: usize = 32;

/// Where a pipeline's packets go.
pub trait Output<B> {
    /// Sends from the front what the port takes, and removes that; order is kept.
    fn transmit(&mut self, port: PortId, frames: &mut ArrayVec<B, BURST>);
    /// Gives a packet to the slow path; back when its queue is full.
    fn punt(&mut self, punt: Punt<B>) -> Result<(), Punt<B>>;
    /// Tells another worker something; back when its queue is full.
    fn tell(&mut self, to: WorkerId, message: PeerMessage<B>) -> Result<(), PeerMessage<B>>;
}

/// What a pipeline works with during one call.
pub struct Env<'a, P, O> {
    /// The configuration.
    pub snapshot: &'a Snapshot,
    /// Ethernet addresses of next hops.
    pub hops: &'a NextHops,
    /// Where new packets (fragments) come from.
    pub pool: &'a P,
    /// Where packets go.
    pub out: &'a mut O,
    /// The time, read once a burst.
    pub now: Tick,
}

/// What the steps after parsing need to know of a packet for a virtual service.
struct Info {
    ip: Ipv4Packet,
    flow: FlowOf,
}

/// The packets of a burst that are for virtual services: buffers, and beside them what is known of
/// each, so that neither moves about with the other.
struct Work<B> {
    bufs: ArrayVec<B, BURST>,
    infos: ArrayVec<Info, BURST>,
}

/// One worker's part of the data plane, without the NIC.
pub struct Pipeline<B> {
    me: WorkerId,
    workers: u16,
    shard: Shard,
    cursors: Box<[Cursor]>,
    fragments: Fragments<B>,
    stats: Arc<Stats>,
    loads: Arc<LoadBoard>,
    staged: Box<[ArrayVec<B, BURST>]>,
    /// Identification of the next outer packet that may be fragmented.
    ip_id: u16,
    swept_at: Tick,
    sweep_debt: u32,
}

impl<B: PacketBuf> Pipeline<B> {
    /// Worker `me` of `workers`, with its flow table.
    pub fn new(
        settings: &Settings,
        stats: Arc<Stats>,
        loads: Arc<LoadBoard>,
        shard: Shard,
    ) -> Self {
        let Settings { me, workers, ports, seed } = *settings;
        Pipeline {
            me,
            workers,
            shard,
            cursors: vec![Cursor::for_worker(me); stats.service_slots()].into_boxed_slice(),
            fragments: Fragments::new(Seed::new(seed)),
            stats,
            loads,
            staged: (0..ports).map(|_| ArrayVec::new()).collect(),
            ip_id: first_ip_id(me, workers),
            swept_at: Tick(0),
            sweep_debt: 0,
        }
    }

    /// Takes up new flow timers. Flows keep the deadline they have until their next packet.
    pub fn configure(&mut self, snapshot: &Snapshot) {
        let timeouts = crate::flow::Timeouts {
            tcp: snapshot.timeouts.tcp,
            tcp_fin: snapshot.timeouts.tcp_fin,
            udp: snapshot.timeouts.udp,
            ..crate::flow::Timeouts::default()
        };
        self.shard.set_timeouts(&timeouts);
    }

    /// One burst, received on `ingress`. `burst` is empty afterwards.
    pub fn burst<P: BufPool<B>, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        burst: &mut ArrayVec<B, BURST>,
    ) {
        self.count_received(ingress, burst);
        let Some(mac) = env.snapshot.port(ingress).map(|port| port.mac) else {
            return burst.drain(..).for_each(|buf| self.drop_packet(DropReason::NotOurMac, buf));
        };
        let mut work = Work { bufs: ArrayVec::new(), infos: ArrayVec::new() };

        // 1. Parse all; what is not for a virtual service leaves here. Ask for flow buckets.
        for buf in burst.drain(..) {
            self.classify(env, ingress, mac, buf, &mut work);
        }
        // 2. Read the buckets, ask for flow entries.
        let mut guesses = [Guess::NONE; BURST];
        for (guess, info) in guesses.iter_mut().zip(&work.infos) {
            *guess = self.shard.prefetch_entry(info.flow.hash);
        }
        // 3. Look up all, 4. rewrite all. A packet sees the flows of those before it.
        for ((buf, info), guess) in work.bufs.into_iter().zip(&work.infos).zip(guesses) {
            if let Some((buf, real)) = self.balance(env, ingress, buf, &info.flow, guess) {
                self.forward(env, ingress, buf, &info.ip, real);
            }
        }
        // 5. Send.
        self.flush(env);
    }

    fn count_received(&self, ingress: PortId, burst: &ArrayVec<B, BURST>) {
        let bytes: usize = burst.iter().map(PacketBuf::len).sum();
        self.stats.event(Event::RxPackets).add(burst.len() as u64);
        self.stats.event(Event::RxBytes).add(bytes as u64);
        if let Some(port) = self.stats.port(ingress) {
            port.rx_packets.add(burst.len() as u64);
            port.rx_bytes.add(bytes as u64);
        }
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The flow table.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    #[inline]
    fn drop_packet(&self, reason: DropReason, buf: B) {
        self.stats.dropped(reason).add(1);
        drop(buf);
    }

    fn punt<P, O: Output<B>>(
        &self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        reason: PuntReason,
        buf: B,
    ) {
        match env.out.punt(Punt { ingress, reason, buf }) {
            Ok(()) => self.stats.event(Event::Punted).add(1),
            Err(punt) => self.drop_packet(DropReason::PuntFull, punt.buf),
        }
    }
}

/// Where a worker's outer identifications start. All workers send with the same outer addresses, so
/// they start far apart (RFC 6864 4.3); the seed must not show on the wire.
const fn first_ip_id(me: WorkerId, workers: u16) -> u16 {
    let share = u16::MAX / if workers == 0 { 1 } else { workers };
    me.0.wrapping_mul(share)
}

/// What the flow table needs to know of a packet.
#[derive(Clone, Copy)]
struct FlowOf {
    key: FlowKey,
    hash: u64,
    service: ServiceId,
    event: FlowEvent,
}
