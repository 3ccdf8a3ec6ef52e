//! Step three: the real server of a packet, by its flow or by the scheduler.

use super::{Env, FlowOf, Output, Pipeline};
use crate::flow::{
    Cause, Event as FlowEvent, Flags, FlowRef, Key, Lookup, Removed, State, Transition,
};
use crate::packet::buf::PacketBuf;
use crate::schedule::{Load, Loads, Thresholds};
use crate::snapshot::{Service, Snapshot};
use crate::stats::{DropReason, Event, Stats};
use crate::types::{FlowKey, PortId, PuntReason, RealId, ServiceId, Tick, WorkerId};

use super::loads::LoadBoard;

/// What a pipeline is made with.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// This worker.
    pub me: WorkerId,
    /// How many workers there are.
    pub workers: u16,
    /// How many ports there are.
    pub ports: usize,
    /// Random bits for hashes that outsiders must not foresee.
    pub seed: u128,
}

/// Connections of a service's real servers: this worker's own, exact, and the others' lately.
struct ServiceLoads<'a> {
    reals: &'a [RealId],
    /// One for each of `reals`, or none at all.
    thresholds: &'a [Thresholds],
    stats: &'a Stats,
    board: &'a LoadBoard,
    me: WorkerId,
    now: Tick,
}

impl<'a> ServiceLoads<'a> {
    #[inline(always)]
    fn of(
        service: &'a Service,
        stats: &'a Stats,
        board: &'a LoadBoard,
        me: WorkerId,
        now: Tick,
    ) -> ServiceLoads<'a> {
        let Service { reals, thresholds, .. } = service;
        ServiceLoads { reals, thresholds, stats, board, me, now }
    }
}

impl Loads for ServiceLoads<'_> {
    #[inline]
    fn load(&self, member: usize) -> Load {
        let Some(real) = self.reals.get(member) else { return Load::default() };
        let others = self.board.others(self.me, *real);
        let own = self.stats.real(*real);
        Load {
            active: others.active + own.map_or(0, |s| s.active.get() as u32),
            inactive: others.inactive + own.map_or(0, |s| s.inactive.get() as u32),
        }
    }

    #[inline(always)]
    fn is_full(&self, member: usize) -> bool {
        let (Some(thresholds), Some(real)) = (self.thresholds.get(member), self.reals.get(member))
        else {
            return false;
        };
        thresholds.is_limited() && self.board.is_full(*real, *thresholds, self.load(member).total())
    }

    #[inline(always)]
    fn now(&self) -> Tick {
        self.now
    }
}

/// Whether a packet without a flow makes one when it is scheduled. A connection that is over needs
/// none; a malformed segment deserves none.
#[inline(always)]
pub(super) const fn makes_flow(event: FlowEvent) -> bool {
    !matches!(event, FlowEvent::Rst | FlowEvent::Other)
}

impl Service {
    /// Whether a packet of this service is scheduled alone and makes no flow.
    #[inline(always)]
    pub(super) const fn is_one_packet(&self, event: FlowEvent) -> bool {
        self.one_packet && matches!(event, FlowEvent::Datagram)
    }
}

/// Why a packet has no real server.
pub(super) enum NoTarget {
    Drop(DropReason),
    Reset,
}

impl<B: PacketBuf> Pipeline<B> {
    /// Finds or schedules the real server; a packet without one is dealt with here.
    #[inline]
    pub(super) fn balance<P, O: Output<B>>(
        &mut self,
        env: &mut Env<'_, P, O>,
        ingress: PortId,
        buf: B,
        flow: &FlowOf,
    ) -> Option<(B, RealId)> {
        let found = match self.find(env, flow) {
            Some(real) => Ok(real),
            None => self.schedule(env, flow),
        };
        match found {
            Ok(real) => Some((buf, real)),
            Err(NoTarget::Drop(reason)) => {
                self.drop_packet(reason, buf);
                None
            }
            Err(NoTarget::Reset) => {
                self.punt(env, ingress, PuntReason::TcpReset, buf);
                None
            }
        }
    }

    /// The real server of a flow in this worker's shard, the packet taken into account.
    #[inline(always)]
    pub(super) fn find<P, O>(&mut self, env: &Env<'_, P, O>, flow: &FlowOf) -> Option<RealId> {
        if self.shard.lacks(flow.hash, &flow.key.pack()) {
            return None;
        }
        let found = self.look_up(env, flow)?;
        let change = self.shard.touch(found, flow.event, env.now);
        let entry = self.shard.get(found);
        let (real, flags) = (entry.real, entry.flags);
        if change != Transition::Same {
            self.count_change(real, flags, change)?;
        }
        if env.snapshot.real(real).is_none() {
            self.orphan(env, found);
            return None;
        }
        Some(real)
    }

    #[inline(never)]
    fn look_up<P, O>(&mut self, env: &Env<'_, P, O>, flow: &FlowOf) -> Option<FlowRef> {
        match self.shard.lookup(&flow.key, flow.hash, env.now) {
            Lookup::Hit(found) => Some(found),
            Lookup::Miss => None,
            Lookup::Expired(removed) => {
                self.settle(env, &removed);
                None
            }
        }
    }

    /// A flow's state changed; `None` when its next packet opens another connection.
    #[inline(never)]
    fn count_change(&self, real: RealId, flags: Flags, change: Transition) -> Option<()> {
        if change == Transition::NewConnection {
            return None;
        }
        if change.became_inactive() && !flags.has(Flags::REPLICA) {
            if let Some(stats) = self.stats.real(real) {
                stats.active.sub(1);
                stats.inactive.add(1);
            }
        }
        Some(())
    }

    /// Only the loss of its own real server moves a flow.
    #[inline(never)]
    pub(super) fn orphan<P, O>(&mut self, env: &Env<'_, P, O>, flow: FlowRef) {
        if let Some(removed) = self.shard.remove(flow) {
            self.settle(env, &removed);
            self.stats.event(Event::FlowsOrphaned).add(1);
        }
    }

    /// Schedules a packet that has no flow in this shard.
    #[inline(never)]
    pub(super) fn schedule<P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf,
    ) -> Result<RealId, NoTarget> {
        let Some(service) = env.snapshot.service(flow.service) else {
            return Err(NoTarget::Drop(DropReason::NoService));
        };
        let opens = matches!(flow.event, FlowEvent::Syn | FlowEvent::Datagram);
        if !opens {
            self.stats.event(Event::MissNotSyn).add(1);
            // A hash finds the real server another director, or this one before its restart,
            // chose. Without one, the answer is that of LVS's director: a reset (never to a reset).
            if !service.scheduler.kind().is_hash() {
                return Err(match flow.event {
                    FlowEvent::Rst => NoTarget::Drop(DropReason::ErrorSuppressed),
                    _ => NoTarget::Reset,
                });
            }
        }
        let picked = match &service.persistence {
            None => self.pick(service, flow.service, &flow.key, env.now),
            Some(persistence) => self.pick_bound(env, service, persistence, flow),
        };
        let Some(real) = picked else {
            if let Some(stats) = self.stats.service(flow.service) {
                stats.no_real_server.add(1);
            }
            return Err(NoTarget::Drop(DropReason::NoRealServer));
        };
        if service.is_one_packet(flow.event) {
            self.count_connection(flow.service, real);
        } else if makes_flow(flow.event) {
            let flags = match service.persistence {
                None => Flags::NONE,
                Some(_) => Flags::BOUND,
            };
            self.remember(env, flow, real, flags);
            self.note_full(service, real, env.now);
        }
        Ok(real)
    }

    pub(super) fn pick(
        &mut self,
        service: &Service,
        id: ServiceId,
        key: &FlowKey,
        now: Tick,
    ) -> Option<RealId> {
        let loads = ServiceLoads::of(service, &self.stats, &self.loads, self.me, now);
        let cursor = self.cursors.get_mut(id.index())?;
        let member = service.scheduler.pick(key, cursor, &loads)?;
        service.reals.get(member).copied()
    }

    /// A connection of one packet: it is counted, and over.
    fn count_connection(&self, service: ServiceId, real: RealId) {
        if let Some(stats) = self.stats.real(real) {
            stats.connections.add(1);
        }
        if let Some(stats) = self.stats.service(service) {
            stats.connections.add(1);
        }
    }

    /// Takes note of a real server that has just become full.
    #[inline]
    fn note_full(&self, service: &Service, real: RealId, now: Tick) {
        if service.thresholds.is_empty() {
            return;
        }
        if let Some(member) = service.reals.iter().position(|r| *r == real) {
            ServiceLoads::of(service, &self.stats, &self.loads, self.me, now).is_full(member);
        }
    }

    /// Makes a flow.
    pub(super) fn remember<P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf,
        real: RealId,
        flags: Flags,
    ) {
        let state = State::opening(flow.event);
        let inserted = self.shard.insert(flow.key, flow.hash, real, state, flags, env.now);
        if let Some(removed) = inserted.evicted {
            self.settle(env, &removed);
        }
        if flags.has(Flags::BOUND) {
            self.hold_bound(env, flow, real);
        }
        if let Some(stats) = self.stats.real(real) {
            if flags.has(Flags::REPLICA) {
                stats.replicas.add(1);
            } else {
                stats.connections.add(1);
                if state.is_active() { stats.active.add(1) } else { stats.inactive.add(1) }
            }
        }
        if !flags.has(Flags::REPLICA) {
            if let Some(stats) = self.stats.service(flow.service) {
                stats.connections.add(1);
            }
        }
        self.stats.event(Event::FlowsCreated).add(1);
        self.stats.event(Event::Flows).set(self.shard.len() as u64);
    }

    /// Counts a flow that has left the table.
    pub(super) fn settle<P, O>(&self, env: &Env<'_, P, O>, removed: &Removed) {
        if removed.flags.has(Flags::BOUND) {
            self.release_bound(env, removed);
        }
        if let Some(stats) = self.stats.real(removed.real) {
            if removed.flags.has(Flags::REPLICA) {
                stats.replicas.sub(1);
            } else if removed.state.is_active() {
                stats.active.sub(1);
            } else {
                stats.inactive.sub(1);
            }
        }
        match removed.cause {
            Cause::Expired => self.stats.event(Event::FlowsExpired).add(1),
            Cause::Evicted => self.stats.event(Event::FlowsEvicted).add(1),
            Cause::Replaced => self.stats.event(Event::FlowsReplaced).add(1),
            Cause::Removed => {}
        }
        self.stats.event(Event::Flows).set(self.shard.len() as u64);
    }

    /// Whether a real server that this worker was told of, or noted, is still configured and this
    /// service's. Only flows keep a slot from being given to another; notes and messages do not.
    pub(super) fn is_homed(snapshot: &Snapshot, real: RealId, service: ServiceId) -> bool {
        snapshot.real(real).is_some_and(|r| r.service == service)
    }
}
