//! What a flood on one virtual service does to others: nothing.

use dataplane::packet::build::Build;
use dataplane::packet::tcp::Flags;
use dataplane::pipeline::BURST;
use dataplane::stats::Event;
use dataplane::types::{FlowKey, FlowKey6, Protocol};

use crate::director::{Director, spec};
use crate::packets::{ROUTER_MAC, VIP, WAN, WAN_MAC};
use crate::packets6::VIP6;

const FLOWS: usize = 2000;
/// Honest clients of each kind.
const CLIENTS: u32 = 100;
/// Packets, or pairs, of a flood of ten seconds: three times what any table here holds, and more.
const PACKETS: u32 = 20_000;

/// L4 ports of the virtual services: attacked by hash, attacked and not, persistent and attacked,
/// persistent and not.
const HASHED: u16 = 1;
const LOADED: u16 = 2;
const OTHER: u16 = 3;
const BOUND: u16 = 4;
const OTHER_BOUND: u16 = 5;

#[derive(Debug, Clone, Copy)]
enum Sent {
    Tcp(Flags),
    Udp,
}

const SYN: Sent = Sent::Tcp(Flags::SYN);
const ACK: Sent = Sent::Tcp(Flags::ACK);
const FIN: Sent = Sent::Tcp(Flags(Flags::FIN.0 | Flags::ACK.0));

/// A packet of client `n`, any of four thousand million, from this L4 port.
fn packet(n: u32, six: bool, sport: u16, port: u16, sent: Sent) -> Vec<u8> {
    let build = Build::eth(ROUTER_MAC, WAN_MAC);
    let build = match six {
        true => build.ipv6(((0x2001_0db8 << 96) | u128::from(n)).into(), VIP6),
        false => build.ipv4(n.into(), VIP),
    };
    match sent {
        Sent::Tcp(flags) => build.tcp(sport, port, flags, 1).finish(),
        Sent::Udp => build.udp(sport, port).payload(b"data").finish(),
    }
}

/// The `n`th honest client, and the `n`th of a flood.
const fn honest(n: u32) -> u32 {
    0x0a00_0000 | n
}

const fn flooding(n: u32) -> u32 {
    0x6400_0000 | n.wrapping_mul(2_654_435_761) >> 7
}

struct Site {
    director: Director,
    six: bool,
    workers: u32,
    /// Clients of floods so far.
    flooding: u32,
}

impl Site {
    fn new(workers: u16, flows: usize, six: bool) -> Site {
        let reals = match six {
            true => "2001:db8:a::1 dr, 2001:db8:a::2 dr, 2001:db8:a::3 dr",
            false => "10.0.0.1 dr, 10.0.0.2 dr, 10.0.0.3 dr",
        };
        let services: Vec<_> = ["tcp", "udp"]
            .into_iter()
            .flat_map(|protocol| {
                let protocol = format!("{protocol}{}", if six { "6" } else { "" });
                [
                    format!("{protocol} {HASHED} mh: {reals}"),
                    format!("{protocol} {LOADED} wlc: {reals}"),
                    format!("{protocol} {OTHER} wlc: {reals}"),
                    format!("{protocol} {BOUND} rr p=300: {reals}"),
                    format!("{protocol} {OTHER_BOUND} rr p=300: {reals}"),
                ]
            })
            .collect();
        let services: Vec<&str> = services.iter().map(String::as_str).collect();
        // Templates of IPv6 have an eighth of the room.
        let templates = if six { 8 * FLOWS } else { FLOWS };
        let director = Director::sized(workers, flows, templates, spec(&services));
        Site { director, six, workers: workers.into(), flooding: 0 }
    }

    fn send(&mut self, clients: impl Iterator<Item = u32>, port: u16, sent: Sent) {
        self.send_from(1024, clients, port, sent);
    }

    /// Packets to the workers that the NIC chooses by the client.
    fn send_from(&mut self, sport: u16, clients: impl Iterator<Item = u32>, port: u16, sent: Sent) {
        let clients: Vec<u32> = clients.collect();
        for worker in 0..self.workers {
            let own: Vec<u32> =
                clients.iter().copied().filter(|n| n % self.workers == worker).collect();
            for some in own.chunks(BURST) {
                let frames = some.iter().map(|n| packet(*n, self.six, sport, port, sent));
                let buffers = frames.map(|frame| self.director.census.buffer(&frame)).collect();
                self.director.burst(worker as usize, WAN, buffers);
            }
        }
        self.director.wire.sent.clear();
        self.director.wire.punted.clear();
    }

    fn later(&mut self, millis: u32) {
        self.director.now = self.director.now.after(millis);
    }

    /// Honest clients that stay: connections and datagrams of more than a second.
    fn settle(&mut self, port: u16) {
        let clients = || (0..CLIENTS).map(honest);
        self.send(clients(), port, SYN);
        for _ in 0..4 {
            self.send(clients(), port, ACK);
            self.send(clients(), port, Sent::Udp);
            self.later(400);
        }
    }

    fn flood(&mut self, packets: u32, port: u16, sent: &[Sent]) {
        for first in (0..packets).step_by(2 * BURST) {
            for sent in sent {
                let start = self.flooding;
                let clients = (start..start + 2 * BURST as u32).map(flooding);
                self.send(clients, port, *sent);
            }
            self.flooding += 2 * BURST as u32;
            if first % 512 == 0 {
                self.later(10_000 * 512 / packets);
            }
        }
        self.director.check();
    }

    fn has_flow(&self, client: u32, port: u16, protocol: Protocol) -> bool {
        let worker = &self.director.workers[(client % self.workers) as usize];
        let now = self.director.now;
        if self.six {
            let key = FlowKey6 {
                client: ((0x2001_0db8 << 96) | u128::from(client)).into(),
                vip: VIP6,
                client_port: 1024,
                vip_port: port,
                protocol,
            };
            let shard = worker.shard6();
            return shard.find(&key, shard.hash(&key), now).is_some();
        }
        let key = FlowKey {
            client: client.into(),
            vip: VIP,
            client_port: 1024,
            vip_port: port,
            protocol,
        };
        let shard = worker.shard();
        shard.find(&key, shard.hash(&key), now).is_some()
    }

    /// Templates of these honest clients, of TCP and of UDP, that are lost: a new flow of each, one
    /// after the other, has to make it anew.
    fn lost_templates(&mut self, clients: std::ops::Range<u32>, port: u16) -> u64 {
        let made = |site: &Site| site.director.counts().event(Event::TemplatesCreated);
        let before = made(self);
        for sent in [SYN, Sent::Udp] {
            for n in clients.clone() {
                self.send_from(2048, [honest(n)].into_iter(), port, sent);
            }
        }
        made(self) - before
    }

    /// Flows of the honest clients that are there.
    fn there(&self, port: u16) -> (usize, usize) {
        let count =
            |protocol| (0..CLIENTS).filter(|n| self.has_flow(honest(*n), port, protocol)).count();
        (count(Protocol::Tcp), count(Protocol::Udp))
    }
}

/// Runs a test with one worker and with two, over both families.
fn everywhere(flows: usize, test: impl Fn(Site, &str)) {
    for workers in [1, 2] {
        for six in [false, true] {
            let name = format!("{workers} workers, IPv6: {six}");
            test(Site::new(workers, flows, six), &name);
        }
    }
}

const ALL: (usize, usize) = (CLIENTS as usize, CLIENTS as usize);

#[test]
fn no_flood_takes_what_others_have() {
    let floods: [(&str, u16, &[Sent]); 9] = [
        ("SYN, mh", HASHED, &[SYN]),
        ("SYN, wlc", LOADED, &[SYN]),
        ("ACK, mh", HASHED, &[ACK]),
        ("ACK, wlc", LOADED, &[ACK]),
        ("FIN, mh", HASHED, &[FIN]),
        ("SYN and ACK, mh", HASHED, &[SYN, ACK]),
        ("SYN and ACK, wlc", LOADED, &[SYN, ACK]),
        ("UDP, mh", HASHED, &[Sent::Udp]),
        ("UDP, wlc", LOADED, &[Sent::Udp]),
    ];
    for (flood, port, sent) in floods {
        everywhere(FLOWS, |mut site, name| {
            site.settle(OTHER);
            site.flood(PACKETS, port, sent);
            assert_eq!(site.there(OTHER), ALL, "{flood}, {name}");
            assert_eq!(site.director.counts().event(Event::FlowsEvictedProven), 0);
        });
    }
}

#[test]
fn nor_what_the_same_service_has() {
    everywhere(FLOWS, |mut site, name| {
        site.settle(LOADED);
        site.flood(PACKETS, LOADED, &[SYN, ACK]);
        site.flood(PACKETS, LOADED, &[Sent::Udp]);
        assert_eq!(site.there(LOADED), ALL, "{name}");
    });
}

#[test]
fn clients_that_come_in_a_flood_of_another_service_stay() {
    everywhere(FLOWS, |mut site, name| {
        site.flood(3 * FLOWS as u32, LOADED, &[SYN, ACK]);
        site.flood(3 * FLOWS as u32, LOADED, &[Sent::Udp]);
        let clients = || (0..CLIENTS).map(honest);
        site.send(clients(), OTHER, SYN);
        site.send(clients(), OTHER, ACK);
        site.send(clients(), OTHER, Sent::Udp);
        site.flood(3 * FLOWS as u32, LOADED, &[SYN, ACK]);
        site.flood(3 * FLOWS as u32, LOADED, &[Sent::Udp]);
        assert_eq!(site.there(OTHER), ALL, "{name}");
    });
}

#[test]
fn a_flood_on_a_service_by_hash_makes_few_flows() {
    for sent in [ACK, Sent::Udp, FIN] {
        everywhere(FLOWS, |mut site, name| {
            site.flood(PACKETS, HASHED, &[sent]);
            let counts = site.director.counts();
            let made = counts.event(Event::FlowsCreated);
            let room = FLOWS as u64 * u64::from(site.workers);
            assert!(made < room + u64::from(PACKETS) / 32 + 2, "{made} {sent:?} {name}");
            let without = counts.event(Event::FloodPackets);
            assert!(made + without >= PACKETS.into(), "{made} {without} {sent:?} {name}");
            // Whoever sends often has a flow sooner or later, and keeps it when it is over.
            let client = honest(7);
            let protocol = if matches!(sent, Sent::Udp) { Protocol::Udp } else { Protocol::Tcp };
            let sent = if protocol == Protocol::Udp { Sent::Udp } else { ACK };
            let mut needed = 0;
            while !site.has_flow(client, HASHED, protocol) {
                site.send([client].into_iter(), HASHED, sent);
                needed += 1;
                assert!(needed <= 32, "{sent:?} {name}");
            }
        });
    }
}

#[test]
fn no_flood_takes_the_templates_of_others() {
    for sent in [&[SYN][..], &[SYN, ACK], &[Sent::Udp]] {
        everywhere(FLOWS, |mut site, name| {
            site.settle(OTHER_BOUND);
            // Some came once only.
            let once = || (CLIENTS..2 * CLIENTS).map(honest);
            site.send(once(), OTHER_BOUND, SYN);
            site.send(once(), OTHER_BOUND, Sent::Udp);
            let before = site.director.counts().event(Event::TemplatesCreated);
            assert_eq!(before, 4 * u64::from(CLIENTS), "{name}");
            site.flood(PACKETS, BOUND, sent);
            let counts = site.director.counts();
            assert!(counts.event(Event::TemplatesEvicted) > u64::from(PACKETS) / 2, "{name}");
            assert_eq!(site.there(OTHER_BOUND), ALL, "{name}");
            assert_eq!(site.lost_templates(0..2 * CLIENTS, OTHER_BOUND), 0, "{sent:?} {name}");
        });
    }
}

#[test]
fn nor_those_of_clients_that_came_before_to_the_same() {
    everywhere(FLOWS, |mut site, name| {
        site.settle(BOUND);
        site.flood(PACKETS, BOUND, &[Sent::Udp]);
        site.flood(PACKETS, BOUND, &[SYN, ACK]);
        assert_eq!(site.there(BOUND), ALL, "{name}");
        assert_eq!(site.lost_templates(0..CLIENTS, BOUND), 0, "{name}");
    });
}
