//! A small network around a slow path, for the `slowpath_*` tests.
#![allow(dead_code, unreachable_pub, reason = "shared by several tests; none uses all of it")]
#![allow(clippy::unwrap_used, reason = "a test helper")]

pub mod chained;
pub mod six;

use std::cell::Cell;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;

use dataplane::packet::arp::{Operation, Packet};
use dataplane::packet::buf::{BufPool, PacketBuf, TestBuf};
use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::slowpath::{Millis, NeighborView, SlowPath, is_balanced};
use dataplane::snapshot::neighbors::{Links, NeighborSpec, NextHop, NextHops};
use dataplane::snapshot::spec::PortSpec;
use dataplane::stats::{Counts, DropReason, Event, Stats};
use dataplane::types::{Mac, NeighborId, PortId, Punt, PuntReason};
use dataplane::vocabulary::NeighborState;

pub const LAN: PortId = PortId(0);
pub const WAN: PortId = PortId(1);
pub const LAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 0]);
pub const WAN_MAC: Mac = Mac([2, 0, 0, 0, 1, 1]);
pub const DIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 10);
pub const WAN_DIP: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// In the network of the LAN.
pub const VIP: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 100);
/// In no port's network.
pub const FAR_VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 80);
pub const CIP: Ipv4Addr = Ipv4Addr::new(100, 64, 7, 7);
/// Where clients' packets come from.
pub const ROUTER: Mac = Mac([2, 0, 0, 0, 9, 9]);

/// The n-th real server.
pub const fn rip(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 168, 0, 200 + n)
}

pub const fn real_mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 2, n])
}

pub fn lan() -> PortSpec {
    PortSpec {
        name: "lan".into(),
        mac: LAN_MAC,
        mtu: 1500,
        addresses: vec!["192.168.0.10/24".parse().unwrap()],
        gateways: vec![[192, 168, 0, 1].into()],
    }
}

pub fn wan() -> PortSpec {
    PortSpec {
        name: "wan".into(),
        mac: WAN_MAC,
        addresses: vec!["203.0.113.10/24".parse().unwrap()],
        ..lan()
    }
}

/// A real server's slot is its number.
pub fn neighbor(n: u8) -> NeighborSpec {
    NeighborSpec { id: NeighborId(n.into()), port: LAN, address: rip(n).into(), fixed: None }
}

/// Two ports, two VIPs, and so many real servers.
pub fn links(reals: u8) -> Links {
    Links {
        ports: vec![lan(), wan()],
        vips: vec![VIP.into(), FAR_VIP.into()],
        neighbors: (0..reals).map(neighbor).collect(),
        tunnels: vec![],
    }
}

/// Gives as many buffers as the test says.
#[derive(Clone)]
pub struct Pool(pub Rc<Cell<usize>>);

impl BufPool<TestBuf> for Pool {
    fn alloc(&self) -> Option<TestBuf> {
        self.0.set(self.0.get().checked_sub(1)?);
        Some(TestBuf::new(&[]))
    }
}

pub struct Bench {
    pub slow: SlowPath<TestBuf, Pool>,
    pub hops: Arc<NextHops>,
    pub stats: Arc<Stats>,
    pub buffers: Rc<Cell<usize>>,
    pub now: u64,
    /// What came out since it was last taken.
    pub sent: Vec<(PortId, Vec<u8>)>,
}

impl Bench {
    /// Nothing configured.
    pub fn empty() -> Bench {
        let hops = Arc::new(NextHops::new(64));
        let stats = Arc::new(Stats::new(2, 0, 0));
        let buffers = Rc::new(Cell::new(usize::MAX));
        let slow = SlowPath::new(Pool(buffers.clone()), hops.clone(), stats.clone(), 1);
        Bench { slow, hops, stats, buffers, now: 1_000, sent: Vec::new() }
    }

    /// [`links`] configured, and what that sends over and forgotten.
    pub fn with(reals: u8) -> Bench {
        let mut bench = Bench::empty();
        bench.configure(&links(reals));
        for n in 0..reals {
            bench.answer(n);
        }
        bench.run(2_000);
        bench.sent.clear();
        bench
    }

    pub fn configure(&mut self, links: &Links) {
        let Bench { slow, sent, now, .. } = self;
        slow.configure(links, Millis(*now), &mut |port, buf| sent.push((port, buf.data().into())));
        self.check();
    }

    pub fn link_up(&mut self, port: PortId) {
        let Bench { slow, sent, now, .. } = self;
        slow.link_up(port, Millis(*now), &mut |port, buf| sent.push((port, buf.data().into())));
        self.check();
    }

    pub fn punt(&mut self, ingress: PortId, reason: PuntReason, frame: &[u8]) {
        let punt = Punt { ingress, reason, buf: TestBuf::new(frame) };
        let Bench { slow, sent, now, .. } = self;
        slow.punt(punt, Millis(*now), &mut |port, buf| sent.push((port, buf.data().into())));
        self.check();
    }

    pub fn poll(&mut self) {
        let Bench { slow, sent, now, .. } = self;
        slow.poll(Millis(*now), &mut |port, buf| sent.push((port, buf.data().into())));
        self.check();
    }

    /// Lets so many milliseconds pass, polling when the slow path wants it.
    pub fn run(&mut self, millis: u64) {
        let end = self.now + millis;
        let mut polls = 0;
        while let Some(due) = self.slow.next_deadline().filter(|due| due.0 <= end) {
            self.now = self.now.max(due.0);
            self.poll();
            polls += 1;
            assert!(polls < 100_000, "deadlines do not move on");
        }
        self.now = end;
    }

    /// What always holds.
    pub fn check(&self) {
        let counts = self.stats.counts();
        assert!(is_balanced(&counts), "{counts:?}");
        let views = self.slow.neighbors();
        assert_eq!(self.slow.waiting(), views.iter().map(|n| n.waiting).sum::<usize>());
        assert_eq!(self.event(Event::NeighborWaiting), self.slow.waiting() as u64);
        for view in views.iter().filter(|v| v.id.index() < self.hops.capacity()) {
            let expected = match (view.state, view.mac) {
                (NeighborState::Incomplete, None) => NextHop::Unknown,
                (NeighborState::Failed, None) => NextHop::Failed,
                (_, Some(mac)) => NextHop::Known(mac),
                other => panic!("{other:?}"),
            };
            assert_eq!(self.hops.get(view.id), expected, "{view:?}");
        }
    }

    pub fn event(&self, event: Event) -> u64 {
        self.stats.event(event).get()
    }

    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.stats.dropped(reason).get()
    }

    pub fn counts(&self) -> Counts {
        self.stats.counts()
    }

    pub fn view(&self, n: u8) -> NeighborView {
        *self.slow.neighbors().iter().find(|v| v.address == rip(n)).unwrap()
    }

    pub fn state(&self, n: u8) -> NeighborState {
        self.view(n).state
    }

    /// The ARP messages that came out since last asked: port, frame's destination, message.
    pub fn arps(&mut self) -> Vec<(PortId, Mac, Packet)> {
        let sent = std::mem::take(&mut self.sent);
        sent.iter().map(|(port, frame)| (*port, dst(frame), read_arp(frame))).collect()
    }

    /// The one frame that came out since last asked.
    pub fn one(&mut self) -> (PortId, Vec<u8>) {
        let mut sent = std::mem::take(&mut self.sent);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    pub fn arp(&mut self, port: PortId, dst: Mac, packet: &Packet) {
        let frame = Build::eth(packet.sha, dst).arp(packet).pad(60).finish();
        self.punt(port, PuntReason::Arp, &frame);
    }

    /// Real server n answers the director.
    pub fn answer(&mut self, n: u8) {
        self.arp(LAN, LAN_MAC, &reply(n));
    }

    /// A frame for real server n.
    pub fn resolve(&mut self, n: u8, mark: u8) {
        let reason = PuntReason::Resolve { neighbor: neighbor(n).id, port: LAN };
        self.punt(WAN, reason, &frame_to_real(mark));
    }
}

pub fn dst(frame: &[u8]) -> Mac {
    Mac(frame[..6].try_into().unwrap())
}

pub fn read_arp(frame: &[u8]) -> Packet {
    assert_eq!(frame.len(), 60, "padded to the shortest frame");
    assert_eq!(frame[12..14], [8, 6]);
    assert!(frame[42..].iter().all(|b| *b == 0));
    let packet = Packet::parse(&frame[14..]).unwrap();
    assert_eq!(frame[6..12], packet.sha.0);
    packet
}

pub fn reply(n: u8) -> Packet {
    Packet { operation: Operation::Reply, sha: real_mac(n), spa: rip(n), tha: LAN_MAC, tpa: DIP }
}

/// A finished frame but for its destination; `mark` tells it apart.
pub fn frame_to_real(mark: u8) -> Vec<u8> {
    Build::eth(LAN_MAC, Mac::ZERO).ipv4(CIP, VIP).udp(1024, 53).payload(&[mark; 20]).finish()
}

pub fn syn() -> Build {
    Build::eth(ROUTER, WAN_MAC).ipv4(CIP, VIP).id(77).tcp(40_000, 80, Flags::SYN, 1_000)
}
