//! A load generator that measures how long packets are under way, for one forwarder behind
//! net_memif.
//!
//! Each packet carries the time stamp counter at which it was due to be sent; what comes back is
//! compared with the counter as it is taken from the port. So a number is the time in both rings,
//! the copies, and the forwarder, and what the generator itself was late, as one processor sends
//! and receives: a packet that had to wait for its turn is not let off.
//!
//! `latency VDEV MILLISECONDS [EAL ARGUMENT…]` sends UDP packets of 1000 flows as fast as it can,
//! then at 10, 50 and 90 per cent of what came back. It prints `max MPPS FULL`, FULL being the
//! share of bursts for which the ring had no room (with none, the generator was what limited), then
//! a line for each load: `load PERCENT MPPS P50 P99 P99.9 MOST SENT LOST GAP`, times in
//! microseconds, GAP being the longest that the generator itself was away; and `noise GAP`, the
//! same of a loop that does nothing for as long. `scripts/bench latency` runs it.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod support;

use std::time::{Duration, Instant};

use dataplane::dpdk::{Eal, Mempool, Port, PortConfig, RxQueue, TxQueue, attach, rdtsc, tsc_hz};
use dataplane::packet::buf::PacketBuf;
use dataplane::pipeline::BURST;
use support::mbufs::Burst;
use support::traffic::{Flows, Order, Template, Visits};

const FLOWS: usize = 1000;
const MBUFS: u32 = 16_383;
const CACHE: u32 = 256;
/// Where a frame has its time stamp, behind Ethernet, IPv4 and UDP headers, and after that the
/// number of the run it belongs to: the forwarder sends frames of its own, and some come late.
const STAMP: usize = 42;
const RUN: usize = STAMP + 8;
/// A generator that has been away for longer does not make up for it.
const LATE: Duration = Duration::from_millis(1);
/// How long packets may take to come back at the end.
const DRAIN: Duration = Duration::from_millis(50);

/// Times in TSC ticks, to 3 per cent.
struct Times {
    counts: Vec<u64>,
    most: u64,
}

impl Times {
    fn new() -> Times {
        Times { counts: vec![0; 64 * 32], most: 0 }
    }

    #[inline(always)]
    fn add(&mut self, ticks: u64) {
        let bits = 64 - ticks.leading_zeros();
        let shift = bits.saturating_sub(6);
        self.counts[shift as usize * 32 + (ticks >> shift) as usize] += 1;
        self.most = self.most.max(ticks);
    }

    /// The time that this share of the packets did not exceed, in TSC ticks.
    fn quantile(&self, share: f64) -> u64 {
        let wanted = (self.counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let shift = if index < 64 { 0 } else { (index - 32) / 32 };
                return ((index - shift * 32) as u64) << shift;
            }
        }
        self.most
    }
}

/// What became of one load.
struct Run {
    times: Times,
    seconds: f64,
    sent: u64,
    received: u64,
    /// Packets the ring had no room for.
    refused: u64,
    /// Bursts sent, and those of them that did not fit.
    bursts: u64,
    full: u64,
    /// Longest time between two looks at the port, in TSC ticks.
    gap: u64,
}

struct Generator {
    port: Port,
    rx: RxQueue,
    tx: TxQueue,
    pool: Mempool,
    template: Template,
    visits: Visits,
    hz: f64,
    /// Number of the run.
    number: u64,
}

impl Generator {
    fn start(vdev: &str) -> Generator {
        let pool = Mempool::new("latency", MBUFS, CACHE, Mempool::DATA_ROOM, None).expect("a pool");
        let device = attach(vdev).expect("a device");
        let configured = Port::configure(&PortConfig::new(&device, pool.clone()));
        let (port, mut rx, mut tx) = configured.expect("a port");
        let started = Instant::now();
        while !port.link().expect("a link").up {
            assert!(
                started.elapsed() < Duration::from_secs(10),
                "nobody at the other end of memif"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let flows = Order::Shuffled(Flows::Nth { count: FLOWS, services: 1 });
        Generator {
            port,
            rx: rx.remove(0),
            tx: tx.remove(0),
            pool,
            template: Template::udp(),
            visits: flows.visits(),
            hz: tsc_hz() as f64,
            number: 0,
        }
    }

    /// Adds up to `n` packets, the first due at `due` and each `step` TSC ticks after the last.
    #[inline(always)]
    fn fill(&mut self, out: &mut Burst, n: usize, mut due: f64, step: f64) {
        if !self.pool.alloc_bulk(out, n) {
            return;
        }
        for mbuf in out {
            let stamp = (due as u64).to_ne_bytes();
            due += step;
            let _ = mbuf.append(60);
            if let Some(frame) = mbuf.data_mut().first_chunk_mut::<60>() {
                self.template.write(self.visits.next(), frame);
                frame[STAMP..RUN].copy_from_slice(&stamp);
                frame[RUN..RUN + 8].copy_from_slice(&self.number.to_ne_bytes());
            }
        }
    }

    /// Takes what has come back.
    #[inline(always)]
    fn receive(&mut self, run: &mut Run) {
        let mut burst = Burst::new();
        self.rx.burst(&mut burst);
        let now = rdtsc();
        for mbuf in &burst {
            let word =
                |at: usize| mbuf.data().get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
            if let (Some(stamp), Some(number)) = (word(STAMP), word(RUN)) {
                if number == self.number {
                    run.times.add(now.saturating_sub(stamp));
                    run.received += 1;
                }
            }
        }
    }

    /// Sends `rate` packets a second, or as many as it can, for so long.
    #[inline(never)]
    fn run(&mut self, rate: Option<f64>, interval: Duration) -> Run {
        self.number = rdtsc();
        let mut run = Run {
            times: Times::new(),
            seconds: 0.0,
            sent: 0,
            received: 0,
            refused: 0,
            bursts: 0,
            full: 0,
            gap: 0,
        };
        let ticks_a_packet = rate.map_or(0.0, |rate| self.hz / rate);
        let late = self.hz * LATE.as_secs_f64();
        let start = rdtsc();
        let end = start + (self.hz * interval.as_secs_f64()) as u64;
        let (mut before, mut next) = (start, start as f64);
        loop {
            let now = rdtsc();
            if now >= end {
                break;
            }
            run.gap = run.gap.max(now - before);
            before = now;
            let due = match rate {
                None => BURST,
                Some(_) => (((now as f64 - next) / ticks_a_packet) as usize).min(BURST),
            };
            if due > 0 {
                let mut burst = Burst::new();
                let first = if rate.is_some() { next + ticks_a_packet } else { now as f64 };
                self.fill(&mut burst, due, first, ticks_a_packet);
                run.sent += self.tx.burst(&mut burst) as u64;
                run.refused += burst.len() as u64;
                run.bursts += 1;
                run.full += u64::from(!burst.is_empty());
                next += due as f64 * ticks_a_packet;
                if now as f64 - next > late {
                    next = now as f64;
                }
            }
            self.receive(&mut run);
        }
        run.seconds = (rdtsc() - start) as f64 / self.hz;
        let last = Instant::now();
        while last.elapsed() < DRAIN {
            self.receive(&mut run);
        }
        run
    }

    fn us(&self, ticks: u64) -> f64 {
        ticks as f64 / self.hz * 1e6
    }

    /// The longest gap in a loop that only looks at the counter.
    fn noise(&self, interval: Duration) -> u64 {
        let end = rdtsc() + (self.hz * interval.as_secs_f64()) as u64;
        let (mut before, mut gap) = (rdtsc(), 0);
        while before < end {
            let now = rdtsc();
            gap = gap.max(now - before);
            before = now;
        }
        gap
    }
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [vdev, milliseconds, eal @ ..] = &args[..] else {
        println!("latency VDEV MILLISECONDS [EAL ARGUMENT…]");
        return;
    };
    let interval = Duration::from_millis(milliseconds.parse().expect("milliseconds"));
    let eal = Eal::init(eal).expect("the EAL starts");
    let mut generator = Generator::start(vdev);
    // All flows are made, and caches are warm.
    generator.run(None, Duration::from_millis(300));
    let most = generator.run(None, interval);
    let mpps = most.received as f64 / most.seconds / 1e6;
    println!("max {mpps} {}", most.full as f64 / most.bursts as f64);
    assert!(most.received > 0, "nothing comes back");
    for percent in [10, 50, 90] {
        let rate = mpps * 1e6 * f64::from(percent) / 100.0;
        // The first tenth settles.
        generator.run(Some(rate), interval / 10);
        let run = generator.run(Some(rate), interval);
        let us = |share| generator.us(run.times.quantile(share));
        let lost = run.sent + run.refused - run.received;
        println!(
            "load {percent} {} {} {} {} {} {} {lost} {}",
            run.received as f64 / run.seconds / 1e6,
            us(0.5),
            us(0.99),
            us(0.999),
            generator.us(run.times.most),
            run.sent + run.refused,
            generator.us(run.gap),
        );
    }
    println!("noise {}", generator.us(generator.noise(interval)));
    let Generator { port, rx, tx, pool, .. } = generator;
    drop((rx, tx, port, pool, eal));
}
