//! `dpdk-testpmd --forward-mode=mac`, the least a DPDK program can do to a packet.

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::{Forwarder, Process, command};

pub(crate) struct Testpmd {
    process: Process,
    stdin: ChildStdin,
    lines: Receiver<String>,
}

impl Testpmd {
    /// Starts it on `vdev`, one forwarding lcore, and waits until packets flow.
    pub(crate) fn start(eal: &[String], vdev: &str, mbufs: usize) -> Result<Testpmd> {
        let mut testpmd = Testpmd::spawn(eal, vdev, mbufs)?;
        let first = testpmd.sent()?;
        std::thread::sleep(Duration::from_millis(100));
        if testpmd.sent()? == first {
            bail!("dpdk-testpmd forwards nothing");
        }
        Ok(testpmd)
    }

    /// Starts it on a port to which nobody sends yet.
    pub(crate) fn spawn(eal: &[String], vdev: &str, mbufs: usize) -> Result<Testpmd> {
        // Its output goes to a pipe, and would come in blocks.
        let mut command = command("stdbuf");
        command.args(["-oL", "dpdk-testpmd", "-l", "0,1"]).args(eal).arg(format!("--vdev={vdev}"));
        command.args(["--", "-i", "--forward-mode=mac", "--burst=32", "--no-mlockall"]);
        command.arg(format!("--total-num-mbufs={mbufs}"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = Process::start(&mut command).context("cannot start dpdk-testpmd")?;
        let stdin = process.child.stdin.take().context("its input")?;
        let stdout = process.child.stdout.take().context("its output")?;
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut testpmd = Testpmd { process, stdin, lines };
        testpmd.stdin.write_all(b"start\n")?;
        testpmd.sent().context("dpdk-testpmd did not start")?;
        Ok(testpmd)
    }
}

impl Forwarder for Testpmd {
    fn process(&self) -> &Process {
        &self.process
    }

    fn sent(&mut self) -> Result<u64> {
        self.stdin.write_all(b"show port stats 0\n")?;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(60)) {
                Ok(line) => {
                    if let Some((_, rest)) = line.split_once("TX-packets: ") {
                        // `start` says the same with "TX-dropped" behind it.
                        if rest.contains("TX-errors") {
                            let count = rest.split_whitespace().next().unwrap_or_default();
                            return Ok(count.parse()?);
                        }
                    }
                    seen.push(line);
                }
                Err(RecvTimeoutError::Timeout) => {
                    bail!("no answer in a minute:\n{}", seen.join("\n"))
                }
                Err(RecvTimeoutError::Disconnected) => bail!("it ended:\n{}", seen.join("\n")),
            }
        }
    }
}
