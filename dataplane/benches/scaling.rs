//! One pipeline on one processor, and two on two: what workers cost one another.
//!
//! Each worker has a shard, counters, packets and a mempool of its own, as in the daemon but for
//! the mempool, which workers share there through a cache each. Packets are written in place
//! (`in_place.rs` says how); every worker has its own flows, visited in random order. What is left
//! to share is memory bandwidth and the last cache.
//!
//! `scaling METHOD FLOWS ROUNDS MILLISECONDS [EAL ARGUMENT…]`, with lcores 0 and 1, prints a line
//! per round: million packets a second of the one (on lcore 1), and of both together.
//! `scripts/bench scaling` runs it.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod support;

use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use dataplane::dpdk::{Eal, Mempool, launch};
use dataplane::pipeline::BURST;
use dataplane::stats::Event;
use dataplane::vocabulary::ForwardMethod;
use dataplane::worker::Clock;
use support::mbufs::{Burst, Shunt, Source};
use support::rig::{Director, Setup};
use support::traffic::{Flows, Order, Template};

/// Bursts between two looks at the clock.
const SLICE: usize = 256;
/// Buffers in a worker's pool, and in its cache, as in the daemon.
const MBUFS: u32 = 16_383;
const CACHE: u32 = 256;

/// One worker with its packets.
struct Lane {
    shunt: Shunt,
    source: Source,
    flows: usize,
}

impl Lane {
    /// With all its flows made.
    fn new(name: &str, method: ForwardMethod, flows: usize) -> Lane {
        let pool = Mempool::new(name, MBUFS, CACHE, 2048, None).expect("a pool");
        let setup = Setup { method, capacity: (2 * flows).max(1 << 16), ..Setup::default() };
        let all = Flows::Nth { count: flows, services: 1 };
        let (director, clock) = (Director::new(&setup), Clock::start());
        let source = Source {
            pool: pool.clone(),
            template: Template::udp(),
            visits: Order::Round(all).visits(),
        };
        let mut lane = Lane { shunt: Shunt { director, pool, clock }, source, flows };
        lane.bursts(flows.div_ceil(BURST));
        lane.source.visits = Order::Shuffled(all).visits();
        lane
    }

    #[inline(always)]
    fn bursts(&mut self, bursts: usize) {
        let mut burst = Burst::new();
        for _ in 0..bursts {
            self.source.burst(&mut burst);
            self.shunt.round(&mut burst);
        }
    }

    /// Million packets a second over `interval`, after a tenth of it.
    #[inline(never)]
    fn measure(&mut self, interval: Duration) -> f64 {
        let warm_up = Instant::now();
        while warm_up.elapsed() < interval / 10 {
            self.bursts(SLICE);
        }
        let (start, mut packets) = (Instant::now(), 0);
        while start.elapsed() < interval {
            self.bursts(SLICE);
            packets += SLICE * BURST;
        }
        packets as f64 / start.elapsed().as_secs_f64() / 1e6
    }

    fn end(mut self) {
        let counts = self.shunt.director.stats.counts();
        assert_eq!(counts.event(Event::RxPackets), counts.event(Event::Forwarded), "{counts:?}");
        assert_eq!(counts.event(Event::FlowsCreated), self.flows as u64, "every flow is made once");
        self.shunt.director.pipeline.shutdown();
        assert_eq!(self.source.pool.in_use(), 0, "mbufs are lost");
    }
}

/// Measures the second lane on lcore 1, and with it the first on this one, if there is one.
fn both(first: Option<&mut Lane>, mut second: Lane, interval: Duration) -> (f64, Lane) {
    let start = Arc::new(Barrier::new(if first.is_some() { 2 } else { 1 }));
    let theirs = Arc::clone(&start);
    let running = launch(1, move || {
        theirs.wait();
        (second.measure(interval), second)
    });
    let mut sum = 0.0;
    if let Some(first) = first {
        start.wait();
        sum = first.measure(interval);
    }
    let (value, second) = running.expect("lcore 1").join().expect("a worker that ends");
    (sum + value, second)
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [method, flows, rounds, milliseconds, eal @ ..] = &args[..] else {
        println!("scaling METHOD FLOWS ROUNDS MILLISECONDS [EAL ARGUMENT…]");
        return;
    };
    let method: ForwardMethod = method.parse().expect("a forwarding method");
    let flows: usize = flows.parse().expect("a number of flows");
    let rounds = rounds.parse().expect("a number of rounds");
    let interval = Duration::from_millis(milliseconds.parse().expect("milliseconds"));
    let eal = Eal::init(eal).expect("the EAL starts");
    let mut first = Lane::new("first", method, flows);
    let mut second = Lane::new("second", method, flows);
    for round in 0..rounds {
        let (mut one, mut two) = (0.0, 0.0);
        // Each is first as often as the other.
        for workers in if round % 2 == 0 { [1, 2] } else { [2, 1] } {
            if workers == 1 {
                (one, second) = both(None, second, interval);
            } else {
                (two, second) = both(Some(&mut first), second, interval);
            }
        }
        println!("{one} {two}");
    }
    first.end();
    second.end();
    drop(eal);
}
