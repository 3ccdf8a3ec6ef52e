//! A poll loop that only rewrites Ethernet addresses: the baseline of `in_place.rs`, on a port, so
//! that it can be compared with `dpdk-testpmd --forward-mode=mac` on the same one.
//!
//! `mac_loop VDEV MBUFS [EAL ARGUMENT…]` forwards on lcore 1 until its input ends, and answers
//! every line of it with the packets sent so far. `scripts/bench baseline` runs it.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod support;

use std::io::{BufRead, stdin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dataplane::dpdk::{Eal, Mempool, Port, PortConfig, RxQueue, TxQueue, attach, launch};
use dataplane::stats::Counter;
use support::mbufs::{Burst, rewrite_addresses};

/// Free buffers that the loop keeps for itself, as the daemon's workers do.
const CACHE: u32 = 256;

/// What the loop and the main thread share.
#[derive(Default)]
struct Shared {
    sent: Counter,
    stop: AtomicBool,
}

fn forward(rx: &mut RxQueue, tx: &mut TxQueue, shared: &Shared) {
    let mut burst = Burst::new();
    while !shared.stop.load(Ordering::Relaxed) {
        if rx.burst(&mut burst) == 0 {
            continue;
        }
        rewrite_addresses(&mut burst);
        shared.sent.add(tx.burst(&mut burst) as u64);
        burst.clear();
    }
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [vdev, mbufs, eal @ ..] = &args[..] else {
        println!("mac_loop VDEV MBUFS [EAL ARGUMENT…]");
        return;
    };
    let mbufs = mbufs.parse().expect("a number of mbufs");
    let eal = Eal::init(eal).expect("the EAL starts");
    let pool = Mempool::new("mac_loop", mbufs, CACHE, Mempool::DATA_ROOM, None).expect("a pool");
    let device = attach(vdev).expect("a device");
    let configured = Port::configure(&PortConfig::new(&device, pool.clone()));
    let (port, mut rx, mut tx) = configured.expect("a port");
    let (mut rx, mut tx) = (rx.remove(0), tx.remove(0));
    let shared = Arc::new(Shared::default());
    let theirs = Arc::clone(&shared);
    let running = launch(1, move || forward(&mut rx, &mut tx, &theirs)).expect("lcore 1");
    for _ in stdin().lock().lines() {
        println!("{}", shared.sent.get());
    }
    shared.stop.store(true, Ordering::Relaxed);
    running.join().expect("a loop that ends");
    drop((port, pool, eal));
}
