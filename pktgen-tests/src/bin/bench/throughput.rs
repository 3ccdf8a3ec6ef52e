//! Packets a second of one worker, against dpdk-testpmd or its like on the same source.
//!
//! There are two sources. One makes packets in place, in one process ([`in_place`]). The other is
//! net_pcap, which serves a capture for ever and drops what is sent; there the daemon is measured,
//! as an operator runs it. It and dpdk-testpmd run on the same lcore, one paused while the other is
//! measured, in turn.

use std::time::Duration;

use anyhow::Result;

use crate::Options;
use crate::capture::Traffic;
use crate::hugepages::Memory;
use crate::in_place;
use crate::process::{Forwarder, in_turn};
use crate::report::Measured;
use crate::shuntd::{Config, Shuntd};
use crate::testpmd::Testpmd;

const METHODS: [&str; 3] = ["dr", "ipip", "gre"];

/// One capture, and the configurations it is served to.
struct Series {
    traffic: Traffic,
    methods: &'static [&'static str],
    reals: usize,
}

impl Series {
    /// Packet buffers: the capture's, and room to work.
    fn mbufs(&self) -> usize {
        self.traffic.packets() + 16_384
    }

    /// Memory for those, in MiB.
    fn mib(&self) -> u64 {
        ((self.mbufs() as u64 * 2560) >> 20) + 128
    }

    fn name(&self) -> String {
        let Traffic { tcp, flows, services, frame } = self.traffic;
        let protocol = if tcp { "tcp" } else { "udp" };
        format!(
            "{protocol} {flows} flows {services} services {} real servers {frame} bytes",
            self.reals
        )
    }
}

/// The forwarding methods that are measured with so many flows.
pub(crate) fn methods(flows: usize, quick: bool) -> &'static [&'static str] {
    match flows {
        1000 | 1_000_000 => &METHODS,
        _ if quick => &METHODS[..1],
        _ => &METHODS,
    }
}

fn series(quick: bool) -> Vec<Series> {
    let udp = Traffic { tcp: false, flows: 1, services: 1, frame: 64 };
    let mut all = Vec::new();
    let mut add = |traffic, methods, reals| all.push(Series { traffic, methods, reals });
    for flows in [1, 1000, 100_000, 1_000_000] {
        add(Traffic { flows, ..udp }, methods(flows, quick), 2);
    }
    if quick {
        return all;
    }
    for flows in [1, 1000, 100_000, 1_000_000] {
        add(Traffic { tcp: true, flows, ..udp }, &METHODS, 2);
    }
    for frame in [512, 1500] {
        add(Traffic { flows: 1000, frame, ..udp }, &METHODS, 2);
    }
    for services in [100, 10_000] {
        add(Traffic { flows: 100_000, services, ..udp }, &METHODS[..1], 2);
    }
    for reals in [100, 1000] {
        add(Traffic { flows: 100_000, ..udp }, &METHODS[..1], reals);
    }
    all
}

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let mut all = series(options.quick && options.only.is_none());
    if let Some(only) = &options.only {
        all.retain(|series| series.name().contains(only.as_str()));
    }
    let mut results = in_place::run(options)?;
    if all.is_empty() {
        return Ok(results);
    }
    let mib = all.iter().map(Series::mib).max().unwrap_or_default();
    let memory = Memory::reserve(2 * mib);
    for one in all {
        results.extend(measure(&one, &memory, options.quick)?);
    }
    Ok(results)
}

fn measure(series: &Series, memory: &Memory, quick: bool) -> Result<Vec<Measured>> {
    let (pairs, warm_up, interval) = if quick {
        (3, Duration::from_millis(200), Duration::from_millis(600))
    } else {
        (5, Duration::from_millis(300), Duration::from_millis(1200))
    };
    let dir = tempfile::tempdir()?;
    let capture = dir.path().join("in.pcap");
    series.traffic.write(&capture)?;
    let vdev = format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display());
    let eal = memory.eal(series.mib());
    let mut testpmd = Testpmd::start(&eal, &vdev, series.mbufs())?;
    testpmd.process().pause()?;
    let mut results = Vec::new();
    for method in series.methods {
        let Traffic { tcp, flows, services, frame } = series.traffic;
        let mut shuntd = Shuntd::start(
            dir.path(),
            &Config {
                vdev: vdev.clone(),
                eal: eal.clone(),
                mbufs: series.mbufs(),
                capacity: (2 * flows).max(1 << 16),
                protocol: if tcp { "tcp" } else { "udp" },
                port: series.traffic.port(),
                method: (*method).into(),
                services,
                reals: series.reals,
                room: (0, 0),
                // The captures' TCP segments are no SYNs, so a scheduler by hash has to take them.
                scheduler: if services == 1 { "mh" } else { "wrr" }.into(),
                mtu: 1600,
            },
        )?;
        let before = shuntd.wait_for_flows(flows)?;
        shuntd.process().pause()?;
        let (ours, theirs) = in_turn(pairs, (&mut shuntd, &mut testpmd), warm_up, interval)?;
        shuntd.process().resume()?;
        shuntd.check(before)?;
        let result = Measured {
            part: "throughput",
            name: if tcp { "net_pcap,tcp" } else { "net_pcap,udp" }.into(),
            method: Some((*method).into()),
            flows: Some(flows as u64),
            services: Some(services as u64),
            reals: Some(series.reals as u64),
            frame: Some(frame as u64),
            unit: "Mpps",
            ..Measured::default()
        }
        .against(&ours, &theirs);
        eprintln!("throughput: {} {method}: {}", series.name(), result.summary("testpmd"));
        results.push(result);
    }
    Ok(results)
}
