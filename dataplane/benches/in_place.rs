//! The pipeline on mbufs whose headers are written in place, against a loop over the same source
//! that only rewrites Ethernet addresses, as `dpdk-testpmd --forward-mode=mac` does.
//!
//! A source by net_pcap copies every packet out of memory that, with many flows, is in no cache,
//! and visits flows in the order they were made in. This one takes fresh mbufs in bursts, writes 60
//! bytes into each, and visits flows in random order. What is sent is freed. One process does both,
//! in turn; the pipeline's side does all that a worker does in a round but messages.
//!
//! `in_place METHOD FLOWS PAIRS MILLISECONDS [EAL ARGUMENT…]` prints a line per pair: million
//! packets a second of the pipeline and of the other. `scripts/bench throughput` runs it.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod support;

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use dataplane::dpdk::{Eal, Mbuf, Mempool, free_bulk};
use dataplane::packet::buf::PacketBuf;
use dataplane::pipeline::{BURST, Output, PeerMessage};
use dataplane::stats::Event;
use dataplane::types::{PortId, Punt, WorkerId};
use dataplane::vocabulary::ForwardMethod;
use dataplane::worker::Clock;
use support::rig::{Director, Setup};
use support::traffic::{Flows, Order, PORT_MAC, Template, Visits};

/// Bursts between two looks at the clock.
const SLICE: usize = 256;
/// Buffers in the pool, and in its cache, as in the daemon.
const MBUFS: u32 = 16_383;
const CACHE: u32 = 256;

/// A port that takes all and sends nothing.
struct Sink;

impl Output<Mbuf> for Sink {
    #[inline(always)]
    fn transmit(&mut self, _: PortId, frames: &mut ArrayVec<Mbuf, BURST>) {
        free_bulk(frames);
    }
    #[inline(always)]
    fn discard(&mut self, frames: &mut ArrayVec<Mbuf, BURST>) {
        free_bulk(frames);
    }
    fn punt(&mut self, punt: Punt<Mbuf>) -> Result<(), Punt<Mbuf>> {
        Err(punt)
    }
    fn tell(&mut self, _: WorkerId, message: PeerMessage<Mbuf>) -> Result<(), PeerMessage<Mbuf>> {
        Err(message)
    }
}

/// Where packets come from.
struct Source {
    pool: Mempool,
    template: Template,
    visits: Visits,
}

impl Source {
    #[inline(always)]
    fn burst(&mut self, out: &mut ArrayVec<Mbuf, BURST>) {
        assert!(self.pool.alloc_bulk(out, BURST), "mbufs are lost");
        for mbuf in out {
            let _ = mbuf.append(60);
            if let Some(frame) = mbuf.data_mut().first_chunk_mut::<60>() {
                self.template.write(self.visits.next(), frame);
            }
        }
    }
}

/// What is measured.
trait Forwarder {
    fn round(&mut self, burst: &mut ArrayVec<Mbuf, BURST>);
}

struct Shunt {
    director: Director<Mbuf>,
    pool: Mempool,
    clock: Clock,
}

impl Forwarder for Shunt {
    #[inline(always)]
    fn round(&mut self, burst: &mut ArrayVec<Mbuf, BURST>) {
        let mut out = Sink;
        let now = self.clock.now();
        let (pipeline, mut env) = self.director.parts(&self.pool, &mut out, now);
        pipeline.burst(&mut env, PortId(0), burst);
        pipeline.maintain(&mut env);
        pipeline.sweep(&env);
    }
}

struct MacRewrite;

impl Forwarder for MacRewrite {
    #[inline(always)]
    fn round(&mut self, burst: &mut ArrayVec<Mbuf, BURST>) {
        for mbuf in burst.iter_mut() {
            if let Some(addresses) = mbuf.data_mut().first_chunk_mut::<12>() {
                addresses[..6].copy_from_slice(&[2, 0, 0, 0, 0, 9]);
                addresses[6..].copy_from_slice(&PORT_MAC.0);
            }
        }
        free_bulk(burst);
    }
}

/// Million packets a second over `interval`.
#[inline(never)]
fn measure<F: Forwarder>(forwarder: &mut F, source: &mut Source, interval: Duration) -> f64 {
    let mut burst = ArrayVec::new();
    let (start, mut packets) = (Instant::now(), 0);
    while start.elapsed() < interval {
        for _ in 0..SLICE {
            source.burst(&mut burst);
            forwarder.round(&mut burst);
        }
        packets += SLICE * BURST;
    }
    packets as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [method, flows, pairs, milliseconds, eal @ ..] = &args[..] else {
        println!("in_place METHOD FLOWS PAIRS MILLISECONDS [EAL ARGUMENT…]");
        return;
    };
    let method: ForwardMethod = method.parse().expect("a forwarding method");
    let flows: usize = flows.parse().expect("a number of flows");
    let pairs: u32 = pairs.parse().expect("a number of pairs");
    let interval = Duration::from_millis(milliseconds.parse().expect("milliseconds"));
    let eal = Eal::init(eal).expect("the EAL starts");
    let pool = Mempool::new("in_place", MBUFS, CACHE, 2048, None).expect("a pool");
    let setup = Setup { method, capacity: (2 * flows).max(1 << 16), ..Setup::default() };
    let all = Flows::Nth { count: flows, services: 1 };
    let source = |order: Order| Source {
        pool: pool.clone(),
        template: Template::udp(),
        visits: order.visits(),
    };
    let mut shunt =
        Shunt { director: Director::new(&setup), pool: pool.clone(), clock: Clock::start() };
    let (mut first, mut burst) = (source(Order::Round(all)), ArrayVec::new());
    for _ in 0..flows.div_ceil(BURST) {
        first.burst(&mut burst);
        shunt.round(&mut burst);
    }
    let mut source = source(Order::Shuffled(all));
    for pair in 0..pairs {
        // In turn first and second; the first tenth warms the caches up.
        let (mut ours, mut theirs) = (0.0, 0.0);
        for turn in [pair % 2, (pair + 1) % 2] {
            if turn == 0 {
                let _ = measure(&mut MacRewrite, &mut source, interval / 10);
                theirs = measure(&mut MacRewrite, &mut source, interval);
            } else {
                let _ = measure(&mut shunt, &mut source, interval / 10);
                ours = measure(&mut shunt, &mut source, interval);
            }
        }
        println!("{ours} {theirs}");
    }
    let counts = shunt.director.stats.counts();
    let (received, sent) = (counts.event(Event::RxPackets), counts.event(Event::Forwarded));
    assert_eq!(received, sent, "all are forwarded: {counts:?}");
    assert_eq!(counts.event(Event::FlowsCreated), flows as u64, "every flow is made once");
    shunt.director.pipeline.shutdown();
    assert_eq!(pool.in_use(), 0, "mbufs are lost");
    drop((shunt, source, first, pool, eal));
}
