//! A director with honest clients and neighbors, under a flood.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::frames::{ACK, Client, Payload, SYN, Template};
use super::kinds::{BOUND, COUNTED, FRAGMENTED, HASHED, HONEST, Kind, MANY, PERSISTENT, vip};
use super::{Flood, Source, is_whole};
use crate::{Config, DIP, DIP6, Director, Lab, RS1, RS1_6, RS2, RS2_6, Reals};

/// Honest clients of each kind and family.
const CLIENTS: usize = 1000;
/// Clients that send fragmented datagrams.
const FRAGMENTERS: usize = 64;
/// Real servers of the service that has many, of either family.
const NEIGHBORS: (usize, usize) = (200, 50);
/// TCP's flags PSH and ACK.
const DATA: u8 = 8 | ACK;
/// Between two honest fragmented datagrams, of each family.
const HONEST_NS: u32 = 10_000_000;

/// A lab, a director in it, and the packet source in the director.
#[derive(Debug)]
pub struct Station {
    director: Director<'static>,
    /// Lives until the process ends, or the station: whichever is first.
    lab: &'static Lab,
    source: Source,
    workers: u16,
}

/// What honest clients have: where each goes, by its address.
type Bindings = BTreeMap<String, String>;

/// Honest clients of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Honest {
    tcp: Bindings,
    udp: Bindings,
    templates: Bindings,
}

/// How many honest clients of a family lost what they had, or were sent elsewhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Of 1,000 idle established connections.
    pub tcp: usize,
    /// Of 1,000 UDP flows.
    pub udp: usize,
    /// Of 1,000 templates.
    pub templates: usize,
}

/// Honest fragmented datagrams of a family.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fragments {
    /// How many were sent.
    pub sent: usize,
    /// Of how many both fragments reached one real server.
    pub whole: usize,
}

/// What a flood did.
#[derive(Debug, Clone)]
pub struct Report {
    /// Million packets a second that the workers received.
    pub mpps: f64,
    /// Honest clients that lost something, IPv4 and IPv6.
    pub lost: [Lost; 2],
    /// Honest fragmented datagrams, IPv4 and IPv6.
    pub fragments: [Fragments; 2],
    /// By target: pings sent and answered, ARP requests too.
    pub answered: Vec<(String, u32, u32)>,
    /// Neighbors that were lost at some time.
    pub failed: BTreeSet<String>,
    /// How many neighbors there are.
    pub neighbors: usize,
    /// The longest round of a worker, nanoseconds.
    pub longest_round_ns: u64,
    /// Whether every packet has one verdict afterwards.
    pub balanced: bool,
    /// Buffers in use afterwards, above those before.
    pub mbufs: i64,
    /// What was counted meanwhile, zeroes left out.
    pub counted: BTreeMap<String, u64>,
}

impl Report {
    /// The least share of a target's questions that was answered, in per cent. The last of each is
    /// not counted: it is asked when there is no time left to answer.
    pub fn least_answered(&self) -> u32 {
        let share = |(_, sent, got): &(String, u32, u32)| got * 100 / ((*sent).max(2) - 1);
        self.answered.iter().map(share).min().unwrap_or(0)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} Mpps;", self.mpps)?;
        for (family, lost) in ["IPv4", "IPv6"].iter().zip(self.lost) {
            write!(
                f,
                " {family} lost {} tcp {} udp {} templates;",
                lost.tcp, lost.udp, lost.templates
            )?;
        }
        for (family, fragments) in ["IPv4", "IPv6"].iter().zip(self.fragments) {
            write!(f, " {family} datagrams whole {} of {};", fragments.whole, fragments.sent)?;
        }
        write!(f, " neighbors failed {} of {};", self.failed.len(), self.neighbors)?;
        for (target, sent, got) in &self.answered {
            write!(f, " {target} {got}/{sent}")?;
        }
        write!(f, "; longest round {:.1} ms", self.longest_round_ns as f64 / 1e6)?;
        if !self.balanced {
            write!(f, "; NOT BALANCED")?;
        }
        write!(f, "; mbufs {:+}", self.mbufs)
    }
}

impl Station {
    /// Builds the lab and starts a director with one worker or two.
    ///
    /// # Panics
    /// When either does not come up.
    pub fn start(workers: u16) -> Station {
        let lab: &'static Lab = Box::leak(Box::new(Lab::up6_queues(Reals::Dr, workers)));
        let mut batch = String::new();
        for rip in many(false) {
            batch += &format!("address add {rip}/24 dev eth0\n");
        }
        for rip in many(true) {
            batch += &format!("address add {rip}/64 dev eth0 nodad\n");
        }
        let file = lab.dir().join("neighbors.batch");
        std::fs::write(&file, batch).expect("a file");
        lab.exec("rs1", &["ip", "-batch", &file.to_string_lossy()]).ok();
        let source = Source::build(&lab.dir());
        let config = if workers > 1 { Config::two_workers() } else { Config::new() };
        let config = services(config.ipv6()).with_eal(&source.eal());
        let director = Director::start(lab, &config);
        for (number, protocol, port) in [(BOUND, "tcp", 80), (PERSISTENT, "udp", 53)] {
            for ipv6 in [false, true] {
                let address = address(number, ipv6, port);
                let edit = ["service", "edit", protocol, &address, "--persistence", "300s"];
                director.shunt(&edit).ok();
            }
        }
        source.arm();
        assert_eq!(source.queues(), usize::from(workers));
        Station { director, lab, source, workers }
    }

    /// The director.
    pub fn director(&self) -> &Director<'static> {
        &self.director
    }

    /// One packet of every honest client of the three kinds, with these TCP flags.
    fn beat(&mut self, flags: u8) {
        let mut templates = Vec::new();
        for ipv6 in [false, true] {
            let to = |number, set, payload| {
                Template::new(&vip(number, ipv6), Client::Numbered(set), payload)
            };
            templates.push(to(HONEST, 1, Payload::Tcp(80, flags)));
            templates.push(to(HONEST, 2, Payload::Udp(53)));
            templates.push(to(BOUND, 3, Payload::Tcp(80, flags)));
        }
        self.numbered(templates, CLIENTS);
        let fragmenter =
            |ipv6| Template::new(&vip(FRAGMENTED, ipv6), Client::Numbered(8), Payload::Udp(53));
        self.numbered(vec![fragmenter(false), fragmenter(true)], FRAGMENTERS);
    }

    fn numbered(&mut self, templates: Vec<Template>, clients: usize) {
        let turns = (clients / self.source.queues()) as u32;
        self.source.run(&Flood {
            templates,
            numbered: true,
            turns,
            interval_ns: 50_000,
            honest_ns: 0,
        });
    }

    /// Has the honest clients connect and send for some seconds, unless they did; else send once.
    fn establish(&mut self) -> [Honest; 2] {
        let all = |honest: &[Honest; 2]| {
            honest.iter().all(|h| [&h.tcp, &h.udp, &h.templates].iter().all(|b| b.len() == CLIENTS))
        };
        if all(&self.honest()) {
            self.beat(DATA);
        } else {
            // What an earlier flood left is not to be in the way.
            self.asked(&["flow", "flush", "--all"]);
            self.beat(SYN);
            for _ in 0..4 {
                self.beat(DATA);
                std::thread::sleep(Duration::from_secs(1));
            }
        }
        let honest = self.honest();
        let counts = |h: &Honest| [h.tcp.len(), h.udp.len(), h.templates.len()];
        assert!(
            all(&honest),
            "not all {CLIENTS} honest clients have connected: {:?}\n{}",
            honest.each_ref().map(counts),
            self.director.stats()
        );
        honest
    }

    /// What the director says. Where others keep a worker's processor busy for seconds, it may say
    /// that the worker is late: then it is asked again, for a minute.
    fn asked(&self, question: &[&str]) -> Value {
        let deadline = Instant::now() + Duration::from_secs(60);
        let all = [&["--json"], question].concat();
        loop {
            let answer = self.director.shunt(&all);
            match serde_json::from_str(&answer.out) {
                Ok(rows) if answer.code == 0 => return rows,
                _ if Instant::now() > deadline => panic!("{question:?}: {answer:?}"),
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    fn honest(&self) -> [Honest; 2] {
        [false, true].map(|ipv6| Honest {
            tcp: self.bindings("tcp", HONEST, ipv6, |row| row["state"] == "ESTABLISHED"),
            udp: self.bindings("udp", HONEST, ipv6, |row| row["state"] == "UDP"),
            templates: self.bindings("tcp", BOUND, ipv6, |row| row["template"] == true),
        })
    }

    fn bindings(&self, protocol: &str, number: u8, ipv6: bool, is: fn(&Value) -> bool) -> Bindings {
        let vip = vip(number, ipv6);
        let list = ["flow", "list", "--protocol", protocol, "--vip", &vip, "--limit", "0"];
        let rows = self.asked(&list);
        // Spoofed clients have other addresses.
        let ours = |client: &str| {
            client.starts_with("10.")
                || (client.starts_with("[2a0") && !client.starts_with("[2a00"))
        };
        rows["flows"]
            .as_array()
            .expect("rows")
            .iter()
            .filter(|row| is(row))
            .filter_map(|row| Some((row["client"].as_str()?, row["real"].as_str()?)))
            .filter(|(client, _)| ours(client))
            .map(|(client, real)| (client.to_owned(), real.to_owned()))
            .collect()
    }

    /// Floods for some time, and says what that did.
    ///
    /// # Panics
    /// When the director does not answer, or honest clients cannot connect beforehand.
    pub fn flood(&mut self, kind: Kind, time: Duration) -> Report {
        let before = self.establish();
        let (_, stats) = self.settle();
        let counts = self.source.counts();
        let questions = self.ask(time);
        let flood = Flood {
            templates: kind.templates(),
            interval_ns: kind.interval_ns() * u32::from(self.workers),
            honest_ns: HONEST_NS,
            ..Flood::default()
        };
        let (mut failed, mut neighbors, mut longest) = (BTreeSet::new(), 0, 0);
        self.source.start(&flood, &fragmented());
        let start = Instant::now();
        while start.elapsed() < time {
            std::thread::sleep(Duration::from_millis(500));
            let rows = self.asked(&["neighbor", "list"]);
            let rows = rows.as_array().expect("rows");
            neighbors = rows.len();
            let lost = rows.iter().filter(|row| row["state"] == "failed" || row["mac"].is_null());
            failed.extend(lost.map(|row| row["address"].to_string()));
            longest = longest.max(longest_round(&self.director.stats()));
        }
        let made = self.source.counts().made - counts.made;
        let took = start.elapsed();
        self.source.stop();
        let answered = questions.into_iter().map(Question::answered).collect();
        // Held fragments wait for half a second.
        std::thread::sleep(Duration::from_secs(1));
        let mut fragments = [Fragments::default(); 2];
        for arrived in self.source.honest() {
            for (fragments, family) in fragments.iter_mut().zip([arrived.v4, arrived.v6]) {
                fragments.sent += 1;
                fragments.whole += usize::from(is_whole(family));
            }
        }
        let (balanced, after) = self.settle();
        let mbufs = |stats: &Value| stats["mbufs_in_use"].as_i64().expect("a count");
        let honest = self.honest();
        Report {
            mpps: made as f64 / took.as_secs_f64() / 1e6,
            lost: [0, 1].map(|family| before[family].lost_in(&honest[family])),
            fragments,
            answered,
            failed,
            neighbors,
            longest_round_ns: longest,
            balanced,
            mbufs: mbufs(&after) - mbufs(&stats),
            counted: counted(&stats, &after),
        }
    }

    /// Waits until nothing is under way: whether every packet has its verdict then, and the counters
    /// of that moment. A moment later a frame of the segment may be under way again.
    fn settle(&self) -> (bool, Value) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (balanced, stats) = (self.director.is_balanced(), self.director.stats());
            let quiet = balanced && stats["mbufs_in_use"] == 0;
            if quiet || Instant::now() > deadline {
                return (balanced, stats);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Has the router ask the director's addresses as long as the flood takes.
    fn ask(&self, time: Duration) -> Vec<Question> {
        let seconds = (time.as_secs().max(2) - 1).to_string();
        let ping = |target: &str| {
            let ping = ["ping", "-n", "-q", "-i", "0.2", "-w", &seconds, target];
            Question::ask(self.lab, target, &ping)
        };
        let (vip4, vip6) = (vip(HONEST, false), vip(HONEST, true));
        let mut questions: Vec<_> = [DIP, &vip4, DIP6, &vip6].into_iter().map(ping).collect();
        let vip = vip(COUNTED, false);
        let arping = ["arping", "-w", &seconds, "-I", "lan", &vip];
        questions.push(Question::ask(self.lab, "arp", &arping));
        questions
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        self.director.end();
        let down = self.lab.script("down", &[]);
        if down.code != 0 {
            eprintln!("the lab is not taken down: {}", down.err);
        }
    }
}

impl Honest {
    fn lost_in(&self, after: &Honest) -> Lost {
        let lost = |before: &Bindings, after: &Bindings| {
            before.iter().filter(|(client, real)| after.get(*client) != Some(real)).count()
        };
        Lost {
            tcp: lost(&self.tcp, &after.tcp),
            udp: lost(&self.udp, &after.udp),
            templates: lost(&self.templates, &after.templates),
        }
    }
}

/// A program that asks an address once and again.
#[derive(Debug)]
struct Question {
    target: String,
    child: Child,
}

impl Question {
    fn ask(lab: &Lab, target: &str, command: &[&str]) -> Question {
        let mut program = lab.command("router", command[0]);
        let program = program.args(&command[1..]).stdin(Stdio::null());
        let child = program.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        Question { target: target.to_owned(), child: child.expect("it starts") }
    }

    /// Target, questions, answers. Both programs end by themselves.
    fn answered(self) -> (String, u32, u32) {
        let out = self.child.wait_with_output().expect("it ends");
        let out = String::from_utf8_lossy(&out.stdout).into_owned();
        let number = |end: &str| {
            let before = out.split(end).next().filter(|before| before.len() < out.len())?;
            before.split_whitespace().last()?.parse::<u32>().ok()
        };
        // "45 packets transmitted, 44 received", "Sent 9 probes", "Received 9 response(s)".
        let sent = number(" packets transmitted").or_else(|| number(" probe"));
        let got = number(" received").or_else(|| number(" response"));
        (self.target, sent.unwrap_or(0), got.unwrap_or(0))
    }
}

fn longest_round(stats: &Value) -> u64 {
    let workers = stats["workers"].as_array().expect("workers").iter();
    workers.filter_map(|worker| worker["longest_round_ns"].as_u64()).max().unwrap_or(0)
}

/// What was counted between two looks.
fn counted(before: &Value, after: &Value) -> BTreeMap<String, u64> {
    let mut counted = BTreeMap::new();
    for (owner, prefix) in [("total", ""), ("slow_path", "slow ")] {
        for kind in ["events", "dropped"] {
            for (name, value) in after[owner][kind].as_object().into_iter().flatten() {
                let (then, now) = (before[owner][kind][name].as_u64(), value.as_u64());
                let more = now.unwrap_or(0).saturating_sub(then.unwrap_or(0));
                if more > 0 {
                    counted.insert(format!("{prefix}{name}"), more);
                }
            }
        }
    }
    counted
}

fn address(number: u8, ipv6: bool, port: u16) -> String {
    let vip = vip(number, ipv6);
    if ipv6 { format!("[{vip}]:{port}") } else { format!("{vip}:{port}") }
}

/// RIPs of the many real servers; rs1 has them all.
fn many(ipv6: bool) -> Vec<String> {
    if ipv6 {
        return (1..=NEIGHBORS.1).map(|n| format!("2001:db8:2::1:{n:x}")).collect();
    }
    // The VIPs are in between.
    (30..100).chain(110..255).take(NEIGHBORS.0).map(|n| format!("192.0.2.{n}")).collect()
}

fn services(mut config: Config) -> Config {
    for ipv6 in [false, true] {
        let reals = if ipv6 { [RS1_6, RS2_6] } else { [RS1, RS2] };
        let both = reals.map(|rip| (rip, 1, "dr"));
        let services = [
            ("tcp", HONEST, 80, "wlc"),
            ("udp", HONEST, 53, "wlc"),
            ("tcp", BOUND, 80, "rr"),
            ("tcp", HASHED, 80, "mh"),
            ("udp", HASHED, 53, "mh"),
            ("udp", PERSISTENT, 53, "rr"),
            ("tcp", COUNTED, 80, "wlc"),
            ("udp", COUNTED, 53, "wlc"),
            ("udp", FRAGMENTED, 53, "rr"),
        ];
        for (protocol, number, port, scheduler) in services {
            config = config.service(protocol, &address(number, ipv6, port), scheduler, &both);
        }
        let rips = many(ipv6);
        let rips: Vec<_> = rips.iter().map(|rip| (rip.as_str(), 1, "dr")).collect();
        config = config.service("tcp", &address(MANY, ipv6, 80), "rr", &rips);
    }
    config
}

/// Honest datagrams in two fragments.
fn fragmented() -> Vec<Template> {
    let mut templates = Vec::new();
    for ipv6 in [false, true] {
        for payload in [Payload::FirstUdp(53), Payload::Later(17, 32)] {
            templates.push(Template::new(&vip(FRAGMENTED, ipv6), Client::Fragmenter, payload));
        }
    }
    templates
}
