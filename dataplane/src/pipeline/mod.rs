//! What happens to a burst.
//!
//! [`Pipeline::burst`], in `fast`, is the list of steps: parse all, look up all, rewrite all, send.
//! What it does not recognise goes the long way by `classify`, `balance` and `emit`, which do the
//! same for any packet; the exceptions (ICMP errors, fragments, other workers' flows) each have
//! a file.
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
mod classify6;
mod emit;
mod family;
mod fast;
mod fragments;
mod icmp;
mod lane;
mod limit;
mod loads;
mod maintain;
mod peers;
mod persistent;
mod query;
mod quota;
mod replicas;
mod room;
mod verdict;

use std::sync::Arc;

use arrayvec::ArrayVec;
use siphasher::sip::SipHasher24;

pub use balance::Settings;
pub use fragments::FragmentKey;
pub use lane::Lane;
pub use loads::LoadBoard;
pub use maintain::SWEEP_PERIOD_MS;
pub use peers::{Handoff, PeerMessage};
pub use query::{FlowMatch, FlowRecord, Query, QueryKind, QueryReply, SCAN_BUDGET};

use classify6::Aside;
use fast::Info;
use fragments::Fragments;
use limit::AnswerLimits;
use peers::{Quotas, copies};
use quota::Quota;
use replicas::Replicas;
use verdict::Verdict;

use crate::flow::{Event as FlowEvent, Shard, Shard6};
use crate::hash::Random;
use crate::hash::Seed;
use crate::packet::buf::PacketBuf;
use crate::packet::parse::Ipv4Packet;
use crate::packet::parse6::Ipv6Packet;
use crate::persist::AllTemplates;
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
    /// Gives packets back to where they came from, all at once.
    #[inline(always)]
    fn discard(&mut self, frames: &mut ArrayVec<B, BURST>) {
        frames.clear();
    }
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

/// What a worker remembers clients by.
#[derive(Debug)]
pub struct Tables {
    /// Its flows over IPv4.
    pub shard: Shard,
    /// Its flows over IPv6.
    pub shard6: Shard6,
    /// Which real server clients are bound to; all workers'.
    pub templates: AllTemplates,
}

/// One worker's part of the data plane, without the NIC.
pub struct Pipeline<B> {
    me: WorkerId,
    workers: u16,
    shard: Shard,
    shard6: Shard6,
    cursors: Box<[Cursor]>,
    fragments: Fragments<B, Ipv4Packet>,
    fragments6: Fragments<B, Ipv6Packet>,
    /// What it may hand over, and have copied, before others pay too much for it.
    quotas: Quotas,
    copies: Quota,
    /// What others had copied here.
    replicas: Replicas,
    replicas6: Replicas,
    seed: Seed,
    answers: AnswerLimits,
    stats: Arc<Stats>,
    loads: Arc<LoadBoard>,
    templates: AllTemplates,
    staged: Box<[ArrayVec<B, BURST>]>,
    /// IPv6 packets of the burst at hand; room for [`BURST`].
    aside: Vec<Aside<B>>,
    /// What is known of the packets of a burst: [`BURST`] of them, kept to be used again.
    infos: Box<[Info]>,
    /// Identification of the next outer packet that may be fragmented.
    ip_id: u16,
    /// Packets that were to go without a flow, to let in one of so many.
    flood_turn: u32,
    swept_at: Tick,
    sweep_debt: u32,
    sweep_debt6: u32,
}

impl<B: PacketBuf> Pipeline<B> {
    /// Worker `me` of `workers`, with its flow tables.
    pub fn new(
        settings: &Settings,
        stats: Arc<Stats>,
        loads: Arc<LoadBoard>,
        tables: Tables,
    ) -> Self {
        let Settings { me, workers, ports, seed } = *settings;
        let Tables { mut shard, mut shard6, templates } = tables;
        shard.divide(stats.real_slots(), stats.service_slots());
        shard6.divide(stats.real_slots(), stats.service_slots());
        Pipeline {
            me,
            workers,
            quotas: Quotas::new(workers),
            copies: copies(workers),
            replicas: Replicas::new(shard.capacity()),
            replicas6: Replicas::new(shard6.capacity()),
            seed: Seed::new(seed),
            shard,
            shard6,
            cursors: cursors(me, seed, stats.service_slots()),
            fragments: Fragments::new(Seed::new(seed)),
            fragments6: Fragments::new(Seed::new(seed)),
            answers: AnswerLimits::new(Seed::new(seed), workers),
            stats,
            loads,
            templates,
            aside: Vec::with_capacity(BURST),
            staged: (0..ports).map(|_| ArrayVec::new()).collect(),
            infos: vec![Info::NONE; BURST].into(),
            ip_id: first_ip_id(me, workers),
            flood_turn: 0,
            swept_at: Tick(0),
            sweep_debt: 0,
            sweep_debt6: 0,
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
        self.shard6.set_timeouts(&timeouts);
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The flow table.
    pub fn shard(&self) -> &Shard {
        &self.shard
    }

    /// The flow table for IPv6.
    pub fn shard6(&self) -> &Shard6 {
        &self.shard6
    }

    #[inline]
    fn drop_packet(&self, reason: DropReason, buf: B) {
        self.stats.dropped(reason).add(1);
        drop(buf);
    }

    /// Carries out what was decided of a packet that goes to no real server.
    #[inline(always)]
    fn dispose_unsent<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        verdict: Verdict,
    ) {
        match verdict {
            Verdict::Punt(reason) => self.punt(env, ingress, reason, buf),
            Verdict::Drop(reason) => self.drop_packet(reason, buf),
            // Never: whoever sends it has its headers, too.
            Verdict::Forward(_) => self.drop_packet(DropReason::RealServerGone, buf),
        }
    }

    /// Gives a packet to the slow path, unless it asks for more answers than there may be.
    fn punt<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        reason: PuntReason,
        buf: B,
    ) {
        let punt = Punt { ingress, reason, buf };
        if !self.answers.allows(&punt, env.now) {
            return self.drop_packet(DropReason::RateLimited, punt.buf);
        }
        match env.out.punt(punt) {
            Ok(()) => self.stats.event(Event::Punted).add(1),
            Err(punt) => self.drop_packet(DropReason::PuntFull, punt.buf),
        }
    }
}

/// Where a worker begins in each virtual service. What it draws by is a secret, too, and tells
/// nothing of the seed.
fn cursors(me: WorkerId, seed: u128, services: usize) -> Box<[Cursor]> {
    let prf = SipHasher24::new_with_key(&seed.to_le_bytes());
    let random = |slot: u32| {
        let [a, b, c, d] = slot.to_le_bytes();
        let [low, high] = me.0.to_le_bytes();
        Random::new(prf.hash(&[b'c', low, high, a, b, c, d]))
    };
    (0..).take(services).map(|slot| Cursor::for_worker(me, random(slot))).collect()
}

/// Where a worker's outer identifications start. All workers send with the same outer addresses, so
/// they start far apart (RFC 6864 4.3); the seed must not show on the wire.
const fn first_ip_id(me: WorkerId, workers: u16) -> u16 {
    let share = u16::MAX / if workers == 0 { 1 } else { workers };
    me.0.wrapping_mul(share)
}

/// What the flow table needs to know of a packet.
#[derive(Clone, Copy)]
struct FlowOf<K = FlowKey> {
    key: K,
    hash: u64,
    service: ServiceId,
    event: FlowEvent,
}
