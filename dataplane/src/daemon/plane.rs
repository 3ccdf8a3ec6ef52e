//! The running data plane, as the control plane sees it.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pools::Pools;
use super::slow::SlowBoard;
use crate::control::plane::{
    ApplyError, Busy, FlowFilter, FlowPage, FlowRow, NeighborRow, Plane, PortRow, Reachability,
    StatsReport, WorkerRow,
};
use crate::dpdk::Port;
use crate::flow::State;
use crate::persist::AllTemplates;
use crate::pipeline::{FlowMatch, LoadBoard, Query, QueryKind, QueryReply, SCAN_BUDGET};
use crate::snapshot::Snapshot;
use crate::snapshot::compile::{CompileError, Compiler};
use crate::snapshot::learned::{Effect, News, RealName};
use crate::snapshot::neighbors::{NextHop, NextHops};
use crate::snapshot::publish::Publisher;
use crate::snapshot::spec::Spec;
use crate::stats::{Accounts, Counts, RealStats, ServiceStats, Stats, Traffic};
use crate::types::{PortId, RealId, ServiceId, ServiceKey, Tuple};
use crate::worker::{Clock, ControlEnd};

/// How long workers and slow path may take to take up a configuration, or to answer a question.
/// They do it between bursts, so this is only ever reached by one that is stuck.
const PATIENCE: Duration = Duration::from_secs(5);

/// Table places that one page of a flow listing may look at, so that a page is answered soon even
/// when hardly a flow matches.
const PAGE_PLACES: usize = 1 << 20;

/// A port with its place in the configuration.
pub(super) struct PortEntry {
    pub(super) name: String,
    pub(super) device: String,
    pub(super) port: Port,
    pub(super) queues: u16,
}

/// What configuring changes; one at a time.
pub(super) struct Published {
    pub(super) compiler: Compiler,
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) accounts: Accounts,
    /// Virtual services whose clients are grouped otherwise since a generation, or no longer bound:
    /// whoever does not forward by it yet may still bind them as before.
    pub(super) unbound: Vec<(u64, ServiceId)>,
}

/// The handles through which control reaches workers and slow path.
pub(super) struct LivePlane {
    pub(super) published: Mutex<Published>,
    /// Not among the above: whoever reads that must not wait for workers.
    pub(super) publisher: Publisher<Snapshot>,
    pub(super) workers: Vec<(u32, Arc<Stats>)>,
    pub(super) slow: Arc<Stats>,
    pub(super) templates: AllTemplates,
    pub(super) loads: Arc<LoadBoard>,
    pub(super) hops: Arc<NextHops>,
    pub(super) board: Arc<SlowBoard>,
    /// Held while a worker is asked, one question at a time.
    pub(super) asking: Vec<Mutex<ControlEnd>>,
    pub(super) ports: Vec<PortEntry>,
    pub(super) pools: Pools,
    pub(super) started: Instant,
    /// The workers'.
    pub(super) clock: Clock,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while it was held leaves nothing half done that later calls could not bear.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn of_service(stats: ServiceStats<'_>) -> Traffic {
    Traffic { connections: stats.connections.get(), ..Traffic::default() }
}

fn of_real(stats: RealStats<'_>) -> Traffic {
    Traffic {
        connections: stats.connections.get(),
        packets: stats.packets.get(),
        bytes: stats.bytes.get(),
        active: stats.active.get(),
        inactive: stats.inactive.get(),
    }
}

impl LivePlane {
    fn sum<'a, T>(
        &'a self,
        pick: impl Fn(&'a Stats) -> Option<T>,
        read: impl Fn(T) -> Traffic,
    ) -> Traffic {
        let mut sum = Traffic::default();
        for traffic in self.workers.iter().filter_map(|(_, s)| pick(s)).map(read) {
            sum.add(&traffic);
        }
        sum
    }

    fn real_total(&self, real: RealId) -> Traffic {
        self.sum(|s| s.real(real), of_real)
    }

    /// Whether no worker has a flow to this real server slot.
    fn is_unused(&self, real: RealId) -> bool {
        self.workers
            .iter()
            .filter_map(|(_, s)| s.real(real))
            .all(|s| s.active.get() == 0 && s.inactive.get() == 0 && s.replicas.get() == 0)
    }

    /// Removes the templates of virtual services that are unbound, once nobody makes more of them.
    fn forget_unbound(&self) {
        let acknowledged = self.publisher.acknowledged();
        let mut ready = HashSet::new();
        locked(&self.published).unbound.retain(|(generation, service)| {
            let waits = *generation > acknowledged;
            if !waits {
                ready.insert(*service);
            }
            waits
        });
        if !ready.is_empty() {
            self.templates.forget(|service, _| ready.contains(&service));
        }
    }

    /// Takes up the path MTUs that the slow path knows now.
    fn note_path_mtus(&self, published: &mut Published) {
        let path_mtus = self.board.path_mtus();
        if path_mtus != *published.compiler.path_mtus() {
            published.compiler.learn(&[News::PathMtus(path_mtus)]);
        }
    }

    /// Compiles and publishes a specification, with what was learned over it.
    fn publish(
        &self,
        mut published: MutexGuard<'_, Published>,
        spec: &Spec,
    ) -> Result<u64, ApplyError> {
        let generation = published.snapshot.generation + 1;
        // Before gauges are read: whoever has acknowledged a generation makes no flow to what it
        // does without, so what is unused then stays so.
        let acknowledged = self.publisher.acknowledged();
        let compiled = published
            .compiler
            .compile(spec, generation, acknowledged, |real| self.is_unused(real))
            .map_err(|error| match error {
                CompileError::Full { .. } => ApplyError::Full(error.to_string()),
                _ => ApplyError::Invalid(error.to_string()),
            })?;
        // Of what had these slots before; nobody forwards by that any more.
        let new_services: HashSet<_> = compiled.new_services.iter().collect();
        let new_reals: HashSet<_> = compiled.new_reals.iter().collect();
        let new = !new_services.is_empty() || !new_reals.is_empty();
        if new && !self.templates.is_empty() {
            self.templates.forget(|service, real| {
                new_services.contains(&service) || new_reals.contains(&real)
            });
        }
        for id in &compiled.new_services {
            published.accounts.open_service(*id, self.sum(|s| s.service(*id), of_service));
        }
        for id in &compiled.new_reals {
            self.loads.forget(*id);
            published.accounts.open_real(*id, self.real_total(*id));
        }
        for id in &compiled.revived {
            published.accounts.open_real(*id, self.real_total(*id));
        }
        let snapshot = Arc::new(compiled.snapshot);
        let before = std::mem::replace(&mut published.snapshot, Arc::clone(&snapshot));
        let unbound = snapshot.unbound_since(&before);
        published.unbound.extend(unbound.into_iter().map(|service| (generation, service)));
        for (service, real) in compiled.departed {
            published.accounts.depart(service, real);
        }
        drop(published);
        let taken = self.publisher.publish(generation, &snapshot, PATIENCE);
        self.forget_unbound();
        taken.map(|()| generation).map_err(|late| {
            let who = match late.reader {
                worker if worker < self.workers.len() => format!("worker {worker}"),
                _ => "the slow path".to_owned(),
            };
            ApplyError::Late { generation, who, millis: PATIENCE.as_millis() as u32 }
        })
    }

    /// Asks one worker and waits for the answer.
    fn ask(&self, worker: usize, query: Query) -> Result<QueryReply, Busy> {
        let busy = Busy { worker: worker as u16, millis: PATIENCE.as_millis() as u32 };
        let mut worker = self.asking.get(worker).map(locked).ok_or(busy)?;
        worker.ask(query).map_err(|_| busy)?;
        let asked = Instant::now();
        loop {
            if let Some(reply) = worker.reply() {
                return Ok(reply);
            }
            if asked.elapsed() > PATIENCE {
                return Err(busy);
            }
            std::thread::sleep(Duration::from_micros(50));
        }
    }

    /// The filter in terms of slots, and the snapshot they belong to.
    fn wanted(&self, filter: &FlowFilter) -> (FlowMatch, Arc<Snapshot>) {
        let snapshot = Arc::clone(&locked(&self.published).snapshot);
        let slots = |rip| {
            let mut slots: Vec<_> = snapshot.reals_at(rip).chain(snapshot.absent_at(rip)).collect();
            slots.sort_unstable();
            slots.dedup();
            slots
        };
        let reals = filter.real.map(slots);
        let wanted = FlowMatch {
            protocol: filter.protocol,
            client: filter.client,
            client_port: filter.client_port,
            vip: filter.vip,
            vip_port: filter.vip_port,
            reals,
        };
        (wanted, snapshot)
    }

    fn query(&self, worker: usize, query: Query) -> Result<(Query, Option<u32>), Busy> {
        self.ask(worker, query).map(|reply| (reply.query, reply.next))
    }
}

impl Plane for LivePlane {
    fn apply(&self, spec: &Spec) -> Result<u64, ApplyError> {
        let mut published = locked(&self.published);
        self.note_path_mtus(&mut published);
        self.publish(published, spec)
    }

    fn learn(&self, news: &[News]) -> Result<u64, ApplyError> {
        let mut published = locked(&self.published);
        published.compiler.learn(news);
        self.note_path_mtus(&mut published);
        match published.compiler.spec().cloned() {
            Some(spec) if published.compiler.has_news() => self.publish(published, &spec),
            _ => Ok(published.snapshot.generation),
        }
    }

    fn has_learned(&self) -> bool {
        self.board.path_mtus() != *locked(&self.published).compiler.path_mtus()
    }

    fn learned(&self, name: &RealName) -> Effect {
        locked(&self.published).compiler.learned(name)
    }

    fn generation(&self) -> u64 {
        locked(&self.published).snapshot.generation
    }

    fn uptime_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn stats(&self) -> StatsReport {
        let seen = self.publisher.seen();
        let workers: Vec<_> = self
            .workers
            .iter()
            .zip(seen)
            .enumerate()
            .map(|(i, ((lcore, stats), generation))| WorkerRow {
                worker: i as u16,
                lcore: *lcore,
                generation,
                longest_round_ns: stats.rounds().longest_ns(),
                counts: stats.counts(),
            })
            .collect();
        let mut total = Counts::default();
        for worker in &workers {
            total.add(&worker.counts);
        }
        StatsReport {
            generation: self.generation(),
            uptime_ms: self.uptime_ms(),
            total,
            workers,
            slow_path: self.slow.counts(),
            mbufs: self.pools.size(),
            mbufs_in_use: self.pools.in_use(),
        }
    }

    fn service_traffic(&self, key: &ServiceKey) -> Traffic {
        let published = locked(&self.published);
        let Some(id) = published.compiler.service_id(key) else { return Traffic::default() };
        let reals = published.snapshot.service(id).map_or(&[][..], |service| &service.reals);
        let total = self.sum(|s| s.service(id), of_service);
        published.accounts.service(id, total, reals, |real| self.real_total(real))
    }

    fn real_traffic(&self, key: &ServiceKey, real: IpAddr) -> (Traffic, Reachability) {
        let published = locked(&self.published);
        let Some(id) = published.compiler.real_id(key, real) else {
            return (Traffic::default(), Reachability::Unreachable);
        };
        let traffic = published.accounts.real(id, self.real_total(id));
        let hop = published.snapshot.configured(id).map(|r| self.hops.get(r.neighbor));
        let reachability = match hop {
            Some(NextHop::Known(_)) => Reachability::Reachable,
            Some(NextHop::Unknown) => Reachability::Resolving,
            Some(NextHop::Failed) | None => Reachability::Unreachable,
        };
        (traffic, reachability)
    }

    fn path_mtu(&self, key: &ServiceKey, real: IpAddr) -> Option<u16> {
        let published = locked(&self.published);
        let real = published.snapshot.configured(published.compiler.real_id(key, real)?)?;
        let port = published.snapshot.links.ports.get(real.port.index())?;
        (real.mtu < port.mtu).then_some(real.mtu)
    }

    fn templates(&self) -> HashMap<(ServiceKey, IpAddr), u64> {
        let snapshot = Arc::clone(&locked(&self.published).snapshot);
        let mut clock = self.clock;
        let counts = self.templates.count(clock.now());
        let named = counts.into_iter().filter_map(|(real, count)| {
            let real = snapshot.configured(real)?;
            Some(((snapshot.service(real.service)?.key, real.address), count))
        });
        named.collect()
    }

    fn ports(&self) -> Vec<PortRow> {
        let snapshot = Arc::clone(&locked(&self.published).snapshot);
        self.ports.iter().enumerate().map(|(i, entry)| self.port_row(i, entry, &snapshot)).collect()
    }

    fn neighbors(&self) -> Vec<NeighborRow> {
        self.board.neighbors()
    }

    fn flows(&self, filter: &FlowFilter, cursor: u64, limit: usize) -> Result<FlowPage, Busy> {
        let (wanted, snapshot) = self.wanted(filter);
        let limit = limit.max(1);
        let (mut worker, mut place) = ((cursor >> 32) as usize, cursor as u32);
        let mut page = FlowPage::default();
        let mut looked_at = 0;
        while worker < self.workers.len() {
            let budget = SCAN_BUDGET.min(limit - page.flows.len());
            let query = Query {
                cursor: place,
                budget,
                kind: QueryKind::List,
                wanted: wanted.clone(),
                rows: Vec::with_capacity(budget),
            };
            let (query, next) = self.query(worker, query)?;
            page.flows.extend(query.rows.iter().map(|row| {
                FlowRow {
                    protocol: row.key.protocol(),
                    state: match (row.template, row.state) {
                        (true, State::Established) => "ASSURED",
                        (true, _) => "NONE",
                        (false, state) => state.name(),
                    }
                    .to_owned(),
                    expires_ms: row.remaining_ms,
                    client: SocketAddr::new(row.key.client(), row.key.client_port()),
                    vip: SocketAddr::new(row.key.vip(), row.key.vip_port()),
                    real: snapshot.rip(row.real),
                    worker: worker as u16,
                    replica: row.replica,
                    template: row.template,
                }
            }));
            looked_at += budget;
            (worker, place) = match next {
                Some(place) => (worker, place),
                None => (worker + 1, 0),
            };
            if page.flows.len() >= limit || looked_at >= PAGE_PLACES {
                break;
            }
        }
        if worker < self.workers.len() {
            page.next = Some((worker as u64) << 32 | u64::from(place));
        }
        Ok(page)
    }

    fn flush_flows(&self, filter: &FlowFilter) -> Result<u64, Busy> {
        let (wanted, _) = self.wanted(filter);
        let mut flushed = 0;
        for worker in 0..self.workers.len() {
            let mut query = Query {
                cursor: 0,
                budget: SCAN_BUDGET,
                kind: QueryKind::Flush,
                wanted: wanted.clone(),
                rows: Vec::with_capacity(SCAN_BUDGET),
            };
            loop {
                let (answered, next) = self.query(worker, query)?;
                flushed +=
                    answered.rows.iter().filter(|row| !row.replica && !row.template).count() as u64;
                let Some(cursor) = next else { break };
                query = Query { cursor, ..answered };
            }
        }
        Ok(flushed)
    }
}

impl LivePlane {
    fn port_row(&self, index: usize, entry: &PortEntry, snapshot: &Snapshot) -> PortRow {
        let id = PortId(index as u16);
        let spec = snapshot.links.ports.get(index);
        let nic = entry.port.stats().unwrap_or_default();
        let link = entry.port.link().ok();
        let mut row = PortRow {
            name: entry.name.clone(),
            device: entry.device.clone(),
            driver: entry.port.driver().to_owned(),
            mac: entry.port.mac(),
            link: link.is_some_and(|l| l.up),
            speed_mbps: link.and_then(|l| l.speed_mbps),
            mtu: entry.port.mtu(),
            addresses: spec.iter().flat_map(|s| &s.addresses).map(ToString::to_string).collect(),
            ipv6: self.board.addresses(id),
            gateways: spec.map(|s| s.gateways.clone()).unwrap_or_default(),
            queues: entry.queues,
            workers: (0..entry.queues).collect(),
            rx_packets: 0,
            rx_bytes: 0,
            tx_packets: 0,
            tx_bytes: 0,
            tx_full: 0,
            rx_missed: nic.rx_missed,
            rx_errors: nic.rx_errors,
            rx_no_buffer: nic.rx_no_mbuf,
            tx_errors: nic.tx_errors,
        };
        for port in self.workers.iter().filter_map(|(_, s)| s.port(id)) {
            row.rx_packets += port.rx_packets.get();
            row.rx_bytes += port.rx_bytes.get();
            row.tx_packets += port.tx_packets.get();
            row.tx_bytes += port.tx_bytes.get();
            row.tx_full += port.tx_full.get();
        }
        row
    }
}
