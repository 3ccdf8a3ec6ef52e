//! How long packets are under way through shuntd, and through dpdk-testpmd, behind net_memif:
//! `dataplane/benches/latency.rs` sends and measures.
//!
//! The generator has one processor, the forwarder the other. Each forwarder is loaded by what it
//! was found to forward itself, so the same per cent are not the same packets a second.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::hugepages::Memory;
use crate::process::command;
use crate::report::{Measured, spread};
use crate::shuntd::{Config, Shuntd};
use crate::testpmd::Testpmd;
use crate::{Options, cargo, cpu};

/// The Ethernet address the generator sends to.
const MAC: &str = "02:00:00:00:00:10";
const MBUFS: usize = 16_383;
const MIB: u64 = 128;

/// What one load came to; times in microseconds.
#[derive(Debug, Clone, Default)]
struct Load {
    percent: u64,
    mpps: f64,
    quantiles: [f64; 3],
    most: f64,
    sent: f64,
    lost: f64,
    gap: f64,
}

/// What one forwarder came to.
#[derive(Debug, Clone, Default)]
struct Run {
    max: f64,
    /// Share of bursts that found the ring to the forwarder full, when sending at full speed.
    full: f64,
    loads: Vec<Load>,
    noise: f64,
}

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let (rounds, milliseconds) = if options.quick { (1, 1500) } else { (5, 4000) };
    let program = cargo::build("latency", true)?;
    let memory = Memory::reserve(2 * MIB);
    let eal = memory.eal(MIB);
    let (mut ours, mut theirs, mut noise) = (vec![], vec![], vec![]);
    for _ in 0..rounds {
        let dir = tempfile::tempdir()?;
        // A socket each, for one that was ended leaves its own behind.
        let ends = |name: &str| {
            let socket = dir.path().join(name);
            (vdev("server", &socket) + ",mac=" + MAC, vdev("client", &socket))
        };
        let (server, client) = ends("testpmd.sock");
        let testpmd = Testpmd::spawn(&eal, &server, MBUFS)?;
        theirs.push(generate(&program, &client, milliseconds, &eal)?);
        drop(testpmd);
        let (server, client) = ends("shuntd.sock");
        let shuntd = Shuntd::start(dir.path(), &config(&server, &eal))?;
        ours.push(generate(&program, &client, milliseconds, &eal)?);
        drop(shuntd);
        noise.push(cpu::longest_gap(cpu::WORKER, Duration::from_millis(milliseconds))?);
    }
    Ok(results(&ours, &theirs, &noise))
}

fn vdev(role: &str, socket: &Path) -> String {
    format!("net_memif0,role={role},socket={},socket-abstract=no", socket.display())
}

fn config(vdev: &str, eal: &[String]) -> Config {
    Config {
        vdev: vdev.into(),
        eal: eal.into(),
        mbufs: MBUFS,
        capacity: 1 << 16,
        protocol: "udp",
        port: 443,
        method: "dr".into(),
        services: 1,
        reals: 2,
        room: (0, 0),
        scheduler: "mh".into(),
        mtu: 1500,
    }
}

/// Runs the generator on the processor that the forwarder leaves free.
fn generate(program: &Path, vdev: &str, milliseconds: u64, eal: &[String]) -> Result<Run> {
    let mut command = command(program);
    command.args([vdev, &milliseconds.to_string(), "-l", &cpu::OTHERS.to_string()]).args(eal);
    let out = command.stderr(Stdio::inherit()).output().context("cannot run latency")?;
    ensure!(out.status.success(), "latency: {}", out.status);
    parse(&String::from_utf8_lossy(&out.stdout))
}

fn parse(text: &str) -> Result<Run> {
    let mut run = Run::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<f64> = words.map(str::parse).collect::<Result<_, _>>()?;
        match (kind, &numbers[..]) {
            ("max", [max, full]) => (run.max, run.full) = (*max, *full),
            ("noise", [gap]) => run.noise = *gap,
            ("load", [percent, mpps, p50, p99, p999, most, sent, lost, gap]) => {
                run.loads.push(Load {
                    percent: *percent as u64,
                    mpps: *mpps,
                    quantiles: [*p50, *p99, *p999],
                    most: *most,
                    sent: *sent,
                    lost: *lost,
                    gap: *gap,
                });
            }
            _ => {}
        }
    }
    ensure!(run.loads.len() == 3, "the generator says only:\n{text}");
    Ok(run)
}

fn results(ours: &[Run], theirs: &[Run], noise: &[f64]) -> Vec<Measured> {
    let result = |name: &str, unit| Measured {
        part: "latency",
        name: name.into(),
        method: Some("dr".into()),
        flows: Some(1000),
        frame: Some(64),
        unit,
        ..Measured::default()
    };
    let machine = |name: &str| Measured {
        part: "latency",
        name: format!("machine: longest gap of a loop that does nothing, {name}"),
        unit: "us",
        ..Measured::default()
    };
    let each = |runs: &[Run], pick: &dyn Fn(&Run) -> f64| runs.iter().map(pick).collect::<Vec<_>>();
    let row = |row: Measured, pick: &dyn Fn(&Run) -> f64| {
        row.against(&each(ours, pick), &each(theirs, pick))
    };
    let mut max = row(result("net_memif,throughput", "Mpps"), &|run| run.max);
    let limited = |runs: &[Run]| {
        let full = spread(&each(runs, &|run| run.full)).map_or(0.0, |(median, ..)| median);
        if full < 0.01 { "the generator" } else { "the forwarder" }
    };
    max.why = Some(format!("limited by {}; the baseline by {}", limited(ours), limited(theirs)));
    eprintln!("latency: {}", max.summary("testpmd"));
    let mut all = vec![max];
    // The machine's own doing, seen from the generator and from the forwarder.
    let worst = each(ours, &|run| run.noise).into_iter().chain(noise.iter().copied());
    let worst = worst.fold(0.0, f64::max);
    for n in 0..3 {
        let percent = ours.first().map_or(0, |run| run.loads[n].percent);
        let at = |name: &str, unit| Measured { load: Some(percent), ..result(name, unit) };
        all.push(row(at("offered and come back", "Mpps"), &|run| run.loads[n].mpps));
        for (q, name) in ["p50", "p99", "p99.9"].into_iter().enumerate() {
            let mut time = row(at(name, "us"), &|run| run.loads[n].quantiles[q]);
            if time.value.is_some_and(|value| value >= worst / 2.0) {
                time.why = Some("not clear of the machine's own gaps".into());
            }
            eprintln!("latency: {percent} % {name}: {}", time.summary("testpmd"));
            all.push(time);
        }
        all.push(row(at("longest", "us"), &|run| run.loads[n].most));
        all.push(row(at("sent", "packets"), &|run| run.loads[n].sent));
        all.push(row(at("lost", "packets"), &|run| run.loads[n].lost));
        all.push(row(at("generator: longest away", "us"), &|run| run.loads[n].gap));
    }
    all.push(machine("generator's processor").of(&each(ours, &|run| run.noise)));
    all.push(machine("forwarder's processor").of(noise));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_generator_says() {
        let text = "max 4.5 0.25\nload 10 0.45 3 5 9.5 80 450000 2 70\nload 50 2 3 5 9 80 1 0 70\n\
            load 90 4 3 5 9 80 1 0 70\nnoise 65.5\n";
        let run = parse(text).unwrap();
        assert_eq!((run.max, run.full, run.noise), (4.5, 0.25, 65.5));
        assert_eq!((run.loads[0].percent, run.loads[0].quantiles[2]), (10, 9.5));
        assert_eq!((run.loads[0].lost, run.loads[0].gap), (2.0, 70.0));
        assert!(parse("max 4.5 0\n").is_err());
    }
}
