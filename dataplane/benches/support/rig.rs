//! One worker's pipeline with everything around it, and a stopwatch.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dataplane::flow::{Shard, Shard6};
use dataplane::hash::Seed;
use dataplane::packet::buf::PacketBuf;
use dataplane::persist::AllTemplates;
use dataplane::pipeline::{
    BURST, Env, FlowMatch, LoadBoard, Output, PeerMessage, Pipeline, Query, QueryKind, SCAN_BUDGET,
    Settings, Tables,
};
use dataplane::snapshot::Snapshot;
use dataplane::snapshot::compile::{Compiler, Limits};
use dataplane::snapshot::neighbors::{NextHop, NextHops};
use dataplane::snapshot::spec::{GreSpec, PortSpec, RealSpec, ServiceSpec, Spec};
use dataplane::stats::{Counts, Stats};
use dataplane::types::{Mac, PortId, Protocol, Punt, ServiceKey, Tick, WorkerId};
use dataplane::vocabulary::{ForwardMethod, SchedulerKind};

use super::buffer::{Buf, NoPool, Slab};
use super::traffic::{PORT_MAC, Template, Visits, vip, vip_port, vip6};

/// Bursts between two readings of the clock. Their buffers fit the first-level cache, and reading
/// the clock is spread over so many packets.
const BURSTS: usize = 4;
/// Packets between two readings of the clock.
pub const BATCH: usize = BURSTS * BURST;

/// What a pipeline is to forward by.
#[derive(Debug, Clone, Copy)]
pub struct Setup {
    pub method: ForwardMethod,
    pub scheduler: SchedulerKind,
    /// Virtual services, each for TCP and UDP.
    pub services: usize,
    /// Real servers of each.
    pub reals: usize,
    /// Flows the table of the clients' family holds.
    pub capacity: usize,
    /// Whether clients, and so VIPs, have IPv6 addresses.
    pub clients6: bool,
    /// Whether real servers have.
    pub reals6: bool,
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            method: ForwardMethod::Dr,
            scheduler: SchedulerKind::Mh,
            services: 1,
            reals: 2,
            capacity: 1 << 20,
            clients6: false,
            reals6: false,
        }
    }
}

/// The network of IPv6 real servers, whose last bits are those of the IPv4 ones.
const PREFIX: u128 = 0x2001_0db8_0001 << 80;

impl Setup {
    fn spec(&self) -> Spec {
        // On-link for dr, behind the gateway for tunnels.
        let network = match self.method {
            ForwardMethod::Dr => Ipv4Addr::new(172, 16, 1, 0),
            ForwardMethod::Ipip | ForwardMethod::Gre => Ipv4Addr::new(100, 64, 1, 0),
        };
        let real = |n: usize| RealSpec {
            address: match self.reals6 {
                false => Ipv4Addr::from_bits(network.to_bits() + n as u32).into(),
                true => {
                    let bits = u128::from(network.to_bits() + n as u32);
                    Ipv6Addr::from_bits(PREFIX | bits).into()
                }
            },
            // With ovf a weight is how many connections fit.
            weight: if self.scheduler == SchedulerKind::Ovf { 65_535 } else { 1 },
            method: self.method,
            gre: GreSpec::default(),
            thresholds: Default::default(),
        };
        let service = |protocol, n: usize| ServiceSpec {
            key: ServiceKey {
                protocol,
                vip: if self.clients6 { vip6(n).into() } else { vip(n).into() },
                ports: vip_port(protocol).into(),
            },
            scheduler: self.scheduler,
            options: Default::default(),
            reals: (0..self.reals).map(real).collect(),
        };
        Spec {
            ports: vec![PortSpec {
                name: "lan".into(),
                mac: PORT_MAC,
                mtu: 1500,
                addresses: ["172.16.0.10/16", "2001:db8:1::172.16.0.10/112"]
                    .map(|address| address.parse().expect("an address"))
                    .to_vec(),
                gateways: ["172.16.0.1", "2001:db8:1::172.16.0.1"]
                    .map(|gateway| gateway.parse().expect("an address"))
                    .to_vec(),
            }],
            services: (0..self.services)
                .flat_map(|n| [service(Protocol::Tcp, n), service(Protocol::Udp, n)])
                .map(Arc::new)
                .collect(),
            hash_key: [7; 16],
            maglev_size: 65_537,
            ..Spec::default()
        }
    }
}

/// Where packets go: nowhere, at once, as with a port that drops what it is given.
struct Sink;

impl Output<Buf> for Sink {
    #[inline(always)]
    fn transmit(&mut self, _: PortId, frames: &mut ArrayVec<Buf, BURST>) {
        frames.clear();
    }
    #[inline(always)]
    fn punt(&mut self, _: Punt<Buf>) -> Result<(), Punt<Buf>> {
        Ok(())
    }
    fn tell(&mut self, _: WorkerId, message: PeerMessage<Buf>) -> Result<(), PeerMessage<Buf>> {
        Err(message)
    }
}

/// A pipeline with its configuration; neighbors are known.
pub struct Director<B> {
    pub pipeline: Pipeline<B>,
    snapshot: Snapshot,
    hops: NextHops,
    pub stats: Arc<Stats>,
}

impl<B: PacketBuf> Director<B> {
    pub fn new(setup: &Setup) -> Director<B> {
        let services = 2 * setup.services;
        let (reals, neighbors) = (services * setup.reals, setup.reals + 2);
        let limits =
            Limits { services: services as u32, reals: reals as u32, neighbors: neighbors as u32 };
        let compiled = Compiler::new(limits).compile(&setup.spec(), 1, u64::MAX, |_| true);
        let snapshot = compiled.expect("a right configuration").snapshot;
        let hops = NextHops::new(neighbors);
        for (n, neighbor) in snapshot.links.neighbors.iter().enumerate() {
            let [a, b] = (n as u16).to_be_bytes();
            hops.set(neighbor.id, NextHop::Known(Mac([2, 0, 0, 1, a, b])));
        }
        let stats = Arc::new(Stats::new(1, services, reals));
        let seed = 0x0123_4567_89ab_cdef_0011_2233_4455_6677;
        let (flows, flows6) =
            if setup.clients6 { (1, setup.capacity) } else { (setup.capacity, 1) };
        let shard = Shard::new(flows, Seed::new(seed)).expect("memory for the flow table");
        let settings = Settings { me: WorkerId(0), workers: 1, ports: 1, seed };
        let loads = Arc::new(LoadBoard::new(1, reals));
        let shard6 = Shard6::new(flows6, Seed::new(seed)).expect("memory for IPv6 flows");
        let tables = Tables { shard, shard6, templates: AllTemplates::new(1, 1) };
        let mut pipeline = Pipeline::new(&settings, Arc::clone(&stats), loads, tables);
        pipeline.configure(&snapshot);
        Director { pipeline, snapshot, hops, stats }
    }

    /// The pipeline, and what it works with.
    #[inline(always)]
    pub fn parts<'a, P, O>(
        &'a mut self,
        pool: &'a P,
        out: &'a mut O,
        now: Tick,
    ) -> (&'a mut Pipeline<B>, Env<'a, P, O>) {
        let env = Env { snapshot: &self.snapshot, hops: &self.hops, pool, out, now };
        (&mut self.pipeline, env)
    }
}

/// A pipeline with test buffers, ready to run.
pub struct Rig {
    director: Director<Buf>,
    slab: &'static Slab,
    bursts: [ArrayVec<Buf, BURST>; BURSTS],
    now: Tick,
}

impl Rig {
    pub fn new(setup: &Setup) -> Rig {
        let director = Director::new(setup);
        Rig { director, slab: Slab::leak(BATCH), bursts: Default::default(), now: Tick(1000) }
    }

    /// Receives a batch.
    pub fn load(&mut self, template: &Template, visits: &mut Visits) {
        let mut n = 0;
        for burst in &mut self.bursts {
            for _ in 0..BURST {
                let mut buf = self.slab.take(n).expect("a packet that nobody kept");
                if template.is_ipv6() {
                    template.write6(visits.next(), buf.receive(template.len()));
                } else {
                    template.write::<64>(visits.next(), buf.receive(template.len()));
                }
                burst.push(buf);
                n += 1;
            }
        }
    }

    /// Handles what was received.
    #[inline(never)]
    pub fn run(&mut self) {
        let mut out = Sink;
        let (pipeline, mut env) = self.director.parts(&NoPool, &mut out, self.now);
        for burst in &mut self.bursts {
            pipeline.burst(&mut env, PortId(0), burst);
        }
    }

    /// Handles what was received, timed.
    pub fn timed(&mut self) -> Duration {
        let start = Instant::now();
        self.run();
        start.elapsed()
    }

    /// Gives back what was received, untouched: what the harness itself costs.
    #[inline(never)]
    pub fn timed_empty(&mut self) -> Duration {
        let start = Instant::now();
        for burst in &mut self.bursts {
            Sink.transmit(PortId(0), burst);
        }
        start.elapsed()
    }

    /// Sends a packet of each flow of a round (and of some again, to fill the last batch).
    pub fn send(&mut self, template: &Template, visits: &mut Visits) {
        for _ in 0..visits.len().div_ceil(BATCH) {
            self.load(template, visits);
            self.run();
        }
    }

    /// Time goes on by so many milliseconds.
    pub fn after(&mut self, ms: u32) {
        self.now = self.now.after(ms);
    }

    /// Removes the flows that match.
    pub fn flush(&mut self, wanted: &FlowMatch) {
        let mut out = Sink;
        let (pipeline, env) = self.director.parts(&NoPool, &mut out, self.now);
        let mut query = Query {
            cursor: 0,
            budget: SCAN_BUDGET,
            kind: QueryKind::Flush,
            wanted: wanted.clone(),
            rows: Vec::with_capacity(SCAN_BUDGET),
        };
        loop {
            let reply = pipeline.query(&env, query);
            query = reply.query;
            match reply.next {
                Some(next) => query.cursor = next,
                None => return,
            }
        }
    }

    pub fn counts(&self) -> Counts {
        self.director.stats.counts()
    }
}
