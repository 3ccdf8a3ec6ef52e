//! Step three: the real server of a packet, by its flow or by the scheduler.

use super::family::{FlowTable, Key};
use super::verdict::Verdict;
use super::{Env, FlowOf, Pipeline};
use crate::flow::{
    Cause, Event as FlowEvent, FlowFlags, FlowRef, Lookup, Removed, State, Transition,
};
use crate::packet::buf::PacketBuf;
use crate::schedule::{Load, Loads, Thresholds};
use crate::snapshot::spec::Reuse;
use crate::snapshot::{Named, Service, Snapshot};
use crate::stats::{Counter, DropReason, Event};
use crate::types::{PuntReason, RealId, ServiceId, Tick, WorkerId};
use crate::vocabulary::NoServer;

use super::loads::{LoadBoard, Others};

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
    flows: Flows<'a>,
    board: &'a LoadBoard,
    now: Tick,
}

/// The same of a service without thresholds whose real servers have slots one after the other, as
/// those have that were configured together.
struct DenseLoads<'a> {
    flows: Flows<'a>,
    now: Tick,
}

impl Loads for DenseLoads<'_> {
    #[inline(always)]
    fn load(&self, member: usize) -> Load {
        self.flows.of(member)
    }

    #[inline(always)]
    fn now(&self) -> Tick {
        self.now
    }
}

/// Connections by real server: the two halves of a [`Load`] in one word.
#[derive(Clone, Copy)]
struct Flows<'a> {
    own: &'a [Counter],
    others: Others<'a>,
}

impl Flows<'_> {
    /// Neither half is ever so full that it could flow over into the other.
    #[inline(always)]
    fn of(&self, slot: usize) -> Load {
        let own = self.own.get(slot).map_or(0, Counter::get);
        Load::of_word(own.wrapping_add(self.others.word(slot)))
    }

    /// From a slot on.
    #[inline(always)]
    fn from(self, slot: usize) -> Self {
        Flows { own: self.own.get(slot..).unwrap_or_default(), others: self.others.from(slot) }
    }
}

impl Loads for ServiceLoads<'_> {
    #[inline(always)]
    fn load(&self, member: usize) -> Load {
        self.reals.get(member).map_or(Load::default(), |real| self.flows.of(real.index()))
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
/// none; a segment that no client opens one with deserves none, unless connections are taken up in
/// the middle (`sloppy`).
#[inline(always)]
pub(super) const fn makes_flow(event: FlowEvent, sloppy: bool) -> bool {
    match event {
        FlowEvent::Rst => false,
        FlowEvent::Other => sloppy,
        FlowEvent::Syn | FlowEvent::Ack | FlowEvent::Fin | FlowEvent::Datagram => true,
    }
}

impl Service {
    /// The real server of a client of a service that [finds it again](Service::finds_again).
    #[inline(always)]
    fn owner(&self, key: &impl Key) -> Option<RealId> {
        self.reals.get(self.scheduler.owner(key)?).copied()
    }

    /// Whether a packet of this service is scheduled alone and makes no flow.
    #[inline(always)]
    pub(super) const fn is_one_packet(&self, event: FlowEvent) -> bool {
        self.one_packet && matches!(event, FlowEvent::Datagram)
    }
}

/// Whether a SYN on a flow in this state is scheduled afresh.
fn is_reused(snapshot: &Snapshot, state: State) -> bool {
    match state {
        State::Closed => snapshot.switches.reuse >= Reuse::AfterReset,
        State::Closing => snapshot.switches.reuse >= Reuse::AfterClose,
        State::SynReceived | State::Established | State::Udp => false,
    }
}

/// One in so many ACKs and datagrams makes a flow in a flood.
const LET_IN: u32 = 32;

/// What becomes of a packet that no real server takes.
const fn unserved(answer: NoServer, event: FlowEvent) -> Verdict {
    match (answer, event) {
        // Never to a reset.
        (NoServer::Drop, _) | (_, FlowEvent::Rst) => Verdict::Drop(DropReason::NoRealServer),
        // As `ip_vs_leave` of LVS, for TCP too: a client that is about to connect takes it for a
        // refusal.
        (NoServer::Reject, FlowEvent::Syn | FlowEvent::Datagram) => {
            Verdict::Punt(PuntReason::NoRealServer)
        }
        // A connection that is open would go on in spite of that. LVS does not schedule these, and
        // its director's own stack resets them.
        (NoServer::Reject, FlowEvent::Ack | FlowEvent::Fin | FlowEvent::Other) => {
            Verdict::Punt(PuntReason::TcpReset)
        }
    }
}

impl<B: PacketBuf> Pipeline<B> {
    /// Finds or schedules the real server of a packet.
    #[inline]
    pub(super) fn balance<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
    ) -> Verdict {
        match self.find(env, flow) {
            Some(real) => Verdict::Forward(real),
            None => self.schedule(env, flow, false),
        }
    }

    /// The real server of a flow in this worker's shard, the packet taken into account.
    #[inline(always)]
    pub(super) fn find<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
    ) -> Option<RealId> {
        if K::shard(self).lacks(flow.hash, &flow.key.pack()) {
            return None;
        }
        let found = self.look_up(env, flow)?;
        let entry = K::shard(self).get(found);
        let (real, flags) = (entry.real, entry.flags);
        if env.snapshot.real(real).is_none() {
            return self.missed(env, flow, found);
        }
        let change = K::shard_mut(self).touch(found, flow.event, env.now);
        if change != Transition::Same || flow.event == FlowEvent::Syn {
            self.count_change(env, flow, (real, flags), change)?;
        }
        Some(real)
    }

    /// The packet of a flow whose real server is not there. Where the flow waits for it, the packet
    /// is dropped by that, and leaves the flow as it was, unless it opens another connection.
    #[inline(never)]
    fn missed<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
        found: FlowRef,
    ) -> Option<RealId> {
        let entry = K::shard(self).get(found);
        let (real, state) = (entry.real, entry.state);
        if self.orphan::<K, P, O>(env, found) {
            return None;
        }
        let opens = flow.event == FlowEvent::Syn && is_reused(env.snapshot, state);
        (!opens).then_some(real)
    }

    #[inline(never)]
    fn look_up<K: Key, P, O>(&mut self, env: &Env<'_, P, O>, flow: &FlowOf<K>) -> Option<FlowRef> {
        match K::shard_mut(self).lookup(&flow.key, flow.hash, env.now) {
            Lookup::Hit(found) => Some(found),
            Lookup::Miss => None,
            Lookup::Expired(removed) => {
                self.settle(env, &removed);
                None
            }
        }
    }

    /// A flow's state changed, or a SYN came; `None` when the packet opens another connection, to
    /// be scheduled.
    #[inline(never)]
    fn count_change<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
        (real, flags): (RealId, FlowFlags),
        change: Transition,
    ) -> Option<()> {
        if flow.event == FlowEvent::Syn {
            return self.reopen(env, flow, (real, flags), change);
        }
        // A replica may see what the flow itself does not.
        if change.established() && flags != FlowFlags::NONE {
            self.assure_bound(env, &flow.key, real);
        }
        if change == Transition::Proven && flags != FlowFlags::NONE {
            self.prove_bound(env, &flow.key, real);
        }
        if change.became_inactive() && !flags.has(FlowFlags::REPLICA) {
            if let Some(stats) = self.stats.real(real) {
                stats.active.sub(1);
                stats.inactive.add(1);
            }
        }
        Some(())
    }

    /// A SYN on a flow that is there: `None` when it is to be scheduled. Follows
    /// `is_new_conn_expected` of LVS, whatever the real server's weight: a repeated SYN, or one that
    /// somebody forged, moves no connection off a real server that drains.
    fn reopen<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
        (real, flags): (RealId, FlowFlags),
        change: Transition,
    ) -> Option<()> {
        if let Transition::NewConnection { from } = change {
            // Its L4 port may be another virtual service's since.
            let moved = env.snapshot.real(real).is_none_or(|r| r.service != flow.service);
            if moved || is_reused(env.snapshot, from) {
                return None;
            }
            // The same real server has a connection more.
            self.remember(env, flow, real, flags);
        }
        Some(())
    }

    /// Only the loss of its own real server moves a flow: true when it is removed. Where flows wait
    /// for their real server, it is when its timer would have run out since the first packet missed
    /// it; packets that are dropped keep no flow alive.
    #[inline(never)]
    pub(super) fn orphan<K: Key, P, O>(&mut self, env: &Env<'_, P, O>, flow: FlowRef) -> bool {
        let entry = K::shard(self).get(flow);
        if let Some(absent) = env.snapshot.absent(entry.real) {
            if env.now.since(absent.missed(env.now)) < K::shard(self).span(entry.state) {
                return false;
            }
        }
        if let Some(removed) = K::shard_mut(self).remove(flow) {
            self.settle(env, &removed);
            self.stats.event(Event::FlowsOrphaned).add(1);
        }
        true
    }

    /// Schedules a packet that has no flow in this shard (`absent`: for sure), or a new one under
    /// the key of one that is over.
    #[inline(always)]
    pub(super) fn schedule<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
        absent: bool,
    ) -> Verdict {
        let Some(service) = env.snapshot.service(flow.service) else {
            return Verdict::Drop(DropReason::NoService);
        };
        // One-packet scheduling makes no flow anyway.
        if service.finds_again
            && !service.is_one_packet(flow.event)
            && K::shard_mut(self).is_flooded(flow.event, env.now)
        {
            if let Some(real) = self.without_flow(env, service, flow, absent) {
                return Verdict::Forward(real);
            }
        }
        self.schedule_flow(env, service, flow)
    }

    /// The real server of a packet that is better sent on as it is: in a flood its flow would only
    /// push out another's, and the client's next packet finds the same one by its hash. Of packets
    /// that do not open a TCP connection one in [`LET_IN`] makes a flow even so, that what lasts
    /// gets one.
    #[inline(always)]
    fn without_flow<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        service: &Service,
        flow: &FlowOf<K>,
        absent: bool,
    ) -> Option<RealId> {
        // One that is over would take the next packet.
        if !absent && K::shard(self).find(&flow.key, flow.hash, env.now).is_some() {
            return None;
        }
        let real = service.owner(&flow.key)?;
        if flow.event == FlowEvent::Syn {
            self.stats.event(Event::FloodSyns).add(1);
            return Some(real);
        }
        self.flood_turn = self.flood_turn.wrapping_add(1);
        if self.flood_turn % LET_IN == 0 {
            return None;
        }
        if flow.event != FlowEvent::Datagram {
            self.stats.event(Event::MissNotSyn).add(1);
        }
        self.stats.event(Event::FloodPackets).add(1);
        Some(real)
    }

    /// Schedules a packet, and makes its flow.
    #[inline(never)]
    fn schedule_flow<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        service: &Service,
        flow: &FlowOf<K>,
    ) -> Verdict {
        let opens = matches!(flow.event, FlowEvent::Syn | FlowEvent::Datagram);
        if !opens {
            self.stats.event(Event::MissNotSyn).add(1);
            // A hash finds the real server another director, or this one before its restart,
            // chose. Without one, the answer is that of LVS's director: a reset (never to a reset).
            if !service.scheduler.kind().is_hash() && !self.picks_up(env, flow.event) {
                return match flow.event {
                    FlowEvent::Rst => Verdict::Drop(DropReason::ErrorSuppressed),
                    _ => Verdict::Punt(PuntReason::TcpReset),
                };
            }
        }
        let picked = match &service.persistence {
            // As `pick` would have it; nobody has to be asked who is full.
            _ if service.finds_again => service.owner(&flow.key),
            None => self.pick(service, flow.service, &flow.key, env.now),
            Some(persistence) => self.pick_bound(env, service, persistence, flow),
        };
        let Some(real) = picked else {
            if let Some(stats) = self.stats.service(flow.service) {
                stats.no_real_server.add(1);
            }
            return unserved(env.snapshot.switches.no_server, flow.event);
        };
        if service.is_one_packet(flow.event) {
            self.count_connection(flow.service, real);
        } else if makes_flow(flow.event, env.snapshot.switches.sloppy_tcp) {
            let flags = match service.persistence {
                None => FlowFlags::NONE,
                Some(_) => FlowFlags::BOUND,
            };
            self.remember(env, flow, real, flags);
            self.note_full(env.snapshot, service, real);
        }
        Verdict::Forward(real)
    }

    /// Whether any scheduler takes up a connection in the middle: by any segment but a RST, as
    /// `tcp_conn_schedule` of LVS. A SYN-ACK answers the SYN of a real server that the director has
    /// not seen (FTP in active mode).
    const fn picks_up<P, O>(&self, env: &Env<'_, P, O>, event: FlowEvent) -> bool {
        env.snapshot.switches.sloppy_tcp && !matches!(event, FlowEvent::Rst)
    }

    pub(super) fn pick(
        &mut self,
        service: &Service,
        id: ServiceId,
        key: &impl Key,
        now: Tick,
    ) -> Option<RealId> {
        let Service { reals, thresholds, .. } = service;
        let flows = Flows { own: self.stats.flows(), others: self.loads.others(self.me) };
        let cursor = self.cursors.get_mut(id.index())?;
        let member = match service.first {
            Some(first) if thresholds.is_empty() => {
                let loads = DenseLoads { flows: flows.from(first.index()), now };
                service.scheduler.pick(key, cursor, &loads)
            }
            _ => {
                let loads = ServiceLoads { reals, thresholds, flows, board: &self.loads, now };
                service.scheduler.pick(key, cursor, &loads)
            }
        }?;
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
    fn note_full(&self, snapshot: &Snapshot, service: &Service, real: RealId) {
        if service.thresholds.is_empty() {
            return;
        }
        let Some(thresholds) = snapshot.real(real).map(|real| real.thresholds) else { return };
        if thresholds.is_limited() {
            let flows = Flows { own: self.stats.flows(), others: self.loads.others(self.me) };
            let total = flows.of(real.index()).total();
            self.loads.is_full(real, thresholds, total);
        }
    }

    /// Makes a flow.
    pub(super) fn remember<K: Key, P, O>(
        &mut self,
        env: &Env<'_, P, O>,
        flow: &FlowOf<K>,
        real: RealId,
        flags: FlowFlags,
    ) {
        let state = State::opening(flow.event);
        K::shard_mut(self).assign(real, flow.service.0);
        let inserted = K::shard_mut(self).insert(flow.key, flow.hash, real, state, flags, env.now);
        if let Some(removed) = inserted.evicted {
            self.settle(env, &removed);
        }
        if flags.has(FlowFlags::BOUND) {
            self.hold_bound(env, flow, real);
        }
        if let Some(stats) = self.stats.real(real) {
            if flags.has(FlowFlags::REPLICA) {
                stats.replicas.add(1);
            } else {
                stats.connections.add(1);
                if state.is_active() { stats.active.add(1) } else { stats.inactive.add(1) }
            }
        }
        if !flags.has(FlowFlags::REPLICA) {
            if let Some(stats) = self.stats.service(flow.service) {
                stats.connections.add(1);
            }
        }
        self.stats.event(Event::FlowsCreated).add(1);
    }

    /// Sets the gauges of flows; called after any work that makes or removes some.
    pub(super) fn count_flows(&self) {
        let flows6 = self.shard6.len() as u64;
        self.stats.event(Event::Flows).set(self.shard.len() as u64 + flows6);
        self.stats.event(Event::Flows6).set(flows6);
    }

    /// Counts a flow that has left the table.
    pub(super) fn settle<K: Key, P, O>(&self, env: &Env<'_, P, O>, removed: &Removed<K>) {
        if removed.flags.has(FlowFlags::BOUND) {
            self.release_bound(env, removed);
        }
        if removed.flags.has(FlowFlags::REPLICA) {
            if let Some(stats) = self.stats.real(removed.real) {
                stats.replicas.sub(1);
            }
        } else if let Some((active, inactive)) = self.stats.flows_of(removed.real) {
            if removed.state.is_active() { active.sub(1) } else { inactive.sub(1) }
        }
        match removed.cause {
            Cause::Expired => self.stats.event(Event::FlowsExpired).add(1),
            Cause::Evicted => {
                self.stats.event(Event::FlowsEvicted).add(1);
                self.stats.event(Event::FlowsEvictedProven).add(removed.proven.into());
            }
            Cause::Replaced => self.stats.event(Event::FlowsReplaced).add(1),
            Cause::Removed => {}
        }
    }

    /// Whether a real server that this worker was told of is still configured and this service's. Only flows keep a slot from being given to another; notes and messages do
    /// not.
    pub(super) fn is_homed(snapshot: &Snapshot, named: Named, service: ServiceId) -> bool {
        snapshot.real_named(named).is_some_and(|r| r.service == service)
    }
}
