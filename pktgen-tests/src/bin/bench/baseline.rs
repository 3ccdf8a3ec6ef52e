//! Whether the baseline of the in-place source is honest: its loop, on a port, against
//! dpdk-testpmd on the same one (`dataplane/benches/mac_loop.rs`).

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::capture::Traffic;
use crate::hugepages::Memory;
use crate::process::{Forwarder, Process, command, in_turn};
use crate::report::Measured;
use crate::testpmd::Testpmd;
use crate::{Options, cargo};

/// The loop, running.
struct MacLoop {
    process: Process,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl MacLoop {
    fn start(program: &Path, eal: &[String], vdev: &str, mbufs: usize) -> Result<MacLoop> {
        let mut command = command(program);
        command.args([vdev, &mbufs.to_string(), "-l", "0,1"]).args(eal);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command).context("cannot start mac_loop")?;
        let stdin = process.child.stdin.take().context("its input")?;
        let stdout = process.child.stdout.take().context("its output")?;
        let mut started = MacLoop { process, stdin, stdout: BufReader::new(stdout) };
        started.sent()?;
        Ok(started)
    }
}

impl Forwarder for MacLoop {
    fn process(&self) -> &Process {
        &self.process
    }

    fn sent(&mut self) -> Result<u64> {
        self.stdin.write_all(b"\n")?;
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        line.trim().parse().context("mac_loop ended")
    }
}

pub(crate) fn run(options: &Options) -> Result<Vec<Measured>> {
    let (pairs, warm_up, interval) = if options.quick {
        (3, Duration::from_millis(200), Duration::from_millis(800))
    } else {
        (9, Duration::from_millis(500), Duration::from_secs(2))
    };
    let flows: &[usize] =
        if options.quick { &[1, 100_000] } else { &[1, 1000, 100_000, 1_000_000] };
    let wanted = |flows: &usize| match &options.only {
        Some(only) => format!("baseline {flows} flows").contains(only.as_str()),
        None => true,
    };
    let flows: Vec<_> = flows.iter().copied().filter(wanted).collect();
    let program = cargo::build("mac_loop", true)?;
    let mbufs = |flows: usize| flows + 16_384;
    let mib = |flows| ((mbufs(flows) as u64 * 2560) >> 20) + 128;
    let memory = Memory::reserve(2 * flows.iter().map(|flows| mib(*flows)).max().unwrap_or(0));
    let mut results = Vec::new();
    for flows in flows {
        let dir = tempfile::tempdir()?;
        let capture = dir.path().join("in.pcap");
        Traffic { tcp: false, flows, services: 1, frame: 64 }.write(&capture)?;
        let vdev = format!("net_pcap0,rx_pcap={},infinite_rx=1", capture.display());
        let eal = memory.eal(mib(flows));
        let mut theirs = Testpmd::start(&eal, &vdev, mbufs(flows))?;
        theirs.process().pause()?;
        let mut ours = MacLoop::start(&program, &eal, &vdev, mbufs(flows))?;
        ours.process().pause()?;
        let (values, baseline) = in_turn(pairs, (&mut ours, &mut theirs), warm_up, interval)?;
        let result = Measured {
            part: "baseline",
            name: "mac rewrite loop,net_pcap".into(),
            flows: Some(flows as u64),
            frame: Some(64),
            unit: "Mpps",
            ..Measured::default()
        }
        .against(&values, &baseline);
        eprintln!("baseline: {flows} flows: {}", result.summary("testpmd"));
        results.push(result);
    }
    Ok(results)
}
