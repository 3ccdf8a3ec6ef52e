//! The pipeline's scenarios for callgrind, which counts instructions: the same number in every run.
//!
//! `scripts/bench instructions` runs this under valgrind, once a scenario, and compares what it
//! counts with `instructions.baseline`. Without arguments it lists the scenarios.
#![allow(missing_docs, unreachable_pub, clippy::print_stdout)]

mod support;

use dataplane::vocabulary::{ForwardMethod, SchedulerKind};
use support::rig::{BATCH, Rig};
use support::scenario::{FORWARDED, MIXED, PINGS, Scenario};

/// Batches that are counted. New flows come in all of them.
const BATCHES: usize = 64;

/// What a packet of a flow that is there costs, for the other forwarding methods.
const BY_METHOD: &[&str] = &["tcp-v4-lru-hit", "udp-v4-lru-diverse", "tcp-v6-lru-hit"];
const EXITS: &[&str] =
    &["pass-v4-no-vip", "pass-v6-no-vip", "pass-v4-icmp", PINGS, "pass-non-ip", "drop-non-ip"];

const FLOODS: &[&str] = &["syn-flood", "syn-flood-wrr", "udp-flood-wrr"];

/// Callgrind counts while this is on the stack.
#[inline(never)]
fn counted(rig: &mut Rig) {
    rig.run();
}

fn list() -> Vec<(&'static str, ForwardMethod)> {
    let dr = FORWARDED.iter().chain(EXITS).chain(FLOODS);
    let all = dr.map(|name| (*name, ForwardMethod::Dr));
    let tunnels = [ForwardMethod::Ipip, ForwardMethod::Gre];
    let rest = tunnels.iter().flat_map(|m| BY_METHOD.iter().map(|name| (*name, *m)));
    let mixed = tunnels.map(|method| (MIXED, method));
    all.chain(rest).chain(mixed).collect()
}

fn main() {
    let args: Vec<_> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    let [name, method] = &args[..] else {
        for (name, method) in list() {
            println!("{name} {method}");
        }
        return;
    };
    let method = method.parse().expect("a forwarding method");
    let scenario = match name.as_str() {
        "syn-flood" => Scenario::flood(SchedulerKind::Mh),
        "syn-flood-wrr" => Scenario::flood(SchedulerKind::Wrr),
        "udp-flood-wrr" => Scenario::datagrams(),
        name => Scenario::named(name, method),
    };
    let mut running = scenario.small().start();
    for _ in 0..BATCHES {
        running.batch_by(counted);
    }
    println!("packets {}", BATCHES * BATCH);
}
