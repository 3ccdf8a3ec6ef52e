//! A director in a lab: `shuntd` with a configuration, and `shunt` to steer it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::lab::{Lab, Output, top};
use crate::{DIP, DIP6};

/// A configuration file in the making.
#[derive(Debug, Clone)]
pub struct Config {
    workers: String,
    vdev: String,
    eal: Vec<String>,
    services: String,
    extra: String,
    ipv6: bool,
    /// What is done in the director's namespace once it runs.
    plug: Option<&'static str>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            workers: "[1]".into(),
            vdev: "net_af_packet0,iface=lan0".into(),
            eal: vec![],
            services: String::new(),
            extra: String::new(),
            ipv6: false,
            plug: None,
        }
    }
}

impl Config {
    /// One worker, no service.
    pub fn new() -> Config {
        Config::default()
    }

    /// Two workers on two queues.
    pub fn two_workers() -> Config {
        Config {
            workers: "[0, 1]".into(),
            vdev: "net_af_packet0,iface=lan0,qpairs=2".into(),
            ..Config::default()
        }
    }

    /// Gives the port IPv6 addresses beside IPv4 ones, for a lab with IPv6.
    pub fn ipv6(mut self) -> Config {
        self.ipv6 = true;
        self
    }

    /// Drives another device.
    pub fn with_vdev(mut self, vdev: &str) -> Config {
        self.vdev = vdev.into();
        self
    }

    /// Starts DPDK with further arguments.
    pub fn with_eal(mut self, arguments: &[String]) -> Config {
        self.eal.extend_from_slice(arguments);
        self
    }

    /// Drives a TAP device, which the director's namespace bridges to the segment.
    ///
    /// The kernel reassembles fragments before a packet socket sees them; a TAP device gets them as
    /// they are.
    pub fn on_tap(lab: &Lab) -> Config {
        let bridge = "
            ip link set lan0 address 02:00:00:00:00:77 &&
            ip link add br0 type bridge && sysctl -qw net.ipv6.conf.br0.disable_ipv6=1 &&
            sysctl -qw net.bridge.bridge-nf-call-iptables=0 net.bridge.bridge-nf-call-ip6tables=0
            ip link set lan0 master br0 && ip link set br0 up";
        lab.exec("director", &["sh", "-c", bridge]).ok();
        // Its own Ethernet address must not be the director's, else the bridge takes frames for the
        // director as its own. The driver sets that when the port starts, which is a while after
        // the device has appeared.
        let plug = "
            sysctl -qw net.ipv6.conf.dtap0.disable_ipv6=1
            ip link set dtap0 address 02:00:00:00:00:78 && ip link set dtap0 master br0 up";
        let vdev = format!("net_tap0,iface=dtap0,mac={}", crate::DIRECTOR_MAC);
        Config { vdev, plug: Some(plug), ..Config::default() }
    }

    /// Adds a virtual service with real servers: address, weight, forwarding method.
    pub fn service(
        mut self,
        protocol: &str,
        address: &str,
        scheduler: &str,
        reals: &[(&str, u32, &str)],
    ) -> Config {
        let s = &mut self.services;
        writeln!(s, "[[service]]\nprotocol = {protocol:?}\naddress = {address:?}")
            .expect("a string");
        writeln!(s, "scheduler = {scheduler:?}").expect("a string");
        for (rip, weight, method) in reals {
            writeln!(s, "[[service.real]]\naddress = {rip:?}\nweight = {weight}")
                .expect("a string");
            writeln!(s, "forward = {method:?}").expect("a string");
        }
        self
    }

    /// Adds text in front of the services.
    pub fn with(mut self, text: &str) -> Config {
        self.extra.push_str(text);
        self.extra.push('\n');
        self
    }

    /// The file.
    pub fn text(&self, socket: &str) -> String {
        let Config { workers, vdev, eal, services, extra, ipv6, .. } = self;
        let eal: Vec<&str> =
            ["--no-pci", "--no-huge", "-m", "256", "--no-shconf", "--no-telemetry"]
                .into_iter()
                .chain(eal.iter().map(String::as_str))
                .collect();
        let (address, gateway) = if *ipv6 {
            (vec![format!("{DIP}/24"), format!("{DIP6}/64")], vec!["192.0.2.1", "2001:db8:2::1"])
        } else {
            (vec![format!("{DIP}/24")], vec!["192.0.2.1"])
        };
        format!(
            r#"
[dataplane]
workers = {workers}
flows_per_worker = 65_536
mbufs = 16_383
idle = "sleep"
eal = {eal:?}
[control]
socket = "{socket}"
{extra}
[[port]]
name = "lan"
vdev = "{vdev}"
address = {address:?}
gateway = {gateway:?}
{services}
"#
        )
    }
}

/// A running `shuntd`. It is ended when dropped.
#[derive(Debug)]
pub struct Director<'a> {
    lab: &'a Lab,
    child: Child,
}

/// The binaries under test: `SHUNT_BIN` names their directory, else the release build's.
///
/// # Panics
/// When it is not built.
pub fn binary(name: &str) -> PathBuf {
    let dir = std::env::var_os("SHUNT_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or(top().join("target"), PathBuf::from);
        target.join("release")
    });
    let file = dir.join(name);
    assert!(file.exists(), "{} is not built; run scripts/test", file.display());
    file
}

impl<'a> Director<'a> {
    /// Starts one in the lab and waits until it answers.
    ///
    /// # Panics
    /// With its log when it does not.
    pub fn start(lab: &'a Lab, config: &Config) -> Director<'a> {
        let mut director = Director::spawn(lab, config);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            if director.shunt(&["version"]).code == 0 {
                break;
            }
            if let Ok(Some(status)) = director.child.try_wait() {
                panic!("shuntd ended with {status}:\n{}", director.log());
            }
            assert!(Instant::now() < deadline, "shuntd does not answer:\n{}", director.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        if let Some(plug) = config.plug {
            lab.exec("director", &["sh", "-c", plug]).ok();
        }
        director.wait_for("neighbors", || {
            let rows = director.json(&["neighbor", "list"]);
            let rows = rows.as_array().cloned().unwrap_or_default();
            rows.iter().all(|row| row["state"] != "incomplete")
        });
        director
    }

    /// Starts one that must not start: its log.
    ///
    /// # Panics
    /// When it starts all the same, or ends as if all were well.
    pub fn start_wrong(lab: &'a Lab, config: &Config) -> String {
        let mut director = Director::spawn(lab, config);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            if let Ok(Some(status)) = director.child.try_wait() {
                assert_eq!(status.code(), Some(1), "{}", director.log());
                return director.log();
            }
            assert!(Instant::now() < deadline, "it runs: {}", director.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn spawn(lab: &'a Lab, config: &Config) -> Director<'a> {
        let dir = lab.dir();
        let socket = dir.join("control.sock");
        fs::write(dir.join("shunt.toml"), config.text(&socket.to_string_lossy())).expect("a file");
        let log = fs::File::create(dir.join("shuntd.log")).expect("a file");
        let errors = log.try_clone().expect("a file");
        // The lab has it on record, and ends it when nobody else can.
        let child = lab
            .recorded("shuntd", "director", &binary("shuntd").to_string_lossy())
            .arg("--config")
            .arg(dir.join("shunt.toml"))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("shuntd starts");
        Director { lab, child }
    }

    /// Writes another configuration to the file; does not apply it.
    pub fn write(&self, config: &Config) {
        let text = config.text(&self.socket().to_string_lossy());
        fs::write(self.file(), text).expect("a file");
    }

    /// The configuration file.
    pub fn file(&self) -> PathBuf {
        self.lab.dir().join("shunt.toml")
    }

    /// The control socket.
    pub fn socket(&self) -> PathBuf {
        self.lab.dir().join("control.sock")
    }

    /// What `shuntd` printed.
    pub fn log(&self) -> String {
        fs::read_to_string(self.lab.dir().join("shuntd.log")).unwrap_or_default()
    }

    /// Runs the command line.
    pub fn shunt(&self, args: &[&str]) -> Output {
        let mut shunt = Command::new(binary("shunt"));
        Output::of(shunt.arg("--socket").arg(self.socket()).args(args))
    }

    /// Runs it with `--json`.
    ///
    /// # Panics
    /// When it fails or prints something else.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        let out = self.shunt(&all).ok();
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e} in {out}"))
    }

    /// Sends a signal to `shuntd`.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("shuntd runs");
    }

    /// Ends it as an operator would; its exit status.
    pub fn stop(mut self) -> ExitStatus {
        self.end()
    }

    pub(crate) fn end(&mut self) -> ExitStatus {
        if let Ok(Some(status)) = self.child.try_wait() {
            return status;
        }
        self.signal(Signal::SIGTERM);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        self.child.wait().expect("a child")
    }

    /// Waits, up to a minute, until something holds: a bound for busy machines, not a measurement.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn wait_for(&self, what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}: not within a minute\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Every counter, once no packet is on its way.
    pub fn stats(&self) -> Value {
        self.json(&["stats"])
    }

    /// Checks that every packet of every worker has one verdict.
    ///
    /// # Panics
    /// When one has none, or two.
    #[track_caller]
    pub fn assert_balanced(&self) {
        // A worker counts a burst's packets before their verdicts: look when nothing moves.
        self.wait_for("the sum of verdicts", || self.is_balanced());
    }

    /// Whether every packet of every worker has one verdict now.
    pub fn is_balanced(&self) -> bool {
        let stats = self.stats();
        let workers = stats["workers"].as_array().cloned().unwrap_or_default();
        !workers.is_empty() && workers.iter().all(is_balanced)
    }
}

fn is_balanced(worker: &Value) -> bool {
    let event = |name: &str| worker["events"][name].as_u64().expect(name);
    let dropped: u64 = worker["dropped"]
        .as_object()
        .expect("drop reasons")
        .values()
        .map(|v| v.as_u64().expect("a count"))
        .sum();
    event("rx_packets") + event("taken_over") + event("injected")
        == event("forwarded") + event("punted") + event("handed_over") + event("held") + dropped
}

impl Drop for Director<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for args in [["stats"].as_slice(), &["neighbor", "list"], &["flow", "list"]] {
                eprintln!("shunt {args:?}:\n{}", self.shunt(args).out);
            }
        }
        let status = self.end();
        if std::thread::panicking() {
            eprintln!("shuntd ended with {status}; its log:\n{}", self.log());
        }
    }
}
