//! A data plane that forwards nothing, a server over it, and a client that speaks raw lines.
#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, reason = "a test's helpers are tests")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dataplane::config::Config;
use dataplane::control::plane::{
    AddressRow, ApplyError, Busy, FlowFilter, FlowPage, FlowRow, NeighborRow, Plane, PortRow,
    Reachability, StatsReport, WorkerRow,
};
use dataplane::control::{Controller, Server, ServerSettings};
use dataplane::flow::State;
use dataplane::snapshot::learned::{Effect, News, RealName};
use dataplane::snapshot::spec::Spec;
use dataplane::stats::{DropReason, Event, Stats, Traffic};
use dataplane::types::{Mac, Protocol, ServiceKey};
use dataplane::vocabulary::AddressState::{Duplicate, Ready};
use dataplane::vocabulary::NeighborState;
use serde_json::Value;

/// The configuration the fixture starts with.
pub(crate) const TEXT: &str = r#"# A comment, lost when saved.
[[port]]
name = "lan"
vdev = "net_af_packet0,iface=veth0"
address = ["192.0.2.10/24"]
gateway = ["192.0.2.1"]

[[service]]
protocol = "tcp"
address = "192.0.2.100:80"
scheduler = "wrr"

[[service.real]]
address = "192.0.2.21"
weight = 2
"#;

/// Remembers what was applied; makes up flows and counters.
#[derive(Default)]
pub(crate) struct FakePlane {
    pub(crate) applied: Mutex<Vec<Spec>>,
    pub(crate) refuse: Mutex<Option<ApplyError>>,
    /// Real servers there is room for; 0 is any number.
    pub(crate) room: AtomicUsize,
    pub(crate) apply_time: Mutex<Duration>,
    pub(crate) applying: AtomicBool,
    pub(crate) learned: AtomicBool,
    /// What it was told of real servers.
    pub(crate) news: Mutex<HashMap<RealName, Effect>>,
    pub(crate) flows: AtomicU64,
    pub(crate) flushed: Mutex<Vec<FlowFilter>>,
}

impl FakePlane {
    /// The specification applied last.
    pub(crate) fn last(&self) -> Spec {
        self.applied.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn flow(&self, number: u64) -> FlowRow {
        let client = Ipv4Addr::from(0xc633_6400 + (number >> 16) as u32);
        FlowRow {
            protocol: Protocol::Tcp,
            state: State::Established.name().to_owned(),
            expires_ms: 899_000,
            client: (client, number as u16).into(),
            vip: "192.0.2.100:80".parse().unwrap(),
            real: Some("192.0.2.21".parse().unwrap()),
            worker: (number % 2) as u16,
            replica: false,
            template: false,
        }
    }
}

const TRAFFIC: Traffic =
    Traffic { connections: 11, packets: 222, bytes: 33_333, active: 4, inactive: 5 };

impl Plane for FakePlane {
    fn apply(&self, spec: &Spec) -> Result<u64, ApplyError> {
        assert!(!self.applying.swap(true, Ordering::SeqCst), "two changes at once");
        let time = *self.apply_time.lock().unwrap();
        std::thread::sleep(time);
        let reals: usize = spec.services.iter().map(|service| service.reals.len()).sum();
        let room = self.room.load(Ordering::SeqCst);
        let full = (room > 0 && reals > room).then(|| ApplyError::Full("no room".to_owned()));
        let refused = self.refuse.lock().unwrap().clone().or(full);
        self.applying.store(false, Ordering::SeqCst);
        match refused {
            Some(error) => Err(error),
            None => {
                self.learned.store(false, Ordering::SeqCst);
                self.applied.lock().unwrap().push(spec.clone());
                Ok(self.generation())
            }
        }
    }

    fn learn(&self, news: &[News]) -> Result<u64, ApplyError> {
        let mut learned = self.news.lock().unwrap();
        for one in news {
            if let News::Real { name, effect, .. } = one {
                learned.insert(*name, *effect);
            }
        }
        drop(learned);
        self.apply(&self.last())
    }

    fn learned(&self, name: &RealName) -> Effect {
        self.news.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    fn has_learned(&self) -> bool {
        self.learned.load(Ordering::SeqCst)
    }

    fn generation(&self) -> u64 {
        self.applied.lock().unwrap().len() as u64
    }

    fn uptime_ms(&self) -> u64 {
        3_723_000
    }

    fn stats(&self) -> StatsReport {
        let stats = Stats::new(1, 1, 1);
        stats.event(Event::RxPackets).add(10);
        stats.event(Event::Forwarded).add(7);
        stats.dropped(DropReason::NoService).add(3);
        let counts = stats.counts();
        StatsReport {
            generation: self.generation(),
            uptime_ms: self.uptime_ms(),
            total: counts.clone(),
            workers: vec![WorkerRow {
                worker: 0,
                lcore: 1,
                generation: self.generation(),
                longest_round_ns: 5400,
                counts,
            }],
            slow_path: Stats::new(1, 1, 1).counts(),
            mbufs: 65_536,
            mbufs_in_use: 512,
        }
    }

    fn service_traffic(&self, _: &ServiceKey) -> Traffic {
        TRAFFIC
    }

    fn real_traffic(&self, _: &ServiceKey, _: IpAddr) -> (Traffic, Reachability) {
        (TRAFFIC, Reachability::Reachable)
    }

    /// One real server is far away.
    fn path_mtu(&self, _: &ServiceKey, real: IpAddr) -> Option<u16> {
        (real == IpAddr::from([10, 8, 0, 7])).then_some(1400)
    }

    fn templates(&self) -> HashMap<(ServiceKey, IpAddr), u64> {
        let key =
            ServiceKey { protocol: Protocol::Tcp, vip: [192, 0, 2, 100].into(), ports: 80.into() };
        HashMap::from([((key, [192, 0, 2, 21].into()), 6)])
    }

    fn ports(&self) -> Vec<PortRow> {
        vec![PortRow {
            name: "lan".to_owned(),
            device: "net_af_packet0,iface=veth0".to_owned(),
            driver: "net_af_packet".to_owned(),
            mac: Mac([2, 0, 0, 0, 0, 1]),
            link: true,
            speed_mbps: Some(10_000),
            mtu: 1500,
            addresses: vec!["192.0.2.10/24".to_owned(), "2001:db8:2::10/64".to_owned()],
            ipv6: vec![
                AddressRow { address: "2001:db8:2::10".parse().unwrap(), state: Duplicate },
                AddressRow { address: "fe80::ff:fe00:1".parse().unwrap(), state: Ready },
            ],
            gateways: vec!["192.0.2.1".parse().unwrap()],
            queues: 1,
            workers: vec![0],
            rx_packets: 10,
            rx_bytes: 1000,
            tx_packets: 7,
            tx_bytes: 700,
            tx_full: 0,
            rx_missed: 1,
            rx_errors: 0,
            rx_no_buffer: 0,
            tx_errors: 0,
        }]
    }

    fn neighbors(&self) -> Vec<NeighborRow> {
        vec![NeighborRow {
            port: "lan".to_owned(),
            address: "192.0.2.21".parse().unwrap(),
            mac: Some(Mac([2, 0, 0, 0, 0, 0x21])),
            state: NeighborState::Reachable,
            confirmed_ms: Some(1200),
            waiting: 0,
        }]
    }

    /// Pages as the daemon's are: bounded by what is looked at, so some come out empty.
    fn flows(&self, filter: &FlowFilter, cursor: u64, limit: usize) -> Result<FlowPage, Busy> {
        let all = self.flows.load(Ordering::SeqCst);
        let end = all.min(cursor + limit as u64);
        let rows = (cursor..end)
            .map(|number| self.flow(number))
            .filter(|row| filter.matches(row, row.real));
        Ok(FlowPage { flows: rows.collect(), next: (end < all).then_some(end) })
    }

    fn flush_flows(&self, filter: &FlowFilter) -> Result<u64, Busy> {
        self.flushed.lock().unwrap().push(filter.clone());
        Ok(self.flows.swap(0, Ordering::SeqCst))
    }
}

/// A running server over a fake data plane, with its files in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) plane: Arc<FakePlane>,
    pub(crate) controller: Arc<Controller>,
    pub(crate) settings: ServerSettings,
    pub(crate) file: PathBuf,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) server: Option<Server>,
}

impl Fixture {
    pub(crate) fn new() -> Fixture {
        Fixture::with(|_| {})
    }

    /// With other limits.
    pub(crate) fn with(adjust: impl FnOnce(&mut ServerSettings)) -> Fixture {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shunt.toml");
        std::fs::write(&file, TEXT).unwrap();
        let config = dataplane::config::load(&file).unwrap();
        let mut settings = ServerSettings::new(&config.control);
        settings.socket = directory.path().join("run/control.sock");
        adjust(&mut settings);
        let plane = Arc::new(FakePlane::default());
        let hardware = vec![(Mac([2, 0, 0, 0, 0, 1]), 1500)];
        plane.apply(&config.spec(&hardware)).unwrap();
        let controller =
            Controller::new(config, file.clone(), hardware, Arc::<FakePlane>::clone(&plane));
        let controller = Arc::new(controller);
        let server = Server::start(Arc::clone(&controller), settings.clone()).unwrap();
        Fixture { plane, controller, settings, file, directory, server: Some(server) }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::new(UnixStream::connect(&self.settings.socket).unwrap())
    }

    /// The running configuration.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.controller.config()
    }
}

/// Speaks raw lines.
pub(crate) struct Client(pub(crate) BufReader<UnixStream>);

impl Client {
    pub(crate) fn new(stream: UnixStream) -> Client {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Client(BufReader::new(stream))
    }

    /// Sends a line. A server that has closed already may have left an answer to read.
    pub(crate) fn send(&mut self, line: &[u8]) {
        let sent = self.0.get_mut().write_all(&[line, b"\n"].concat());
        if let Err(error) = sent {
            assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
        }
    }

    /// The next answer; `None` once the server has closed.
    pub(crate) fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.0.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap()),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub(crate) fn ask(&mut self, line: &str) -> Value {
        self.send(line.as_bytes());
        self.answer().expect("an answer")
    }

    /// The `ok` of the answer.
    pub(crate) fn ok(&mut self, line: &str) -> Value {
        let mut answer = self.ask(line);
        assert!(answer.get("ok").is_some(), "{line}\n{answer}");
        answer["ok"].take()
    }

    /// Code and message of the error.
    pub(crate) fn error(&mut self, line: &str) -> (String, String) {
        let answer = self.ask(line);
        let text = |key: &str| answer["error"][key].as_str().unwrap_or_default().to_owned();
        (text("code"), text("message"))
    }
}
