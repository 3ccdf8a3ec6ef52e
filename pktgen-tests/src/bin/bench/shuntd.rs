//! The daemon, as an operator runs it: a configuration file, and the control socket.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::capture::VIP;
use crate::machine::binary;
use crate::process::{Forwarder, Process, command};

/// What it is to forward by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) vdev: String,
    pub(crate) eal: Vec<String>,
    pub(crate) mbufs: usize,
    /// Flows its table holds.
    pub(crate) capacity: usize,
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) method: String,
    pub(crate) services: usize,
    pub(crate) reals: usize,
    /// Services and real servers that it has room for, if more than those.
    pub(crate) room: (usize, usize),
    pub(crate) scheduler: String,
    /// Longest IP packet; tunnels of full-sized packets need more than 1500.
    pub(crate) mtu: u16,
}

impl Config {
    fn text(&self, socket: &Path) -> String {
        let Config { vdev, eal, mbufs, capacity, protocol, port, method, scheduler, mtu, .. } =
            self;
        let mut text = format!(
            r#"[dataplane]
workers = [1]
flows_per_worker = {capacity}
idle = "poll"
mbufs = {mbufs}
max_services = {max_services}
max_real_servers = {max_reals}
eal = {eal:?}
[control]
socket = {socket:?}
[[port]]
name = "lan"
vdev = {vdev:?}
address = ["172.16.0.10/16"]
gateway = ["172.16.0.1"]
mtu = {mtu}
[[neighbor]]
port = "lan"
address = "172.16.0.1"
mac = "02:00:00:00:00:01"
"#,
            max_services = self.services.max(self.room.0).max(64),
            max_reals = (self.services * self.reals).max(self.room.1).max(64),
        );
        // On the port's network for dr, behind the gateway for tunnels.
        let network = if method == "dr" { "172.16" } else { "100.64" };
        let real = |n: usize| format!("{network}.{}.{}", 1 + n / 250, 1 + n % 250);
        if method == "dr" {
            for n in 0..self.reals {
                let mac = format!("02:00:00:01:{:02x}:{:02x}", n >> 8, n & 0xff);
                let address = real(n);
                let _ = writeln!(
                    text,
                    "[[neighbor]]\nport = \"lan\"\naddress = \"{address}\"\nmac = \"{mac}\""
                );
            }
        }
        for service in 0..self.services {
            let vip = std::net::Ipv4Addr::from(VIP.to_bits() + service as u32);
            let _ = writeln!(
                text,
                "[[service]]\nprotocol = \"{protocol}\"\naddress = \"{vip}:{port}\"\n\
                 scheduler = \"{scheduler}\""
            );
            for n in 0..self.reals {
                let address = real(n);
                let _ = writeln!(
                    text,
                    "[[service.real]]\naddress = \"{address}\"\nforward = \"{method}\""
                );
            }
        }
        text
    }
}

pub(crate) struct Shuntd {
    process: Process,
    socket: PathBuf,
    dir: PathBuf,
    /// How long it took to answer.
    pub(crate) started_in: Duration,
}

impl Shuntd {
    /// Starts it in `dir` and waits until it answers.
    pub(crate) fn start(dir: &Path, config: &Config) -> Result<Shuntd> {
        let (file, socket) = (dir.join("shunt.toml"), dir.join("control.sock"));
        fs::write(&file, config.text(&socket))?;
        drop(fs::remove_file(&socket));
        let log = File::create(dir.join("shuntd.log"))?;
        let mut command = command(binary("shuntd"));
        command.arg("--config").arg(&file).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        let started = Instant::now();
        let process = Process::start(&mut command).context("cannot start shuntd")?;
        let mut shuntd = Shuntd { process, socket, dir: dir.into(), started_in: Duration::ZERO };
        while shuntd.ask(r#"{"op":"ping"}"#).is_err() {
            shuntd.wait(started, "it does not answer")?;
        }
        shuntd.started_in = started.elapsed();
        Ok(shuntd)
    }

    fn wait(&mut self, since: Instant, what: &str) -> Result<()> {
        let log = || fs::read_to_string(self.dir.join("shuntd.log")).unwrap_or_default();
        if let Some(status) = self.process.child.try_wait()? {
            bail!("shuntd ended with {status}:\n{}", log());
        }
        if since.elapsed() > Duration::from_secs(120) {
            bail!("shuntd: {what}:\n{}", log());
        }
        std::thread::sleep(Duration::from_millis(20));
        Ok(())
    }

    /// Opens a connection to its control socket.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Connection { stream: BufReader::new(stream) })
    }

    fn ask(&self, request: &str) -> Result<Value> {
        self.connect()?.ask(request)
    }

    /// A configuration as text, for it to change to.
    pub(crate) fn text(&self, config: &Config) -> String {
        config.text(&self.socket)
    }

    /// The longest round of its first worker in the last one to two seconds, in nanoseconds.
    pub(crate) fn longest_round(&self) -> Result<u64> {
        let stats = self.ask(r#"{"op":"stats"}"#)?;
        stats["workers"][0]["longest_round_ns"].as_u64().context("no longest_round_ns")
    }

    /// Every counter.
    pub(crate) fn stats(&self) -> Result<Value> {
        Ok(self.ask(r#"{"op":"stats"}"#)?["total"].take())
    }

    /// Waits until the flows are there: packets received and sent by then.
    pub(crate) fn wait_for_flows(&mut self, flows: usize) -> Result<(u64, u64)> {
        let started = Instant::now();
        loop {
            let stats = self.stats()?;
            if stats["events"]["flows"].as_u64() == Some(flows as u64) {
                return Ok((received(&stats), sent(&stats)));
            }
            self.wait(started, &format!("no {flows} flows: {stats}"))?;
        }
    }

    /// Checks that all it received since then it sent.
    pub(crate) fn check(&self, since: (u64, u64)) -> Result<()> {
        let stats = self.stats()?;
        let (received, sent) = (received(&stats) - since.0, sent(&stats) - since.1);
        // Counters are read while bursts are under way.
        if sent + 4096 < received {
            bail!("shuntd forwarded {sent} of {received} packets: {stats}");
        }
        Ok(())
    }

    /// Memory in use beside hugepages, in bytes.
    pub(crate) fn resident(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The same, from when on [`Shuntd::peak`] takes its peak.
    pub(crate) fn start_peak(&self) -> Result<u64> {
        fs::write(format!("/proc/{}/clear_refs", self.process.pid()), "5")?;
        self.resident()
    }

    /// The most memory there was in use since then, in bytes.
    pub(crate) fn peak(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    fn memory(&self, what: &'static str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let kib = line.and_then(|line| line.split_whitespace().next()).context(what)?;
        Ok(kib.parse::<u64>()? << 10)
    }
}

/// A connection to the control socket.
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
}

impl Connection {
    /// The answer to a request, as it comes.
    pub(crate) fn line(&mut self, request: &str) -> Result<String> {
        self.stream.get_mut().write_all(format!("{request}\n").as_bytes())?;
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        Ok(line)
    }

    /// The answer to a request that must succeed.
    pub(crate) fn ask(&mut self, request: &str) -> Result<Value> {
        let line = self.line(request)?;
        let mut answer: Value = serde_json::from_str(&line)?;
        if answer["ok"].is_null() {
            bail!("shuntd says {}", line.trim());
        }
        Ok(answer["ok"].take())
    }
}

fn received(stats: &Value) -> u64 {
    stats["events"]["rx_packets"].as_u64().unwrap_or_default()
}

fn sent(stats: &Value) -> u64 {
    stats["events"]["forwarded"].as_u64().unwrap_or_default()
}

impl Forwarder for Shuntd {
    fn process(&self) -> &Process {
        &self.process
    }

    fn sent(&mut self) -> Result<u64> {
        Ok(sent(&self.stats()?))
    }
}
