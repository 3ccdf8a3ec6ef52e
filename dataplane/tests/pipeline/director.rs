//! A director of one or several workers, driven by hand.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use dataplane::flow::{FlowFlags, Shard, Shard6, State};
use dataplane::hash::Seed;
use dataplane::persist::AllTemplates;
use dataplane::pipeline::{
    BURST, Env, LoadBoard, PeerMessage, Pipeline, Query, QueryReply, Settings, Tables,
};
use dataplane::schedule::Thresholds;
use dataplane::snapshot::Snapshot;
use dataplane::snapshot::compile::{CompileError, Compiled, Compiler, Limits};
use dataplane::snapshot::learned::{Cause, Effect, News, RealName, Standing};
use dataplane::snapshot::neighbors::{NextHop, NextHops};
use dataplane::snapshot::spec::{
    GreSpec, Persistence, PortSpec, RealSpec, ServiceOptions, ServiceSpec, Spec,
};
use dataplane::stats::{Accounts, Counts, DropReason, Event, RealStats, Stats, Traffic};
use dataplane::types::{
    Mac, Netmask, PortId, Protocol, PuntReason, RealId, ServiceAddress, ServiceId, ServiceKey,
    Tick, WorkerId,
};

use crate::buffer::{Census, Counted, Pool};
use crate::packets::{GATEWAY, LAN_DIP, LAN_MAC, MTU, VIP, WAN, WAN_DIP, WAN_MAC, mac_of};
use crate::packets6::{GATEWAY6, LAN_DIP6, VIP6, WAN_DIP6};
use crate::seen::Seen;
use crate::wire::{Punted, Wire};

/// Flows in a worker's shard unless a test wants another number.
pub(crate) const FLOWS: usize = 1000;
const SEED: u128 = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
/// Places for templates: one bucket.
const TEMPLATES: usize = 8;
const SLOTS: usize = 64;

/// What became of the packets of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) sent: Vec<Seen>,
    pub(crate) punted: Vec<Punted>,
    /// Counters of all workers, the difference.
    counts: Counts,
}

/// The one verdict of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Forwarded(Ipv4Addr),
    /// To a real server with an IPv6 address.
    Forwarded6(Ipv6Addr),
    Punted(PuntReason),
    Dropped(DropReason),
    Held,
}

impl Outcome {
    pub(crate) fn event(&self, event: Event) -> u64 {
        self.counts.event(event)
    }

    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.counts.drops(reason)
    }

    /// Where the packets sent went, in order.
    pub(crate) fn reals(&self) -> Vec<Ipv4Addr> {
        self.sent.iter().map(Seen::real).collect()
    }

    /// The same, for real servers of either family.
    pub(crate) fn reals_of_either(&self) -> Vec<IpAddr> {
        self.sent.iter().map(Seen::real_of_either).collect()
    }

    /// The verdict of the one packet there was.
    pub(crate) fn verdict(&self) -> Verdict {
        let dropped: Vec<_> =
            DropReason::ALL.iter().copied().filter(|r| self.drops(*r) > 0).collect();
        let all = self.event(Event::Forwarded)
            + self.event(Event::Punted)
            + self.event(Event::Held)
            + self.counts.dropped_total();
        assert_eq!(all, 1, "one verdict: {self:?}");
        match (&self.sent[..], &self.punted[..], &dropped[..]) {
            ([first, ..], [], []) => match first.real_of_either() {
                IpAddr::V4(real) => Verdict::Forwarded(real),
                IpAddr::V6(real) => Verdict::Forwarded6(real),
            },
            ([], [punt], []) => Verdict::Punted(punt.reason),
            ([], [], [reason]) => Verdict::Dropped(*reason),
            ([], [], []) => Verdict::Held,
            _ => panic!("no single verdict: {self:?}"),
        }
    }
}

/// A director.
pub(crate) struct Director {
    pub(crate) spec: Spec,
    pub(crate) compiler: Compiler,
    pub(crate) snapshot: Snapshot,
    /// What workers forward by that are late.
    late: BTreeMap<usize, Option<Snapshot>>,
    pub(crate) hops: NextHops,
    pub(crate) workers: Vec<Pipeline<Counted>>,
    pub(crate) stats: Vec<Arc<Stats>>,
    pub(crate) loads: Arc<LoadBoard>,
    pub(crate) accounts: Accounts,
    pub(crate) templates: AllTemplates,
    pub(crate) wire: Wire,
    pub(crate) pool: Pool,
    pub(crate) census: Census,
    pub(crate) now: Tick,
    /// Buffers received, and taken from the pool, so far.
    pub(crate) received: usize,
}

/// One service from text, `tcp6` or `udp6` with the IPv6 VIP: `tcp 80 wlc: 10.0.0.1 dr, 10.0.0.2
/// ipip w=2, 10.0.0.3 gre key=7 sum`. Thresholds are `x=10 y=5`; flags follow the scheduler, `tcp
/// 80 mh mh-port:`, `ops` and `p=300` or `p=300/255.255.255.0`.
pub(crate) fn service(text: &str) -> ServiceSpec {
    let (head, reals) = text.split_once(':').unwrap();
    let mut head = head.split_whitespace();
    let (protocol, vip): (Protocol, IpAddr) = match head.next().unwrap() {
        "tcp6" => (Protocol::Tcp, VIP6.into()),
        "udp6" => (Protocol::Udp, VIP6.into()),
        protocol => (protocol.parse().unwrap(), VIP.into()),
    };
    let address: ServiceAddress = format!("{VIP}:{}", head.next().unwrap()).parse().unwrap();
    let ports = address.ports;
    let scheduler = head.next().unwrap().parse().unwrap();
    let real = |text: &str| {
        let mut words = text.split_whitespace();
        let address = words.next().unwrap().parse().unwrap();
        let method = words.next().unwrap().parse().unwrap();
        let (mut weight, mut gre, mut thresholds) = (1, GreSpec::default(), Thresholds::default());
        for word in words {
            match word.split_once('=') {
                Some(("w", n)) => weight = n.parse().unwrap(),
                Some(("x", n)) => thresholds.upper = n.parse().unwrap(),
                Some(("y", n)) => thresholds.lower = n.parse().unwrap(),
                Some(("key", n)) => gre.key = Some(n.parse().unwrap()),
                _ if word == "sum" => gre.checksum = true,
                _ => panic!("{word}?"),
            }
        }
        RealSpec { address, weight, method, gre, thresholds }
    };
    ServiceSpec {
        key: ServiceKey { protocol, vip, ports },
        scheduler,
        options: head.fold(ServiceOptions::default(), |options, word| match word {
            persistent if persistent.starts_with("p=") => {
                let (seconds, netmask) =
                    persistent[2..].split_once('/').unwrap_or((&persistent[2..], ""));
                let timeout = Duration::from_secs(seconds.parse().unwrap());
                let netmask = netmask.parse().unwrap_or_else(|()| Netmask::one_client(vip));
                ServiceOptions { persistence: Some(Persistence { timeout, netmask }), ..options }
            }
            "ops" => ServiceOptions { one_packet: true, ..options },
            flags => ServiceOptions { flags: flags.parse().unwrap(), ..options },
        }),
        reals: reals.split(',').filter(|r| !r.trim().is_empty()).map(real).collect(),
    }
}

/// The ports of the test network, with these services.
pub(crate) fn spec(services: &[&str]) -> Spec {
    let port = |name: &str, mac: Mac, dips: (Ipv4Addr, Ipv6Addr), gateways| PortSpec {
        name: name.into(),
        mac,
        mtu: MTU as u16,
        addresses: [format!("{}/24", dips.0), format!("{}/64", dips.1)]
            .map(|address| address.parse().unwrap())
            .to_vec(),
        gateways,
    };
    Spec {
        ports: vec![
            port("wan", WAN_MAC, (WAN_DIP, WAN_DIP6), vec![GATEWAY.into(), GATEWAY6.into()]),
            port("lan", LAN_MAC, (LAN_DIP, LAN_DIP6), vec![]),
        ],
        services: services.iter().map(|s| Arc::new(service(s))).collect(),
        hash_key: [7; 16],
        maglev_size: 251,
        ..Spec::default()
    }
}

impl Director {
    /// One worker.
    pub(crate) fn new(services: &[&str]) -> Director {
        Director::of(1, FLOWS, spec(services))
    }

    /// Several workers.
    pub(crate) fn with_workers(workers: u16, services: &[&str]) -> Director {
        Director::of(workers, FLOWS, spec(services))
    }

    pub(crate) fn of(workers: u16, flows: usize, spec: Spec) -> Director {
        Director::sized(workers, flows, TEMPLATES, spec)
    }

    /// With room for so many flows of each worker, and so many templates.
    pub(crate) fn sized(workers: u16, flows: usize, templates: usize, spec: Spec) -> Director {
        let stats: Vec<_> =
            (0..workers).map(|_| Arc::new(Stats::new(spec.ports.len(), SLOTS, SLOTS))).collect();
        let loads = Arc::new(LoadBoard::new(workers.into(), SLOTS));
        let templates = AllTemplates::new(templates, 1);
        let pipelines = stats.iter().zip(0..).map(|(stats, me)| {
            let settings =
                Settings { me: WorkerId(me), workers, ports: spec.ports.len(), seed: SEED };
            let shard = Shard::new(flows, Seed::new(SEED)).unwrap();
            let shard6 = Shard6::new(flows, Seed::new(SEED)).unwrap();
            Pipeline::new(
                &settings,
                Arc::clone(stats),
                Arc::clone(&loads),
                Tables { shard, shard6, templates: templates.clone() },
            )
        });
        let workers = pipelines.collect();
        let slots = SLOTS as u32;
        let mut compiler =
            Compiler::new(Limits { services: slots, reals: slots, neighbors: slots });
        let census = Census::default();
        let snapshot = compiler.compile(&Spec::default(), 0, u64::MAX, |_| true).unwrap().snapshot;
        let mut director = Director {
            spec: spec.clone(),
            compiler,
            snapshot,
            late: BTreeMap::new(),
            hops: NextHops::new(SLOTS),
            workers,
            stats,
            loads,
            accounts: Accounts::new(SLOTS, SLOTS),
            templates,
            wire: Wire::default(),
            pool: Pool { census: census.clone(), left: usize::MAX.into() },
            census,
            now: Tick(1),
            received: 0,
        };
        director.configure(spec).unwrap();
        director
    }

    /// Takes a configuration up, as control plane and slow path do: neighbors are known.
    pub(crate) fn configure(&mut self, spec: Spec) -> Result<(), CompileError> {
        let stats = &self.stats;
        let flows = |real: RealId| {
            let sum = |s: RealStats<'_>| s.active.get() + s.inactive.get() + s.replicas.get();
            stats.iter().filter_map(|s| s.real(real)).map(sum).sum::<u64>()
        };
        let generation = self.snapshot.generation + 1;
        let acknowledged = self
            .late
            .values()
            .flatten()
            .map(|late| late.generation)
            .min()
            .unwrap_or(generation - 1);
        let Compiled { snapshot, new_services, new_reals, revived, departed, .. } =
            self.compiler.compile(&spec, generation, acknowledged, |real| flows(real) == 0)?;
        self.templates
            .forget(|service, real| new_services.contains(&service) || new_reals.contains(&real));
        for service in &new_services {
            let total = self.service_total(*service);
            self.accounts.open_service(*service, total);
        }
        for real in &new_reals {
            self.loads.forget(*real);
            let total = self.real_total(*real);
            self.accounts.open_real(*real, total);
        }
        for real in &revived {
            let total = self.real_total(*real);
            self.accounts.open_real(*real, total);
        }
        for (service, real) in departed {
            self.accounts.depart(service, real);
        }
        for hop in &snapshot.links.neighbors {
            self.hops.set(hop.id, NextHop::Known(hop.fixed.unwrap_or(mac_of(hop.address))));
        }
        for (at, worker) in self.workers.iter_mut().enumerate() {
            if !self.late.contains_key(&at) {
                worker.configure(&snapshot);
            }
        }
        let unbound = snapshot.unbound_since(&self.snapshot);
        self.templates.forget(|service, _| unbound.contains(&service));
        self.spec = spec;
        let before = std::mem::replace(&mut self.snapshot, snapshot);
        // There is one late worker in a test, at most.
        if let Some(late) = self.late.values_mut().find(|late| late.is_none()) {
            *late = Some(before);
        }
        Ok(())
    }

    /// From now on this worker takes no configuration up, until it catches up.
    pub(crate) fn lag(&mut self, worker: usize) {
        self.late.insert(worker, None);
    }

    /// A late worker takes up what the others have.
    pub(crate) fn catch_up(&mut self, worker: usize) {
        self.late.remove(&worker);
        self.workers[worker].configure(&self.snapshot);
    }

    /// The same configuration, with path MTUs that the slow path has learned.
    pub(crate) fn learn(&mut self, path_mtus: &[(&str, u16)]) {
        let by_rip = path_mtus.iter().map(|(rip, mtu)| (rip.parse().unwrap(), *mtu));
        self.compiler.learn(&[News::PathMtus(by_rip.collect())]);
        self.configure(self.spec.clone()).unwrap();
    }

    /// The same configuration, with what was learned of a real server of the first virtual service.
    pub(crate) fn hear(&mut self, real: &str, standing: Standing, weight: Option<u32>) {
        let name = RealName { service: self.spec.services[0].key, real: real.parse().unwrap() };
        let effect = Effect { standing, weight };
        self.compiler.learn(&[News::Real { name, cause: Cause::Health, effect }]);
        self.configure(self.spec.clone()).unwrap();
    }

    /// The same ports with other services.
    pub(crate) fn services(&mut self, services: &[&str]) {
        let services = services.iter().map(|s| Arc::new(service(s))).collect();
        self.configure(Spec { services, ..self.spec.clone() }).unwrap();
    }

    fn service_total(&self, service: ServiceId) -> Traffic {
        let stats = self.stats.iter().filter_map(|s| s.service(service));
        let connections = stats.map(|s| s.connections.get()).sum();
        Traffic { connections, ..Traffic::default() }
    }

    fn real_total(&self, real: RealId) -> Traffic {
        let mut total = Traffic::default();
        for s in self.stats.iter().filter_map(|s| s.real(real)) {
            total.add(&Traffic {
                connections: s.connections.get(),
                packets: s.packets.get(),
                bytes: s.bytes.get(),
                active: s.active.get(),
                inactive: s.inactive.get(),
            });
        }
        total
    }

    /// What a real server has counted.
    pub(crate) fn real_traffic(&self, real: RealId) -> Traffic {
        self.accounts.real(real, self.real_total(real))
    }

    /// What the first service has counted.
    pub(crate) fn service_traffic(&self) -> Traffic {
        let id = self.compiler.service_id(&self.spec.services[0].key).unwrap();
        let reals = &self.snapshot.service(id).unwrap().reals;
        self.accounts.service(id, self.service_total(id), reals, |real| self.real_total(real))
    }

    /// Sets what is known of a next hop.
    pub(crate) fn hop(&self, address: impl Into<IpAddr>, hop: NextHop) {
        let (links, address) = (&self.snapshot.links, address.into());
        let neighbor = links.neighbors.iter().find(|n| n.address == address).unwrap();
        self.hops.set(neighbor.id, hop);
    }

    /// The slot of a real server of the first service.
    pub(crate) fn real_id(&self, real: &str) -> RealId {
        let key = self.spec.services[0].key;
        self.compiler.real_id(&key, real.parse().unwrap()).unwrap()
    }

    /// A gauge of a real server of the first service, over all workers.
    pub(crate) fn gauge(&self, real: &str, which: fn(RealStats<'_>) -> u64) -> u64 {
        let id = self.real_id(real);
        self.stats.iter().map(|s| which(s.real(id).unwrap())).sum()
    }

    /// Active and inactive connections of a real server of the first service.
    pub(crate) fn connections(&self, real: &str) -> (u64, u64) {
        (self.gauge(real, |s| s.active.get()), self.gauge(real, |s| s.inactive.get()))
    }

    /// Calls one worker with what it works with.
    pub(crate) fn with<R>(
        &mut self,
        worker: usize,
        call: impl FnOnce(&mut Pipeline<Counted>, &mut Env<'_, Pool, Wire>) -> R,
    ) -> R {
        let mut env = Env {
            snapshot: self.late.get(&worker).and_then(Option::as_ref).unwrap_or(&self.snapshot),
            hops: &self.hops,
            pool: &self.pool,
            out: &mut self.wire,
            now: self.now,
        };
        call(&mut self.workers[worker], &mut env)
    }

    /// A burst of buffers, without delivery of what workers tell one another.
    pub(crate) fn burst(&mut self, worker: usize, port: PortId, buffers: Vec<Counted>) {
        self.received += buffers.len();
        let mut burst: ArrayVec<Counted, BURST> = buffers.into_iter().collect();
        self.with(worker, |p, env| p.burst(env, port, &mut burst));
        assert!(burst.is_empty());
    }

    /// Delivers one message; false when there is none.
    pub(crate) fn deliver_one(&mut self) -> bool {
        let Some((to, message)) = self.wire.mail.pop_front() else { return false };
        self.with(to.index(), |p, env| {
            p.peer(env, message);
            p.finish(env);
        });
        true
    }

    /// Delivers what workers tell one another until all is said.
    pub(crate) fn deliver(&mut self) {
        let mut left = 100_000;
        while self.deliver_one() {
            left -= 1;
            assert!(left > 0, "messages go round for ever");
        }
    }

    /// Runs `act`, and tells what came of it. The accounts must be right afterwards.
    pub(crate) fn outcome(&mut self, act: impl FnOnce(&mut Director)) -> Outcome {
        self.wire.sent.clear();
        self.wire.punted.clear();
        let before = self.counts();
        act(self);
        self.check();
        let mut counts = self.counts();
        for (name, value) in &mut counts.events {
            // A gauge may have gone down.
            *value = value.saturating_sub(before.events[name]);
        }
        for (name, value) in &mut counts.dropped {
            *value -= before.dropped[name];
        }
        let sent = self.wire.sent.iter().map(|(port, bytes)| Seen::read(*port, bytes)).collect();
        Outcome { sent, punted: self.wire.punted.clone(), counts }
    }

    /// One burst at one worker, all messages delivered.
    pub(crate) fn receive_at(&mut self, worker: usize, packets: &[Vec<u8>]) -> Outcome {
        let buffers = packets.iter().map(|p| self.census.buffer(p)).collect();
        self.outcome(|d| {
            d.burst(worker, WAN, buffers);
            d.deliver();
        })
    }

    /// One burst at the first worker.
    pub(crate) fn receive(&mut self, packets: &[Vec<u8>]) -> Outcome {
        self.receive_at(0, packets)
    }

    /// One packet at the first worker.
    pub(crate) fn receive_one(&mut self, packet: &[u8]) -> Outcome {
        self.receive(&[packet.to_vec()])
    }

    /// The verdict of one packet at the first worker.
    pub(crate) fn verdict(&mut self, packet: &[u8]) -> Verdict {
        self.receive_one(packet).verdict()
    }

    /// The real server a packet is forwarded to.
    pub(crate) fn real_of(&mut self, packet: &[u8]) -> Ipv4Addr {
        match self.verdict(packet) {
            Verdict::Forwarded(real) => real,
            other => panic!("not forwarded: {other:?}"),
        }
    }

    /// Time goes on by `millis`; workers do what they do between bursts.
    pub(crate) fn wait(&mut self, millis: u32) -> Outcome {
        self.now = self.now.after(millis);
        self.outcome(|d| {
            for worker in 0..d.workers.len() {
                d.with(worker, Pipeline::maintain);
                d.sweep(worker);
            }
        })
    }

    /// Pays the whole sweep debt of a worker.
    pub(crate) fn sweep(&mut self, worker: usize) {
        for _ in 0..=2 * (self.workers[worker].shard().capacity() / 256 + 1) {
            self.with(worker, |p, env| p.sweep(env));
        }
    }

    /// A part of a query to one worker.
    pub(crate) fn query(&mut self, worker: usize, query: Query) -> QueryReply {
        self.with(worker, |p, env| p.query(env, query))
    }

    pub(crate) fn counts(&self) -> Counts {
        let mut all = Counts::default();
        self.stats.iter().for_each(|s| all.add(&s.counts()));
        all
    }

    /// What must hold whenever no worker is at work.
    pub(crate) fn check(&self) {
        for stats in &self.stats {
            assert!(stats.counts().is_balanced(), "{:#?}", stats.counts());
        }
        let counts = self.counts();
        let seeking =
            |(_, m): &&(WorkerId, PeerMessage<Counted>)| matches!(m, PeerMessage::Seek(_));
        let underway = self.wire.mail.iter().filter(seeking).count();
        assert_eq!(
            counts.event(Event::HandedOver),
            counts.event(Event::TakenOver) + underway as u64
        );
        assert_eq!(
            self.census.alive(),
            counts.event(Event::Held) as usize + underway,
            "every other buffer is gone"
        );
        self.check_gauges();
    }

    /// Gauges are what is in the tables, and flows are accounted for.
    fn check_gauges(&self) {
        for (worker, stats) in self.workers.iter().zip(&self.stats) {
            let mut found = vec![(0u64, 0u64, 0u64); SLOTS];
            let mut count = |real: RealId, flags: FlowFlags, state: State| {
                let slot = &mut found[real.index()];
                if flags.has(FlowFlags::REPLICA) {
                    slot.2 += 1;
                } else if state.is_active() {
                    slot.0 += 1;
                } else {
                    slot.1 += 1;
                }
            };
            worker.shard().scan(0, usize::MAX, |f| count(f.real, f.flags, f.state));
            worker.shard6().scan(0, usize::MAX, |f| count(f.real, f.flags, f.state));
            for (id, found) in found.into_iter().enumerate() {
                let s = stats.real(RealId(id as u32)).unwrap();
                let gauges = (s.active.get(), s.inactive.get(), s.replicas.get());
                assert_eq!(gauges, found, "real server slot {id}");
            }
            let event = |e| stats.event(e).get();
            let flows6 = worker.shard6().len() as u64;
            assert_eq!(event(Event::Flows6), flows6);
            assert_eq!(event(Event::Flows), worker.shard().len() as u64 + flows6);
            let gone = [
                Event::FlowsExpired,
                Event::FlowsEvicted,
                Event::FlowsReplaced,
                Event::FlowsOrphaned,
                Event::FlowsFlushed,
            ];
            assert_eq!(
                event(Event::FlowsCreated),
                event(Event::Flows) + gone.map(event).iter().sum::<u64>()
            );
        }
    }
}
