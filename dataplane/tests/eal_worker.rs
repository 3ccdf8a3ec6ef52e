//! Pipeline and poll loop on real mbufs: none is lost, whatever is full or empty, and every packet
//! has one verdict.
#![cfg(feature = "dpdk")]
#![allow(clippy::unwrap_used)] // helper functions of tests are tests, too

mod eal_common;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrayvec::ArrayVec;
use dataplane::dpdk::{self, Mbuf, Mempool, Port, PortConfig, RxQueue, TxQueue};
use dataplane::flow::{Event as FlowEvent, Shard, Shard6};
use dataplane::hash::Seed;
use dataplane::packet::arp;
use dataplane::packet::buf::{BufPool, PacketBuf};
use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::persist::AllTemplates;
use dataplane::pipeline::{
    BURST, Env, Lane, LoadBoard, Output, PeerMessage, Pipeline, Settings, Tables,
};
use dataplane::snapshot::compile::{Compiler, Limits};
use dataplane::snapshot::neighbors::{NextHop, NextHops};
use dataplane::snapshot::publish::Publisher;
use dataplane::snapshot::spec::{GreSpec, PortSpec, RealSpec, ServiceSpec, Spec};
use dataplane::snapshot::{Named, Snapshot};
use dataplane::stats::{DropReason, Event, Stats};
use dataplane::types::{
    AnyFlowKey, FlowKey, Mac, PortId, Protocol, Punt, PuntReason, RealId, ServiceKey, Tick,
    WorkerId,
};
use dataplane::vocabulary::{ForwardMethod, IdleMode, SchedulerKind};
use dataplane::worker::{Channels, Clock, SlowEnd, Worker};

const PORT: Mac = Mac([2, 0, 0, 0, 0, 1]);
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 2]);
const CLIENT: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const LIMITS: Limits = Limits { services: 8, reals: 8, neighbors: 8 };

#[test]
fn no_mbuf_is_lost_and_every_packet_has_a_verdict() {
    let eal = eal_common::start();
    let pool = Mempool::new("worker", 4095, 128, 2048, None).unwrap();
    a_million_packets_against_every_limit(&pool);
    assert_eq!(pool.in_use(), 0, "mbufs lost by the pipeline");
    a_worker_takes_up_configurations_while_it_forwards(&pool);
    assert_eq!(pool.in_use(), 0, "mbufs lost by the worker");
    frames_of_the_slow_path_leave_while_workers_have_much_to_say(&pool);
    assert_eq!(pool.in_use(), 0, "mbufs lost on their way to a worker");
    answers_to_strangers_leave_room_for_arp(&pool);
    assert_eq!(pool.in_use(), 0, "mbufs lost in an inbox");
    drop((pool, eal));
}

fn vip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 100 + n)
}

/// One virtual service a forwarding method, each with one real server.
fn spec() -> Spec {
    let service = |n: u8, protocol, method, address: [u8; 4]| ServiceSpec {
        key: ServiceKey { protocol, vip: vip(n).into(), ports: 80.into() },
        scheduler: SchedulerKind::Wlc,
        options: Default::default(),
        reals: vec![RealSpec {
            address: address.into(),
            weight: 1,
            method,
            gre: GreSpec::default(),
            thresholds: Default::default(),
        }],
    };
    Spec {
        ports: vec![PortSpec {
            name: "ring".into(),
            mac: PORT,
            mtu: 1500,
            addresses: vec!["192.0.2.10/24".parse().unwrap()],
            gateways: vec![[192, 0, 2, 1].into()],
        }],
        services: vec![
            service(0, Protocol::Tcp, ForwardMethod::Dr, [192, 0, 2, 21]).into(),
            service(1, Protocol::Udp, ForwardMethod::Ipip, [203, 0, 113, 31]).into(),
            service(2, Protocol::Tcp, ForwardMethod::Gre, [203, 0, 113, 32]).into(),
        ],
        maglev_size: 65_537,
        ..Spec::default()
    }
}

fn snapshot(generation: u64) -> Snapshot {
    Compiler::new(LIMITS).compile(&spec(), generation, u64::MAX, |_| true).unwrap().snapshot
}

/// Next hops: all known but, when asked for, the gateway.
fn hops(snapshot: &Snapshot, gateway_known: bool) -> NextHops {
    let hops = NextHops::new(8);
    for neighbor in &snapshot.links.neighbors {
        if gateway_known || neighbor.address != IpAddr::from([192, 0, 2, 1]) {
            hops.set(neighbor.id, NextHop::Known(ROUTER));
        }
    }
    hops
}

/// Frame `n` of a mix that takes every way through the pipeline.
fn frame(n: u64) -> Vec<u8> {
    let sport = (n / 16) as u16;
    let tcp = |to: u8, flags, len: usize| {
        Build::eth(ROUTER, PORT)
            .ipv4(CLIENT, vip(to))
            .df(len < 1000)
            .tcp(sport, 80, flags, 1)
            .payload(&vec![7; len])
            .finish()
    };
    let udp = |to: u8, len: usize| {
        Build::eth(ROUTER, PORT)
            .ipv4(CLIENT, vip(to))
            .udp(sport, 80)
            .payload(&vec![7; len])
            .finish()
    };
    match n % 16 {
        0..=2 => tcp(0, Flags::SYN, 0),
        3 => tcp(0, Flags::ACK, 100),
        4..=6 => udp(1, 18),
        // 1500 bytes without DF: the outer packet is cut.
        7 => udp(1, 1472),
        8 => tcp(2, Flags::SYN, 0),
        9 => tcp(2, Flags::ACK, 1460),
        10 => Build::eth(ROUTER, Mac::BROADCAST)
            .arp(&arp::Packet::request(ROUTER, CLIENT, vip(0)))
            .finish(),
        11 => Build::eth(ROUTER, PORT).ipv4(CLIENT, vip(0)).icmp(8, 0, 1).payload(&[1; 8]).finish(),
        12 => tcp(9, Flags::SYN, 0),
        13 => udp(1, 40)[..30].to_vec(),
        14 => Build::eth(ROUTER, PORT)
            .ipv4(CLIENT, vip(1))
            .id(n as u16)
            .fragment(64, true)
            .protocol(17)
            .payload(&[1; 64])
            .finish(),
        _ => Build::eth(ROUTER, PORT)
            .ipv4(CLIENT, vip(0))
            .ttl(1)
            .tcp(sport, 80, Flags::SYN, 1)
            .finish(),
    }
}

fn fill(pool: &Mempool, bytes: &[u8]) -> Option<Mbuf> {
    let mut mbuf = pool.alloc()?;
    assert!(mbuf.append(bytes.len()));
    mbuf.data_mut().copy_from_slice(bytes);
    Some(mbuf)
}

/// A port that fills up, and a slow path that does.
struct Narrow {
    tx: TxQueue,
    punts: Vec<Punt<Mbuf>>,
}

impl Output<Mbuf> for Narrow {
    fn transmit(&mut self, _: PortId, frames: &mut ArrayVec<Mbuf, BURST>) {
        self.tx.burst(frames);
    }
    fn punt(&mut self, punt: Punt<Mbuf>) -> Result<(), Punt<Mbuf>> {
        if self.punts.len() < 64 {
            self.punts.push(punt);
            Ok(())
        } else {
            Err(punt)
        }
    }
    fn tell(&mut self, _: WorkerId, m: PeerMessage<Mbuf>) -> Result<(), PeerMessage<Mbuf>> {
        Err(m)
    }
}

fn ring(pool: &Mempool, name: &str) -> (Port, RxQueue, TxQueue) {
    dpdk::attach(name).unwrap();
    let (port, rx, tx) = Port::configure(&PortConfig::new(name, pool.clone())).unwrap();
    (port, rx.into_iter().next().unwrap(), tx.into_iter().next().unwrap())
}

fn pipeline(stats: &Arc<Stats>) -> Pipeline<Mbuf> {
    pipeline_of(stats, 1)
}

/// The first of so many workers.
fn pipeline_of(stats: &Arc<Stats>, workers: u16) -> Pipeline<Mbuf> {
    let settings = Settings { me: WorkerId(0), workers, ports: 1, seed: 42 };
    let shard = Shard::new(1000, Seed::new(7)).unwrap();
    let shard6 = Shard6::new(1000, Seed::new(7)).unwrap();
    let tables = Tables { shard, shard6, templates: AllTemplates::new(1, 1) };
    Pipeline::new(&settings, Arc::clone(stats), Arc::new(LoadBoard::new(workers.into(), 8)), tables)
}

fn a_million_packets_against_every_limit(pool: &Mempool) {
    let (port, mut rx, tx) = ring(pool, "net_ring0");
    let snapshot = snapshot(1);
    let (known, unknown) = (hops(&snapshot, true), hops(&snapshot, false));
    let stats = Arc::new(Stats::new(1, 8, 8));
    let mut pipeline = pipeline(&stats);
    pipeline.configure(&snapshot);
    let mut out = Narrow { tx, punts: Vec::new() };
    let mut hostages = Vec::new();
    let mut drain: ArrayVec<Mbuf, 64> = ArrayVec::new();
    let (mut n, mut round) = (0u64, 0u32);
    while n < 1_000_000 {
        round += 1;
        let mut burst: ArrayVec<Mbuf, BURST> = ArrayVec::new();
        while !burst.is_full() {
            let Some(mbuf) = fill(pool, &frame(n)) else { break };
            burst.push(mbuf);
            n += 1;
        }
        // Now and then all buffers but the burst's are gone: fragments find none.
        if round % 16 == 0 {
            hostages.extend(std::iter::from_fn(|| pool.alloc()));
        }
        let mut env = Env {
            snapshot: &snapshot,
            hops: if round % 50 < 5 { &unknown } else { &known },
            pool,
            out: &mut out,
            now: Tick(round / 8),
        };
        pipeline.burst(&mut env, PortId(0), &mut burst);
        pipeline.maintain(&mut env);
        pipeline.sweep(&env);
        assert!(burst.is_empty());
        assert!(stats.counts().is_balanced(), "round {round}: {:?}", stats.counts());
        hostages.clear();
        // The port is emptied too seldom, and so is the slow path's queue.
        if round % 100 == 0 {
            while rx.burst(&mut drain) > 0 {
                drain.clear();
            }
        }
        if round % 30 == 0 {
            out.punts.clear();
        }
    }
    pipeline.shutdown();
    let counts = stats.counts();
    assert!(counts.is_balanced());
    assert_eq!(counts.event(Event::RxPackets), n);
    for reason in [
        DropReason::TxFull,
        DropReason::PuntFull,
        DropReason::NoBuffer,
        DropReason::NotLocal,
        DropReason::TooShort,
        DropReason::FragmentUnknown,
        DropReason::NeighborUnresolved,
    ] {
        assert!(counts.drops(reason) > 0, "{reason} never happened: {counts:?}");
    }
    for event in [Event::Forwarded, Event::FragmentsSent, Event::FlowsEvicted] {
        assert!(counts.event(event) > 0, "{event} never happened");
    }
    while rx.burst(&mut drain) > 0 {
        drain.clear();
    }
    drop((out, rx, port));
    dpdk::detach("net_ring0").unwrap();
}

/// A capture file (libpcap's classic format) with one packet of each flow.
fn capture(path: &Path, packets: usize) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend_from_slice(&word.to_ne_bytes());
    }
    for n in 0..packets {
        let frame =
            Build::eth(ROUTER, PORT).ipv4(CLIENT, vip(0)).tcp(n as u16, 80, Flags::SYN, 1).finish();
        for word in [0, 0, frame.len() as u32, frame.len() as u32] {
            file.extend_from_slice(&u32::to_ne_bytes(word));
        }
        file.extend_from_slice(&frame);
    }
    std::fs::write(path, file).unwrap();
}

fn a_worker_takes_up_configurations_while_it_forwards(pool: &Mempool) {
    const PACKETS: usize = 500;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("in.pcap");
    capture(&file, PACKETS);
    // The capture is served for ever; what is sent is dropped by the driver.
    let device = format!("net_pcap0,rx_pcap={},infinite_rx=1", file.display());
    let name = dpdk::attach(&device).unwrap();
    let (port, rx, tx) = Port::configure(&PortConfig::new(&name, pool.clone())).unwrap();

    let first = Arc::new(snapshot(1));
    let (publisher, readers) = Publisher::new(1, 1, &first);
    let stats = Arc::new(Stats::new(1, 8, 8));
    let Channels { mut workers, slow_path: mut slow, .. } = Channels::new(1);
    let stop = Arc::new(AtomicBool::new(false));
    let worker = Worker::new(
        pipeline(&stats),
        rx.into_iter().zip(tx).collect(),
        workers.remove(0),
        readers.into_iter().next().unwrap(),
        Arc::new(hops(&first, true)),
        pool.clone(),
        Clock::start(),
        IdleMode::Pause,
        Arc::clone(&stop),
    );
    let running = dpdk::launch(1, move || worker.run()).unwrap();
    for generation in 2..100 {
        let next = Arc::new(snapshot(generation));
        publisher.publish(generation, &next, Duration::from_secs(20)).unwrap();
        assert_eq!(publisher.seen(), [generation]);
        // The slow path sends through the worker meanwhile.
        if let Some(mbuf) = fill(pool, &frame(0)) {
            drop(slow.send(PortId(0), mbuf));
        }
    }
    let before = stats.event(Event::RxPackets).get();
    while stats.event(Event::RxPackets).get() < before + 100_000 {
        std::thread::sleep(Duration::from_millis(1));
    }
    stop.store(true, Ordering::Relaxed);
    running.join().unwrap();
    // With what the worker has not sent.
    drop(slow);
    let counts = stats.counts();
    assert!(counts.is_balanced(), "{counts:?}");
    assert_eq!(counts.event(Event::FlowsCreated), PACKETS as u64, "flows outlive configurations");
    // net_pcap without a TX side takes every packet and frees it.
    assert_eq!(
        counts.event(Event::Forwarded) + counts.drops(DropReason::TxFull),
        counts.event(Event::RxPackets)
    );
    assert!(counts.event(Event::SlowPathSent) + counts.event(Event::ExtraTxFull) > 0);
    assert_eq!(Arc::strong_count(&first), 1, "old snapshots are freed by the publisher");
    drop(port);
    dpdk::detach(&name).unwrap();
}

/// Two workers take nothing out of their inboxes, then one does.
fn answers_to_strangers_leave_room_for_arp(pool: &Mempool) {
    let Channels { mut workers, slow_path: mut slow, .. } = Channels::new(2);
    let send = |slow: &mut SlowEnd| slow.send(PortId(0), fill(pool, &frame(10)).unwrap());
    let mut answers = 0;
    while slow.has_room() {
        send(&mut slow).unwrap();
        answers += 1;
    }
    // Packets of the director's own to real servers leave it the same room.
    let real = Named { real: RealId(0), generation: 1 };
    assert!(slow.inject(real, fill(pool, &frame(10)).unwrap()).is_err());
    let mut arp = 0;
    while send(&mut slow).is_ok() {
        arp += 1;
    }
    assert!(arp > 500 && answers > 2 * arp, "{answers} answers, {arp} of ARP");
    assert!(!slow.has_room());
    // One that stands still does not keep the other's frames back.
    let taken = std::iter::from_fn(|| workers[1].next_frame()).take(600).count();
    assert_eq!(taken, 600);
    assert!(slow.has_room());
    for _ in 0..600 {
        send(&mut slow).unwrap();
    }
    assert!(send(&mut slow).is_err());

    // Pings fill their own lane, and whoever asks for an address is heard.
    let punt =
        |reason, kind| Punt { ingress: PortId(0), reason, buf: fill(pool, &frame(kind)).unwrap() };
    while workers[1].next_frame().is_some() {}
    while workers[0].punt(punt(PuntReason::Echo, 11)).is_ok() {}
    workers[0].punt(punt(PuntReason::Arp, 10)).expect("room for ARP");
    workers[1].punt(punt(PuntReason::Echo, 11)).expect("another worker's ring");
    assert_eq!(slow.next_punt(Lane::Segment).map(|p| p.reason), Some(PuntReason::Arp));
    assert!(slow.next_punt(Lane::Neighbors).is_none());
    let echoes = std::iter::from_fn(|| slow.next_punt(Lane::Echo)).count();
    assert_eq!(echoes, 256 / 2 + 1);
    drop((workers, slow));
}

/// A message that is cheap to handle, so that there can always be another.
fn gossip() -> PeerMessage<Mbuf> {
    let key = FlowKey {
        client: CLIENT,
        vip: vip(9),
        client_port: 1024,
        vip_port: 80,
        protocol: Protocol::Tcp,
    };
    let real = Named { real: RealId(0), generation: 1 };
    PeerMessage::Replica { key: AnyFlowKey::V4(key), event: FlowEvent::Syn, real }
}

fn frames_of_the_slow_path_leave_while_workers_have_much_to_say(pool: &Mempool) {
    const FRAMES: u64 = 100;
    let (port, mut rx, tx) = ring(pool, "net_ring1");
    // The worker receives from one port what it has sent, and nothing else, so it has its peer's
    // messages and the slow path's frames to handle alone.
    let (idle_port, idle_rx, idle_tx) = ring(pool, "net_ring2");
    let snapshot = Arc::new(snapshot(1));
    let (_publisher, readers) = Publisher::new(1, 1, &snapshot);
    let stats = Arc::new(Stats::new(1, 8, 8));
    let Channels { mut workers, slow_path: mut slow, .. } = Channels::new(2);
    let mut worker = Worker::new(
        pipeline_of(&stats, 2),
        vec![(idle_rx, tx)],
        workers.remove(0),
        readers.into_iter().next().unwrap(),
        Arc::new(hops(&snapshot, true)),
        pool.clone(),
        Clock::start(),
        IdleMode::Poll,
        Arc::new(AtomicBool::new(false)),
    );
    let mut peer = workers.remove(0);
    for _ in 0..FRAMES {
        slow.send(PortId(0), fill(pool, &frame(10)).unwrap()).unwrap();
        // Every other one is the second worker's.
        drop(peer.next_frame());
    }
    let mut turns = 0;
    while stats.event(Event::SlowPathSent).get() < FRAMES / 2 {
        // There is never room for another message when the worker looks.
        while peer.tell(WorkerId(0), gossip()).is_ok() {}
        worker.turn();
        turns += 1;
        assert!(turns < 20, "{} frames have left", stats.event(Event::SlowPathSent).get());
    }
    // What was said was heard, too: there is more room than a turn takes.
    let mut room = 0;
    while peer.tell(WorkerId(0), gossip()).is_ok() {
        room += 1;
    }
    assert!(room > 0, "messages wait for ever");
    let mut sent: ArrayVec<Mbuf, 64> = ArrayVec::new();
    assert_eq!(rx.burst(&mut sent), FRAMES as usize / 2);
    sent.clear();
    drop((worker, peer, slow, rx, port, idle_tx, idle_port));
    dpdk::detach("net_ring1").unwrap();
    dpdk::detach("net_ring2").unwrap();
}
