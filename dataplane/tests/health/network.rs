//! A network with real servers that can be slow, deaf, or gone; time goes on in milliseconds.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dataplane::hash::Random;
use dataplane::health::{Heard, Machine, News, Numbers, Set, State, Subject, Target, Via};
use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::snapshot::check::{AllDown, CheckKind, CheckSpec, OnFail, Start};
use dataplane::types::{Mac, Millis, NeighborId, Protocol, RealId, ServiceKey};
use dataplane::vocabulary::ForwardMethod;
use etherparse::{NetHeaders, PacketHeaders, TcpHeader, TransportHeader};

pub(crate) const KEY: [u8; 16] = *b"a secret of us 2";

/// A check every two seconds.
pub(crate) fn check() -> CheckSpec {
    CheckSpec {
        name: "web".to_owned(),
        kind: CheckKind::Tcp,
        port: None,
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        rise: 2,
        fall: 2,
        start: Start::Up,
        dampening: Duration::ZERO,
        on_fail: OnFail::Drain,
        all_down: AllDown::Serve,
    }
}

/// A service of either family.
pub(crate) fn service(six: bool) -> ServiceKey {
    let vip = if six { "2001:db8:f::80" } else { "203.0.113.80" };
    ServiceKey { protocol: Protocol::Tcp, vip: vip.parse().unwrap(), ports: 80.into() }
}

pub(crate) fn rip(number: u32) -> IpAddr {
    (0x0a00_0000 + number).to_be_bytes().into()
}

/// What a real server does with a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Takes it; and sends so many bytes first, as mail servers do.
    Serves { greeting: usize },
    /// Resets it.
    Closed,
    /// Says nothing.
    Silent,
}

/// One connection as its real server sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) syns: u32,
    pub(crate) acknowledged: bool,
    pub(crate) fins: u32,
    pub(crate) fin_acknowledged: bool,
    pub(crate) reset: bool,
}

pub(crate) struct Server {
    pub(crate) mode: Mode,
    /// By source port, in the order of coming.
    pub(crate) seen: Vec<(u16, Seen)>,
}

impl Server {
    /// Its sequence number; a server's own, so any is right.
    const SEQUENCE: u32 = 0xffff_ffff;

    fn connection(&mut self, port: u16) -> &mut Seen {
        let at = self.seen.iter().rposition(|(p, _)| *p == port);
        let at = at.unwrap_or_else(|| {
            self.seen.push((port, Seen::default()));
            self.seen.len() - 1
        });
        &mut self.seen[at].1
    }

    /// Answers a segment: flags, sequence and acknowledgment number, bytes of data.
    fn receive(&mut self, tcp: &TcpHeader) -> Vec<(Flags, u32, u32, usize)> {
        let mode = self.mode;
        if mode == Mode::Silent {
            return Vec::new();
        }
        let seen = self.connection(tcp.source_port);
        let next = tcp.sequence_number.wrapping_add(1);
        let first = Self::SEQUENCE.wrapping_add(1);
        let greeting = match mode {
            Mode::Serves { greeting } => greeting,
            _ => 0,
        };
        let end = first.wrapping_add(greeting as u32);
        if tcp.rst {
            seen.reset = true;
            return Vec::new();
        }
        if tcp.syn {
            seen.syns += 1;
            return match mode {
                Mode::Closed => vec![(Flags::RST | Flags::ACK, 0, next, 0)],
                _ => vec![(Flags::SYN | Flags::ACK, Self::SEQUENCE, next, 0)],
            };
        }
        if tcp.fin {
            seen.fins += 1;
            return vec![(Flags::FIN | Flags::ACK, end, next, 0)];
        }
        assert!(tcp.ack);
        seen.fin_acknowledged |= tcp.acknowledgment_number == end.wrapping_add(1);
        if !seen.acknowledged && greeting > 0 {
            seen.acknowledged = true;
            let flags = Flags::PSH | Flags::ACK;
            return vec![(flags, first, tcp.sequence_number, greeting)];
        }
        seen.acknowledged = true;
        Vec::new()
    }
}

enum Flying {
    ToServer(RealId, Vec<u8>),
    ToDirector(Vec<u8>),
}

/// What the network does to packets.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Milliseconds one way.
    pub(crate) delay: u64,
    /// Up to so many more, by chance: this reorders.
    pub(crate) jitter: u64,
    /// Of 100 packets so many are lost.
    pub(crate) loss: u64,
    /// Of 100 packets so many come twice.
    pub(crate) twice: u64,
}

pub(crate) struct Network {
    pub(crate) set: Set,
    pub(crate) now: Millis,
    pub(crate) weather: Weather,
    pub(crate) servers: HashMap<RealId, Server>,
    pub(crate) states: HashMap<Subject, Machine>,
    pub(crate) told: Vec<News>,
    /// Whether the director's workers have room.
    pub(crate) takes: bool,
    pub(crate) sent: usize,
    pub(crate) heard: HashMap<&'static str, usize>,
    random: Random,
    flying: BTreeMap<(Millis, u64), Flying>,
    number: u64,
}

impl Network {
    pub(crate) fn new(seed: u64) -> Network {
        Network {
            set: Set::new(Numbers::new(KEY), seed),
            now: Millis(1_000),
            weather: Weather { delay: 1, ..Weather::default() },
            servers: HashMap::new(),
            states: HashMap::new(),
            told: Vec::new(),
            takes: true,
            sent: 0,
            heard: HashMap::new(),
            random: Random::new(seed),
            flying: BTreeMap::new(),
            number: 0,
        }
    }

    /// Watches a new real server.
    pub(crate) fn add(&mut self, number: u32, mode: Mode, check: &CheckSpec, six: bool) -> Subject {
        self.servers.insert(RealId(number), Server { mode, seen: Vec::new() });
        let subject = (service(six), rip(number));
        self.watch(subject, number, check);
        subject
    }

    pub(crate) fn watch(&mut self, subject: Subject, number: u32, check: &CheckSpec) {
        let (key, real) = subject;
        let from = if key.vip.is_ipv6() { "2001:db8::1" } else { "192.0.2.1" };
        let target = Target {
            check: Arc::new(check.clone()),
            real,
            method: ForwardMethod::Dr,
            gre: (false, None),
            to: SocketAddr::new(key.vip, check.port.unwrap_or(key.ports.first())),
        };
        let from = Some(from.parse().unwrap());
        let via = Via { real: RealId(number), neighbor: NeighborId(number % 10), from };
        self.set.watch(subject, target, via, self.now);
        self.take_news();
    }

    pub(crate) fn mode(&mut self, number: u32, mode: Mode) {
        self.servers.get_mut(&RealId(number)).unwrap().mode = mode;
    }

    pub(crate) fn state(&self, subject: Subject) -> State {
        self.states[&subject].state()
    }

    pub(crate) fn seen(&self, number: u32) -> &[(u16, Seen)] {
        &self.servers[&RealId(number)].seen
    }

    /// Lets time pass.
    pub(crate) fn run(&mut self, millis: u64) {
        let end = self.now.after(millis);
        while self.now < end {
            self.now = self.now.after(1);
            self.step();
        }
    }

    /// Lets time pass until a state is reached; after how many milliseconds.
    pub(crate) fn until(&mut self, subject: Subject, state: State, at_most: u64) -> u64 {
        let from = self.now;
        while self.state(subject) != state {
            assert!(self.now.since(from) < at_most, "not {state} within {at_most} ms");
            self.run(1);
        }
        self.now.since(from)
    }

    /// Everything due now.
    fn step(&mut self) {
        while let Some(first) = self.flying.first_entry().filter(|e| e.key().0 <= self.now) {
            match first.remove() {
                Flying::ToServer(real, packet) => self.serve(real, &packet),
                Flying::ToDirector(packet) => self.hear(&packet),
            }
        }
        let mut out = Vec::new();
        let takes = self.takes;
        while self.set.next_deadline().is_some_and(|due| due <= self.now) {
            self.set.poll(self.now, &mut |real, packet| {
                if takes {
                    out.push((real, packet.to_vec()));
                }
                takes
            });
        }
        self.fly(out);
        self.take_news();
    }

    fn take_news(&mut self) {
        for news in self.set.take_news() {
            self.states.insert(news.subject, news.machine);
            self.told.push(news);
        }
    }

    fn serve(&mut self, real: RealId, packet: &[u8]) {
        let read = PacketHeaders::from_ip_slice(packet).unwrap();
        let Some(TransportHeader::Tcp(tcp)) = read.transport else { panic!("{read:?}") };
        let (src, dst): (IpAddr, IpAddr) = match read.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => (ip.source.into(), ip.destination.into()),
            NetHeaders::Ipv6(ip, _) => (ip.source.into(), ip.destination.into()),
            other => panic!("{other:?}"),
        };
        let Some(server) = self.servers.get_mut(&real) else { return };
        for (flags, seq, ack, data) in server.receive(&tcp) {
            let from = SocketAddr::new(dst, tcp.destination_port);
            let to = SocketAddr::new(src, tcp.source_port);
            let answer = answer(from, to, flags, seq, ack, data);
            self.cast(&Flying::ToDirector(answer));
        }
    }

    /// Hands a packet to the director, whoever made it.
    pub(crate) fn hear(&mut self, packet: &[u8]) {
        let mut out = Vec::new();
        let heard = self.set.receive(packet, self.now, &mut |real, packet| {
            out.push((real, packet.to_vec()));
            true
        });
        let heard = match heard {
            Heard::Answer => "answer",
            Heard::Late => "late",
            Heard::Forged => "forged",
        };
        *self.heard.entry(heard).or_default() += 1;
        self.fly(out);
        self.take_news();
    }

    fn fly(&mut self, out: Vec<(RealId, Vec<u8>)>) {
        for (real, packet) in out {
            self.sent += 1;
            self.cast(&Flying::ToServer(real, packet));
        }
    }

    fn cast(&mut self, packet: &Flying) {
        let copies = 1 + usize::from(self.chance(self.weather.twice));
        for _ in 0..copies {
            if self.chance(self.weather.loss) {
                continue;
            }
            let delay = self.weather.delay + self.random.between(0, self.weather.jitter);
            self.number += 1;
            let copy = match packet {
                Flying::ToServer(real, bytes) => Flying::ToServer(*real, bytes.clone()),
                Flying::ToDirector(bytes) => Flying::ToDirector(bytes.clone()),
            };
            self.flying.insert((self.now.after(delay), self.number), copy);
        }
    }

    fn chance(&mut self, of_100: u64) -> bool {
        self.random.between(1, 100) <= of_100
    }
}

/// A packet from a real server, without Ethernet header.
pub(crate) fn answer(
    from: SocketAddr,
    to: SocketAddr,
    flags: Flags,
    seq: u32,
    ack: u32,
    data: usize,
) -> Vec<u8> {
    let build = Build::eth(Mac::ZERO, Mac::ZERO);
    let build = match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => build.ipv4(src, dst),
        (IpAddr::V6(src), IpAddr::V6(dst)) => build.ipv6(src, dst),
        other => panic!("{other:?}"),
    };
    let build = build.tcp(from.port(), to.port(), flags, seq).ack(ack);
    build.payload(&vec![b'x'; data]).finish()[14..].to_vec()
}
